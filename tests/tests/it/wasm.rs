//! Guests: real components on the real engine.

mod calls;
mod failures;
mod isolation;
mod modules;
mod support;
