//! Whatever happens to the stream on its way, the results are those of the models.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use weir_guest::Failure;
use weir_guest::testing::{Harness, Saved};

use super::model::{all_at_once, one_by_one};
use super::probe::{Fails, Input, Kind, Probe, Seen, Shape, seen};

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (1..30_u64, 0..40_u64).prop_map(|(size, offset)| Kind::Fixed { size, hop: size, offset }),
        (1..30_u64, 1..30_u64, 0..40_u64).prop_map(|(a, b, offset)| Kind::Fixed {
            size: a.max(b),
            hop: a.min(b),
            offset
        }),
        (1..20_u64).prop_map(|gap| Kind::Session { gap }),
    ]
}

fn shapes() -> impl Strategy<Value = Shape> {
    let spans = (prop_oneof![Just(0), 1..30_u64], prop_oneof![Just(0), 1..30_u64]);
    (kinds(), spans, of(1..40_u64), of(1..5_u64)).prop_map(|(kind, spans, early_every, early_events)| Shape {
        kind,
        out_of_orderness: spans.0,
        lateness: spans.1,
        early_every,
        early_events,
        idle: None,
    })
}

/// Times that move on by and by, each with an error: some in order, some late. Negative ones are before 1970.
fn inputs() -> impl Strategy<Value = Vec<Input>> {
    vec((0..8_i64, -25..25_i64, 0..3_u8), 1..60).prop_map(|steps| {
        let mut now = -100;
        let inputs = (0..).zip(steps).map(|(id, (step, error, key))| {
            now += step;
            Input { id, time: now + error, key: ["", "a", "a/b"][usize::from(key)].to_owned(), fails: None }
        });
        inputs.collect()
    })
}

/// What happens to a batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    /// The processor is stopped after it and started again.
    Restart,
    /// The host is killed after it, and goes on from the last commit.
    Crash,
    /// It is committed.
    Commit,
    /// It fails, and comes again.
    Fail,
    /// An event of it asks to come again, and those after it.
    Retry,
    /// There is something in it that is rejected.
    Reject,
}

fn fates() -> impl Strategy<Value = Vec<(usize, Fate)>> {
    use Fate::{Commit, Crash, Fail, Fine, Reject, Restart, Retry};
    let fate = prop::sample::select(vec![Fine, Fine, Restart, Crash, Commit, Commit, Fail, Retry, Reject]);
    vec((1..9_usize, fate), 1..40)
}

/// Runs all events, in batches of these sizes with these fates, and returns what was emitted, repeats included.
fn run(shape: &Shape, inputs: &[Input], fates: &[(usize, Fate)]) -> (Vec<(String, Seen)>, Harness<Probe>) {
    let mut harness = Harness::<Probe>::open(shape).unwrap();
    let mut commit: (Saved, usize) = (harness.save(), 0);
    let mut all = Vec::new();
    let (mut at, mut crashes) = (0, 0);
    for (size, fate) in fates.iter().cycle() {
        if at == inputs.len() {
            break;
        }
        let batch = &inputs[at..inputs.len().min(at + size)];
        let mut take = |harness: &mut Harness<Probe>, batch: &[Input]| {
            let numbers: Vec<u32> = batch.iter().map(|input| input.id).collect();
            let answer = harness.process(batch.iter().map(Input::event))?;
            all.extend(seen(&answer, &numbers));
            Ok::<_, Failure>(answer.ack)
        };
        let with = |at: usize, fails: Fails| {
            let mut batch = batch.to_vec();
            batch.insert(at, Input { id: u32::MAX, time: 1_000_000, key: "bad".into(), fails: Some(fails) });
            batch
        };
        match fate {
            Fate::Fail => {
                let before = harness.state().clone();
                take(&mut harness, &with(batch.len(), Fails::Fatal)).unwrap_err();
                assert_eq!(harness.state(), &before);
                take(&mut harness, batch).unwrap();
            }
            Fate::Retry => {
                let half = batch.len() / 2;
                let ack = take(&mut harness, &with(half, Fails::Retry)).unwrap();
                assert_eq!(ack.redeliver.map(|redelivery| redelivery.index as usize), Some(half));
                take(&mut harness, &batch[half..]).unwrap();
            }
            Fate::Reject => {
                let ack = take(&mut harness, &with(batch.len() / 2, Fails::Reject)).unwrap();
                assert_eq!(ack.rejected.len(), 1);
            }
            _ => drop(take(&mut harness, batch).unwrap()),
        }
        at += batch.len();
        match fate {
            Fate::Restart => harness = harness.restart().unwrap(),
            Fate::Commit => commit = (harness.save(), at),
            Fate::Crash if crashes < 20 => {
                crashes += 1;
                harness = Harness::resume(shape, &commit.0).unwrap();
                at = commit.1;
            }
            _ => {}
        }
    }
    (all, harness)
}

/// Drops repeats by their ids, as a consumer does, and holds each against the first.
fn distinct(all: Vec<(String, Seen)>) -> Result<Vec<Seen>, TestCaseError> {
    let mut first: BTreeMap<String, Seen> = BTreeMap::new();
    let mut distinct = Vec::new();
    for (id, seen) in all {
        match first.get(&id) {
            Some(before) => prop_assert_eq!(before, &seen, "two results have the id {}", id),
            None => {
                first.insert(id, seen.clone());
                distinct.push(seen);
            }
        }
    }
    Ok(distinct)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn one_pass_and_any_history_agree(shape in shapes(), inputs in inputs(), fates in fates()) {
        let (once, single) = run(&shape, &inputs, &[(1, Fate::Fine)]);
        let (all, harness) = run(&shape, &inputs, &fates);
        let all = distinct(all)?;
        // In the same order, too: the first time that a result is seen, everything before it has been.
        prop_assert_eq!(&distinct(once)?, &all);
        // The model doesn't order the early results of one moment.
        let (mut all, mut expected) = (all, one_by_one(&shape, &inputs));
        if shape.early_every.is_none() && matches!(shape.kind, Kind::Session { .. }) {
            prop_assert_eq!(&all, &expected);
        }
        all.sort();
        expected.sort();
        prop_assert_eq!(all, expected);
        let at_rest = |harness: &Harness<Probe>| {
            // When to look at a session next may differ: it depends on when it was looked at.
            let keys = harness.state().iter().filter(|(key, _)| !key.starts_with("window/w/due/"));
            let values = keys.map(|(key, value)| (key.clone(), serde_json::from_slice::<serde_json::Value>(value).unwrap()));
            values.map(|(key, mut value)| {
                value.as_object_mut().unwrap().remove("due");
                (key, value)
            }).collect::<Vec<_>>()
        };
        prop_assert_eq!(at_rest(&single), at_rest(&harness));
    }

    #[test]
    fn disorder_within_the_bounds_changes_nothing(
        kind in kinds(), sorted in vec((0..8_i64, 0..3_u8), 1..60), out_of_orderness in 0..40_u64, lateness in 0..40_u64,
        swaps in vec((0..60_usize, 0..60_usize), 0..60), fates in fates(),
    ) {
        let shape = Shape { kind, out_of_orderness, lateness, early_every: None, early_events: None, idle: None };
        let mut now = 0;
        let mut inputs: Vec<Input> = (0..).zip(sorted).map(|(id, (step, key))| {
            now += step;
            Input { id, time: now, key: key.to_string(), fails: None }
        }).collect();
        let bound = (out_of_orderness + lateness) as i64;
        for (a, b) in swaps {
            let (a, b) = (a % inputs.len(), b % inputs.len());
            inputs.swap(a, b);
            let mut greatest = i64::MIN;
            if inputs.iter().any(|input| { greatest = greatest.max(input.time); input.time < greatest - bound }) {
                inputs.swap(a, b);
            }
        }
        let expected = all_at_once(&shape, &inputs);
        // One more closes everything; it has a window of its own.
        inputs.push(Input { id: 1_000, time: now + 1_000, key: "end".into(), fails: None });
        let mut all = distinct(run(&shape, &inputs, &fates).0)?;
        all.sort();
        prop_assert_eq!(all, expected);
    }
}
