#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 16 << 20;

fn at(sequence_number: i64) -> Position {
    Position { sequence_number, offset: ByteString::from(sequence_number.to_string()) }
}

fn value(byte: u8, len: usize) -> Bytes {
    vec![byte; len].into()
}

/// One call that ends in an answer.
fn call(state: &PartitionState, event: i64, changes: impl FnOnce(&PartitionState)) {
    state.begin();
    changes(state);
    state.keep(Some(&at(event)));
}

/// A store of segments and one checkpoint, which believes that what isn't given to it is there.
#[derive(Default)]
struct Shelf {
    segments: HashMap<Digest, Bytes>,
    checkpoint: Option<(Position, StateImage)>,
    /// Of the last commit.
    written: usize,
}

impl Shelf {
    fn commit(&mut self, state: &PartitionState) -> Option<u64> {
        let Pending { position, image, version } = state.pending().unwrap()?;
        self.written = image.tail.len();
        assert!(image.tail.len() <= TAIL_BYTES && image.segments.len() <= MOST_SEGMENTS, "{image:?}");
        for segment in &image.segments {
            if let Some(bytes) = &segment.bytes {
                self.written += bytes.len();
                self.segments.insert(segment.digest, bytes.clone());
            }
        }
        // What the newest checkpoint doesn't name is swept.
        self.segments.retain(|digest, _| image.segments.iter().any(|segment| segment.digest == *digest));
        self.checkpoint = Some((position, image));
        state.stored(version);
        Some(version)
    }

    fn image(&self) -> (Position, StateImage) {
        let (position, mut image) = self.checkpoint.clone().unwrap();
        for segment in &mut image.segments {
            segment.bytes = Some(self.segments[&segment.digest].clone());
        }
        (position, image)
    }

    fn load(&self, limit: usize) -> PartitionState {
        let (position, image) = self.image();
        PartitionState::load(limit, position, image).unwrap()
    }
}

#[test]
fn a_guest_reads_what_it_wrote_and_scans_in_order() {
    let state = PartitionState::new(LIMIT, None);
    state.begin();
    for key in ["b/2", "a", "b/1", "b/10", "c"] {
        state.set(key, Bytes::copy_from_slice(key.as_bytes())).unwrap();
    }
    assert_eq!(state.get_many(["c", "x", "a"]), [Some("c".into()), None, Some("a".into())]);
    let keys = |prefix, after, limit| -> Vec<String> {
        state.scan(prefix, after, limit).into_iter().map(|(key, _)| key.to_string()).collect()
    };
    assert_eq!(keys("b/", None, 9), ["b/1", "b/10", "b/2"]);
    assert_eq!(keys("b/", Some("b/1"), 1), ["b/10"]);
    assert_eq!(keys("b/", Some("a"), 1), ["b/1"], "what lies before the prefix begins with it");
    assert_eq!(keys("", Some("b/2"), 9), ["c"]);
    assert_eq!(keys("b/", Some("zzz"), 9), [""; 0]);
    state.delete("b/10");
    state.delete("never there");
    assert_eq!((keys("b/", None, 9).len(), state.keys()), (2, 4));
}

#[test]
fn a_failed_call_leaves_no_trace() {
    let state = PartitionState::new(LIMIT, None);
    call(&state, 1, |s| {
        s.set("kept", "1".into()).unwrap();
        s.wake_at(500);
    });
    let before = (state.size(), state.wake(), state.version());
    state.begin();
    state.set("kept", "2".into()).unwrap();
    state.set("new", "2".into()).unwrap();
    state.delete("kept");
    state.wake_at(100);
    state.roll_back();
    assert_eq!((state.size(), state.wake(), state.version()), before);
    assert_eq!((state.get("kept"), state.get("new")), (Some("1".into()), None));
    state.begin_tick();
    assert_eq!(state.wake(), None, "the wake-up takes place");
    state.roll_back();
    assert_eq!(state.wake(), Some(500), "and took none");
    state.begin_tick();
    state.wake_at(900);
    state.wake_at(800);
    state.keep(None);
    assert_eq!(state.wake(), Some(800));
}

#[test]
fn outside_of_a_call_nothing_changes() {
    let state = PartitionState::new(LIMIT, None);
    assert!(state.set("a", "1".into()).unwrap_err().contains("during a call"));
    call(&state, 1, |s| s.set("a", "1".into()).unwrap());
    state.delete("a");
    state.wake_at(5);
    assert_eq!((state.get("a"), state.wake()), (Some("1".into()), None));
    let none = PartitionState::none();
    none.begin();
    assert!(none.set("a", "1".into()).unwrap_err().contains("keeps no state"));
    none.keep(Some(&at(1)));
    assert_eq!((none.get("a"), none.version(), none.accept(1, 1), none.pending()), (None, 0, false, Ok(None)));
}

#[test]
fn the_limit_is_said_and_never_stands_in_the_way_of_less() {
    let state = PartitionState::new(1000, None);
    state.begin();
    state.set("a", value(1, 500)).unwrap();
    let why = state.set("b", value(1, 400)).unwrap_err();
    assert!(why.contains("come to 1030 bytes") && why.contains("1000 (`limits.state`"), "{why}");
    assert_eq!(state.get("b"), None);
    state.set("b", value(1, 300)).unwrap();
    state.keep(Some(&at(1)));
    state.accept(state.version(), 1);
    let mut shelf = Shelf::default();
    shelf.commit(&state);
    let smaller = shelf.load(100);
    smaller.begin();
    smaller.set("a", value(2, 400)).unwrap();
    assert!(smaller.set("a", value(2, 401)).is_err());
    smaller.delete("b");
    assert_eq!(smaller.size(), 465);
}

#[test]
fn a_commit_is_the_state_of_exactly_its_event() {
    let state = PartitionState::new(LIMIT, None);
    let mut shelf = Shelf::default();
    for event in [10, 20, 30] {
        call(&state, event, |s| s.set("newest", event.to_string().into()).unwrap());
    }
    let newest = |shelf: &Shelf| {
        let state = shelf.load(LIMIT);
        (shelf.image().0.sequence_number, state.get("newest").map(|v| String::from_utf8(v.to_vec()).unwrap()))
    };
    assert!(!state.accept(state.version(), 9), "nothing is known of it");
    assert!(state.accept(state.version(), 25));
    shelf.commit(&state);
    assert_eq!(newest(&shelf), (20, Some("20".into())));
    assert!(!state.accept(state.version(), 29), "nothing new");
    assert!(!state.accept(2, 30), "its outputs are on their way");
    assert!(state.accept(3, 30));
    state.begin();
    state.set("newest", "later".into()).unwrap();
    shelf.commit(&state);
    assert_eq!(newest(&shelf), (30, Some("30".into())), "not what the call in hand does");
}

#[test]
fn an_event_that_was_given_up_takes_the_state_along() {
    let state = PartitionState::new(LIMIT, Some(at(1)));
    state.begin();
    state.set("a", "2".into()).unwrap();
    state.pass(&at(2));
    assert_eq!(state.floor(Some(2)), Some(at(2)));
    state.keep(Some(&at(3)));
    assert_eq!((state.rewind(Some(2)), state.get("a")), (Some(at(2)), None));
    state.begin();
    state.set("a", "2".into()).unwrap();
    state.pass(&at(3));
    state.roll_back();
    assert_eq!((state.floor(None), state.rewind(Some(3)), state.get("a")), (None, Some(at(3)), None));
}

#[test]
fn what_a_call_changes_at_the_same_event_is_a_version_of_its_own() {
    let state = PartitionState::new(LIMIT, Some(at(7)));
    let before = state.version();
    state.begin();
    state.keep(None);
    assert_eq!(state.version(), before, "nothing changed");
    state.begin_tick();
    state.set("ticked", "1".into()).unwrap();
    state.keep(None);
    assert!(!state.accept(before, 7), "its outputs are on their way");
    assert!(state.accept(state.version(), 7));
    let mut shelf = Shelf::default();
    shelf.commit(&state);
    assert_eq!((shelf.image().0, shelf.load(LIMIT).get("ticked")), (at(7), Some("1".into())));
}

#[test]
fn a_commit_writes_what_changed() {
    let state = PartitionState::new(LIMIT, None);
    let mut shelf = Shelf::default();
    let key = |n: usize| format!("key-{n:05}");
    call(&state, 0, |s| (0..10_000).for_each(|n| s.set(&key(n), value(0, 1000)).unwrap()));
    state.accept(state.version(), 0);
    shelf.commit(&state);
    assert!(shelf.written > 10_000_000, "all of it, once: {}", shelf.written);
    let mut all = Vec::new();
    for event in 1..=200 {
        // One in a hundred: some 100 kB of 10 MB.
        let first = event as usize * 37;
        call(&state, event, |s| (first..first + 100).for_each(|n| s.set(&key(n % 10_000), value(1, 1000)).unwrap()));
        state.accept(state.version(), event);
        shelf.commit(&state);
        all.push(shelf.written);
    }
    let bases = all.iter().filter(|written| **written > 1_000_000).count();
    assert!(all.iter().filter(|written| **written < 110_000).count() == 200 - bases, "{all:?}");
    assert!((4..=7).contains(&bases), "{bases} of 200 wrote a new base");
    // And few: one key in each, which gathers in the tail.
    for event in 201..=260 {
        call(&state, event, |s| s.set(&key(event as usize), value(2, 1000)).unwrap());
        state.accept(state.version(), event);
        shelf.commit(&state);
        assert!(shelf.written <= TAIL_BYTES, "{}", shelf.written);
    }
    let loaded = shelf.load(LIMIT);
    assert_eq!((loaded.keys(), loaded.get(&key(250))), (10_000, Some(value(2, 1000))));
}

#[test]
fn what_lies_on_the_shelf_is_refused_unless_it_is_what_was_written() {
    let state = PartitionState::new(LIMIT, None);
    let mut shelf = Shelf::default();
    for event in 1..4 {
        call(&state, event, |s| s.set(&format!("k{event}"), value(7, 100_000)).unwrap());
        call(&state, event, |s| s.set("small", "1".into()).unwrap());
        state.accept(state.version(), event);
        shelf.commit(&state);
    }
    let (position, image) = shelf.image();
    assert!(!image.segments.is_empty() && !image.tail.is_empty() && image.len() > 300_000);
    let load = |position: Position, image: StateImage| PartitionState::load(LIMIT, position, image).map(drop);
    assert_eq!(load(position.clone(), image.clone()), Ok(()));
    let changed = |change: &dyn Fn(&mut StateImage)| {
        let mut image = image.clone();
        change(&mut image);
        load(position.clone(), image).unwrap_err()
    };
    assert!(load(at(2), image.clone()).unwrap_err().contains("that of event 3, not of 2"));
    assert!(changed(&|image| image.segments[0].bytes = None).contains("is missing"));
    assert!(changed(&|image| drop(image.segments.pop())).contains("other segments"));
    assert!(changed(&|image| image.segments[0].bytes = Some(value(0, 10))).contains("and has 10"));
    let other = |image: &mut StateImage| image.segments[0].bytes = Some(value(0, image.segments[0].len));
    assert!(changed(&other).contains("match its name"));
    assert!(changed(&|image| image.segments[0] = Segment::new(value(0, 10))).contains("other segments"));
    assert!(changed(&|image| image.tail = Bytes::new()).contains("nothing that Weir wrote"));
    assert!(changed(&|image| image.tail = image.tail.slice(..40)).contains("damaged"));
}

#[test]
fn equal_changes_never_make_an_equal_segment() {
    // Otherwise what one commit sweeps could be what a later one names.
    let state = PartitionState::new(LIMIT, None);
    let mut shelf = Shelf::default();
    let mut names = Vec::new();
    for event in 0..10 {
        call(&state, event, |s| s.set("a", value((event % 2) as u8, 100_000)).unwrap());
        state.accept(state.version(), event);
        shelf.commit(&state);
        names.extend(shelf.image().1.segments.last().map(|segment| segment.digest));
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10);
}

#[test]
fn a_key_that_is_removed_is_written_down_only_where_a_segment_has_it() {
    let state = PartitionState::new(LIMIT, None);
    let mut shelf = Shelf::default();
    let mut event = 0;
    let mut commit = |shelf: &mut Shelf, change: &dyn Fn(&PartitionState)| {
        event += 1;
        call(&state, event, |state| change(state));
        state.accept(state.version(), event);
        shelf.commit(&state);
    };
    commit(&mut shelf, &|s| s.set("sealed", value(1, 100_000)).unwrap());
    commit(&mut shelf, &|s| s.set("sealed", "again".into()).unwrap());
    commit(&mut shelf, &|s| s.set("new", "1".into()).unwrap());
    let before = shelf.written;
    commit(&mut shelf, &|s| s.delete("new"));
    assert!(shelf.written < before, "nothing is left of it");
    assert_eq!(shelf.load(LIMIT).get("sealed"), Some("again".into()));
    commit(&mut shelf, &|s| s.delete("sealed"));
    assert_eq!(shelf.image().1.segments.len(), 1, "which still has it");
    assert_eq!(naive(&shelf.load(LIMIT)), Naive::default());
}

#[test]
fn versions_cost_no_more_than_they_may() {
    let limit = 100_000;
    let state = PartitionState::new(limit, Some(at(0)));
    for event in 1..5_000 {
        call(&state, event, |s| s.set("a", value(event as u8, 10_000)).unwrap());
    }
    assert!(state.core.as_ref().unwrap().lock().unwrap().weight() <= 2 * limit);
    let floor = state.floor(Some(4_000)).unwrap().sequence_number;
    assert!((0..=4_000).contains(&floor));
    assert_eq!(state.rewind(Some(4_000)), Some(at(floor)));
    assert_eq!(state.get("a"), (floor > 0).then(|| value(floor as u8, 10_000)));
    assert_eq!((state.rewind(Some(0)), state.get("a"), state.size()), (Some(at(0)), None, 0));
}

#[test]
fn what_lags_behind_heavy_calls_is_committed_all_the_same() {
    let state = PartitionState::new(100_000, Some(at(0)));
    let (mut versions, mut commits) = (vec![0], 0);
    for event in 1..=60 {
        // Each call weighs more than half of what the versions may.
        call(&state, event, |s| (0..30).for_each(|k| s.set(&format!("k{k}"), value(event as u8, 1_000)).unwrap()));
        versions.push(state.version());
        // What is accepted downstream is three calls behind.
        let behind = event - 3;
        if behind > 0 && state.accept(versions[behind as usize], behind) {
            let pending = state.pending().unwrap().unwrap();
            assert!(pending.position.sequence_number <= behind);
            state.stored(pending.version);
            commits += 1;
        }
    }
    assert!(commits >= 10, "{commits} commits of 60 calls");
}

/// What a naive host would know: all of the state, for each event.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive {
    map: BTreeMap<String, Bytes>,
    wake: Option<i64>,
}

fn naive(state: &PartitionState) -> Naive {
    let map = state.scan("", None, usize::MAX).into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    Naive { map, wake: state.wake() }
}

#[derive(Clone, Debug)]
enum Act {
    Set(u8, usize),
    Delete(u8),
    Wake(i64),
    Keep,
    KeepHere,
    Tick,
    RollBack,
    Pass,
    /// Everything up to so many events before the newest, and all outputs but the last few.
    Commit(i64, u64),
    Rewind(i64),
    Crash,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (any::<u8>(), prop_oneof![0usize..100, 5_000usize..40_000]).prop_map(|(k, len)| Act::Set(k % 24, len)),
        3 => any::<u8>().prop_map(|k| Act::Delete(k % 24)),
        1 => (0i64..1000).prop_map(Act::Wake),
        5 => Just(Act::Keep),
        1 => Just(Act::KeepHere),
        1 => Just(Act::Tick),
        1 => Just(Act::RollBack),
        1 => Just(Act::Pass),
        3 => (0i64..4, 0u64..3).prop_map(|(events, versions)| Act::Commit(events, versions)),
        1 => (0i64..6).prop_map(Act::Rewind),
        1 => Just(Act::Crash),
    ];
    prop::collection::vec(act, 1..120)
}

/// Does the same to a state and to copies of all of it.
fn compare(acts: Vec<Act>, limit: usize, exact: bool) {
    let mut state = PartitionState::new(limit, None);
    let mut shelf = Shelf::default();
    // What is kept, by version; the last is the newest.
    let mut kept: Vec<(u64, Option<i64>, Naive)> = vec![(0, None, Naive::default())];
    let (mut live, mut event, mut accepted) = (Naive::default(), 0, None);
    state.begin();
    for act in acts {
        let newest = kept.last().unwrap().clone();
        match act {
            Act::Set(key, len) => {
                let (key, new) = (format!("k{key}"), value(key, len));
                if state.set(&key, new.clone()).is_ok() {
                    live.map.insert(key, new);
                }
            }
            Act::Delete(key) => {
                state.delete(&format!("k{key}"));
                live.map.remove(&format!("k{key}"));
            }
            Act::Wake(at) => {
                state.wake_at(at);
                live.wake = Some(live.wake.map_or(at, |wake| wake.min(at)));
            }
            Act::Keep => {
                event += 1;
                state.keep(Some(&at(event)));
                kept.push((state.version(), Some(event), live.clone()));
                state.begin();
            }
            Act::KeepHere => {
                state.keep(None);
                kept.push((state.version(), newest.1, live.clone()));
                state.begin();
            }
            Act::Tick => {
                state.begin_tick();
                live = Naive { wake: None, ..newest.2 };
            }
            Act::RollBack => {
                state.roll_back();
                live = newest.2;
                assert_eq!(naive(&state), live);
                state.begin();
            }
            Act::Pass => {
                event += 1;
                state.pass(&at(event));
                kept.push((state.version(), Some(event), newest.2));
            }
            Act::Commit(events, versions) => {
                let (upto, version) = (event - events, newest.0.saturating_sub(versions));
                if !state.accept(version, upto) {
                    continue;
                }
                let stored = shelf.commit(&state).unwrap();
                let by = |k: &&(u64, Option<i64>, Naive)| k.0 <= version && k.1.is_some_and(|at| at <= upto);
                let expected = kept.iter().rfind(|k| if exact { by(k) } else { k.0 == stored }).unwrap();
                assert!(by(&expected), "{stored} is later than {version} at {upto}");
                assert_eq!((stored, Some(shelf.image().0.sequence_number)), (expected.0, expected.1));
                assert_eq!(naive(&shelf.load(limit)), expected.2);
                accepted = expected.1;
                kept.retain(|k| k.0 >= stored);
            }
            Act::Rewind(events) => {
                let to = (event - events).max(accepted.unwrap_or(0));
                let floor = state.floor(Some(to));
                assert_eq!(state.rewind(Some(to)), floor);
                event = floor.map_or(0, |floor| floor.sequence_number);
                let version = state.version();
                kept.retain(|k| k.0 <= version);
                if exact {
                    let floor = kept.iter().rfind(|k| k.1.is_none_or(|at| at <= to)).unwrap();
                    assert_eq!(floor.1.unwrap_or(0), event);
                }
                live = kept.last().unwrap().2.clone();
                assert_eq!((naive(&state), state.keys()), (live.clone(), live.map.len()));
                state.begin();
            }
            Act::Crash => {
                state = match &shelf.checkpoint {
                    Some(_) => shelf.load(limit),
                    None => PartitionState::new(limit, None),
                };
                live = naive(&state);
                accepted = shelf.checkpoint.as_ref().map(|(position, _)| position.sequence_number);
                event = accepted.unwrap_or(0);
                let before = kept.iter().find(|k| k.1 == accepted && k.2 == live);
                assert!(before.is_some() || accepted.is_none(), "what was committed comes back");
                kept = vec![(0, accepted, live.clone())];
                state.begin();
            }
        }
        assert_eq!(naive(&state), live);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn it_is_as_if_all_of_it_were_copied_for_each_event(acts in acts()) {
        compare(acts, LIMIT, true);
    }

    #[test]
    fn thinned_versions_are_fewer_and_none_is_wrong(acts in acts()) {
        compare(acts, 50_000, false);
    }
}
