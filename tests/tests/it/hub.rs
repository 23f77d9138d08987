//! A local namespace in the test's own process, and short words for what tests do with it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_amqp::message::MessageParts;
use weir_emulator::{Emulator, EmulatorConfig, Groups, HubSpec, Incoming, Retention};
use weir_host::model::{Event, PartitionId, StartPosition};
use weir_host::seams::{EventSource, OpenOptions, PartitionReceiver, SourceError};

/// The hub of most tests; it has the consumer groups `$default` and `audit`.
pub(crate) const HUB: &str = "flights";

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn namespace(partitions: u32) -> Emulator {
    namespace_that_keeps(partitions, Retention::default()).await
}

pub(crate) async fn namespace_that_keeps(partitions: u32, retention: Retention) -> Emulator {
    let config = EmulatorConfig {
        listen: "127.0.0.1:0".into(),
        hubs: vec![HubSpec { name: HUB.into(), partitions }],
        groups: Groups::Listed(vec!["audit".into()]),
        retention,
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.unwrap()
}

pub(crate) fn incoming(message: &MessageParts) -> Incoming {
    Incoming { tail: message.encode(), ..Incoming::default() }
}

/// Adds `count` events to a partition. An event's body is its sequence number.
pub(crate) fn fill(emulator: &Emulator, partition: u32, count: i64) {
    let next = emulator.namespace().hub(HUB).unwrap().partitions()[partition as usize].state(now_ms()).last + 1;
    let events: Vec<_> = (next..next + count).map(|n| incoming(&MessageParts::data(n.to_string()))).collect();
    emulator.namespace().publish(HUB, partition, &events).unwrap();
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

pub(crate) fn shared(prefetch: u32) -> OpenOptions {
    OpenOptions { owner_level: None, prefetch }
}

pub(crate) fn owned(level: i64) -> OpenOptions {
    OpenOptions { owner_level: Some(level), prefetch: 300 }
}

pub(crate) fn partition(n: u32) -> PartitionId {
    n.to_string().as_str().into()
}

/// Whatever is awaited, it comes in time.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it took too long")
}

/// Waits for a condition that no event tells of.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it took too long until {what}");
}

/// The next `count` events of an open partition, or the error that came before them.
pub(crate) async fn take(receiver: &mut dyn PartitionReceiver, count: usize) -> Result<Vec<Event>, SourceError> {
    let mut events = Vec::new();
    while events.len() < count {
        soon(receiver.receive(count - events.len(), &mut events)).await?;
    }
    Ok(events)
}

/// Opens, takes, closes.
pub(crate) async fn read(source: &dyn EventSource, start: StartPosition, count: usize) -> Vec<Event> {
    let mut receiver = soon(source.open(&partition(0), start, &shared(300))).await.unwrap();
    let events = take(&mut *receiver, count).await.unwrap();
    receiver.close().await;
    events
}

/// The error that ends a link, behind whatever it delivers first.
pub(crate) async fn end(receiver: &mut dyn PartitionReceiver) -> SourceError {
    let mut events = Vec::new();
    loop {
        if let Err(error) = soon(receiver.receive(1000, &mut events)).await {
            return error;
        }
    }
}

pub(crate) fn numbers(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.sequence_number).collect()
}
