//! The host's functions for a processor that runs natively: what it asks for is noted, per thread and per call.

use std::cell::RefCell;

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
