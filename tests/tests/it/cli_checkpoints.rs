//! `weir checkpoints set` over a directory: shown first, agreed to, refused while a host is at work.

use std::fs;
use std::path::Path;

use azure_core::time::{OffsetDateTime, to_rfc3339};
use serde_json::Value;
use tempfile::TempDir;
use weir_tests::weir::{Ended, Weir, command, run, run_with_input};

use crate::cli::{Namespace, configuration, is_for_people, json_lines, path};

/// The sequence number and offset of each partition's checkpoint.
fn checkpoints(file: &Path) -> Vec<(Option<i64>, Option<String>)> {
    let shown = run(["checkpoints", path(file), "--json"]).expect_code(0).stdout;
    let progress: Value = serde_json::from_str(&shown).unwrap();
    let place = |p: &Value| (p["checkpoint"].as_i64(), p["offset"].as_str().map(str::to_owned));
    progress[0]["partitions"].as_array().unwrap().iter().map(place).collect()
}

fn set(file: &Path, arguments: &[&str]) -> Ended {
    run(["checkpoints", "set", path(file)].iter().chain(arguments))
}

#[test]
fn checkpoints_are_moved_back_and_forward() {
    let namespace = Namespace::start(&["flights:2"]);
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, &namespace, "");
    let lines: String = (0..20).map(|n| format!("{{\"body\":{{\"n\":{n}}}}}\n")).collect();
    let send = ["send", "--endpoint", &namespace.endpoint, "--hub", "flights", "--partition", "0"];
    run_with_input(send, &lines).expect_code(0);
    let tail = ["tail", "--endpoint", &namespace.endpoint, "--hub", "flights", "--until-caught-up"];
    let offsets: Vec<String> = json_lines(&run(tail).expect_code(0).stdout)
        .iter()
        .map(|event| event["offset"].as_str().unwrap().to_owned())
        .collect();
    // The numbers of the events that a run processes.
    let mut seen = 0;
    let mut processed = || -> Vec<u64> {
        run(["run", path(&file), "--until-caught-up"]).expect_code(0);
        let outputs = json_lines(&fs::read_to_string(directory.path().join("out.ndjson")).unwrap());
        let new = outputs[seen..].iter().map(|line| line["body"]["n"].as_u64().unwrap()).collect();
        seen = outputs.len();
        new
    };
    assert_eq!(processed(), (0..20).collect::<Vec<_>>());
    let end = (Some(19), Some(offsets[19].clone()));
    assert_eq!(checkpoints(&file)[0], end);

    let looked = set(&file, &["--partition", "0", "--to", "5", "--dry-run"]).expect_code(0);
    let row: Vec<_> = looked.stdout.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row, ["0", "19", "4", "5", "15", "0", "-"], "{}", looked.stdout);
    let unasked = set(&file, &["--partition", "0", "--to", "5"]).expect_code(2);
    assert!(unasked.stderr.contains("nobody is at the terminal to agree"), "{}", unasked.stderr);
    assert_eq!(checkpoints(&file)[0], end, "nothing was written so far");

    let written = set(&file, &["--partition", "0", "--to", "5", "--yes"]).expect_code(0);
    assert_eq!(written.stderr, "1 checkpoint written\n");
    assert_eq!(checkpoints(&file)[0], (Some(4), Some(offsets[4].clone())), "with the offset of that event");
    assert_eq!(processed(), (5..20).collect::<Vec<_>>());

    set(&file, &["--all", "--to", "1970-01-01T00:00:00Z", "--yes"]).expect_code(0);
    let before_all = (Some(-1), Some("-1".to_owned()));
    assert_eq!(checkpoints(&file), [before_all.clone(), before_all]);
    let before = checkpoints(&file);
    let future = set(&file, &["--all", "--to", "2100-01-01T00:00:00Z", "--yes"]).expect_code(2);
    assert!(future.stderr.contains("in the future; `--to latest` goes on with what comes next"), "{}", future.stderr);
    assert_eq!(checkpoints(&file), before);
    let now = to_rfc3339(&OffsetDateTime::now_utc());
    set(&file, &["--all", "--to", &now, "--yes"]).expect_code(0);
    assert_eq!(checkpoints(&file)[0], end, "behind the newest event");
    assert_eq!(processed(), [0; 0]);
    set(&file, &["--partition", "0,1", "--to", "earliest", "--yes"]).expect_code(0);
    assert_eq!(processed(), (0..20).collect::<Vec<_>>());

    let wrong = set(&file, &["--all", "--to", "15", "--yes"]).expect_code(1);
    assert!(wrong.stderr.contains("partition 1: there is no event 15 yet"), "{}", wrong.stderr);
    assert_eq!(checkpoints(&file)[0], end, "all or nothing");
    let wrong = set(&file, &["--partition", "0,7", "--to", "latest", "--yes"]).expect_code(2);
    assert!(wrong.stderr.contains("there is no partition \"7\"; there are 0, 1"), "{}", wrong.stderr);
}

#[test]
fn a_directory_in_use_is_refused_whatever_the_options() {
    let namespace = Namespace::start(&["flights:1"]);
    let directory = TempDir::new().unwrap();
    let file = configuration(&directory, &namespace, "");
    let host = Weir::start(&mut command(["run", path(&file)]));
    host.wait_stderr("copies: identity.wasm");
    for force in [&["--all", "--to", "latest", "--yes"][..], &["--all", "--to", "latest", "--yes", "--force"]] {
        let refused = set(&file, force).expect_code(1);
        assert!(refused.stderr.contains("a running host, process "), "{}", refused.stderr);
        assert!(refused.stderr.contains("stop it first. --force can't help here"), "{}", refused.stderr);
        is_for_people(&refused);
    }
    set(&file, &["--all", "--to", "latest", "--dry-run"]).expect_code(0);
    host.signal(libc::SIGTERM);
    host.end().expect_code(0);
    let same = run(["checkpoints", "import", path(&file), "--from", "same"]).expect_code(2);
    assert!(same.stderr.contains("keeps them in a directory: name the container"), "{}", same.stderr);
}
