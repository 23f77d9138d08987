//! What a namespace holds, free of sockets: hubs, their partitions, the log of each, who reads it.

mod annotate;
mod block;
mod hub;
mod key_hash;
mod log;
mod partition;
mod position;
mod readers;

pub use annotate::SYSTEM_ANNOTATIONS;
pub use block::{Block, Incoming};
pub use hub::{Groups, Hub};
pub use key_hash::{key_hash, partition_of_key};
pub use log::{Log, LogState, Retention, Run};
pub use partition::{Partition, Wake};
pub use position::{InvalidFilter, StartPosition};
pub use readers::{Eviction, ReaderRefused, Readers};

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Locks, also after a panic elsewhere: every state in this crate is valid between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970, the clock of enqueued times.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
