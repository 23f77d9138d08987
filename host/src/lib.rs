//! Stream processors for Azure Event Hubs, run as sandboxed WebAssembly components.
//!
//! Events flow one way, a stage a module, composed per partition by the [`host`]'s pumps:
//!
//! ```text
//! claim ─► poll ─► batch ─► dispatch ─► ack ─► emit ─► checkpoint
//!   └────────── coordinator: starts and stops pumps ──────────┘
//! ```
//!
//! At least once, in partition order. A checkpoint covers only events that the guest acknowledged (or that were
//! dead-lettered) and whose outputs were accepted downstream; each output carries a deterministic id, so that a
//! consumer can drop repeats.
//!
//! To embed it: implement the [`seams`] you need (or take those of [`azure`] and [`local`]), give them to
//! [`host::Host::builder`], and run. [`testing`] has every seam in memory.

mod ack;
mod arena;
pub mod azure;
mod balance;
pub mod batch;
mod begin;
mod breaker;
mod budget;
pub mod checkpoint;
mod claim;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
mod coordinator;
pub mod dead_letter;
mod dispatch;
mod emit;
pub mod error;
mod governor;
pub mod guest;
mod heart;
mod history;
mod hold;
pub mod host;
mod isolate;
mod lease;
pub mod local;
mod meter;
pub mod model;
pub mod ndjson;
pub mod options;
pub mod outputs;
mod poll;
#[cfg(test)]
mod protocol;
mod pump;
pub mod retry;
mod roster;
pub mod seams;
mod sequence;
mod sharing;
mod shutdown;
mod silence;
pub mod state;
pub mod status;
#[cfg(test)]
mod stories;
pub mod testing;
pub mod wasm;
