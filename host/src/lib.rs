//! Stream processors for Azure Event Hubs, run as sandboxed WebAssembly components.

pub mod azure;
pub mod config;
pub mod guest;
pub mod model;
pub mod ndjson;
pub mod seams;
