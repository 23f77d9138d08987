//! Stories over the real pieces, one binary: each module is a theme.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expects by failing")]

mod cli;
mod cli_checkpoints;
mod cli_dead_letters;
mod cli_grants;
mod cli_state;
mod examples;
mod fault_table;
mod faults;
mod hog;
mod hub;
mod kill;
mod poison;
mod sink;
mod source;
mod wasm;
mod windows;
