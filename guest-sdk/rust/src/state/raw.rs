//! The same in bytes.

use std::vec;

use super::{Error, pending};

/// Entries that a scan asks for at once.
const PAGE: u32 = 256;

/// Reads a value.
pub fn get(key: &str) -> Option<Vec<u8>> {
    pending::get(key)
}

/// Reads several values in one call to the host, in the order of the keys.
pub fn get_many(keys: &[String]) -> Vec<Option<Vec<u8>>> {
    pending::get_many(keys)
}

/// Writes a value. Fails over the limit of the state's size.
pub fn set(key: &str, value: impl Into<Vec<u8>>) -> Result<(), Error> {
    pending::set(key, value.into())
}

/// Removes a key. It need not be there.
pub fn delete(key: &str) {
    pending::delete(key);
}

/// The keys that begin with `prefix`, and their values, in the order of the keys' bytes.
pub fn scan(prefix: &str) -> Scan {
    scan_by(prefix, PAGE)
}

/// The same, with pages of another size.
pub(crate) fn scan_by(prefix: &str, page: u32) -> Scan {
    Scan { prefix: prefix.to_owned(), last: None, page, ahead: Vec::new().into_iter() }
}

/// See [`scan`].
#[derive(Debug)]
pub struct Scan {
    prefix: String,
    /// The last key of the pages so far.
    last: Option<String>,
    page: u32,
    ahead: vec::IntoIter<(String, Vec<u8>)>,
}

impl Iterator for Scan {
    type Item = (String, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ahead.len() == 0 {
            let page = pending::scan(&self.prefix, self.last.as_deref(), self.page);
            self.last = Some(page.last()?.0.clone());
            self.ahead = page.into_iter();
        }
        self.ahead.next()
    }
}
