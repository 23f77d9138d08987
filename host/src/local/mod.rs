//! What needs no service: checkpoints in a directory, outputs to a file or to standard output, dead letters in a directory.

mod durable;
mod letters;
mod record;
mod segments;
mod sink;
mod store;

pub use letters::LetterDirectory;
pub(crate) use record::segment;
pub use sink::{FileSink, SinkOpenError, StdoutSink};
pub use store::{DirectoryStore, OpenError};
