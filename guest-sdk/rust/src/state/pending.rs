//! What the event in hand has changed, until it is finished.
//!
//! [`each`](crate::each) opens a scope around an event. In it, changes are kept here, reads look here first, and the end of the event hands
//! them to the host or drops them. Outside of a scope everything goes to the host directly.
//!
//! `each` must not make a module import `state` that doesn't use it: a host could take it for one that has state. So what it calls
//! reaches the host only through the pointer that the first change leaves behind.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::Error;
use crate::host;

#[derive(Debug, Default)]
struct Pending {
    open: bool,
    /// `None`: removed.
    changes: BTreeMap<String, Option<Vec<u8>>>,
    apply: Option<Apply>,
}

/// Hands a change to the host.
type Apply = fn(&str, Option<&[u8]>) -> Result<(), Error>;

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::new(Pending::default());
}

/// An event begins.
pub(crate) fn begin() {
    PENDING.with_borrow_mut(|pending| {
        pending.open = true;
        pending.changes.clear();
    });
}

/// The event is finished: what it changed counts.
pub(crate) fn keep() -> Result<(), Error> {
    PENDING.with_borrow_mut(|pending| {
        pending.open = false;
        let Some(apply) = pending.apply else { return Ok(()) };
        let changes = std::mem::take(&mut pending.changes);
        // What goes makes room for what comes.
        let (gone, there): (Vec<_>, Vec<_>) = changes.iter().partition(|(_, value)| value.is_none());
        gone.into_iter().chain(there).try_for_each(|(key, value)| apply(key, value.as_deref()))
    })
}

/// The event is not finished: what it changed is forgotten.
pub(crate) fn drop_pending() {
    PENDING.with_borrow_mut(|pending| {
        pending.open = false;
        pending.changes.clear();
    });
}

fn apply(key: &str, value: Option<&[u8]>) -> Result<(), Error> {
    match value {
        Some(value) => host::state::set(key, value).map_err(|why| Error::Refused { key: key.to_owned(), why }),
        None => {
            host::state::delete(key);
            Ok(())
        }
    }
}

/// Notes the change, if an event is in hand. Otherwise gives the value back.
fn note(key: &str, value: Option<Vec<u8>>) -> Result<(), Option<Vec<u8>>> {
    PENDING.with_borrow_mut(|pending| {
        if !pending.open {
            return Err(value);
        }
        pending.apply = Some(apply);
        match pending.changes.get_mut(key) {
            Some(there) => *there = value,
            None => drop(pending.changes.insert(key.to_owned(), value)),
        }
        Ok(())
    })
}

/// What the event in hand has made of the key, if it has changed it.
fn changed(key: &str) -> Option<Option<Vec<u8>>> {
    PENDING.with_borrow(|pending| pending.changes.get(key).cloned())
}

pub(super) fn get(key: &str) -> Option<Vec<u8>> {
    changed(key).unwrap_or_else(|| host::state::get(key))
}

pub(super) fn get_many(keys: &[String]) -> Vec<Option<Vec<u8>>> {
    let mut values = host::state::get_many(keys);
    for (key, value) in keys.iter().zip(&mut values) {
        if let Some(changed) = changed(key) {
            *value = changed;
        }
    }
    values
}

pub(super) fn set(key: &str, value: Vec<u8>) -> Result<(), Error> {
    match note(key, Some(value)) {
        Ok(()) => Ok(()),
        Err(value) => apply(key, value.as_deref()),
    }
}

pub(super) fn delete(key: &str) {
    if note(key, None).is_err() {
        host::state::delete(key);
    }
}

/// A page of keys, in order; an empty one is the end. May hold a little more or less than `limit`.
pub(super) fn scan(prefix: &str, after: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
    let mut after = after.map(str::to_owned);
    loop {
        let page = host::state::scan(prefix, after.as_deref(), limit);
        // Of the changes, those that lie where the page does; behind the last page there is no end.
        let upto = page.last().map(|(last, _)| last.clone());
        let (page, changed) = PENDING.with_borrow(|pending| {
            if pending.changes.is_empty() {
                return (page, false);
            }
            let from = match &after {
                Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
                _ => Bound::Included(prefix),
            };
            let to = upto.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let changes = pending.changes.range::<str, _>((from, to)).take_while(|(key, _)| key.starts_with(prefix));
            let mut merged: BTreeMap<String, Vec<u8>> = page.into_iter().collect();
            for (key, value) in changes {
                match value {
                    Some(value) => drop(merged.insert(key.clone(), value.clone())),
                    None => drop(merged.remove(key)),
                }
            }
            (merged.into_iter().collect(), true)
        });
        match upto {
            // Everything of the host's page was removed: the next one is meant.
            Some(last) if changed && page.is_empty() => after = Some(last),
            _ => return page,
        }
    }
}
