//! What goes into a guest and what comes back.

use std::time::Duration;

use serde_json::json;
use weir_host::guest::{Batch, CloseReason, Failure, OpenReason, Origin, Progress, Redelivery, Rejection};
use weir_host::model::{Event, Property, Value};
use weir_host::wasm::{Limits, ProcessorOptions};

use super::support::*;

/// One of each kind.
fn properties() -> Vec<Property> {
    [
        ("null", Value::Null),
        ("boolean", Value::Boolean(true)),
        ("integer", Value::Integer(-3)),
        ("unsigned", Value::Unsigned(u64::MAX)),
        ("double", Value::Double(2.5)),
        ("text", Value::Text("žluť".into())),
        ("binary", Value::Binary(vec![0, 255].into())),
        ("timestamp", Value::Timestamp(-1)),
        ("uuid", Value::Uuid(*b"0123456789abcdef")),
        ("other", Value::Other(vec![0xc0, 0].into())),
    ]
    .map(|(key, value)| Property { key: key.into(), value })
    .into()
}

fn full(sequence_number: i64) -> Event {
    Event {
        partition_key: Some("key".into()),
        content_type: Some("text/plain".into()),
        message_id: Some("m".into()),
        correlation_id: Some("c".into()),
        properties: properties(),
        ..event(sequence_number, "full")
    }
}

#[tokio::test]
async fn identity_passes_every_kind_of_value_on() {
    let engine = engine();
    let processor = module(&engine, "identity").await.processor(options()).unwrap();
    let mut identity = processor.open(opening(&json!({}), OpenReason::Claimed)).await.unwrap();

    // With and without properties, so that each event must get its own.
    let events = vec![event(1, "bare"), full(2), event(3, ""), full(5)];
    let answer = identity.process(Batch::new(events)).await.unwrap();

    assert_eq!((answer.ack.progress, answer.ack.rejected.len(), answer.ack.redeliver), (Progress::All, 0, None));
    assert_eq!(bodies_of(&answer.outputs), ["bare", "full", "", "full"]);
    for (index, output) in answer.outputs.iter().enumerate() {
        assert_eq!(output.origin, Some(Origin::Event(u32::try_from(index).unwrap())));
        assert_eq!(output.target, None);
        let full = index % 2 == 1;
        assert_eq!(output.partition_key.as_deref(), full.then_some("key"));
        assert_eq!(output.content_type.as_deref(), full.then_some("text/plain"));
        assert_eq!(output.message_id.as_deref(), full.then_some("m"));
        assert_eq!(output.correlation_id.as_deref(), full.then_some("c"));
        assert_eq!(output.properties, if full { properties() } else { Vec::new() });
    }
    identity.close(CloseReason::Shutdown).await;
}

fn bodies_of(outputs: &[weir_host::guest::GuestOutput]) -> Vec<&str> {
    outputs.iter().map(|output| std::str::from_utf8(&output.body).unwrap()).collect()
}

#[tokio::test]
async fn only_selected_metadata_is_handed_over() {
    let engine = engine();
    let config = json!({ "select": ["message-id", "property:uuid", "property:absent"] });
    let mut guest = misbehave_with(&engine, options(), config).await.unwrap();
    let answer = guest.process(Batch::new(vec![full(1), event(2, "bare")])).await.unwrap();
    let output = &answer.outputs[0];
    assert_eq!((output.message_id.as_deref(), output.content_type.as_deref()), (Some("m"), None));
    assert_eq!(output.properties, [Property { key: "uuid".into(), value: Value::Uuid(*b"0123456789abcdef") }]);
    assert_eq!(answer.outputs[1].properties, []);

    let refused = misbehave_with(&engine, options(), json!({ "select": ["offset", "colour"] })).await.err();
    let Some(Failure::Fatal(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("colour") && !why.contains("offset"), "{why}");
}

#[tokio::test]
async fn every_disposition_comes_through() {
    let answer = obey(&["one", "reject", "hold", "three"]).await.unwrap();
    assert_eq!(answer.ack.progress, Progress::Hold);
    assert_eq!(answer.ack.rejected, [Rejection { index: 1, reason: "asked to".into() }]);
    assert_eq!(bodies(&answer), ["one", "hold", "three"]);

    let answer = obey(&["through:100", "two"]).await.unwrap();
    assert_eq!(answer.ack.progress, Progress::Through(100));

    let answer = obey(&["one", "redeliver:250", "never seen"]).await.unwrap();
    let after = Some(Duration::from_millis(250));
    assert_eq!(answer.ack.redeliver, Some(Redelivery { index: 1, after, reason: "asked to".into() }));
    assert_eq!(bodies(&answer), ["one"]);

    let retry = |after| Err(Failure::Retry { after, reason: "asked to".into() });
    assert_eq!(obey(&["emit:3", "retry"]).await, retry(None));
    assert_eq!(obey(&["retry:1500"]).await, retry(Some(Duration::from_millis(1500))));
    assert_eq!(obey(&["fatal"]).await, Err(Failure::Fatal("asked to".into())));
}

#[tokio::test]
async fn an_instance_goes_on_after_a_retry_and_its_outputs_are_gone() {
    let mut guest = misbehave(&engine(), options()).await;
    guest.process(batch(&["emit:3", "retry"])).await.unwrap_err();
    let answer = guest.process(batch(&["only this"])).await.unwrap();
    assert_eq!(bodies(&answer), ["only this"]);
}

#[tokio::test]
async fn a_tail_of_a_batch_has_indices_of_its_own() {
    let answer =
        misbehave(&engine(), options()).await.process(batch(&["zero", "one", "reject"]).tail(1)).await.unwrap();
    assert_eq!(answer.ack.rejected[0].index, 1);
    assert_eq!(bodies(&answer), ["one"]);
}

#[tokio::test]
async fn outputs_are_limited_and_only_go_where_the_deployment_says() {
    let targets = vec!["default".into(), "late".into()];
    let limits = Limits { outputs: 100, output_bytes: 100_000, ..Limits::default() };
    let options = ProcessorOptions { limits, targets, ..options() };
    let fatal = async |command: &str| match obey_within(options.clone(), &[command]).await {
        Err(Failure::Fatal(why)) => why,
        other => panic!("{command}: {other:?}"),
    };
    assert!(fatal("emit:100").await.contains("a call may emit 100 outputs"), "the event itself is one more");
    assert!(fatal("emit-bytes:200000").await.contains("a call may emit 97 KiB in all"));
    let unknown = fatal("emit-to:early").await;
    assert!(unknown.contains("has no output \"early\"; it has default, late"), "{unknown}");

    let answer = obey_within(options, &["emit:99"]).await.unwrap();
    assert_eq!(answer.outputs.len(), 100);
    let nowhere = ProcessorOptions { targets: Vec::new(), ..super::support::options() };
    assert_eq!(obey_within(nowhere.clone(), &["reject"]).await.unwrap().outputs, []);
    assert!(matches!(obey_within(nowhere, &["one"]).await, Err(Failure::Fatal(why)) if why.contains("it has none")));
}

#[tokio::test]
async fn log_lines_are_bounded_named_and_cannot_forge_others() {
    let log = Log::capture();
    let limits = Limits { log_lines_per_second: 1_000_000, ..Limits::default() };
    let options = ProcessorOptions { name: "logger".into(), limits, ..options() };
    obey_within(
        options,
        &["escape", "log:990", "forge", "print:said on stdout", "print-error:said on stderr", "log:1000"],
    )
    .await
    .unwrap();
    let lines = log.lines("processor=logger");
    assert!(lines.iter().all(|line| line.contains("weir::guest") && line.contains("partition=0")), "{lines:#?}");
    assert_eq!(log.lines("one\\ntwo\\u{1b}[31m").len(), 1);
    let module = engine_digest().await;
    let whose = format!("events=100-105 module={module}");
    assert!(lines.iter().filter(|line| !line.contains("were dropped")).all(|line| line.contains(&whose)), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("fields=\"line=7\"")), "{:?}", lines.get(8));
    // What is written to a stream comes at the end of the call, when nothing is left of what it may write.
    assert_eq!(lines.iter().filter(|line| line.contains("a line")).count(), 999);
    assert!(
        lines.iter().any(|line| line.contains("995 log lines") && line.contains("limits.log-lines allows 1000")),
        "{lines:#?}"
    );

    let log_of = |name: &str| log.lines(&format!("processor={name}"));
    let options = ProcessorOptions { name: "printer".into(), ..super::support::options() };
    obey_within(options, &["forge", "print:said on stdout", "print-error:said on stderr"]).await.unwrap();
    let lines = log_of("printer");
    assert_eq!(lines.len(), 4, "each line is one of its own: {lines:#?}");
    assert!(lines.iter().all(|line| line.contains("partition=0 events=100-102 module=")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("stream=\"stdout\"") && line.contains("ERROR weir_host: forged")));
    assert!(lines.iter().any(|line| line.contains("stream=\"stderr\"") && line.contains("said on stderr")));
}

async fn engine_digest() -> String {
    module(&engine(), "misbehave").await.digest()[..12].to_owned()
}

#[tokio::test]
async fn log_lines_are_bounded_over_many_calls() {
    let log = Log::capture();
    let limits = Limits { log_lines_per_second: 1, ..Limits::default() };
    let options = ProcessorOptions { name: "chatty".into(), limits, ..options() };
    let mut guest = misbehave(&engine(), options).await;
    let began = std::time::Instant::now();
    for _ in 0..20 {
        guest.process(batch(&["log:100"])).await.unwrap();
    }
    let most = 10 + began.elapsed().as_secs() as usize + 1;
    guest.close(CloseReason::Shutdown).await;
    let lines = log.lines("processor=chatty");
    let written = lines.iter().filter(|line| line.contains("a line")).count();
    assert!((10..=most).contains(&written), "{written} lines, and {most} is the most");
    let dropped: Vec<usize> =
        lines.iter().filter_map(|line| line.split_once(" log lines (")?.0.rsplit(' ').next()?.parse().ok()).collect();
    assert_eq!(dropped.iter().sum::<usize>() + written, 2000, "every line is written or counted: {dropped:?}");
    assert!(
        dropped.len() <= 2 + began.elapsed().as_secs() as usize / 10,
        "and that is not said each time: {dropped:?}"
    );
}

#[tokio::test]
async fn outputs_are_limited_over_many_calls() {
    let limits = Limits { outputs_per_second: Some(1), ..Limits::default() };
    let mut guest = misbehave(&engine(), super::support::limits(limits)).await;
    guest.process(batch(&["emit:9"])).await.unwrap();
    let refused = guest.process(batch(&["emit:9"])).await;
    assert!(
        matches!(&refused, Err(Failure::Fatal(why)) if why.contains("raise limits.outputs-per-second")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_guest_that_breaks_at_the_ends_of_its_life_is_reported() {
    let engine = engine();
    let opened = misbehave_with(&engine, options(), json!({ "on-open": "panic" })).await.err();
    let Some(Failure::Trap(report)) = opened else { panic!("{opened:?}") };
    assert!(report.message.contains("panicked at") && report.message.contains("during `open`"), "{report:?}");
    let opened = misbehave_with(&engine, options(), json!({ "on-open": "retry" })).await.err();
    assert_eq!(opened, Some(Failure::Retry { after: None, reason: "asked to".into() }));
    let opened = misbehave_with(&engine, options(), json!({ "colour": 1 })).await.err();
    assert!(matches!(opened, Some(Failure::Fatal(why)) if why.contains("colour")));

    let log = Log::capture();
    let options = ProcessorOptions { name: "closer".into(), ..options() };
    let guest = misbehave_with(&engine, options, json!({ "on-close": "panic" })).await.unwrap();
    guest.close(CloseReason::Released).await;
    assert_eq!(log.lines("processor=closer").iter().filter(|line| line.contains("broke in `close`")).count(), 1);
}
