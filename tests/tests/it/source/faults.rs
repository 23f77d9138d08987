//! Links that end, die, are stolen or refused: always an error, never an event lost or repeated.

use std::sync::Arc;
use std::time::Duration;

use weir_emulator::{Action, Emulator, Fault, Moment, Target};
use weir_host::model::{Event, StartPosition};
use weir_host::seams::{EventSource, SourceErrorKind};

use super::Make;
use crate::hub::{HUB, end, fill, namespace, numbers, owned, partition, shared, soon, take};

fn receivers() -> Target {
    Target { hub: Some(HUB.into()), partition: Some(0), ..Target::default() }
}

fn hits(emulator: &Emulator) -> u64 {
    emulator.namespace().standing_faults().iter().map(|fault| fault.hits).sum()
}

/// Reads as the pump does: whatever ends the link, open again behind the last event. Returns the errors in between.
async fn read_through(source: &Arc<dyn EventSource>, count: usize) -> (Vec<Event>, Vec<SourceErrorKind>) {
    let (mut events, mut errors) = (Vec::<Event>::new(), Vec::new());
    while events.len() < count {
        assert!(errors.len() < 20, "it never gets on: {errors:?}");
        let start = events.last().map_or(StartPosition::Earliest, |last| StartPosition::After(last.sequence_number));
        let mut receiver = match soon(source.open(&partition(0), start, &shared(100))).await {
            Ok(receiver) => receiver,
            Err(error) => {
                errors.push(error.kind);
                continue;
            }
        };
        while events.len() < count {
            if let Err(error) = soon(receiver.receive(64, &mut events)).await {
                errors.push(error.kind);
                break;
            }
        }
        receiver.close().await;
    }
    (events, errors)
}

pub(super) async fn is_contiguous_over_every_end_of_a_link(make: Make) {
    const COUNT: usize = 600;
    for action in [Action::Detach, Action::EndSession, Action::Close, Action::Reset, Action::Busy] {
        let emulator = namespace(1).await;
        fill(&emulator, 0, COUNT as i64);
        let source = make(&emulator, HUB, "$default");
        for skip in [0, 1, 99, 350] {
            emulator.namespace().lift_all();
            emulator.namespace().inject(&Fault::new(action, Moment::Delivery).on(receivers()).after(skip));
            let (events, errors) = read_through(&source, COUNT).await;
            assert_eq!(numbers(&events), (0..COUNT as i64).collect::<Vec<_>>(), "{action:?} after {skip}");
            assert_eq!(hits(&emulator), 1, "{action:?} after {skip}");
            assert_eq!(errors, [SourceErrorKind::Transient], "{action:?} after {skip}");
        }
    }
}

/// By the service's decision; who wins by owner level is the namespace's matter, and this SDK doesn't send levels.
pub(super) async fn says_when_it_is_stolen(make: Make) {
    let emulator = namespace(1).await;
    let source = make(&emulator, HUB, "$default");
    let mut receiver = soon(source.open(&partition(0), StartPosition::Earliest, &owned(1))).await.unwrap();
    emulator.namespace().inject(&Fault::new(Action::Steal, Moment::Delivery).on(receivers()).after(15));
    fill(&emulator, 0, 100);
    take(&mut *receiver, 15).await.unwrap();
    let error = end(&mut *receiver).await;
    assert_eq!(error.kind, SourceErrorKind::Stolen, "{error}");
    assert!(error.detail.contains(HUB) && error.detail.contains("partition 0"), "{error}");
    // It stays so, and says so, until it is opened again.
    assert_eq!(end(&mut *receiver).await.kind, SourceErrorKind::Transient);
}

pub(super) async fn says_when_it_is_refused(make: Make) {
    let emulator = namespace(1).await;
    fill(&emulator, 0, 1);
    for moment in [Moment::Token, Moment::Attach] {
        let source = make(&emulator, HUB, "$default");
        emulator.namespace().inject(&Fault::new(Action::Refuse, moment).times(None));
        let opening = async {
            let mut receiver = source.open(&partition(0), StartPosition::Earliest, &owned(0)).await?;
            receiver.receive(1, &mut Vec::new()).await
        };
        let error = soon(opening).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Unauthorized, "{error}");
        if moment == Moment::Token {
            let error = soon(source.partitions()).await.unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Unauthorized, "{error}");
        }
        emulator.namespace().lift_all();
        soon(source.partitions()).await.unwrap();
        let mut receiver = soon(source.open(&partition(0), StartPosition::Earliest, &owned(0))).await.unwrap();
        take(&mut *receiver, 1).await.unwrap();
    }
}

pub(super) async fn lets_busy_services_pass(make: Make) {
    let emulator = namespace(1).await;
    fill(&emulator, 0, 1);
    let source = make(&emulator, HUB, "$default");
    emulator.namespace().inject(&Fault::new(Action::Busy, Moment::Attach).on(receivers()).times(2));
    let (events, errors) = read_through(&source, 1).await;
    assert_eq!((numbers(&events), errors), (vec![0], vec![SourceErrorKind::Transient; 2]));
    emulator.namespace().lift_all();
    emulator.namespace().inject(&Fault::new(Action::Busy, Moment::Properties).times(None));
    let error = soon(source.partition_info(&partition(0))).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Transient, "{error}");
    emulator.namespace().lift_all();
    soon(source.partition_info(&partition(0))).await.unwrap();
}

pub(super) async fn gives_up_in_time(make: Make) {
    let emulator = namespace(1).await;
    let source = make(&emulator, HUB, "$default");
    let unanswered = Fault::delay(Moment::Properties, Duration::from_secs(600));
    emulator.namespace().inject(&unanswered);
    let error = soon(source.partition_info(&partition(0))).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Transient, "{error}");
    let unanswered = Fault::delay(Moment::Token, Duration::from_secs(600));
    emulator.namespace().inject(&unanswered);
    let error = soon(source.open(&partition(0), StartPosition::Earliest, &owned(0))).await.map(drop).unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Transient, "{error}");
    emulator.namespace().lift_all();
    soon(source.partition_info(&partition(0))).await.unwrap();
    soon(source.open(&partition(0), StartPosition::Earliest, &owned(0))).await.unwrap();
    // Nobody listens there any more.
    emulator.shutdown().await;
    let error = soon(source.partition_info(&partition(0))).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Transient, "{error}");
}
