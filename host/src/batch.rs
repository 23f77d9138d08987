//! Cuts the stream of a partition into batches by count, by bytes and by the time that the oldest event has waited.
//!
//! Pure: time comes in. Events are received straight into the cutter's buffer and leave in it, so a batch costs no copy
//! unless the byte limit falls into its middle. No event is too large: one that exceeds the limit alone makes a batch
//! of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Event;

/// When a batch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most events in a batch.
    pub events: usize,
    /// Most bytes in a batch ([`Event::weight`]); a single larger event is a batch of its own.
    pub bytes: usize,
    /// How long the first event may wait for company while the guest is idle.
    pub linger: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { events: 500, bytes: 1 << 20, linger: Duration::from_millis(50) }
    }
}

/// The batch under way.
#[derive(Debug)]
pub(crate) struct Cutter {
    limits: BatchLimits,
    events: Vec<Event>,
    weight: usize,
    /// When the oldest event in `events` came.
    since: Option<Instant>,
}

impl Cutter {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self { limits, events: Vec::new(), weight: 0, since: None }
    }

    /// Where to append events, and how many at most; 0 when the batch is full.
    pub(crate) fn buffer(&mut self) -> (&mut Vec<Event>, usize) {
        let room = if self.is_full() { 0 } else { self.limits.events.max(1) - self.events.len() };
        (&mut self.events, room)
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The events that were appended from index `from` on.
    pub(crate) fn tail(&self, from: usize) -> &[Event] {
        self.events.get(from..).unwrap_or_default()
    }

    /// Removes events that were appended, but not yet taken note of.
    pub(crate) fn remove(&mut self, range: impl std::ops::RangeBounds<usize>) {
        self.events.drain(range);
    }

    /// Takes note of the events that were appended from index `from` on; returns their weight.
    pub(crate) fn appended(&mut self, from: usize, now: Instant) -> usize {
        let added: usize = self.tail(from).iter().map(Event::weight).sum();
        self.weight += added;
        if !self.events.is_empty() {
            self.since.get_or_insert(now);
        }
        added
    }

    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= self.limits.events.max(1) || self.weight >= self.limits.bytes
    }

    /// When the batch should go even though it is not full; `None` while there is nothing to cut.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limits.linger)
    }

    /// Whether the batch should go now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.events.is_empty() && (self.is_full() || self.due().is_some_and(|due| due <= now))
    }

    /// Cuts the batch: everything at hand, or as much of it as the byte limit allows (at least one event). Returns it
    /// with its weight.
    pub(crate) fn cut(&mut self, now: Instant) -> (Vec<Event>, usize) {
        if self.weight <= self.limits.bytes || self.events.len() <= 1 {
            self.since = None;
            return (std::mem::take(&mut self.events), std::mem::take(&mut self.weight));
        }
        let mut weight = 0;
        let mut count = 0;
        for event in &self.events {
            let more = event.weight();
            if count > 0 && weight + more > self.limits.bytes {
                break;
            }
            weight += more;
            count += 1;
        }
        let rest = self.events.split_off(count);
        let batch = std::mem::replace(&mut self.events, rest);
        self.weight -= weight;
        self.since = (!self.events.is_empty()).then_some(now);
        (batch, weight)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::event;

    fn sized(sequence_number: i64, bytes: usize) -> Event {
        Event { body: Bytes::from(vec![0; bytes]), ..event(sequence_number, "") }
    }

    fn push(cutter: &mut Cutter, events: Vec<Event>, now: Instant) {
        let from = cutter.len();
        cutter.buffer().0.extend(events);
        cutter.appended(from, now);
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_its_oldest_event_has_waited() {
        let now = Instant::now();
        let linger = Duration::from_millis(50);
        let mut cutter = Cutter::new(BatchLimits { events: 3, bytes: 1 << 20, linger });
        assert!(!cutter.is_due(now + linger), "nothing to cut");
        push(&mut cutter, vec![sized(1, 1)], now);
        push(&mut cutter, vec![sized(2, 1)], now + linger / 2);
        assert!(!cutter.is_due(now + linger / 2));
        assert!(cutter.is_due(now + linger), "the first event's wait counts");
        push(&mut cutter, vec![sized(3, 1)], now + linger / 2);
        assert!(cutter.is_due(now + linger / 2), "full");
        assert_eq!(cutter.buffer().1, 0);
        assert_eq!(cutter.cut(now).0.len(), 3);
        assert_eq!(cutter.due(), None);
    }

    #[test]
    fn an_event_beyond_the_byte_limit_goes_alone() {
        let now = Instant::now();
        let mut cutter = Cutter::new(BatchLimits { events: 10, bytes: 2000, linger: Duration::ZERO });
        push(&mut cutter, vec![sized(1, 1), sized(2, 9000), sized(3, 1)], now);
        let lengths: Vec<usize> = std::iter::from_fn(|| cutter.is_due(now).then(|| cutter.cut(now).0.len())).collect();
        assert_eq!(lengths, [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn batches_keep_order_and_limits_and_lose_nothing(
            sizes in prop::collection::vec(0usize..3000, 1..60),
            events in 1usize..8,
            bytes in 1usize..6000,
        ) {
            let now = Instant::now();
            let mut cutter = Cutter::new(BatchLimits { events, bytes, linger: Duration::ZERO });
            let mut waiting = sizes.iter().enumerate().map(|(n, size)| sized(n as i64, *size)).peekable();
            let mut seen = Vec::new();
            while waiting.peek().is_some() || cutter.len() > 0 {
                let room = cutter.buffer().1;
                let more: Vec<Event> = waiting.by_ref().take(room).collect();
                push(&mut cutter, more, now);
                let (batch, weight) = cutter.cut(now);
                prop_assert!(!batch.is_empty() && batch.len() <= events);
                prop_assert_eq!(weight, batch.iter().map(Event::weight).sum::<usize>());
                prop_assert!(weight <= bytes || batch.len() == 1);
                seen.extend(batch.iter().map(|e| e.sequence_number));
            }
            prop_assert_eq!(seen, (0..sizes.len() as i64).collect::<Vec<_>>());
            prop_assert_eq!(cutter.weight, 0);
        }
    }
}
