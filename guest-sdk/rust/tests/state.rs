//! State and timers as a processor has them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use weir_guest::state::{self, Map, raw};
use weir_guest::testing::{Harness, event};
use weir_guest::{Ack, Event, Failure, NoConfig, Opening, Outcome, Output, Outputs, Problem, Processor, timers};

/// What an event tells the processor to do, one after the other.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Do {
    Set(String, u8),
    Delete(String),
    Scan(String),
    Get(Vec<String>),
    Wake(i64),
    Reject,
    Retry,
    Fatal,
}

#[derive(Debug)]
struct Obedient;

impl Processor for Obedient {
    type Config = NoConfig;

    fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
        let opened: u32 = state::get("opened")?.unwrap_or(0);
        state::set("opened", &(opened + 1))?;
        Ok(Self)
    }

    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        for step in event.json::<Vec<Do>>()? {
            match step {
                Do::Set(key, value) => state::set(&key, &value)?,
                Do::Delete(key) => state::delete(&key),
                Do::Scan(prefix) => {
                    let found: Result<Vec<(String, u8)>, _> = state::scan(&prefix).collect();
                    out.emit(Output::json(&found?)?);
                }
                Do::Get(keys) => {
                    let found = state::get_many::<u8>(&keys)?;
                    let one_by_one: Result<Vec<Option<u8>>, _> = keys.iter().map(|key| state::get(key)).collect();
                    assert_eq!(found, one_by_one?);
                    out.emit(Output::json(&found)?);
                }
                Do::Wake(at) => timers::wake_at(at),
                Do::Reject => return Err(Problem::reject("as told")),
                Do::Retry => return Err(Problem::retry("as told")),
                Do::Fatal => return Err(Problem::fatal("as told")),
            }
        }
        Ok(())
    }

    fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        let at: Option<i64> = state::get("next tick")?;
        state::set("ticked", &now)?;
        if let Some(at) = at {
            timers::wake_at(at);
        }
        match state::get::<u8>("tick")?.unwrap_or(0) {
            0 => out.emit(Output::new("").from_key(format!("tick/{now}"))),
            1 => out.emit(Output::new("of no key")),
            _ => return Err(Failure::retry("as told")),
        }
        Ok(Ack::all())
    }
}

fn told(steps: &[Do]) -> Event {
    event(serde_json::to_vec(steps).unwrap())
}

fn set(key: &str, value: u8) -> Do {
    Do::Set(key.into(), value)
}

fn harness() -> Harness<Obedient> {
    Harness::open(()).unwrap()
}

fn value(harness: &Harness<Obedient>, key: &str) -> Option<i64> {
    harness.state().get(key).map(|bytes| serde_json::from_slice(bytes).unwrap())
}

#[test]
fn an_event_that_is_not_finished_has_changed_nothing() {
    let mut harness = harness();
    let batch = [
        told(&[set("a", 1), set("b", 1)]),
        told(&[set("a", 2), Do::Delete("b".into()), Do::Scan(String::new()), Do::Reject]),
        told(&[set("c", 3), Do::Get(vec!["a".into(), "b".into(), "c".into(), "d".into()])]),
        told(&[set("a", 4), Do::Retry]),
        told(&[set("a", 5)]),
    ];
    let answer = harness.process(batch).unwrap();
    assert_eq!(answer.ack, Ack::all().reject(1, "as told").redeliver(3, "as told"));
    assert_eq!(["a", "b", "c"].map(|key| value(&harness, key)), [Some(1), Some(1), Some(3)]);
    assert_eq!(answer.outputs[0].body, b"[1,1,3,null]");
}

#[test]
fn a_call_that_fails_has_changed_nothing() {
    let mut harness = harness();
    harness.process([told(&[set("a", 1)])]).unwrap();
    harness.process([told(&[set("a", 2), Do::Wake(5)]), told(&[Do::Fatal])]).unwrap_err();
    assert_eq!((value(&harness, "a"), harness.wake()), (Some(1), None));
}

#[test]
fn state_outlives_a_restart_and_a_crash_goes_back_to_the_commit() {
    let mut harness = harness();
    harness.process([told(&[set("a", 1)])]).unwrap();
    let saved = harness.save();
    harness.process([told(&[set("a", 2)])]).unwrap();
    let restarted = harness.restart().unwrap();
    assert_eq!((value(&restarted, "a"), value(&restarted, "opened")), (Some(2), Some(2)));
    let crashed = Harness::<Obedient>::resume((), &saved).unwrap();
    assert_eq!((value(&crashed, "a"), value(&crashed, "opened")), (Some(1), Some(2)));
}

#[test]
fn a_value_of_another_shape_stops_the_partition_and_says_where_it_stands() {
    let mut harness = harness();
    harness.process([told(&[set("opened", 255), set("a", 1)])]).unwrap();
    harness.process([told(&[Do::Get(vec!["a".into()])])]).unwrap();
    let mut broken = Harness::<Text>::resume((), &harness.save()).unwrap();
    let Failure::Fatal(why) = broken.process([event("a")]).unwrap_err() else { panic!("not fatal") };
    assert_eq!(
        why,
        "event 2: the state's key `a` does not hold what this code expects: invalid type: integer `1`, expected a string at line 1 \
         column 1. It holds: 1 Other code wrote it: let the type read both (serde's `default`, `untagged`), or go back to that code. \
         `weir state get` shows the whole value"
    );
}

/// Reads the state's values as text.
#[derive(Debug)]
struct Text;

impl Processor for Text {
    type Config = NoConfig;

    fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn event(&mut self, event: Event, _: &mut Outputs) -> Outcome {
        let map: Map<String> = Map::new("map/");
        state::get::<String>(event.text()?)?;
        map.set("x", &"1".to_owned())?;
        map.set("y", &"2".to_owned())?;
        map.delete("x");
        assert_eq!((map.get("x")?, map.get("y")?), (None, Some("2".to_owned())));
        assert_eq!(map.iter().collect::<Result<Vec<_>, _>>()?, [("y".to_owned(), "2".to_owned())]);
        raw::set("bytes", [0xff, 0])?;
        assert_eq!(raw::get("bytes"), Some(vec![0xff, 0]));
        Ok(())
    }
}

#[test]
fn a_map_is_a_prefix_and_bytes_stay_as_they_are() {
    let mut harness = Harness::<Text>::open(()).unwrap();
    harness.process([event("nothing here")]).unwrap();
    assert_eq!(harness.state().keys().collect::<Vec<_>>(), ["bytes", "map/y"]);
}

#[test]
fn a_state_over_its_limit_is_refused_with_the_event_and_the_key() {
    let mut harness = harness();
    harness.limit_state(210);
    let failure = harness.process([told(&[set("a", 1)]), told(&[set("b", 1), set("c", 1)])]).unwrap_err();
    let why = "event 1: the host does not take the state's key `c`: the state would be larger than 210 bytes";
    assert_eq!(failure, Failure::fatal(why));
    assert_eq!(harness.state().len(), 1, "what `open` set");
}

#[test]
fn the_earliest_request_wins_and_a_tick_uses_it_up() {
    let mut harness = harness();
    harness.process([told(&[Do::Wake(500), Do::Wake(200), Do::Wake(300)])]).unwrap();
    assert!(harness.advance(Duration::from_millis(199)).unwrap().is_empty());
    let ticks = harness.advance(Duration::from_secs(10)).unwrap();
    assert_eq!((ticks.len(), value(&harness, "ticked")), (1, Some(200)));
    assert_eq!((harness.now(), harness.wake()), (10_199, None));
    // What has become due while the processor was down ticks at once, and a tick may ask for the next.
    harness.process([told(&[Do::Wake(5), set("next tick", 12)])]).unwrap();
    let mut harness = harness.restart().unwrap();
    harness.process([told(&[Do::Delete("next tick".into())])]).unwrap();
    assert_eq!(harness.advance(Duration::ZERO).unwrap().len(), 1);
    assert_eq!(value(&harness, "ticked"), Some(10_199));
}

#[test]
fn a_tick_that_fails_or_breaks_the_contract_is_made_again() {
    let mut harness = harness();
    harness.process([told(&[Do::Wake(100), set("tick", 2)])]).unwrap();
    assert_eq!(harness.advance(Duration::from_millis(150)).unwrap_err(), Failure::retry("as told"));
    assert_eq!((harness.wake(), value(&harness, "ticked")), (Some(100), None));
    harness.process([told(&[set("tick", 1)])]).unwrap();
    let Failure::Fatal(why) = harness.advance(Duration::ZERO).unwrap_err() else { panic!("not fatal") };
    assert!(why.contains("an output of a tick has no key as its origin"), "{why}");
    harness.process([told(&[set("tick", 0)])]).unwrap();
    assert_eq!(harness.advance(Duration::ZERO).unwrap().len(), 1);
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "a/", "a/1", "a/2", "a/3", "b", "b/1", "ä"]).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        (key(), any::<u8>()).prop_map(|(key, value)| Do::Set(key, value)),
        key().prop_map(Do::Delete),
        key().prop_map(Do::Scan),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_event_reads_what_it_wrote(events in prop::collection::vec(prop::collection::vec(step(), 0..8), 1..8)) {
        let mut harness = harness();
        let mut model = BTreeMap::from([("opened".to_owned(), 1)]);
        let answer = harness.process(events.iter().map(|steps| told(steps))).unwrap();
        let mut outputs = answer.outputs.iter();
        for step in events.into_iter().flatten() {
            match step {
                Do::Set(key, value) => drop(model.insert(key, value)),
                Do::Delete(key) => drop(model.remove(&key)),
                Do::Scan(prefix) => {
                    let expected: Vec<(&String, &u8)> = model.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
                    prop_assert_eq!(&outputs.next().unwrap().body, &serde_json::to_vec(&expected).unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        let state: BTreeMap<String, u8> =
            harness.state().iter().map(|(key, value)| (key.clone(), serde_json::from_slice(value).unwrap())).collect();
        prop_assert_eq!(state, model);
    }
}
