//! What guests measure, and how much of it.

use weir_host::guest::Failure;
use weir_host::wasm::{Limits, Measured, Metrics, ProcessorOptions, Series};

use super::support::*;

fn value<'a>(series: &'a [Series], name: &str) -> Option<&'a Measured> {
    series.iter().find(|series| series.name == name).map(|series| &series.value)
}

#[tokio::test]
async fn measurements_of_all_instances_add_up_and_only_those_of_answers_count() {
    let (engine, metrics) = (engine(), Metrics::default());
    let options = ProcessorOptions { metrics: metrics.clone(), ..options() };
    let mut one = misbehave(&engine, options.clone()).await;
    let mut other = misbehave(&engine, options).await;
    one.process(batch(&["count:seen", "count:seen", "gauge:level", "record:delay"])).await.unwrap();
    other.process(batch(&["count:seen"])).await.unwrap();
    assert!(matches!(one.process(batch(&["count:seen", "retry"])).await, Err(Failure::Retry { .. })));
    trap(one.process(batch(&["count:seen", "reject-index:9"])).await);
    trap(other.process(batch(&["count:seen", "panic"])).await);

    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.refused, 0);
    assert_eq!(value(&snapshot.series, "seen"), Some(&Measured::Counter(3)));
    assert_eq!(value(&snapshot.series, "level"), Some(&Measured::Gauge(2.5)));
    let Some(Measured::Histogram(delay)) = value(&snapshot.series, "delay") else { panic!("{snapshot:?}") };
    assert_eq!((delay.count, delay.sum), (1, 2.5));
    let seen = snapshot.series.iter().find(|series| series.name == "seen").unwrap();
    assert_eq!(seen.labels, [("label".to_owned(), "value".to_owned())]);
}

#[tokio::test]
async fn series_are_bounded_and_the_loss_is_said_once() {
    let (log, metrics) = (Log::capture(), Metrics::default());
    let limits = Limits { metric_series: 10, ..Limits::default() };
    let options = ProcessorOptions { name: "measurer".into(), metrics: metrics.clone(), limits, ..options() };
    let mut guest = misbehave(&engine(), options).await;
    for _ in 0..3 {
        guest.process(batch(&["series:1000", "count:no name"])).await.unwrap();
    }
    let snapshot = metrics.snapshot();
    assert_eq!((snapshot.series.len(), snapshot.refused), (10, 3 * 991));
    assert!(snapshot.series.iter().all(|series| series.value == Measured::Counter(3)), "{snapshot:?}");
    let said: Vec<_> =
        log.lines("processor=measurer").into_iter().filter(|line| line.contains("was refused")).collect();
    assert!(matches!(&said[..], [once] if once.contains("limits.metric-series")), "{said:?}");
}
