//! Guests: real components on the real engine.

mod calls;
mod failures;
mod hostile;
mod isolation;
mod modules;
mod support;
