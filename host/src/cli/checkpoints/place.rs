//! From "earliest", a sequence number or a time to the checkpoint that makes a partition go on there.
//!
//! A checkpoint names the last event that is finished, by its sequence number *and* its offset. Weir goes on behind the sequence number;
//! the SDKs go on behind the offset (`x-opt-offset > '…'`), which is opaque: it can't be reckoned, only read from the event itself. So
//! the event before the place is looked up in the hub.
//!
//! Before the first event there is no event to name. Event Hubs has an offset for that place, `-1`, which every SDK writes for "earliest" and
//! hands to the service as it is. With the sequence number before the first retained event beside it, Weir and the SDKs begin with
//! the first event, and whoever computes a lag from the sequence number (KEDA) gets the right one. Deleting the checkpoint would not
//! say the same: the partition would begin at the configured `start`, which may be "latest", and nothing would end the tenancy of a
//! host that is still at work there.

use std::time::Duration;

use bytestring::ByteString;
use tokio::time::timeout;

use crate::cli::tail::From as Target;
use crate::model::{Event, PartitionInfo, Position, SequenceNumber, StartPosition, Timestamp};
use crate::seams::{EventSource, OpenOptions, PartitionReceiver};

/// The service's own name for the place before the first event.
const BEFORE_THE_FIRST: &str = "-1";
/// How long an event that is there may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much further back each look for a compacted event's neighbour begins.
const FURTHER: i64 = 16;

/// Refuses a time that is still to come, by this host's clock: what is enqueued until then would not be left out. The error is a sentence for
/// a person.
pub(super) fn refuse_future(target: Target, now: Timestamp) -> Result<(), String> {
    match target {
        Target::Time(time) if time > now => Err(
            "the time of --to is in the future; `--to latest` goes on with what comes next, and events can't be left out in advance".into(),
        ),
        _ => Ok(()),
    }
}

/// The checkpoint by which a partition goes on at `target`. The error is a clause for a person.
pub(super) async fn find(source: &dyn EventSource, info: &PartitionInfo, target: Target) -> Result<Position, String> {
    let (first, last) = (info.beginning_sequence_number, info.last_enqueued_sequence_number);
    match target {
        Target::Earliest => Ok(before_first(info)),
        Target::Latest => Ok(latest(info)),
        Target::Sequence(number) if number == last + 1 => Ok(latest(info)),
        Target::Sequence(number) if number > last => Err(format!(
            "there is no event {number} yet, the newest is {last}; `--to latest` goes on with what comes next"
        )),
        Target::Sequence(number) if number < first || info.is_empty => Err(format!(
            "event {number} is not retained any more, the first is {first}; `--to earliest` begins with what is left"
        )),
        Target::Sequence(number) => before(source, info, number).await,
        Target::Time(time) if info.is_empty || info.last_enqueued_time < time => Ok(latest(info)),
        Target::Time(time) => {
            let mut receiver = open(source, info, StartPosition::EnqueuedTime(time)).await?;
            let event = next(&mut *receiver, info).await;
            receiver.close().await;
            before(source, info, event?.sequence_number).await
        }
    }
}

/// The event at a sequence number; `None`: it was removed by compaction.
pub(super) async fn event(
    source: &dyn EventSource,
    info: &PartitionInfo,
    number: SequenceNumber,
) -> Result<Option<Event>, String> {
    let mut receiver = open(source, info, StartPosition::After(number - 1)).await?;
    let event = next(&mut *receiver, info).await;
    receiver.close().await;
    event.map(|event| Some(event).filter(|event| event.sequence_number == number))
}

fn before_first(info: &PartitionInfo) -> Position {
    let number = (info.beginning_sequence_number - 1).min(info.last_enqueued_sequence_number);
    Position { sequence_number: number, offset: ByteString::from_static(BEFORE_THE_FIRST) }
}

fn latest(info: &PartitionInfo) -> Position {
    match info.last_enqueued_sequence_number {
        ..0 => before_first(info),
        sequence_number => Position { sequence_number, offset: info.last_enqueued_offset.clone() },
    }
}

/// The last event before `number`, which need not be the one with the number before: compaction leaves gaps.
async fn before(source: &dyn EventSource, info: &PartitionInfo, number: SequenceNumber) -> Result<Position, String> {
    let first = info.beginning_sequence_number;
    let mut from = number;
    let mut back = 1;
    while from > first {
        from = number.saturating_sub(back).max(first);
        if let Some(found) = last_in(source, info, from, number).await? {
            return Ok(found);
        }
        back *= FURTHER;
    }
    Ok(before_first(info))
}

/// The last event of `from..until`.
async fn last_in(
    source: &dyn EventSource,
    info: &PartitionInfo,
    from: SequenceNumber,
    until: SequenceNumber,
) -> Result<Option<Position>, String> {
    let mut receiver = open(source, info, StartPosition::After(from - 1)).await?;
    let mut last = None;
    let ended = loop {
        match next(&mut *receiver, info).await {
            Ok(event) if event.sequence_number >= until => break Ok(()),
            Ok(event) => last = Some(event.position()),
            Err(why) => break Err(why),
        }
        if last.as_ref().is_some_and(|last| last.sequence_number == until - 1) {
            break Ok(());
        }
    };
    receiver.close().await;
    ended.map(|()| last)
}

async fn open(
    source: &dyn EventSource,
    info: &PartitionInfo,
    start: StartPosition,
) -> Result<Box<dyn PartitionReceiver>, String> {
    let options = OpenOptions { owner_level: None, prefetch: 16 };
    source.open(&info.id, start, &options).await.map_err(|error| format!("can't be read: {error}"))
}

async fn next(receiver: &mut dyn PartitionReceiver, info: &PartitionInfo) -> Result<Event, String> {
    let mut events = Vec::new();
    match timeout(PATIENCE, receiver.receive(1, &mut events)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(format!("can't be read: {error}")),
        Err(_) => {
            let newest = info.last_enqueued_sequence_number;
            return Err(format!("nothing came in {PATIENCE:?}, although there are events up to {newest}; try again"));
        }
    }
    events.pop().ok_or_else(|| "can't be read: the link delivered nothing".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::model::PartitionId;
    use crate::testing::MemoryHub;

    async fn place(hub: &MemoryHub, target: Target) -> Result<(i64, String), String> {
        let info = hub.partition_info(&PartitionId::from("0")).await.unwrap();
        find(hub, &info, target).await.map(|p| (p.sequence_number, p.offset.to_string()))
    }

    #[test]
    fn a_time_that_is_still_to_come_is_refused() {
        assert_eq!(refuse_future(Target::Time(1000), 1000), Ok(()));
        assert!(refuse_future(Target::Time(1001), 1000).unwrap_err().contains("in the future; `--to latest`"));
        assert_eq!(refuse_future(Target::Sequence(1001), 1000), Ok(()));
    }

    #[tokio::test]
    async fn the_event_before_the_place_is_named_with_its_own_offset() {
        let hub = MemoryHub::new(1);
        for target in [Target::Earliest, Target::Latest, Target::Sequence(0), Target::Time(0)] {
            assert_eq!(place(&hub, target).await, Ok((-1, "-1".into())), "an empty partition: {target:?}");
        }
        for _ in 0..40 {
            hub.push("0", "body");
        }
        let mut receiver = hub
            .open(&"0".into(), StartPosition::Earliest, &OpenOptions { owner_level: None, prefetch: 100 })
            .await
            .unwrap();
        let mut events = Vec::new();
        while events.len() < 40 {
            receiver.receive(100, &mut events).await.unwrap();
        }
        let of = |n: usize| Ok((n as i64, events[n].offset.to_string()));
        assert_eq!(place(&hub, Target::Earliest).await, Ok((-1, "-1".into())));
        assert_eq!(place(&hub, Target::Sequence(0)).await, Ok((-1, "-1".into())));
        assert_eq!(place(&hub, Target::Sequence(1)).await, of(0));
        assert_eq!(place(&hub, Target::Sequence(25)).await, of(24));
        assert_eq!(place(&hub, Target::Sequence(40)).await, of(39));
        assert_eq!(place(&hub, Target::Latest).await, of(39));
        assert!(place(&hub, Target::Sequence(41)).await.unwrap_err().contains("the newest is 39"));
        // The first event of a time is the next to be processed.
        let time = events[20].enqueued_time;
        let first = events.iter().position(|event| event.enqueued_time >= time).unwrap();
        let expected = if first == 0 { Ok((-1, "-1".into())) } else { of(first - 1) };
        assert_eq!(place(&hub, Target::Time(time)).await, expected);
        let newest = events[39].enqueued_time;
        assert_eq!(place(&hub, Target::Time(newest + 1)).await, of(39), "behind the newest event");

        // Retention and compaction.
        hub.expire("0", 10);
        assert_eq!(place(&hub, Target::Earliest).await, Ok((9, "-1".into())), "the lag by sequence numbers is right");
        assert_eq!(place(&hub, Target::Sequence(10)).await, Ok((9, "-1".into())));
        assert_eq!(place(&hub, Target::Sequence(11)).await, of(10));
        assert!(place(&hub, Target::Sequence(9)).await.unwrap_err().contains("not retained any more, the first is 10"));
        hub.push_event("0", crate::testing::event(500, "body"));
        assert_eq!(place(&hub, Target::Sequence(500)).await, of(39), "what is between was removed");
        assert_eq!(place(&hub, Target::Sequence(300)).await, of(39));
        let info = hub.partition_info(&PartitionId::from("0")).await.unwrap();
        assert_eq!(event(&hub, &info, 20).await.unwrap().map(|event| event.sequence_number), Some(20));
        assert_eq!(event(&hub, &info, 300).await, Ok(None));
        assert_eq!((hub.attached("0"), hub.detached("0")), (1, hub.opens("0").len() - 1), "links are closed");
    }
}
