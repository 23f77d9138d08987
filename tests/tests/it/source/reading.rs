//! Positions, order, waiting, back-pressure.

use std::time::Duration;

use futures::FutureExt;
use weir_emulator::Emulator;
use weir_host::model::StartPosition;
use weir_host::seams::SourceErrorKind;

use super::Make;
use crate::hub::{HUB, fill, namespace, now_ms, numbers, owned, partition, read, shared, soon, take, until};

pub(super) async fn starts_where_it_is_told(make: Make) {
    let emulator = namespace(1).await;
    // Ten events, a second apart, the last now.
    let (log, now) = (emulator.namespace().hub(HUB).unwrap().partitions()[0].clone(), now_ms());
    for n in 0..10 {
        let body = weir_amqp::message::MessageParts::data(n.to_string());
        log.append(&[crate::hub::incoming(&body)], now - (9 - n) * 1000).unwrap();
    }
    let source = make(&emulator, HUB, "$default");
    for (start, first) in [
        (StartPosition::Earliest, 0),
        (StartPosition::After(-1), 0),
        (StartPosition::After(0), 1),
        (StartPosition::After(8), 9),
        (StartPosition::EnqueuedTime(now - 4000), 5),
        (StartPosition::EnqueuedTime(now - 3999), 6),
        (StartPosition::EnqueuedTime(0), 0),
    ] {
        let expected: Vec<i64> = (first..10).collect();
        let events = read(&*source, start.clone(), expected.len()).await;
        assert_eq!(numbers(&events), expected, "{start:?}");
        for event in events {
            assert_eq!(event.body, event.sequence_number.to_string());
            assert_eq!(event.enqueued_time, now - (9 - event.sequence_number) * 1000);
        }
    }
}

pub(super) async fn goes_on_behind_the_last_event(make: Make) {
    let emulator = namespace(1).await;
    fill(&emulator, 0, 50);
    let source = make(&emulator, HUB, "audit");
    let mut events = read(&*source, StartPosition::Earliest, 20).await;
    while events.len() < 50 {
        let last = events[events.len() - 1].sequence_number;
        events.extend(read(&*source, StartPosition::After(last), 10).await);
    }
    assert_eq!(numbers(&events), (0..50).collect::<Vec<_>>());
}

pub(super) async fn waits_for_what_comes(make: Make) {
    let emulator = namespace(1).await;
    fill(&emulator, 0, 3);
    let source = make(&emulator, HUB, "$default");
    let mut receiver = soon(source.open(&partition(0), StartPosition::After(2), &shared(10))).await.unwrap();
    let mut events = Vec::new();
    // Longer than it takes to suspect a dead link: a quiet partition is no error.
    let quiet = tokio::time::timeout(Duration::from_secs(1), receiver.receive(10, &mut events)).await;
    assert!(quiet.is_err() && events.is_empty());
    for round in 0..20 {
        fill(&emulator, 0, 1);
        assert_eq!(numbers(&take(&mut *receiver, 1).await.unwrap()), [3 + round]);
    }
}

pub(super) async fn knows_partitions_and_positions(make: Make) {
    let emulator = namespace(3).await;
    fill(&emulator, 1, 7);
    let source = make(&emulator, HUB, "$default");
    let ids = || async { soon(source.partitions()).await.unwrap() };
    assert_eq!(ids().await, [partition(0), partition(1), partition(2)]);
    let info = soon(source.partition_info(&partition(1))).await.unwrap();
    assert_eq!((info.beginning_sequence_number, info.last_enqueued_sequence_number, info.is_empty), (0, 6, false));
    let empty = soon(source.partition_info(&partition(0))).await.unwrap();
    assert_eq!((empty.last_enqueued_sequence_number, empty.is_empty), (-1, true));
    emulator.namespace().add_partitions(HUB, 1).unwrap();
    assert_eq!(ids().await.len(), 4);
}

pub(super) async fn names_what_is_not_there(make: Make) {
    let emulator = namespace(1).await;
    for (hub, group, id) in [("no-hub", "$default", 0), (HUB, "no-group", 0), (HUB, "$default", 7)] {
        let opening = async {
            let mut receiver =
                make(&emulator, hub, group).open(&partition(id), StartPosition::Earliest, &owned(0)).await?;
            receiver.receive(1, &mut Vec::new()).await
        };
        let error = soon(opening).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
        for name in [hub, group, &format!("partition {id}")] {
            assert!(error.detail.contains(name), "{name} is not named: {error}");
        }
    }
    let error = soon(make(&emulator, "no-hub", "$default").partitions()).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
    let error = soon(make(&emulator, HUB, "$default").partition_info(&partition(7))).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::NotFound, "{error}");
}

pub(super) async fn loses_nothing_when_a_receive_is_dropped(make: Make) {
    let emulator = namespace(1).await;
    let source = make(&emulator, HUB, "$default");
    let mut receiver = soon(source.open(&partition(0), StartPosition::Earliest, &shared(50))).await.unwrap();
    let mut events = Vec::new();
    let polling = async {
        for _ in 0..100 {
            fill(&emulator, 0, 10);
            // Polled once and dropped, many times over.
            for _ in 0..20 {
                if let Some(received) = receiver.receive(3, &mut events).now_or_never() {
                    received.unwrap();
                }
                tokio::task::yield_now().await;
            }
        }
    };
    soon(polling).await;
    let rest = 1000 - events.len();
    events.extend(take(&mut *receiver, rest).await.unwrap());
    assert_eq!(numbers(&events), (0..1000).collect::<Vec<_>>());
}

/// How far the namespace has pushed its slowest receiver.
fn pushed(emulator: &Emulator) -> i64 {
    let connections = emulator.namespace().connections();
    connections.iter().flat_map(|connection| &connection.links).map(|link| link.position).min().unwrap_or(0)
}

pub(super) async fn stops_the_service_by_not_receiving(make: Make) {
    const PREFETCH: u32 = 40;
    let emulator = namespace(1).await;
    fill(&emulator, 0, 2000);
    let source = make(&emulator, HUB, "$default");
    let mut receiver = soon(source.open(&partition(0), StartPosition::Earliest, &shared(PREFETCH))).await.unwrap();
    let mut events = take(&mut *receiver, 1).await.unwrap();
    // While somebody else is pushed all of it, this one is pushed no more than it asked for.
    assert_eq!(read(&*source, StartPosition::Earliest, 2000).await.len(), 2000);
    let pushed = pushed(&emulator);
    assert!(pushed <= 1 + 3 * i64::from(PREFETCH), "{pushed} events were pushed without being received");
    events.extend(take(&mut *receiver, 1999).await.unwrap());
    assert_eq!(numbers(&events), (0..2000).collect::<Vec<_>>());
}

pub(super) async fn gives_back_what_it_holds(make: Make) {
    let emulator = namespace(1).await;
    fill(&emulator, 0, 1000);
    let source = make(&emulator, HUB, "$default");
    for level in [5, 3, 1] {
        // With a full prefetch, and each time with a lower owner level, which a link that is left behind would refuse.
        let mut receiver = soon(source.open(&partition(0), StartPosition::Earliest, &owned(level))).await.unwrap();
        take(&mut *receiver, 1).await.unwrap();
        receiver.close().await;
        let links = || emulator.namespace().connections().iter().map(|c| c.links.len()).sum::<usize>();
        until("the link is gone", || links() == 0).await;
    }
}
