//! What of the events that a link delivered may be handed on, judged by their sequence numbers. Pure.
//!
//! A new link may begin too early: what is known already is left out. Behind that, numbers must rise: from a step back on, nothing
//! is taken (rule R11). Numbers that are missing were there once, and were lost to retention or removed by compaction: going on
//! behind them is the policy's decision, never a matter of course.

use crate::model::{Event, SequenceNumber};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Known events at the beginning of a link.
    pub(crate) replayed: usize,
    /// Events behind those that are in order.
    pub(crate) ordered: usize,
    /// The number of the event that steps back, if one does.
    pub(crate) back: Option<SequenceNumber>,
    /// The first gap.
    pub(crate) gap: Option<Gap>,
    /// Numbers missing in all gaps.
    pub(crate) missing: u64,
}

/// Numbers that should have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// How many of the ordered events come before it.
    pub(crate) behind: usize,
    pub(crate) first: SequenceNumber,
    pub(crate) last: SequenceNumber,
}

/// Looks at events that follow `last`. `fresh`: the link has not delivered anything new so far.
pub(crate) fn examine(events: &[Event], last: Option<SequenceNumber>, fresh: bool) -> Findings {
    let known = |e: &&Event| fresh && last.is_some_and(|last| e.sequence_number <= last);
    let mut found = Findings { replayed: events.iter().take_while(known).count(), ..Findings::default() };
    let mut last = last;
    for event in events.get(found.replayed..).unwrap_or_default() {
        let number = event.sequence_number;
        let next = last.map_or(number, |last| last.saturating_add(1));
        if number < next {
            found.back = Some(number);
            break;
        }
        if number > next {
            found.missing += number.abs_diff(next);
            found.gap.get_or_insert(Gap { behind: found.ordered, first: next, last: number - 1 });
        }
        found.ordered += 1;
        last = Some(number);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn look(numbers: &[i64], last: Option<i64>, fresh: bool) -> Findings {
        let events: Vec<_> = numbers.iter().map(|n| event(*n, "")).collect();
        examine(&events, last, fresh)
    }

    #[test]
    fn rising_numbers_are_in_order() {
        assert_eq!(look(&[5, 6, 7], Some(4), false), Findings { ordered: 3, ..Findings::default() });
        assert_eq!(look(&[5, 6], None, true), Findings { ordered: 2, ..Findings::default() });
        assert_eq!(look(&[], Some(4), true), Findings::default());
    }

    #[test]
    fn known_events_are_a_replay_on_a_fresh_link_and_a_step_back_later() {
        assert_eq!(look(&[3, 4, 5], Some(4), true), Findings { replayed: 2, ordered: 1, ..Findings::default() });
        assert_eq!(look(&[4, 5], Some(4), false), Findings { back: Some(4), ..Findings::default() });
        let back = Findings { replayed: 1, ordered: 2, back: Some(5), ..Findings::default() };
        assert_eq!(look(&[4, 5, 6, 5], Some(4), true), back);
    }

    #[test]
    fn missing_numbers_are_counted_and_the_first_gap_is_named() {
        let gap = Gap { behind: 1, first: 6, last: 7 };
        assert_eq!(
            look(&[5, 8, 10], Some(4), false),
            Findings { ordered: 3, gap: Some(gap), missing: 3, ..Findings::default() }
        );
        let gap = Gap { behind: 0, first: 0, last: 9 };
        assert_eq!(
            look(&[10], Some(-1), true),
            Findings { ordered: 1, gap: Some(gap), missing: 10, ..Findings::default() }
        );
        assert_eq!(look(&[10], None, true).gap, None, "without a position nothing was expected");
    }
}
