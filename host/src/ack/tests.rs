#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;
use crate::guest::{Redelivery, Rejection};
use crate::testing::event;

fn ack(progress: Progress, rejected: &[u32], redeliver: Option<u32>) -> Ack {
    Ack {
        progress,
        rejected: rejected.iter().map(|index| Rejection { index: *index, reason: "bad".into() }).collect(),
        redeliver: redeliver.map(|index| Redelivery { index, after: None, reason: "later".into() }),
    }
}

fn batch(numbers: impl IntoIterator<Item = i64>) -> Vec<Event> {
    numbers.into_iter().map(|n| event(n, "")).collect()
}

fn at(tracker: &Tracker) -> Option<i64> {
    tracker.watermark().map(|w| w.sequence_number)
}

#[test]
fn all_finishes_what_was_held_before() {
    let mut t = Tracker::new(None);
    t.apply(&batch(0..3), &ack(Progress::Hold, &[], None)).unwrap();
    assert_eq!((at(&t), t.held()), (None, 3));
    let settled = t.apply(&batch(3..5), &ack(Progress::All, &[], None)).unwrap();
    assert_eq!((at(&t), t.held(), settled.covered.all()), (Some(4), 0, 5));
}

#[test]
fn all_with_a_redelivery_at_index_0_finishes_what_came_before_the_batch() {
    let mut t = Tracker::new(None);
    t.apply(&batch(0..3), &ack(Progress::Hold, &[], None)).unwrap();
    let settled = t.apply(&batch(3..5), &ack(Progress::All, &[], Some(0))).unwrap();
    assert_eq!((at(&t), settled.standing, settled.covered.all()), (Some(2), 0, 3));
    t.apply(&batch(3..5), &ack(Progress::All, &[], None)).unwrap();
    assert_eq!(at(&t), Some(4));
}

#[test]
fn through_reaches_into_an_earlier_batch_and_between_events() {
    let mut t = Tracker::new(None);
    t.apply(&batch([10, 20]), &ack(Progress::Hold, &[], None)).unwrap();
    t.apply(&batch([30, 40]), &ack(Progress::Through(25), &[], None)).unwrap();
    assert_eq!((at(&t), t.held()), (Some(20), 2));
    let none = t.apply(&batch([50]), &ack(Progress::Through(3), &[], None)).unwrap();
    assert_eq!((none.watermark, at(&t)), (None, Some(20)), "below the watermark says nothing new");
}

#[test]
fn a_rejected_event_above_a_held_watermark_counts_when_the_prefix_reaches_it() {
    let mut t = Tracker::new(None);
    t.apply(&batch(0..4), &ack(Progress::Hold, &[1, 2], None)).unwrap();
    assert_eq!(at(&t), None);
    t.apply(&batch(4..5), &ack(Progress::Through(0), &[], None)).unwrap();
    assert_eq!(at(&t), Some(2));
    t.apply(&batch(5..6), &ack(Progress::Hold, &[0], None)).unwrap();
    assert_eq!((at(&t), t.held()), (Some(2), 3));
}

#[test]
fn answers_that_break_the_contract_change_nothing() {
    let mut t = Tracker::new(None);
    t.apply(&batch(0..2), &ack(Progress::Hold, &[], None)).unwrap();
    for wrong in [
        ack(Progress::Through(5), &[], None),
        ack(Progress::Through(3), &[], Some(1)),
        ack(Progress::All, &[3], None),
        ack(Progress::All, &[2], Some(2)),
        ack(Progress::All, &[], Some(3)),
    ] {
        t.apply(&batch(2..5), &wrong).unwrap_err();
        assert_eq!((at(&t), t.held()), (None, 2), "{wrong:?}");
    }
}

/// What the answers mean, said as plainly as possible: every event ever handed over with a flag, the watermark found by
/// looking.
#[derive(Default)]
struct Reference {
    handed_over: Vec<(i64, bool)>,
}

impl Reference {
    fn apply(&mut self, batch: &[Event], ack: &Ack) {
        let standing = ack.redeliver.as_ref().map_or(batch.len(), |r| r.index as usize);
        let base = self.handed_over.len();
        self.handed_over.extend(batch[..standing].iter().map(|e| (e.sequence_number, false)));
        for rejection in &ack.rejected {
            self.handed_over[base + rejection.index as usize].1 = true;
        }
        for (number, finished) in &mut self.handed_over {
            *finished |= match ack.progress {
                Progress::All => true,
                Progress::Hold => false,
                Progress::Through(last) => *number <= last,
            };
        }
    }

    fn watermark(&self) -> Option<i64> {
        self.handed_over.iter().take_while(|(_, finished)| *finished).last().map(|(number, _)| *number)
    }
}

proptest! {
    #[test]
    fn the_tracker_agrees_with_the_naive_reference(
        story in prop::collection::vec(
            (prop::collection::vec(1i64..4, 1..7), 0u8..3, 0.0f64..1.0, prop::collection::vec(0.0f64..1.0, 0..3), prop::option::weighted(0.3, 0.0f64..1.0)),
            1..30,
        ),
    ) {
        let mut tracker = Tracker::new(None);
        let mut reference = Reference::default();
        let mut next = 0;
        let mut covered = 0;
        for (gaps, kind, how_far, rejects, redeliver) in story {
            // Sequence numbers with gaps; a redelivered tail comes again by starting over from its first number.
            let start = next;
            let numbers: Vec<i64> = gaps.iter().scan(start, |n, gap| { *n += gap; Some(*n) }).collect();
            let pick = |x: f64, n: usize| (x * n as f64) as usize;
            let again = redeliver.map(|x| pick(x, numbers.len()));
            let standing = again.unwrap_or(numbers.len());
            let newest = again.map_or(numbers[numbers.len() - 1], |i| numbers[i] - 1);
            let progress = match kind {
                0 => Progress::All,
                1 => Progress::Hold,
                _ => Progress::Through((how_far * (newest + 1) as f64) as i64),
            };
            let rejected: Vec<u32> = rejects.iter().filter(|_| standing > 0).map(|x| pick(*x, standing) as u32).collect();
            let answer = ack(progress, &rejected, again.map(|i| i as u32));
            let events = batch(numbers.iter().copied());
            let before = at(&tracker);
            let settled = tracker.apply(&events, &answer).unwrap();
            reference.apply(&events, &answer);
            covered += settled.covered.all();
            prop_assert_eq!(at(&tracker), reference.watermark());
            prop_assert!(at(&tracker) >= before, "never backwards");
            prop_assert_eq!(settled.watermark.is_some(), at(&tracker) != before);
            prop_assert_eq!(covered + tracker.held() as u64, reference.handed_over.len() as u64);
            next = again.map_or(numbers[numbers.len() - 1], |i| numbers[i] - 1);
        }
    }
}
