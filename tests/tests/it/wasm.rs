//! Guests: real components on the real engine.

mod calls;
mod failures;
mod grants;
mod hostile;
mod isolation;
mod metrics;
mod modules;
mod state;
mod support;
