//! Finds the one event at which a guest fails, by halving what is handed over. Pure.
//!
//! What is known is kept as a range of sequence numbers, not as a place in a batch: when a guest that held events breaks, they are read
//! again and batches are cut otherwise, and the search goes on where it was. Everything before the range has passed; a call with the
//! whole range failed. A piece that passes moves the range's beginning, one that fails moves its end. When the whole range has passed,
//! the failure was a passing one, and the search is over.

use crate::model::{Event, SequenceNumber};

/// A search, or none.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    range: Option<(SequenceNumber, SequenceNumber)>,
    /// Failed calls in a row that each event of the range was part of.
    failures: u32,
}

/// What a failed piece tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is one of these; hand over less.
    Narrowed,
    /// It is this one, which failed alone, and was part of so many failed calls.
    Alone(u32),
}

impl Isolation {
    /// Whether there is something to find.
    pub(crate) fn is_on(&self) -> bool {
        self.range.is_some()
    }

    /// Failed calls in a row that each event under suspicion was part of.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How many of the events in hand to hand over next: at least one, if there are any.
    pub(crate) fn cut(&self, events: &[Event]) -> usize {
        let Some((first, last)) = self.range else { return events.len() };
        match events.partition_point(|event| event.sequence_number < first) {
            0 => {}
            // These have passed before; they come again because the guest's memory is gone.
            passed => return passed,
        }
        match events.partition_point(|event| event.sequence_number <= last) {
            0 => events.len(),
            1 => 1,
            inside => inside / 2,
        }
    }

    /// A piece failed, after so many failed calls with it that were not noted here.
    pub(crate) fn failed(&mut self, piece: &[Event], before: u32) -> Found {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return Found::Narrowed };
        let piece_range = (first.sequence_number, last.sequence_number);
        let inside = self.range.is_some_and(|(first, last)| piece_range.0 >= first && piece_range.1 <= last);
        self.failures = if inside { self.failures } else { before }.saturating_add(1);
        self.range = Some(piece_range);
        if piece.len() == 1 { Found::Alone(self.failures) } else { Found::Narrowed }
    }

    /// Events up to this one have passed.
    pub(crate) fn passed(&mut self, through: SequenceNumber) {
        if let Some((first, last)) = &mut self.range {
            if through >= *last {
                self.end();
            } else {
                *first = (*first).max(through.saturating_add(1));
            }
        }
    }

    /// What was looked for is found.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::event;

    fn batch(numbers: impl IntoIterator<Item = i64>) -> Vec<Event> {
        numbers.into_iter().map(|n| event(n, "")).collect()
    }

    /// Searches a batch in which these events fail, and tells the first one found, and the calls that it took.
    fn search(events: &[Event], fails: impl Fn(i64) -> bool) -> (Option<i64>, usize) {
        let (mut isolation, mut rest, mut calls) = (Isolation::default(), events, 0);
        loop {
            let cut = isolation.cut(rest);
            if cut == 0 {
                return (None, calls);
            }
            let (piece, behind) = rest.split_at(cut);
            calls += 1;
            if piece.iter().any(|event| fails(event.sequence_number)) {
                if let Found::Alone(_) = isolation.failed(piece, 0) {
                    return (piece.first().map(|event| event.sequence_number), calls);
                }
            } else {
                isolation.passed(piece.last().map_or(0, |event| event.sequence_number));
                rest = behind;
            }
        }
    }

    #[test]
    fn a_poison_event_is_found_at_each_position_in_logarithmic_time() {
        for len in [1, 2, 3, 10, 100, 1000] {
            let events = batch((0..len).map(|n| n * 3));
            let most = 2 * (64 - (len as u64).leading_zeros()) as usize + 2;
            for poison in (0..len).map(|n| n * 3) {
                let (found, calls) = search(&events, |n| n == poison);
                assert_eq!(found, Some(poison), "of {len}");
                assert!(calls <= most, "{calls} calls for {len} events");
            }
        }
    }

    #[test]
    fn a_failure_that_passes_ends_the_search() {
        let events = batch(0..10);
        let mut isolation = Isolation::default();
        assert_eq!(isolation.failed(&events, 4), Found::Narrowed);
        assert_eq!((isolation.cut(&events), isolation.failures()), (5, 5));
        isolation.passed(4);
        assert_eq!(isolation.cut(&events[5..]), 2);
        isolation.passed(9);
        assert!(!isolation.is_on());
        assert_eq!(isolation.cut(&events), 10);
    }

    #[test]
    fn after_a_rewind_what_had_passed_goes_ahead_and_the_search_goes_on() {
        let events = batch(0..10);
        let mut isolation = Isolation::default();
        isolation.failed(&events[4..], 0);
        assert_eq!(isolation.cut(&events), 4, "what came before, in one piece");
        isolation.passed(3);
        assert_eq!(isolation.cut(&events[4..]), 3);
        assert_eq!(isolation.failed(&events[4..7], 0), Found::Narrowed);
        assert_eq!(isolation.cut(&events[4..]), 1);
        assert_eq!(isolation.failed(&events[4..5], 0), Found::Alone(3));
    }

    proptest! {
        #[test]
        fn the_first_of_several_is_found(len in 1i64..300, poison in prop::collection::btree_set(0i64..300, 0..5)) {
            let events = batch(0..len);
            let (found, _) = search(&events, |n| poison.contains(&n));
            prop_assert_eq!(found, poison.iter().copied().find(|n| *n < len));
        }
    }
}
