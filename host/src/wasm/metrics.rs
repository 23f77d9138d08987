//! What guests measure: counters, gauges and histograms, added up per processor over all its partitions.
//!
//! What a call measures counts only once the call ended in an answer: a batch that is retried, or that broke its guest, is measured when
//! it comes again. So measurements gather per call, and are added in one go.
//!
//! A guest can't fill the memory with them: a processor has a bounded number of series (a name with its labels), names and labels
//! have bounded lengths, and a name is of one kind. What goes beyond is refused: counted, and said the first time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::text::clean;

/// Bytes of a series' name.
const NAME: usize = 128;
/// Labels of a series, and bytes of a label's name and value.
const LABELS: usize = 8;
const LABEL_NAME: usize = 64;
const LABEL_VALUE: usize = 128;

/// Upper bounds of a histogram's buckets, in whatever unit the guest measures; one more bucket takes what is above. Milliseconds to hours in
/// seconds, bytes to kilobytes.
pub const BUCKETS: [f64; 22] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
    1000.0, 2500.0, 5000.0, 10000.0,
];

/// The measurements of one processor. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

/// All series at one moment, by name and labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// What was measured.
    pub series: Vec<Series>,
    /// Measurements that were refused.
    pub refused: u64,
}

/// A name with its labels, and what was measured under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Letters, digits and underscores.
    pub name: String,
    /// By label, in the order of their names.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: Measured,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// The sum of what was added.
    Counter(u64),
    /// What was set last, by whichever partition.
    Gauge(f64),
    /// A distribution.
    Histogram(Histogram),
}

/// How values are distributed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// How many at or below each of [`BUCKETS`] and above the one before it; last, those above all.
    pub buckets: [u64; BUCKETS.len() + 1],
}

impl Histogram {
    fn record(&mut self, value: f64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}

impl fmt::Display for Series {
    /// `name{label="value"} 5`; of a histogram, how many and their sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.labels.is_empty() {
            let labels: Vec<String> = self.labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
            write!(f, "{{{}}}", labels.join(","))?;
        }
        match &self.value {
            Measured::Counter(sum) => write!(f, " {sum}"),
            Measured::Gauge(value) => write!(f, " {value}"),
            Measured::Histogram(Histogram { count, sum, .. }) => write!(f, " {count} values, sum {sum}"),
        }
    }
}

impl Measured {
    /// Adds a later measurement of the same kind.
    fn add(&mut self, later: Self) {
        match (self, later) {
            (Self::Counter(sum), Self::Counter(more)) => *sum = sum.saturating_add(more),
            (Self::Gauge(value), Self::Gauge(later)) => *value = later,
            (Self::Histogram(all), Self::Histogram(more)) => {
                all.count += more.count;
                all.sum += more.sum;
                for (bucket, more) in all.buckets.iter_mut().zip(more.buckets) {
                    *bucket += more;
                }
            }
            // Kinds are compared before.
            _ => {}
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metrics {
    /// What was measured so far.
    pub fn snapshot(&self) -> Snapshot {
        let registry = self.registry();
        let series = registry.table.0.iter().flat_map(|(name, series)| {
            series.iter().map(|(labels, value)| Series {
                name: name.clone(),
                labels: labels.clone(),
                value: value.clone(),
            })
        });
        Snapshot { series: series.collect(), refused: registry.refused }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Whatever panicked meanwhile left at worst one measurement out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Registry {
    table: Table,
    refused: u64,
    said: bool,
}

type Labels = Vec<(String, String)>;

/// Series by name and labels. All of a name are of one kind.
#[derive(Debug, Default)]
struct Table(BTreeMap<String, BTreeMap<Labels, Measured>>);

impl Table {
    fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// The error says why the measurement is refused.
    fn add(&mut self, name: String, labels: Labels, value: Measured, limit: usize) -> Result<(), String> {
        let known = self.0.get(&name);
        if let Some(other) =
            known.and_then(|series| series.values().next()).filter(|other| other.kind() != value.kind())
        {
            return Err(format!("{name} is a {} already, and can't be a {} too", other.kind(), value.kind()));
        }
        if known.is_none_or(|series| !series.contains_key(&labels)) && self.len() >= limit {
            return Err(format!("{name} would be one series more than limits.metric-series allows ({limit})"));
        }
        let series = self.0.entry(name).or_default();
        match series.get_mut(&labels) {
            Some(known) => known.add(value),
            None => {
                series.insert(labels, value);
            }
        }
        Ok(())
    }
}

/// What the call in hand measures.
#[derive(Debug)]
pub(super) struct Measuring {
    metrics: Metrics,
    limit: usize,
    table: Table,
    refused: u64,
    why: Option<String>,
}

impl Measuring {
    pub(super) fn new(metrics: Metrics, limit: usize) -> Self {
        Self { metrics, limit, table: Table::default(), refused: 0, why: None }
    }

    pub(super) fn count(&mut self, name: String, value: u64, labels: Labels) {
        self.measure(name, labels, Ok(Measured::Counter(value)));
    }

    pub(super) fn gauge(&mut self, name: String, value: f64, labels: Labels) {
        let value = finite(value).map(Measured::Gauge);
        self.measure(name, labels, value);
    }

    pub(super) fn record(&mut self, name: String, value: f64, labels: Labels) {
        let value = finite(value).map(|value| {
            let mut histogram = Histogram::default();
            histogram.record(value);
            Measured::Histogram(histogram)
        });
        self.measure(name, labels, value);
    }

    fn measure(&mut self, name: String, mut labels: Labels, value: Result<Measured, String>) {
        labels.truncate(LABELS + 1);
        labels.sort();
        let added = check(&name, &labels).and(value).and_then(|value| self.table.add(name, labels, value, self.limit));
        if let Err(why) = added {
            self.refuse(why);
        }
    }

    fn refuse(&mut self, why: String) {
        self.refused += 1;
        self.why.get_or_insert(why);
    }

    /// The call is over; `answered` says whether what it measured counts. Returns a sentence the first time that something is refused.
    pub(super) fn settle(&mut self, answered: bool) -> Option<String> {
        let table = std::mem::take(&mut self.table);
        if (table.0.is_empty() || !answered) && self.refused == 0 {
            return None;
        }
        let metrics = self.metrics.clone();
        let mut registry = metrics.registry();
        if answered {
            for (name, series) in table.0 {
                for (labels, value) in series {
                    if let Err(why) = registry.table.add(name.clone(), labels, value, self.limit) {
                        self.refuse(why);
                    }
                }
            }
        }
        registry.refused = registry.refused.saturating_add(std::mem::take(&mut self.refused));
        let why = self.why.take().filter(|_| !registry.said)?;
        registry.said = true;
        Some(format!("a measurement was refused: {why}; this is said once, and all that are refused are counted"))
    }
}

fn finite(value: f64) -> Result<f64, String> {
    if value.is_finite() { Ok(value) } else { Err(format!("{value} is no value to measure")) }
}

/// Whether name and labels (in order) are fit to be kept.
fn check(name: &str, labels: &[(String, String)]) -> Result<(), String> {
    if !is_name(name, NAME) {
        let name = clean(name, NAME, false);
        return Err(format!(
            "{name:?} is no name; write up to {NAME} letters, digits and underscores, a digit not first"
        ));
    }
    if labels.len() > LABELS {
        return Err(format!("{name} has more than {LABELS} labels"));
    }
    for (label, value) in labels {
        if !is_name(label, LABEL_NAME) {
            let label = clean(label, LABEL_NAME, false);
            return Err(format!(
                "{label:?}, a label of {name}, is no name; write up to {LABEL_NAME} letters, digits and underscores"
            ));
        }
        if value.len() > LABEL_VALUE || value.chars().any(char::is_control) {
            return Err(format!(
                "the label {label} of {name} has a value with more than {LABEL_VALUE} bytes, or with control characters"
            ));
        }
    }
    match labels.windows(2).find(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
        Some(pair) => {
            Err(format!("{name} has the label {} more than once", pair.first().map_or("", |(label, _)| label)))
        }
        None => Ok(()),
    }
}

fn is_name(name: &str, most: usize) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= most && name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, &str)]) -> Labels {
        labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn measuring(metrics: &Metrics) -> Measuring {
        Measuring::new(metrics.clone(), 3)
    }

    fn values(metrics: &Metrics) -> Vec<Measured> {
        metrics.snapshot().series.into_iter().map(|series| series.value).collect()
    }

    #[test]
    fn only_what_was_answered_counts_and_instances_add_up() {
        let metrics = Metrics::default();
        let (mut one, mut other) = (measuring(&metrics), measuring(&metrics));
        one.count("late".into(), 2, labels(&[("carrier", "UA"), ("airport", "SFO")]));
        assert_eq!(metrics.snapshot(), Snapshot::default(), "not before the answer");
        assert_eq!(one.settle(true), None);
        one.count("late".into(), 100, labels(&[("carrier", "UA"), ("airport", "SFO")]));
        assert_eq!(one.settle(false), None);
        other.count("late".into(), 3, labels(&[("airport", "SFO"), ("carrier", "UA")]));
        other.gauge("open".into(), 1.5, vec![]);
        other.gauge("open".into(), 2.5, vec![]);
        assert_eq!(other.settle(true), None);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.series.len(), 2, "the order of labels means nothing");
        assert_eq!(snapshot.series[0].labels, labels(&[("airport", "SFO"), ("carrier", "UA")]));
        assert_eq!(values(&metrics), [Measured::Counter(5), Measured::Gauge(2.5)]);
    }

    #[test]
    fn a_histogram_counts_each_value_in_one_bucket() {
        let metrics = Metrics::default();
        let mut one = measuring(&metrics);
        for value in [-1.0, 0.001, 0.0011, 10_000.0, 1e9] {
            one.record("delay".into(), value, vec![]);
            one.settle(true);
        }
        let [Measured::Histogram(histogram)] = &values(&metrics)[..] else { panic!("one histogram") };
        assert_eq!((histogram.count, histogram.buckets[0], histogram.buckets[1]), (5, 2, 1));
        assert_eq!((histogram.buckets[21], histogram.buckets[22]), (1, 1));
    }

    #[test]
    fn what_is_refused_is_counted_and_said_once() {
        let long = "x".repeat(129);
        let many: Labels = (0..9).map(|n| (format!("l{n}"), String::new())).collect();
        for (name, labels, why) in [
            ("", vec![], "is no name"),
            ("9lives", vec![], "is no name"),
            ("a b\n", vec![], "\"a b\\\\n\" is no name"),
            (long.as_str(), vec![], "is no name"),
            ("a", labels(&[("b-c", "")]), "a label of a, is no name"),
            ("a", labels(&[("b", &long)]), "more than 128 bytes"),
            ("a", labels(&[("b", "\u{1b}")]), "control characters"),
            ("a", labels(&[("b", "1"), ("b", "2")]), "the label b more than once"),
            ("a", many, "more than 8 labels"),
        ] {
            let metrics = Metrics::default();
            let mut one = measuring(&metrics);
            one.count(name.into(), 1, labels);
            let said = one.settle(true).unwrap_or_default();
            assert!(said.contains(why), "{name}: {said}");
            one.count(name.into(), 1, vec![("9".into(), String::new())]);
            assert_eq!(one.settle(false), None, "said once");
            assert_eq!(metrics.snapshot(), Snapshot { series: vec![], refused: 2 });
        }
    }

    #[test]
    fn series_are_bounded_and_known_ones_go_on() {
        let metrics = Metrics::default();
        let mut one = measuring(&metrics);
        for n in 0..5 {
            one.count("keys".into(), 1, vec![("key".into(), n.to_string())]);
        }
        assert!(one.settle(true).is_some_and(|said| said.contains("limits.metric-series allows (3)")));
        let mut other = measuring(&metrics);
        for n in 2..8 {
            other.count("keys".into(), 1, vec![("key".into(), n.to_string())]);
        }
        assert_eq!(other.settle(true), None);
        assert_eq!(values(&metrics), [Measured::Counter(1), Measured::Counter(1), Measured::Counter(2)]);
        assert_eq!(metrics.snapshot().refused, 2 + 3 + 2);
    }

    #[test]
    fn a_name_is_of_one_kind_and_values_are_numbers() {
        let metrics = Metrics::default();
        let mut one = measuring(&metrics);
        one.count("a".into(), u64::MAX, vec![]);
        one.count("a".into(), 1, vec![]);
        one.settle(true);
        one.gauge("a".into(), 1.0, vec![("other".into(), "labels".into())]);
        assert!(one.settle(true).is_some_and(|said| said.contains("a is a counter already, and can't be a gauge too")));
        one.gauge("b".into(), f64::NAN, vec![]);
        one.record("c".into(), f64::INFINITY, vec![]);
        one.settle(true);
        assert_eq!(metrics.snapshot().refused, 3);
        assert_eq!(values(&metrics), [Measured::Counter(u64::MAX)]);
    }
}
