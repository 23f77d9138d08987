//! What goes on, and what stays in the state.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use dedupe::Dedupe;
use proptest::prelude::*;
use serde_json::json;
use weir_guest::testing::{Harness, Measured, event};
use weir_guest::{Event, Failure, Metadata};

/// An event with this id that the service took in at this second.
fn sent(id: &str, second: i64) -> Event {
    let event = event(format!("{id} at {second}"));
    let metadata = event.metadata.clone().map(|metadata| Metadata { message_id: Some(id.into()), ..metadata });
    Event { enqueued_time: second * 1_000, metadata, ..event }
}

fn passed(dedupe: &mut Harness<Dedupe>, events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let answer = dedupe.process(events).unwrap();
    answer.outputs.into_iter().map(|output| String::from_utf8(output.body).unwrap()).collect()
}

fn dedupe() -> Harness<Dedupe> {
    Harness::open(json!({ "horizon-seconds": 10 })).unwrap()
}

#[test]
fn a_repeat_within_the_horizon_is_dropped_and_counted() {
    let mut dedupe = dedupe();
    let events = [sent("a", 100), sent("b", 104), sent("a", 109), sent("a", 110), sent("b", 113)];
    assert_eq!(passed(&mut dedupe, events), ["a at 100", "b at 104", "a at 110"]);
    assert_eq!(dedupe.metrics()[0].value, Measured::Counter(2));
    let mut dedupe = dedupe.restart().unwrap();
    assert_eq!(
        passed(&mut dedupe, [sent("a", 119), sent("a", 105)]),
        Vec::<String>::new(),
        "time does not run backwards"
    );
}

#[test]
fn an_event_goes_on_as_it_came_and_one_without_an_id_always() {
    let mut dedupe = dedupe();
    let answer = dedupe.process([sent("a", 1), event("anonymous"), event("anonymous")]).unwrap();
    assert_eq!(answer.outputs.len(), 3);
    assert_eq!(answer.outputs[0].message_id.as_deref(), Some("a"));
}

#[test]
fn the_state_holds_about_two_horizons() {
    let mut dedupe = dedupe();
    for batch in 0..200 {
        // Five ids a second.
        passed(&mut dedupe, (0..20).map(|n| sent(&format!("{batch}/{n}"), batch * 4 + n / 5)));
        assert!(dedupe.state().len() <= 1 + 3 * 50 + 20, "{} keys after batch {batch}", dedupe.state().len());
    }
    passed(&mut dedupe, [sent("much later", 100_000)]);
    for _ in 0..100 {
        passed(&mut dedupe, [sent("x", 100_000)]);
    }
    let keys: Vec<&String> = dedupe.state().keys().collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[test]
fn no_horizon_is_refused() {
    let refused = Harness::<Dedupe>::open(json!({ "horizon-seconds": 0 })).unwrap_err();
    let why = "`horizon-seconds` is 0, so every event would be new; it must be 1 or more";
    assert_eq!(refused, Failure::fatal(why));
}

proptest! {
    #[test]
    fn it_passes_what_a_plain_memory_passes(
        steps in prop::collection::vec((0..6_i64, -3..3_i64, 0..6_u8), 1..80), cuts in prop::collection::vec((1..9_usize, any::<bool>()), 1..20),
    ) {
        let mut now = 50;
        let events: Vec<(String, i64)> = steps.into_iter().map(|(step, error, id)| {
            now += step;
            (id.to_string(), now + error)
        }).collect();
        let (mut clock, mut memory, mut expected) = (0, BTreeMap::new(), Vec::new());
        for (id, second) in &events {
            clock = clock.max(*second);
            if memory.get(id).is_none_or(|seen| clock - seen >= 10) {
                memory.insert(id.clone(), clock);
                expected.push(format!("{id} at {second}"));
            }
        }
        let (mut dedupe, mut all, mut rest) = (dedupe(), Vec::new(), events.as_slice());
        for (cut, restart) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, after) = rest.split_at(rest.len().min(*cut));
            rest = after;
            all.extend(passed(&mut dedupe, batch.iter().map(|(id, second)| sent(id, *second))));
            if *restart {
                dedupe = dedupe.restart().unwrap();
            }
        }
        prop_assert_eq!(all, expected);
    }
}
