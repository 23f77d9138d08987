//! Everything that needs no socket: round trips, hostile bytes, and two engines that talk to each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod engine_lifecycle;
mod engine_links;
mod engine_transfer;
mod engine_violations;
mod fuzzing;
mod harness;
mod messages;
mod round_trips;
mod strategies;
mod wire_hostile;
