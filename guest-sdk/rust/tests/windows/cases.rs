//! Single rules, in numbers.

use std::time::Duration;

use weir_guest::testing::{Harness, Measured};
use weir_guest::{Ack, Event};

use super::probe::{Fails, Input, Kind, Probe, Seen, Shape, seen};

const TUMBLING: Shape = Shape {
    kind: Kind::Fixed { size: 10, hop: 10, offset: 0 },
    out_of_orderness: 0,
    lateness: 0,
    early_every: None,
    early_events: None,
    idle: None,
};

fn at(id: u32, time: i64) -> Input {
    Input { id, time, key: "k".into(), fails: None }
}

fn window(start: i64, end: i64, early: u32, ids: &[u32]) -> Seen {
    Seen::Window { start, end, key: "k".into(), early, ids: ids.to_vec() }
}

/// What comes of these events, each in a batch of its own.
fn results(shape: &Shape, inputs: &[Input]) -> Vec<(String, Seen)> {
    let mut harness = Harness::<Probe>::open(shape).unwrap();
    inputs
        .iter()
        .flat_map(|input| {
            let answer = harness.process([input.event()]).unwrap();
            seen(&answer, &[input.id])
        })
        .collect()
}

#[test]
fn a_result_has_the_id_of_its_window_and_an_early_one_its_number() {
    let shape = Shape { early_events: Some(2), ..TUMBLING };
    let all = results(&shape, &[at(0, 1), at(1, 2), at(2, 3), at(3, 4), at(4, 5), at(5, 10)]);
    assert_eq!(
        all,
        [
            ("w/0-10+early.1/k".to_owned(), window(0, 10, 1, &[0, 1])),
            ("w/0-10+early.2/k".to_owned(), window(0, 10, 2, &[0, 1, 2, 3])),
            ("w/0-10/k".to_owned(), window(0, 10, 0, &[0, 1, 2, 3, 4])),
        ]
    );
}

#[test]
fn a_window_closes_when_the_watermark_reaches_its_end_and_the_lateness() {
    let shape = Shape { out_of_orderness: 5, lateness: 3, ..TUMBLING };
    // The watermark after 17 is 12, one short of 10 + 3. Event 2 is behind by 17 and yet not late.
    let all = results(&shape, &[at(0, 9), at(1, 17), at(2, 0), at(3, 18), at(4, 9)]);
    assert_eq!(all[0].1, window(0, 10, 0, &[0, 2]));
    assert_eq!(all[1].1, Seen::Late(4));
    assert_eq!(all.len(), 2);
}

#[test]
fn sessions_that_an_event_joins_become_one() {
    let shape = Shape { kind: Kind::Session { gap: 10 }, out_of_orderness: 20, ..TUMBLING };
    let all = results(&shape, &[at(0, 0), at(1, 15), at(2, 8), at(3, 25), at(4, 60)]);
    // 25 is exactly a gap after 15.
    assert_eq!(all[0], ("w/0-25/k".into(), window(0, 25, 0, &[0, 1, 2])));
    assert_eq!(all[1], ("w/25-35/k".into(), window(25, 35, 0, &[3])));
}

#[test]
fn late_events_are_counted_and_go_to_their_output() {
    let mut harness = Harness::<Probe>::open(TUMBLING).unwrap();
    let inputs = [at(0, 5), at(1, 20), at(2, 6), at(3, 7)];
    let answer = harness.process(inputs.iter().map(Input::event)).unwrap();
    let all = seen(&answer, &[0, 1, 2, 3]);
    assert_eq!(all[1..], [("event 2".to_owned(), Seen::Late(2)), ("event 3".to_owned(), Seen::Late(3))]);
    let [late] = harness.metrics() else { panic!("{:?}", harness.metrics()) };
    assert_eq!((late.name.as_str(), late.value), ("window_late_events", Measured::Counter(2)));
    assert_eq!(late.labels, [("window".to_owned(), "w".to_owned())]);
}

#[test]
fn an_idle_stream_closes_its_windows_by_the_clock_also_after_a_restart() {
    let shape = Shape { idle: Some(1_000), ..TUMBLING };
    let mut harness = Harness::<Probe>::open(shape).unwrap();
    harness.process([at(0, 5).event()]).unwrap();
    harness.advance(Duration::from_millis(600)).unwrap();
    harness.process([at(1, 6).event()]).unwrap();
    // The first tick, at 1000, finds that the last event came at 600.
    let ticks = harness.advance(Duration::from_millis(900)).unwrap();
    assert_eq!(ticks.len(), 1);
    assert!(ticks[0].outputs.is_empty());
    assert_eq!(harness.wake(), Some(1_600));
    let mut harness = harness.restart().unwrap();
    let ticks = harness.advance(Duration::from_millis(100)).unwrap();
    assert_eq!((ticks.len(), &ticks[0].ack), (1, &Ack::all()));
    assert_eq!(seen(&ticks[0], &[]), [("w/0-10/k".to_owned(), window(0, 10, 0, &[0, 1]))]);
    assert_eq!(harness.wake(), None, "nothing is open");
    // It has closed for good.
    let answer = harness.process([at(2, 7).event()]).unwrap();
    assert_eq!(seen(&answer, &[2]), [("event 2".to_owned(), Seen::Late(2))]);
    assert_eq!(harness.wake(), None);
}

#[test]
fn new_code_neither_opens_a_closed_window_again_nor_forgets_an_open_one() {
    let mut harness = Harness::<Probe>::open(TUMBLING).unwrap();
    harness.process([at(0, 5), at(1, 12)].iter().map(Input::event)).unwrap();
    // More lateness and another size, over the same state.
    let lenient = Shape { lateness: 100, kind: Kind::Fixed { size: 4, hop: 4, offset: 0 }, ..TUMBLING };
    let mut harness = Harness::<Probe>::resume(lenient, &harness.save()).unwrap();
    let answer = harness.process([at(2, 5), at(3, 200)].iter().map(Input::event)).unwrap();
    let all = seen(&answer, &[2, 3]);
    assert_eq!(all[0].1, Seen::Late(2));
    assert_eq!(all[1].1, window(10, 20, 0, &[1]), "with the bounds that it had");
}

#[test]
fn a_time_that_cannot_be_is_rejected_and_moves_nothing() {
    let mut harness = Harness::<Probe>::open(TUMBLING).unwrap();
    harness.process([at(0, 5).event()]).unwrap();
    let before = harness.state().clone();
    let answer = harness.process([at(1, i64::MAX), at(2, i64::MIN)].iter().map(Input::event)).unwrap();
    assert_eq!(answer.ack.rejected.len(), 2);
    assert_eq!(
        answer.ack.rejected[0].reason,
        "the event's time is 9223372036854775807 ms since 1970, more than 31,000 years away"
    );
    assert_eq!(harness.state(), &before);
}

#[test]
fn closed_windows_leave_nothing_behind() {
    for kind in [TUMBLING.kind, Kind::Session { gap: 10 }] {
        let mut harness = Harness::<Probe>::open(Shape { kind, idle: Some(1), ..TUMBLING }).unwrap();
        let inputs: Vec<Event> = (0..500).map(|n| at(n, i64::from(n) * 7).event()).collect();
        harness.process(inputs).unwrap();
        harness.advance(Duration::from_millis(1)).unwrap();
        assert_eq!(harness.state().keys().collect::<Vec<_>>(), ["window/w/clock"]);
    }
}

#[test]
fn what_fails_is_said_of_the_event() {
    let mut harness = Harness::<Probe>::open(TUMBLING).unwrap();
    let bad = Input { fails: Some(Fails::Fatal), ..at(1, 6) };
    let failure = harness.process([at(0, 5).event(), bad.event()]).unwrap_err();
    assert_eq!(failure, weir_guest::Failure::fatal("event 1: as told"));
    assert!(harness.state().is_empty());
}
