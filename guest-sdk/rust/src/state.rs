//! State that the host keeps for this partition, and commits with the checkpoint.
//!
//! ```
//! # use weir_guest::{Event, Failure, NoConfig, Opening, Outcome, Output, Outputs, Processor};
//! use weir_guest::state;
//! # struct Count;
//! # impl Processor for Count {
//! #     type Config = NoConfig;
//! #     fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> { Ok(Self) }
//!
//! fn event(&mut self, event: Event, _: &mut Outputs) -> Outcome {
//!     let key = format!("count/{}", event.key().unwrap_or_default());
//!     let count: u64 = state::get(&key)?.unwrap_or(0);
//!     state::set(&key, &(count + 1))
//! #       ?; Ok(())
//! }
//! # }
//! ```
//!
//! **It is exactly-once.** After a crash, a takeover or a change of the code, processing goes on after an event with the state as of that
//! event. A call that fails has changed nothing. So keep nothing in the processor's own fields that must agree with the state: after a
//! retry they would be ahead of it.
//!
//! **Inside [`Processor::event`](crate::Processor::event)** (and [`each`](crate::each)) what an event changes counts once it is finished: an
//! event that ends in a [`Problem`] has changed nothing, as its outputs are dropped. So the answer that `each` makes is one
//! that the host can commit. A processor with its own `process` answers `Ack::all()`, if need be with `redeliver`, and changes nothing for
//! the events that shall come again.
//!
//! **Values are JSON**, so that `weir state get` shows them, and new code reads what old code wrote if its types let it: give new fields
//! `#[serde(default)]`. Bytes as they are: [`raw`]. Keys are any text; those that belong together begin alike, for [`scan`].
//!
//! Each function is a call to the host, which holds the state in memory: well under a microsecond, and a copy of the value.

mod map;
mod pending;
pub mod raw;

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use map::Map;
pub(crate) use pending::{begin, drop_pending, keep};

use crate::{Failure, Problem};

/// Reads a value.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    raw::get(key).map(|bytes| read(key, &bytes)).transpose()
}

/// Reads several values in one call to the host, in the order of the keys.
pub fn get_many<T: DeserializeOwned>(keys: &[String]) -> Result<Vec<Option<T>>, Error> {
    let values = raw::get_many(keys);
    keys.iter().zip(values).map(|(key, bytes)| bytes.map(|bytes| read(key, &bytes)).transpose()).collect()
}

/// Writes a value. Fails over the deployment's limit of the state's size, which the message names.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|source| Error::NotWritable { key: key.to_owned(), why: source.to_string() })?;
    raw::set(key, bytes)
}

/// Removes a key. It need not be there.
pub fn delete(key: &str) {
    raw::delete(key);
}

/// The keys that begin with `prefix`, and their values, in the order of the keys' bytes. Read in pages, each when it is needed; what is
/// changed meanwhile is seen where it lies ahead.
pub fn scan<T: DeserializeOwned>(prefix: &str) -> Scan<T> {
    Scan { raw: raw::scan(prefix), value: PhantomData }
}

/// See [`scan`].
#[derive(Debug)]
pub struct Scan<T> {
    raw: raw::Scan,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Scan<T> {
    type Item = Result<(String, T), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, bytes) = self.raw.next()?;
        Some(read(&key, &bytes).map(|value| (key, value)))
    }
}

pub(crate) fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::NotReadable {
        key: key.to_owned(),
        why: source.to_string(),
        value: excerpt(bytes),
    })
}

/// As much of a value as a message bears.
fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into_owned(),
    }
}

/// Why the state can't be used as asked. As a [`Problem`] or a [`Failure`] it is fatal: going on without the state would lose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A value is not what this code expects.
    NotReadable {
        /// Where it stands.
        key: String,
        /// What serde says.
        why: String,
        /// Its beginning.
        value: String,
    },
    /// A value can't be written as JSON, for example a map whose keys aren't text.
    NotWritable {
        /// Where it should stand.
        key: String,
        /// What serde says.
        why: String,
    },
    /// The host refused to write.
    Refused {
        /// Which key.
        key: String,
        /// What the host says.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReadable { key, why, value } => write!(
                f,
                "the state's key `{key}` does not hold what this code expects: {why}. It holds: {value} Other code wrote it: let \
                 the type read both (serde's `default`, `untagged`), or go back to that code. `weir state get` shows the whole value"
            ),
            Self::NotWritable { key, why } => write!(
                f,
                "what shall stand at the state's key `{key}` can't be written as JSON: {why}. Change the type, or write bytes with \
                 `state::raw::set`"
            ),
            Self::Refused { key, why } => write!(f, "the host does not take the state's key `{key}`: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Fatal(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error.to_string())
    }
}
