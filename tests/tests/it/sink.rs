//! Outputs published to a hub of the local namespace: order by key, ids, sizes, faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_emulator::{Action, Emulator, Fault, Moment};
use weir_host::azure::{Credential, HubSink, Namespace, SinkOptions, Timeouts};
use weir_host::model::{Event, OUTPUT_ID_PROPERTY, Output, Property, StartPosition, Value};
use weir_host::seams::{EventSource, Sink, SinkError};

use crate::hub::{HUB, namespace, partition, shared, soon, take};

fn at(emulator: &Emulator) -> Namespace {
    Namespace::new("localhost", Some(&emulator.endpoint()), Credential::None).unwrap()
}

fn sink(emulator: &Emulator) -> HubSink {
    at(emulator).sink(HUB, SinkOptions::default())
}

fn output(id: &str, key: Option<&str>, body: Vec<u8>) -> Output {
    Output {
        id: id.into(),
        partition_key: key.map(Into::into),
        content_type: Some("text/plain".into()),
        message_id: None,
        correlation_id: None,
        properties: vec![Property { key: "late-by".into(), value: Value::Integer(7) }],
        body: body.into(),
    }
}

/// Everything in the hub, by partition.
async fn stored(emulator: &Emulator) -> Vec<Vec<Event>> {
    let source = at(emulator).source(HUB, "$default", Timeouts::default());
    let mut all = Vec::new();
    for id in soon(source.partitions()).await.unwrap() {
        let info = soon(source.partition_info(&id)).await.unwrap();
        let mut receiver = soon(source.open(&id, StartPosition::Earliest, &shared(300))).await.unwrap();
        let count = usize::try_from(info.last_enqueued_sequence_number + 1).unwrap();
        all.push(take(&mut *receiver, count).await.unwrap());
        receiver.close().await;
    }
    all
}

fn id(event: &Event) -> &str {
    let property = event.properties.iter().find(|p| p.key == OUTPUT_ID_PROPERTY);
    match property.map(|p| &p.value) {
        Some(Value::Text(id)) => id,
        other => panic!("an event without its id: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_keeps_its_partition_and_its_order() {
    const KEYS: usize = 16;
    let emulator = namespace(4).await;
    let sink = sink(&emulator);
    let outputs: Vec<_> = (0..2000)
        .map(|n| output(&format!("out/{n:04}"), Some(&format!("carrier-{}", n % KEYS)), vec![b'x'; n % 700]))
        .collect();
    for part in outputs.chunks(333) {
        soon(sink.publish(part)).await.unwrap();
    }
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut partitions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (partition, events) in stored(&emulator).await.iter().enumerate() {
        for event in events {
            let key = event.partition_key.as_ref().unwrap().to_string();
            assert_eq!(event.message_id.as_deref(), Some(id(event)));
            assert_eq!(event.content_type.as_deref(), Some("text/plain"));
            assert_eq!(event.properties[0], Property { key: "late-by".into(), value: Value::Integer(7) });
            by_key.entry(key.clone()).or_default().push(id(event).into());
            partitions.entry(key).or_default().insert(partition);
        }
    }
    assert_eq!(by_key.len(), KEYS);
    for (n, (key, ids)) in
        (0..KEYS).map(|n| (n, format!("carrier-{n}"))).map(|(n, key)| (n, (key.clone(), &by_key[&key])))
    {
        let expected: Vec<_> = (n..2000).step_by(KEYS).map(|n| format!("out/{n:04}")).collect();
        assert_eq!(*ids, expected, "{key}");
        assert_eq!(partitions[&key].len(), 1, "{key}");
    }
    sink.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_up_to_the_limit_arrives_whole() {
    let emulator = namespace(1).await;
    let sink = sink(&emulator);
    let sizes = [0, 1, 300_000, 900_000, 600_000, 500_000, 10, 400_000, 400_000, sink.max_output_bytes() - 200];
    let outputs: Vec<_> = sizes.iter().map(|size| output(&format!("size/{size}"), Some("k"), vec![7; *size])).collect();
    soon(sink.publish(&outputs)).await.unwrap();
    let events = stored(&emulator).await.remove(0);
    let arrived: Vec<usize> = events.iter().map(|event| event.body.len()).collect();
    assert_eq!(arrived, sizes);
    let error = soon(sink.publish(&[output("size/2M", None, vec![7; 2 << 20])])).await.unwrap_err();
    assert!(matches!(&error, SinkError::Permanent(text) if text.contains("size/2M")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_reported_and_a_repeat_loses_nothing() {
    for action in [Action::Detach, Action::EndSession, Action::Close, Action::Reset, Action::Busy, Action::LoseAnswer] {
        let emulator = namespace(2).await;
        let options = SinkOptions { timeout: Duration::from_secs(2), ..SinkOptions::default() };
        let sink = at(&emulator).sink(HUB, options);
        let outputs: Vec<_> =
            (0..100).map(|n| output(&format!("out/{n}"), Some(&format!("k{}", n % 8)), vec![1; 100])).collect();
        // A hub that was published to before, and one that was not.
        for skip in [3, 0] {
            emulator.namespace().inject(&Fault::new(action, Moment::Send).after(skip));
            let error = soon(sink.publish(&outputs)).await.unwrap_err();
            assert!(matches!(error, SinkError::Transient(_)), "{action:?}: {error}");
            emulator.namespace().lift_all();
            soon(sink.publish(&outputs)).await.unwrap();
        }
        let events = stored(&emulator).await.concat();
        let ids: BTreeSet<&str> = events.iter().map(id).collect();
        assert_eq!(ids.len(), 100, "{action:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_given_up_and_replaced() {
    let emulator = namespace(1).await;
    let options = SinkOptions { timeout: Duration::from_secs(2), ..SinkOptions::default() };
    let sink = at(&emulator).sink(HUB, options);
    emulator.namespace().inject(&Fault::new(Action::Stall, Moment::Send));
    let outputs = [output("a", None, vec![1])];
    let error = soon(sink.publish(&outputs)).await.unwrap_err();
    assert!(matches!(error, SinkError::Transient(_)), "{error}");
    soon(sink.publish(&outputs)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_person_is_permanent() {
    let emulator = namespace(2).await;
    let permanent = async |sink: &HubSink, output: Output, words: &str| {
        let error = soon(sink.publish(&[output])).await.unwrap_err();
        assert!(matches!(&error, SinkError::Permanent(text) if text.contains(words)), "{error}");
    };
    let plain = || output("a", None, vec![1]);
    permanent(&at(&emulator).sink("no-hub", SinkOptions::default()), plain(), "no-hub").await;
    let to_one = SinkOptions { partition: Some(partition(1)), ..SinkOptions::default() };
    let one = at(&emulator).sink(HUB, to_one);
    permanent(&one, output("a", Some("k"), vec![1]), "`k`").await;
    soon(one.publish(&[plain()])).await.unwrap();
    assert_eq!(stored(&emulator).await[1].len(), 1);
    emulator.namespace().inject(&Fault::new(Action::Refuse, Moment::Token).times(None));
    // What a person may mend while it is tried again.
    let error = soon(sink(&emulator).publish(&[plain()])).await.unwrap_err();
    assert!(matches!(&error, SinkError::Transient(text) if text.contains(HUB)), "{error}");
}
