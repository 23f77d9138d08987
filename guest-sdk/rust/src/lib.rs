//! Write a Weir processor in Rust.
//!
//! A processor sees the events of one partition, in order, and says what became of them; the host does the rest. Implement
//! [`Processor`], name the type in [`export!`], and build for `wasm32-wasip2`:
//!
//! ```
//! use serde::Deserialize;
//! use weir_guest::{Event, Failure, Opening, Outcome, Output, Outputs, Problem, Processor};
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields, rename_all = "kebab-case")]
//! struct Config {
//!     warn_above: f64,
//! }
//!
//! #[derive(Deserialize)]
//! struct Reading<'a> {
//!     sensor: &'a str,
//!     celsius: f64,
//! }
//!
//! struct Hot(Config);
//!
//! impl Processor for Hot {
//!     type Config = Config;
//!
//!     fn open(config: Config, _: &Opening) -> Result<Self, Failure> {
//!         Ok(Self(config))
//!     }
//!
//!     fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
//!         let reading: Reading = event.json()?; // a body that doesn't fit rejects the event
//!         if !reading.celsius.is_finite() {
//!             return Err(Problem::reject("the temperature is not a number"));
//!         }
//!         if reading.celsius > self.0.warn_above {
//!             out.emit(Output::new(event.body.as_slice()).key(reading.sensor).to("alarms"));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! weir_guest::export!(Hot);
//!
//! // In a unit test, on any machine and without a host:
//! use weir_guest::testing::{Harness, event};
//! let mut hot = Harness::<Hot>::open(serde_json::json!({ "warn-above": 80 }))?;
//! let answer = hot.process([event(r#"{"sensor":"a","celsius":81.5}"#), event("not JSON")])?;
//! assert_eq!(answer.outputs[0].partition_key.as_deref(), Some("a"));
//! assert_eq!(answer.ack.rejected[0].index, 1);
//! # Ok::<(), Failure>(())
//! ```
//!
//! Two levels: [`Processor::event`] for what is decided event by event, [`Processor::process`] for what needs the batch
//! (lookups for many keys at once). What must be remembered from event to event stands in the [`state`], which the host commits with the
//! checkpoint; [`timers`] wake a processor without an event; [`window`] adds events up over their own time. What counts there is what the
//! whole system promises: an event is handed over at least once, and the outputs of a repeat carry the ids that they carried before.
//!
//! The crate adds no copy to those of the component ABI: an event is owned, and its body can be moved into an output.

mod ack;
#[doc(hidden)]
pub mod bindings;
mod event;
mod export;
mod host;
pub mod log;
pub mod metrics;
mod output;
mod processor;
pub mod secrets;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod timers;
mod value;
pub mod window;

pub use ack::{Outcome, Problem};
pub use bindings::weir::processor::types::{
    Ack, Checkpoint, CloseReason, Event, Failure, Metadata, OpenReason, Opening, Origin, Output, Partition, Progress,
    Property, Redelivery, Rejection, Retry, Value,
};
pub use event::BodyError;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use export::rt;
pub use output::Outputs;
pub use processor::{NoConfig, Processor, each};

/// Compiles the processor that the project's README shows.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles the processor that the page on state, timers and windows shows.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/windows.md")]
struct WindowsPage;
