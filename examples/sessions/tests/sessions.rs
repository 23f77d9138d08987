//! Visits as they come out.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use serde_json::{Value, json};
use sessions::Sessions;
use weir_guest::testing::{Answer, Harness, event};
use weir_guest::{Event, Origin};

/// 2026-05-04T10:00:00Z.
const TEN: i64 = 1_777_888_800_000;

/// A view at this minute after ten, which arrives at once.
fn view(user: &str, minute: i64, page: &str) -> Event {
    let at = format!("2026-05-04T{:02}:{:02}:00Z", 10 + minute / 60, minute % 60);
    Event {
        enqueued_time: TEN + minute * 60_000,
        ..event(json!({ "user": user, "at": at, "page": page, "agent": "x" }).to_string())
    }
}

fn visits(answer: &Answer) -> Vec<(String, Value)> {
    let outputs = answer.outputs.iter().map(|output| {
        let Some(Origin::Key(id)) = &output.origin else { panic!("{output:?}") };
        (id.clone(), serde_json::from_slice(&output.body).unwrap())
    });
    outputs.collect()
}

#[test]
fn a_visit_ends_after_the_gap_and_out_of_order_views_join_it() {
    let mut sessions = Harness::<Sessions>::open(json!({ "out-of-orderness-seconds": 1200 })).unwrap();
    let views = [
        view("ada", 0, "/"),
        view("bob", 1, "/"),
        view("ada", 45, "/buy"),  // a visit of its own, until …
        view("ada", 29, "/list"), // … this one comes
        view("ada", 30, "/list"),
        view("eve", 96, "/"), // the watermark is at 76
    ];
    let answer = sessions.process(views).unwrap();
    let expected = [
        (
            format!("visit/{}-{}/bob", TEN + 60_000, TEN + 31 * 60_000),
            json!({ "user": "bob", "start": TEN + 60_000, "seconds": 0, "views": 1, "pages": { "/": 1 }, "over": true }),
        ),
        (
            format!("visit/{TEN}-{}/ada", TEN + 75 * 60_000),
            json!({ "user": "ada", "start": TEN, "seconds": 2_700, "views": 4, "over": true,
                    "pages": { "/": 1, "/buy": 1, "/list": 2 } }),
        ),
    ];
    assert_eq!(visits(&answer), expected);
}

#[test]
fn a_visit_ends_also_when_nobody_looks_any_more() {
    let mut sessions = Harness::<Sessions>::open(json!({ "report-every-views": 2 })).unwrap();
    let answer = sessions.process([view("ada", 0, "/"), view("ada", 1, "/")]).unwrap();
    let [(id, visit)] = &visits(&answer)[..] else { panic!("{answer:?}") };
    assert!(id.contains("+early.1/ada"), "{id}");
    assert_eq!((&visit["views"], &visit["over"]), (&json!(2), &json!(false)));

    let mut sessions = sessions.restart().unwrap();
    let ticks = sessions.advance(Duration::from_secs(31 * 60)).unwrap();
    let visits: Vec<_> = ticks.iter().flat_map(visits).collect();
    assert_eq!(visits.len(), 1);
    assert_eq!(visits[0].1["over"], true);
}

#[test]
fn a_view_from_the_future_ends_no_visit() {
    let mut sessions = Harness::<Sessions>::open(json!({})).unwrap();
    let future = Event { enqueued_time: TEN, ..view("bob", 120, "/") };
    let answer = sessions.process([view("ada", 0, "/"), future]).unwrap();
    assert!(answer.outputs.is_empty());
    let [rejected] = answer.ack.rejected.as_slice() else { panic!("{:?}", answer.ack) };
    assert!(rejected.reason.contains("7200000 ms after the service took it in"), "{}", rejected.reason);
}
