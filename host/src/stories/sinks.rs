//! Sinks that fail before, in the midst of and after accepting, while events break the guest: nothing is lost, nothing changes places, and
//! a repeat can be told.

use super::*;
use crate::guest::Rejection;
use crate::testing::{Faults, FaultySink};

/// What a sink does wrong, one way at a time and all at once.
const WAYS: [(&str, Faults); 4] = [
    ("before", Faults { not_done: 0.4, ..Faults::NONE }),
    ("in the midst", Faults { late: 0.4, ..Faults::NONE }),
    ("after", Faults { unknown_done: 0.4, ..Faults::NONE }),
    ("in every way", Faults { not_done: 0.15, late: 0.15, unknown_done: 0.15, ..Faults::NONE }),
];

/// Rejects every tenth event, and breaks at every twenty-third.
fn picky() -> TestGuest {
    TestGuest::new(|call| {
        let events = call.batch.events();
        if events.iter().any(|event| event.sequence_number % 23 == 22) {
            return Err(trap());
        }
        let mut answer = done(call.batch)?;
        let rejected = (0..).zip(events).filter(|(_, event)| event.sequence_number % 10 == 9);
        answer.ack.rejected = rejected.map(|(index, _)| Rejection { index, reason: "a tenth".into() }).collect();
        answer
            .outputs
            .retain(|output| !answer.ack.rejected.iter().any(|r| output.origin == Some(Origin::Event(r.index))));
        Ok(answer)
    })
}

/// Each id once, in the order in which it first came.
fn first(ids: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_sinks_do_wrong_loses_nothing_and_changes_no_order() {
    const EVENTS: i64 = 200;
    let breaks = |n: &i64| n % 23 == 22;
    let fails = |n: &i64| breaks(n) || n % 10 == 9;
    let good: Vec<String> = (0..EVENTS).filter(|n| !fails(n)).map(|n| format!("hub/0/{n}/0")).collect();
    let dead: Vec<String> = (0..EVENTS).filter(fails).map(|n| format!("hub/0/{n}/rejected")).collect();
    for (way, faults) in WAYS {
        for seed in 0..10 {
            let mut world = World::new(1);
            // A sink that fails this often may do so several times in a row.
            world.options.sink_retry.attempts = 50;
            world.push("0", EVENTS as usize);
            let faulty =
                |sink: &MemorySink, seed| Arc::new(FaultySink::new(sink.clone(), seed, faults)) as Arc<dyn Sink>;
            let spec = ProcessorSpec {
                outputs: BTreeMap::from([("default".to_owned(), faulty(&world.out, seed))]),
                dead_letter: Some(faulty(&world.dead, seed + 1000)),
                ..world.spec(&picky())
            };
            let outcome = catch_up(Host::builder().processor(spec)).await;
            assert!(outcome.is_success(), "{way}, {seed}: {outcome}");
            assert_eq!(first(world.out.ids()), good, "{way}, {seed}");
            assert_eq!(first(world.dead.ids()), dead, "{way}, {seed}");
            assert_eq!(world.store.checkpoint("0"), Some(EVENTS - 1), "{way}, {seed}");
            let repeats = world.out.ids().len() - good.len();
            assert_eq!(repeats > 0, !way.starts_with("before"), "{way}, {seed}: {repeats} repeats");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_never_accepted_holds_the_checkpoint_back() {
    let mut world = World::new(1);
    world.options.sink_retry.attempts = 3;
    world.push("0", 40);
    let never = Faults { not_done: 1.0, ..Faults::NONE };
    let spec = ProcessorSpec {
        dead_letter: Some(Arc::new(FaultySink::new(world.dead.clone(), 1, never))),
        ..world.spec(&picky())
    };
    let outcome = catch_up(Host::builder().processor(spec)).await;
    assert!(!outcome.is_success(), "{outcome}");
    assert!(world.store.checkpoint("0").is_none_or(|checkpoint| checkpoint < 9), "{:?}", world.store.checkpoint("0"));
    // The next run has a sink that works, and goes on from there.
    let outcome = world.catch_up(&picky()).await;
    assert!(outcome.is_success(), "{outcome}");
    assert_eq!(first(world.dead.ids()), ["9", "19", "22", "29", "39"].map(|n| format!("hub/0/{n}/rejected")));
}
