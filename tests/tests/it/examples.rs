//! The examples with state in a real host: what their own tests show of the processor alone, from the command line to the outputs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_tests::guests::guest;
use weir_tests::weir::{Weir, command, run, run_with_input};

use crate::cli::{Namespace, configuration_of, json_lines, path};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The outputs of a module over these events.
fn outputs(module: &str, config: Value, events: &[Value]) -> Vec<Value> {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let module = guest(module);
    let dev = ["dev", path(&module), "--events", "-", "--config", &config.to_string()];
    json_lines(&run_with_input(dev, &lines).expect_code(0).stdout)
}

#[test]
fn dedupe_passes_each_message_id_once() {
    let event = |id: &str, body: &str| json!({ "body": body, "message-id": id, "key": "AA" });
    let events = [
        event("m-1", "a"),
        event("m-2", "b"),
        event("m-1", "a again"),
        json!({ "body": "no id", "key": "AA" }),
        event("m-2", "b"),
    ];
    let bodies: Vec<_> = outputs("dedupe", json!({}), &events).iter().map(|output| output["body"].clone()).collect();
    assert_eq!(bodies, ["a", "b", "no id"]);
}

#[test]
fn sessions_end_when_time_has_passed_them() {
    let view = |user: &str, at: &str, page: &str| {
        let body = json!({ "user": user, "at": format!("2026-05-04T{at}:00Z"), "page": page });
        json!({ "body": body, "key": "visits" })
    };
    let events = [
        view("ada", "10:00", "/"),
        view("ada", "10:20", "/list"),
        view("ada", "10:05", "/"),
        view("bob", "14:00", "/"),
    ];
    let visits = outputs("sessions", json!({}), &events);
    let [visit] = visits.as_slice() else { panic!("{visits:?}") };
    let body = &visit["body"];
    assert_eq!(
        (&body["user"], &body["seconds"], &body["over"]),
        (&json!("ada"), &json!(1200), &json!(true)),
        "{visit}"
    );
    assert_eq!(body["pages"], json!({ "/": 2, "/list": 1 }));
}

/// Waits until the file has so many lines, and answers them.
fn lines(weir: &Weir, file: &std::path::Path, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.lines().count() >= count {
            return json_lines(whole);
        }
        assert!(Instant::now() < deadline, "{text}\n{:?}", weir.stderr_lines());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_wake_up_comes_without_an_event_and_also_in_another_life_of_the_host() {
    let namespace = Namespace::start(&["flights:1"]);
    let directory = TempDir::new().unwrap();
    let file = configuration_of("ledger", &directory, &namespace.endpoint, "checkpoint.interval = '20 ms'");
    let send = |command: String| {
        let line = format!("{}\n", json!({ "body": command }));
        run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "flights"], &line).expect_code(0);
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let out = directory.path().join("out.ndjson");

    // Soon, in a host that goes on.
    let due = now() + 200;
    send(format!("wake:{due}"));
    let weir = Weir::start(&mut command(["run", path(&file)]));
    let seen = lines(&weir, &out, 2);
    assert_eq!((&seen[0]["body"], &seen[1]["id"]), (&json!("asleep"), &json!("flights/0/key/tick/1")));
    let said = seen[1]["body"].as_str().unwrap();
    let (at, ticks) = said.split_once(' ').unwrap();
    assert!(at.parse::<u128>().unwrap() >= due && ticks == "1", "{said}, due {due}");
    // What the tick changed is committed too, though no event came since. Otherwise it would come again.
    let deadline = Instant::now() + PATIENCE;
    while !run(["state", "export", path(&file)]).expect_code(0).stdout.contains("\"key\":\"ticks\"") {
        assert!(Instant::now() < deadline, "the tick is never committed: {:?}", weir.stderr_lines());
    }
    drop(weir.kill());

    // Much later; then the host that was told is gone, and the next one finds it overdue. (The state says so: it was put in.)
    send("wake:9000000000000".to_owned());
    run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    let exported = run(["state", "export", path(&file)]).expect_code(0).stdout;
    assert!(exported.contains("\"wake-at\":9000000000000"), "{exported}");
    let state = directory.path().join("state.ndjson");
    fs::write(&state, exported.replace("9000000000000", "1")).unwrap();
    run(["state", "import", path(&file), path(&state), "--yes"]).expect_code(0);
    let weir = Weir::start(&mut command(["run", path(&file)]));
    let seen = lines(&weir, &out, 4);
    assert_eq!(seen[3]["id"], "flights/0/key/tick/2", "{seen:?}");
    drop(weir.kill());
}
