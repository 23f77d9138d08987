//! The host's functions for a processor that runs natively: what it asks for is noted, per thread and per call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::SystemTime;

use super::{Line, Measured, Measurement};
use crate::log::Level;

/// What was heard during a call.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) logs: Vec<Line>,
    pub(crate) metrics: Vec<Measurement>,
    pub(crate) selected: Option<Vec<String>>,
}

/// What the host holds between calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) state: BTreeMap<String, Vec<u8>>,
    pub(crate) wake: Option<i64>,
    pub(crate) now: i64,
    /// The most bytes of the state.
    pub(crate) limit: Option<usize>,
}

thread_local! {
    static SECRETS: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static CALL: RefCell<Option<(Heard, Held)>> = const { RefCell::new(None) };
}

/// Runs a call of the processor, and notes what it asks of the host. What it changes stands in `held`; taking it back is the caller's.
pub(crate) fn during<T>(held: &mut Held, call: impl FnOnce() -> T) -> (T, Heard) {
    CALL.set(Some((Heard::default(), std::mem::take(held))));
    let value = call();
    let (heard, after) = CALL.take().unwrap_or_default();
    *held = after;
    (value, heard)
}

fn heard<T>(note: impl FnOnce(&mut Heard) -> T) -> Option<T> {
    CALL.with_borrow_mut(|call| call.as_mut().map(|(heard, _)| note(heard)))
}

fn held<T>(ask: impl FnOnce(&mut Held) -> T) -> Option<T> {
    CALL.with_borrow_mut(|call| call.as_mut().map(|(_, held)| ask(held)))
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    let line = || Line { level, message: message.to_owned(), fields: fields.to_vec() };
    if heard(|heard| heard.logs.push(line())).is_none() {
        eprintln!("{level:?}: {message} {fields:?}");
    }
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>, String> {
    let granted = SECRETS.with_borrow(|secrets| secrets.get(name).cloned());
    granted.ok_or_else(|| format!("the secret {name:?} is not granted"))
}

pub(super) fn grant_secret(name: &str, value: &[u8]) {
    SECRETS.with_borrow_mut(|secrets| secrets.insert(name.to_owned(), value.to_vec()));
}

pub(crate) fn counter_add(name: &str, value: u64, labels: &[(String, String)]) {
    measure(name, Measured::Counter(value), labels);
}

pub(crate) fn gauge_set(name: &str, value: f64, labels: &[(String, String)]) {
    measure(name, Measured::Gauge(value), labels);
}

pub(crate) fn histogram_record(name: &str, value: f64, labels: &[(String, String)]) {
    measure(name, Measured::Histogram(value), labels);
}

fn measure(name: &str, value: Measured, labels: &[(String, String)]) {
    heard(|heard| heard.metrics.push(Measurement { name: name.to_owned(), labels: labels.to_vec(), value }));
}

pub(crate) fn select_fields(fields: &[String]) -> Vec<String> {
    const KNOWN: [&str; 5] = ["offset", "content-type", "message-id", "correlation-id", "properties"];
    heard(|heard| heard.selected = Some(fields.to_vec()));
    fields.iter().filter(|name| !KNOWN.contains(&name.as_str()) && !name.starts_with("property:")).cloned().collect()
}

pub(crate) fn now() -> i64 {
    held(|held| held.now).unwrap_or_else(|| crate::timers::timestamp(SystemTime::now()))
}

pub(crate) fn wake_at(at: i64) {
    held(|held| held.wake = Some(held.wake.map_or(at, |earlier| earlier.min(at))));
}

/// `weir:processor/state`, over a map.
pub(crate) mod state {
    use std::ops::Bound;

    use super::held;

    /// What the host counts for a key besides itself and its value.
    const KEY: usize = 64;

    /// The most entries of a page, however many are asked for: few, so that whoever takes a short page for the last one is found out.
    const PAGE: usize = 3;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        held(|held| held.state.get(key).cloned()).flatten()
    }

    pub(crate) fn get_many(keys: &[String]) -> Vec<Option<Vec<u8>>> {
        keys.iter().map(|key| get(key)).collect()
    }

    pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), String> {
        held(|held| {
            let cost = |key: &str, value: &[u8]| KEY + key.len() + value.len();
            if let Some(limit) = held.limit {
                let others = held.state.iter().filter(|(other, _)| *other != key);
                let size: usize = others.map(|(key, value)| cost(key, value)).sum();
                if size + cost(key, value) > limit {
                    return Err(format!("the state would be larger than {limit} bytes"));
                }
            }
            held.state.insert(key.to_owned(), value.to_vec());
            Ok(())
        })
        .unwrap_or_else(|| Err("outside of a call of the test `Harness` nobody keeps state".to_owned()))
    }

    pub(crate) fn delete(key: &str) {
        held(|held| held.state.remove(key));
    }

    pub(crate) fn scan(prefix: &str, after: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let entries = held(|held| {
            let entries = held.state.range::<str, _>((from, Bound::Unbounded));
            let entries = entries.take_while(|(key, _)| key.starts_with(prefix)).take(PAGE.min(limit as usize));
            entries.map(|(key, value)| (key.clone(), value.clone())).collect()
        });
        entries.unwrap_or_default()
    }
}
