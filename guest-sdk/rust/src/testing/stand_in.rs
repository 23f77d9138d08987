//! The host's functions for a processor that runs natively: what it asks for is noted, per thread and per call.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Line, Measured, Measurement};
use crate::log::Level;

/// What was heard during a call.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) logs: Vec<Line>,
    pub(crate) metrics: Vec<Measurement>,
    pub(crate) selected: Option<Vec<String>>,
}

thread_local! {
    static SECRETS: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static HEARD: RefCell<Option<Heard>> = const { RefCell::new(None) };
}

/// Runs a call of the processor and notes what it asks of the host.
pub(crate) fn during<T>(call: impl FnOnce() -> T) -> (T, Heard) {
    HEARD.set(Some(Heard::default()));
    let value = call();
    (value, HEARD.take().unwrap_or_default())
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    HEARD.with_borrow_mut(|heard| match heard {
        Some(heard) => heard.logs.push(Line { level, message: message.to_owned(), fields: fields.to_vec() }),
        None => eprintln!("{level:?}: {message} {fields:?}"),
    });
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
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.metrics.push(Measurement { name: name.to_owned(), labels: labels.to_vec(), value });
        }
    });
}

pub(crate) fn select_fields(fields: &[String]) -> Vec<String> {
    const KNOWN: [&str; 5] = ["offset", "content-type", "message-id", "correlation-id", "properties"];
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.selected = Some(fields.to_vec());
        }
    });
    fields.iter().filter(|name| !KNOWN.contains(&name.as_str()) && !name.starts_with("property:")).cloned().collect()
}
