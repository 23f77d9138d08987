//! Events that break a real module, through the whole host: each is found among its neighbours and told what it died of.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use weir_tests::guests::guest;
use weir_tests::weir::{Ended, run, run_with_input};

use crate::cli::{Namespace, json_lines, path};

/// Sends these bodies, in order, and runs `misbehave` over them. What the run ended with, the bodies of its outputs, and the letters.
fn over(bodies: &[&str], more: &str) -> (Ended, Vec<String>, Vec<Value>) {
    let namespace = Namespace::start(&["flights:1"]);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("weir.toml");
    let text = format!(
        r#"
        [namespace]
        fully-qualified-namespace = "localhost"
        endpoint = "{}"
        credential = "none"
        [checkpoints]
        directory = "checkpoints"
        [host]
        owner = "test"
        cache = "cache"
        [[processor]]
        name = "misbehave"
        module = "{}"
        event-hub = "flights"
        retry = {{ attempts = 2, backoff = "1 ms", max-backoff = "1 ms" }}
        grants = {{ clocks = true }}
        limits = {{ time = "300 ms", memory = "16 MiB" }}
        outputs.default.file = "out.ndjson"
        dead-letter = {{ directory = "dead" }}
        {more}
        "#,
        namespace.endpoint,
        guest("misbehave").display()
    );
    fs::write(&file, text).unwrap();
    let lines: Vec<String> = bodies.iter().map(|body| format!("{{\"body\":{body:?},\"key\":\"AA\"}}\n")).collect();
    run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "flights"], &lines.concat()).expect_code(0);
    let ended = run(["run", path(&file), "--until-caught-up"]);
    let out = fs::read_to_string(directory.path().join("out.ndjson")).unwrap();
    let out = json_lines(&out).iter().map(|output| output["id"].as_str().unwrap().to_owned()).collect();
    let letters = run(["dead-letters", "list", path(&file), "--json"]).expect_code(0);
    (ended, out, serde_json::from_str(&letters.stdout).unwrap())
}

#[test]
fn each_way_to_break_is_found_among_its_neighbours_and_named() {
    let bodies = ["one", "panic", "two", "loop", "exit", "three", "allocate", "four", "origin-index:99", "five"];
    let (ended, out, letters) = over(&bodies, "");
    let ended = ended.expect_code(0);
    let told: Vec<(&str, &str)> =
        letters.iter().map(|letter| (letter["id"].as_str().unwrap(), letter["cause"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("flights/0/1/rejected", "trap"),
            ("flights/0/3/rejected", "deadline"),
            ("flights/0/4/rejected", "exit"),
            ("flights/0/6/rejected", "out-of-memory"),
            ("flights/0/8/rejected", "invalid-answer"),
        ]
    );
    let expected: Vec<String> = [0, 2, 5, 7, 9].map(|n| format!("flights/0/{n}/0")).into();
    assert_eq!(out, expected, "the neighbours, in order, once");
    let account =
        "misbehave: 10 received = 5 acknowledged + 0 rejected + 5 poisoned + 0 dropped + 0 given back + 0 in flight";
    assert!(ended.stderr.contains(account), "{}", ended.stderr);
}

#[test]
fn a_module_that_breaks_at_everything_is_stopped_and_nothing_is_given_up() {
    let (ended, out, letters) = over(&["panic"; 30], "breaker.failures = 4");
    let ended = ended.expect_code(1);
    assert!(
        ended.stderr.contains("fails at everything: 4 events in a row (sequence numbers 0 to 3)"),
        "{}",
        ended.stderr
    );
    assert_eq!((out.len(), letters.len()), (0, 0));
}

#[test]
fn events_that_are_dropped_are_said_and_counted() {
    let (ended, out, letters) = over(&["one", "panic", "two"], "on-poison = \"drop\"");
    let ended = ended.expect_code(0);
    assert!(ended.stderr.contains("DROPPED an event") && ended.stderr.contains("1 dropped"), "{}", ended.stderr);
    assert_eq!((out.len(), letters.len()), (2, 0));
}
