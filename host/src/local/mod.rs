//! What needs no service: checkpoints in a directory, outputs to a file or to standard output.

mod durable;
mod record;
mod sink;
mod store;

pub use sink::{FileSink, SinkOpenError, StdoutSink};
pub use store::{DirectoryStore, OpenError};
