//! A part of the state under one prefix.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Scan};

/// Values of one type under one prefix, like a map from text that the host keeps.
///
/// ```
/// use weir_guest::state::{Error, Map};
///
/// # fn f() -> Result<(), Error> {
/// let seen: Map<i64> = Map::new("seen/");
/// if seen.get("m-17")?.is_none() {
///     seen.set("m-17", &1_357_030_800_000)?; // at the key `seen/m-17`
/// }
/// for entry in seen.iter() {
///     let (id, at) = entry?;
///     if at < 1_357_030_800_000 {
///         seen.delete(&id);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Map<V> {
    prefix: String,
    value: PhantomData<fn() -> V>,
}

impl<V: Serialize + DeserializeOwned> Map<V> {
    /// The keys that begin so. End it with a mark that no other prefix goes on after (`seen/`, not `seen`).
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), value: PhantomData }
    }

    /// Reads a value.
    pub fn get(&self, key: &str) -> Result<Option<V>, Error> {
        super::get(&self.key(key))
    }

    /// Writes a value.
    pub fn set(&self, key: &str, value: &V) -> Result<(), Error> {
        super::set(&self.key(key), value)
    }

    /// Removes a key. It need not be there.
    pub fn delete(&self, key: &str) {
        super::delete(&self.key(key));
    }

    /// Keys, without the prefix, and values, in the order of the keys' bytes.
    pub fn iter(&self) -> impl Iterator<Item = Result<(String, V), Error>> + use<V> {
        let (scan, prefix): (Scan<V>, _) = (super::scan(&self.prefix), self.prefix.len());
        scan.map(move |entry| entry.map(|(mut key, value)| (key.split_off(prefix), value)))
    }

    fn key(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }
}

impl<V> fmt::Debug for Map<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
