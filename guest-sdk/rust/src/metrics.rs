//! Counters, gauges and histograms in the host's metrics, added up over all partitions of the processor.
//!
//! ```
//! use weir_guest::metrics;
//! metrics::counter_add("flights_late", 3, &[("carrier", "UA")]);
//! metrics::gauge_set("windows_open", 2.0, &[]);
//! metrics::histogram_record("delay_minutes", 42.5, &[]);
//! ```
//!
//! What a call measures counts once its answer stands: a batch that is retried is measured when it comes again. Names of series
//! and labels are letters, digits and underscores, and a processor has a bounded number of series: a label is for a few values (a carrier),
//! not for many (a flight). The host drops what it refuses and says so in its log. Each measurement is a call to the host: per batch rather
//! than per event.

use crate::host;

/// Adds to a counter.
pub fn counter_add(name: &str, value: u64, labels: &[(&str, &str)]) {
    host::counter_add(name, value, &owned(labels));
}

/// Sets a gauge. The last one wins, whichever partition sets it: give it the partition as a label where that matters.
pub fn gauge_set(name: &str, value: f64, labels: &[(&str, &str)]) {
    host::gauge_set(name, value, &owned(labels));
}

/// Records a value of a distribution.
pub fn histogram_record(name: &str, value: f64, labels: &[(&str, &str)]) {
    host::histogram_record(name, value, &owned(labels));
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
