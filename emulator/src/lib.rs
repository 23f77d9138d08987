//! A local Event Hubs namespace, good enough that the official clients can't tell it from the service.
//!
//! Start one with [`Emulator::start`]; clients connect with [`Emulator::connection_string`]. It is made for tests:
//! through [`Emulator::namespace`] (or HTTP, see [`control`]) a test adds partitions, reads positions and injects
//! [`faults`] that strike at an exact point.
//!
//! How it works, from the inside out:
//! - [`model`]: hubs and partitions. An event is encoded once, when it arrives, into the bytes that consumers get.
//! - [`store`]: in memory, or journalled to a directory that survives SIGKILL.
//! - [`faults`]: what goes wrong on purpose, counted exactly.
//! - `server`: a task for each connection, on the engine of `weir-amqp`. Tokens are taken, not checked: it guards
//!   nothing. Nothing that a client sends ends more than its own connection.
//! - [`control`]: the same over HTTP.

mod connections;
pub mod control;
mod emulator;
pub mod faults;
pub mod model;
mod namespace;
mod server;
pub mod store;

pub use connections::{ConnectionInfo, LinkInfo};
pub use emulator::{BadHubSpec, Emulator, EmulatorConfig, EmulatorError, HubSpec};
pub use faults::{Action, Fault, Moment, Target};
pub use model::{Groups, Incoming, Retention};
pub use namespace::{Injected, MAX_PARTITIONS, Namespace, NamespaceError};
pub use store::StoreError;
