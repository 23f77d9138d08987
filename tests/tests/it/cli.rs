//! The `weir` command as people and orchestrators meet it: real processes, exit codes, both outputs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use weir_tests::guests::guest;
use weir_tests::weir::{Ended, Weir, command, run, run_with_input};

/// A local namespace in a process of its own.
pub(crate) struct Namespace {
    _weir: Weir,
    pub(crate) endpoint: String,
}

impl Namespace {
    pub(crate) fn start(hubs: &[&str]) -> Self {
        let hubs = hubs.iter().flat_map(|hub| ["--hub", hub]);
        let weir = Weir::start(&mut command(["emulator", "--listen", "127.0.0.1:0"].into_iter().chain(hubs)));
        let line = weir.wait_stdout("weir emulator is ready: ");
        let endpoint = line.rsplit(' ').next().unwrap().to_owned();
        Self { _weir: weir, endpoint }
    }

    fn send(&self, hub: &str, lines: &str) {
        let ended = run_with_input(["send", "--endpoint", &self.endpoint, "--hub", hub], lines).expect_code(0);
        assert_eq!(ended.stderr, format!("sent {} events to {hub}\n", lines.lines().count()));
    }

    fn read(&self, hub: &str) -> Vec<Value> {
        let ended = run(["tail", "--endpoint", &self.endpoint, "--hub", hub, "--until-caught-up"]).expect_code(0);
        json_lines(&ended.stdout)
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

pub(crate) fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("{{\"body\":{{\"n\":{n}}},\"key\":\"k{}\"}}\n", n % 7)).collect()
}

/// A configuration that runs the identity processor over `flights` into a file.
pub(crate) fn configuration(directory: &TempDir, namespace: &Namespace, more: &str) -> PathBuf {
    configuration_of("identity", directory, &namespace.endpoint, more)
}

/// A configuration that runs a processor over `flights` into a file.
pub(crate) fn configuration_of(module: &str, directory: &TempDir, endpoint: &str, more: &str) -> PathBuf {
    let file = directory.path().join("weir.toml");
    let text = format!(
        r#"
        [namespace]
        fully-qualified-namespace = "localhost"
        endpoint = "{endpoint}"
        credential = "none"
        [checkpoints]
        directory = "checkpoints"
        [host]
        owner = "test"
        cache = "cache"
        [[processor]]
        name = "copies"
        module = "{}"
        event-hub = "flights"
        outputs.default.file = "out.ndjson"
        dead-letter.file = "rejected.ndjson"
        {more}
        "#,
        guest(module).display(),
    );
    fs::write(&file, text).unwrap();
    file
}

pub(crate) fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

#[track_caller]
pub(crate) fn is_for_people(ended: &Ended) {
    for sign in ["panicked", "RUST_BACKTRACE", "Error {", "Some(", "stack backtrace"] {
        assert!(!ended.stderr.contains(sign), "{}", ended.stderr);
    }
}

#[test]
fn help_is_on_standard_output_and_mistakes_are_not() {
    let help = run(["--help"]).expect_code(0);
    assert!(help.stdout.contains("Exit codes:") && help.stderr.is_empty());
    assert!(!help.stdout.contains('\u{1b}'), "no colours in a pipe");
    assert_eq!(run(["help"]).expect_code(0).stdout, run(["--help"]).expect_code(0).stdout);
    assert_eq!(run(["help", "run"]).expect_code(0).stdout, run(["run", "--help"]).expect_code(0).stdout);
    let wrong = run(["rnu"]).expect_code(2);
    assert!(
        wrong.stdout.is_empty() && wrong.stderr.contains("'rnu'") && wrong.stderr.contains("Usage: weir [OPTIONS]"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_wrong_configuration_is_explained_as_a_whole() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("weir.toml");
    fs::write(&file, "[checkpoints]\ndirectroy = 'c'\n[[processor]]\nname = 'a'\nmodule = 'm'\nevent-hub = 'x y'\n")
        .unwrap();
    for command in [&["run", path(&file)][..], &["checkpoints", path(&file)], &["tail", "--config", path(&file)]] {
        let ended = run(command).expect_code(2);
        assert!(ended.stderr.starts_with(&format!("error: 4 mistakes in {}\n", file.display())), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("line 2: checkpoints.directroy is unknown; did you mean \"directory\"?"),
            "{}",
            ended.stderr
        );
        is_for_people(&ended);
    }
}

#[test]
fn check_says_what_a_module_is() {
    let directory = TempDir::new().unwrap();
    let good = guest("identity");
    let ended = run(["check", path(&good)]).expect_code(0);
    assert!(ended.stdout.contains("This host can run it"), "{}", ended.stdout);
    let report: Value = serde_json::from_str(&run(["check", "--json", path(&good)]).expect_code(0).stdout).unwrap();
    assert_eq!(report["component"], true);
    let wrong: [(&str, &[u8], &str); 3] = [
        ("empty.wasm", b"", "empty"),
        ("text.wasm", b"#!/bin/sh\n", "not WebAssembly"),
        ("core.wasm", b"\0asm\x01\0\0\0", "core WebAssembly module"),
    ];
    for (name, bytes, sentence) in wrong {
        let file = directory.path().join(name);
        fs::write(&file, bytes).unwrap();
        let ended = run(["check", path(&file)]).expect_code(1);
        assert_eq!(ended.stdout.matches(sentence).count(), 1, "{}", ended.stdout);
        assert_eq!(ended.stderr, "", "the report has said it");
        let report: Value = serde_json::from_str(&run(["check", "--json", path(&file)]).expect_code(1).stdout).unwrap();
        assert!(report["problem"].as_str().unwrap().contains(sentence), "{report}");
    }
    let ended = run(["check", "/nowhere/m.wasm"]).expect_code(1);
    assert!(ended.stderr.starts_with("error: can't read the module /nowhere/m.wasm: "), "{}", ended.stderr);
}

#[test]
fn what_is_sent_is_what_tail_prints_and_can_be_sent_again() {
    let namespace = Namespace::start(&["in:2", "copy:2"]);
    let lines = concat!(
        r#"{"body":{"b": 1.10, "a": [1]},"key":"AA","content-type":"application/json","message-id":"m"}"#,
        "\n",
        r#"{"body":"plain text","key":"AA","properties":{"n":1,"s":"x","d":1.5,"t":true,"u":{"uuid":"67e55044-10b1-426f-9247-bb680e5fe0c8"}}}"#,
        "\n",
        r#"{"body-base64":"AP8=","key":"AA","correlation-id":"c"}"#,
        "\n",
    );
    namespace.send("in", lines);
    let mut printed = namespace.read("in");
    let tailed: String = printed.iter().map(|line| format!("{line}\n")).collect();
    for (number, line) in printed.iter_mut().enumerate() {
        let line = line.as_object_mut().unwrap();
        if number > 0 {
            // The SDK's producer gives one to an event that has none.
            assert!(line.remove("message-id").is_some());
        }
        assert_eq!(line.remove("sequence-number"), Some(number.into()));
        for added in ["partition", "offset", "enqueued-time"] {
            assert!(line.remove(added).is_some(), "{line:?}");
        }
    }
    assert_eq!(printed, json_lines(lines));
    namespace.send("copy", &tailed);
    assert_eq!(namespace.read("copy").len(), 3);

    let counted = run(["tail", "--endpoint", &namespace.endpoint, "--hub", "in", "--count", "2"]).expect_code(0);
    assert_eq!(counted.stdout.lines().count(), 2);
    let ended =
        run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "in"], "{\"body\":1}\n{\"bdoy\":2}\n");
    let ended = ended.expect_code(1);
    assert!(ended.stderr.contains("standard input, line 2: not an event: unknown field `bdoy`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("what stands before it was sent (1 event), the rest was not"), "{}", ended.stderr);
    let ended = run_with_input(["send", "--endpoint", &namespace.endpoint, "--hub", "in"], "UA,1545\n").expect_code(1);
    assert!(ended.stderr.contains("line 1: not an event: it is not a JSON object"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--lines"), "{}", ended.stderr);
    let ended = run(["tail", "--endpoint", &namespace.endpoint, "--hub", "missing"]).expect_code(1);
    assert!(ended.stderr.contains("missing"), "{}", ended.stderr);
    is_for_people(&ended);
}

#[test]
fn a_batch_run_ends_with_everything_checkpointed_and_a_second_one_goes_on_from_there() {
    let namespace = Namespace::start(&["flights:3"]);
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, &namespace, "");
    let output = || json_lines(&fs::read_to_string(directory.path().join("out.ndjson")).unwrap());
    namespace.send("flights", &numbered(0..100));
    let ended = run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    assert!(ended.stderr.contains("caught up"), "{}", ended.stderr);
    assert!(ended.stderr.contains("copies: identity.wasm ("), "{}", ended.stderr);
    assert_eq!(output().len(), 100);
    namespace.send("flights", &numbered(100..130));
    let text = run(["checkpoints", path(&file)]).expect_code(0).stdout;
    assert!(text.starts_with("processor") && text.lines().count() == 4, "{text}");
    run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    let output = output();
    assert_eq!(output.len(), 130, "nothing twice");
    let ids: std::collections::BTreeSet<_> = output.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 130);
    let progress: Value =
        serde_json::from_str(&run(["checkpoints", path(&file), "--json"]).expect_code(0).stdout).unwrap();
    let partitions = progress[0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    assert!(partitions.iter().all(|partition| partition["lag"] == 0), "{progress}");
}

#[test]
fn a_damaged_checkpoint_stops_its_own_partition_and_is_shown() {
    let namespace = Namespace::start(&["flights:2"]);
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, &namespace, "");
    namespace.send("flights", &numbered(0..50));
    run(["run", path(&file), "--until-caught-up"]).expect_code(0);
    let of = |partition: &str, name: &str| {
        directory.path().join("checkpoints/localhost/flights/$default").join(partition).join(name)
    };
    fs::write(of("0", "checkpoint.json"), "{").unwrap();
    fs::write(of("1", "ownership.json"), "{").unwrap();

    let shown = run(["checkpoints", path(&file)]).expect_code(1);
    assert!(shown.stdout.contains("unreadable"), "{}", shown.stdout);
    assert_eq!(shown.stderr.matches("checkpoint.json").count(), 1, "{}", shown.stderr);
    assert!(shown.stderr.contains("processor `copies`: partition 0: ") && shown.stderr.contains("move it away"));
    let shown = run(["checkpoints", path(&file), "--json"]).expect_code(1);
    let progress: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert!(progress[0]["problem"].as_str().unwrap().contains("checkpoint.json"), "{progress}");
    let [zero, one] = [0, 1].map(|index| &progress[0]["partitions"][index]);
    assert!(zero["problem"].is_string() && zero["lag"].is_null(), "{progress}");
    assert!(one["problem"].is_null() && one["lag"] == 0, "{progress}");

    namespace.send("flights", &numbered(0..50));
    let ended = run(["run", path(&file), "--until-caught-up"]).expect_code(1);
    assert_eq!(ended.stderr.matches("ownership.json").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("the partition goes on from its checkpoint"), "{}", ended.stderr);
    let progress: Value =
        serde_json::from_str(&run(["checkpoints", path(&file), "--json"]).expect_code(1).stdout).unwrap();
    assert_eq!(progress[0]["partitions"][1]["lag"], 0, "the neighbour went on: {progress}");
}

#[test]
fn what_a_module_holds_at_the_end_of_a_batch_run_is_said_and_comes_again() {
    let namespace = Namespace::start(&["flights:1"]);
    let directory = TempDir::new().unwrap();
    let file = configuration_of(
        "misbehave",
        &directory,
        &namespace.endpoint,
        "grants.clocks = true\nconfig.on-event = 'hold'",
    );
    namespace.send("flights", &numbered(0..5));
    for _ in 0..2 {
        let ended = run(["run", path(&file), "--until-caught-up"]).expect_code(0);
        assert!(
            ended.stderr.contains("processor `copies`, partition 0: the module holds 5 events; they are not committed"),
            "{}",
            ended.stderr
        );
        let progress: Value =
            serde_json::from_str(&run(["checkpoints", path(&file), "--json"]).expect_code(0).stdout).unwrap();
        assert_eq!(progress[0]["partitions"][0]["lag"], 5, "{progress}");
    }
}

#[test]
fn a_namespace_that_is_not_there_is_said_to_be_out_of_reach() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("amqp://{address}");
    let sentence = format!(
        "can't reach the namespace at {address}: nothing listens there; start one (`weir emulator --listen {address} --hub \
         NAME:PARTITIONS`), or correct the endpoint"
    );
    let sent = run_with_input(["send", "--endpoint", &endpoint, "--hub", "flights"], &numbered(0..5)).expect_code(1);
    assert_eq!(sent.stderr, format!("error: {sentence}; nothing was sent\n"));
    let read = run(["tail", "--endpoint", &endpoint, "--hub", "flights"]).expect_code(1);
    assert_eq!(read.stderr, format!("error: {sentence}\n"));
    let directory = TempDir::new().unwrap();
    let file = configuration_of("identity", &directory, &endpoint, "");
    let shown = run(["checkpoints", path(&file)]).expect_code(1);
    assert_eq!(shown.stderr, format!("error: processor `copies`: {sentence}\n"));
    let service = Weir::start(&mut command(["run", path(&file)]));
    service.wait_stderr(&format!("{sentence}; trying on"));
    service.signal(libc::SIGTERM);
    let ended = service.end();
    assert!(!ended.stderr.contains("link to the event hub ended"), "{}", ended.stderr);
    is_for_people(&ended);
}

#[test]
fn a_service_is_watched_beside_and_stops_in_order_on_sigterm() {
    let namespace = Namespace::start(&["flights:2"]);
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, &namespace, "");
    let arguments = ["run", path(&file), "--log-format", "json"];
    let weir = Weir::start(&mut command(arguments));
    weir.wait_stderr("copies: identity.wasm");
    namespace.send("flights", &numbered(0..50));
    let out = directory.path().join("out.ndjson");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fs::read_to_string(&out).unwrap_or_default().lines().count() < 50 {
        assert!(std::time::Instant::now() < deadline, "the outputs did not come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Beside the running host: reading works, a second host is refused.
    run(["checkpoints", path(&file), "--json"]).expect_code(0);
    let second = run(["run", path(&file)]).expect_code(1);
    assert!(second.stderr.contains("in use by process"), "{}", second.stderr);
    is_for_people(&second);
    weir.signal(libc::SIGTERM);
    let ended = weir.end().expect_code(0);
    let log = json_lines(&ended.stderr);
    assert!(
        log.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping: "))),
        "{}",
        ended.stderr
    );
    let summary = log.iter().find(|line| line["message"] == "summary").unwrap();
    let processors: Value = serde_json::from_str(summary["processors"].as_str().unwrap()).unwrap();
    let acknowledged =
        processors[0]["partitions"].as_array().unwrap().iter().map(|p| p["acknowledged"].as_u64().unwrap());
    assert_eq!(acknowledged.sum::<u64>(), 50);
    let progress: Value =
        serde_json::from_str(&run(["checkpoints", path(&file), "--json"]).expect_code(0).stdout).unwrap();
    assert!(progress[0]["partitions"].as_array().unwrap().iter().all(|partition| partition["lag"] == 0), "{progress}");
}

#[test]
fn a_broken_processor_never_stops_its_neighbour() {
    let namespace = Namespace::start(&["flights:1"]);
    let directory = TempDir::new().unwrap();
    let neighbour = "
        [[processor]]
        name = 'broken'
        module = 'missing.wasm'
        event-hub = 'flights'
        consumer-group = 'other'
        dead-letter.stdout = true";
    let file = configuration(&directory, &namespace, neighbour);
    namespace.send("flights", &numbered(0..10));
    let ended = run(["run", path(&file), "--until-caught-up"]).expect_code(1);
    assert!(ended.stderr.contains("error: processor `broken` does not run: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("missing.wasm"), "{}", ended.stderr);
    is_for_people(&ended);
    assert_eq!(json_lines(&fs::read_to_string(directory.path().join("out.ndjson")).unwrap()).len(), 10);
}

#[test]
fn dev_runs_a_module_over_a_file() {
    let directory = TempDir::new().unwrap();
    let (module, events, data) = (guest("identity"), directory.path().join("in.ndjson"), directory.path().join("data"));
    fs::write(&events, numbered(0..20)).unwrap();
    let arguments = ["dev", path(&module), "--events", path(&events), "--data", path(&data)];
    for _ in 0..2 {
        let ended = run(arguments).expect_code(0);
        let outputs = json_lines(&ended.stdout);
        let mut numbers: Vec<_> = outputs.iter().map(|line| line["body"]["n"].as_u64().unwrap()).collect();
        let of_one_key: Vec<_> = numbers.iter().copied().filter(|n| n % 7 == 3).collect();
        assert_eq!(of_one_key, [3, 10, 17]);
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "only what is new");
        assert_eq!(outputs[0]["output"], "default");
        assert!(ended.stderr.contains("sent 20 events") && ended.stderr.contains("caught up"), "{}", ended.stderr);
    }
    let ended = run(["dev", path(&events)]).expect_code(1);
    assert!(ended.stderr.contains("not WebAssembly"), "{}", ended.stderr);
    let ended = run(["dev", path(&module), "--config", "[1]"]).expect_code(2);
    assert!(ended.stderr.contains("--config is not a JSON object"), "{}", ended.stderr);
}

#[test]
fn dev_takes_what_any_client_sends() {
    let module = guest("identity");
    let weir = Weir::start(&mut command(["dev", path(&module), "--listen", "127.0.0.1:0", "--partitions", "2"]));
    let line = weir.wait_stderr("the hub events is at amqp://");
    let endpoint = line.split_whitespace().find(|word| word.starts_with("amqp://")).unwrap();
    run_with_input(["send", "--endpoint", endpoint, "--hub", "events"], &numbered(0..5)).expect_code(0);
    assert_eq!(weir.wait_lines(5).len(), 5);
    weir.signal(libc::SIGINT);
    let ended = weir.end().expect_code(0);
    assert!(ended.stderr.contains("stopping"), "{}", ended.stderr);
}
