//! `weir state` over a directory: what a real guest keeps is found, copied out, put in, and gone on from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use weir_tests::weir::{Ended, Weir, command, run, run_with_input};

use crate::cli::{Namespace, configuration_of, is_for_people, json_lines, path};

struct Story {
    namespace: Namespace,
    directory: TempDir,
    file: PathBuf,
}

impl Story {
    fn new() -> Self {
        let namespace = Namespace::start(&["flights:1"]);
        let directory = TempDir::new().unwrap();
        let file = configuration_of("ledger", &directory, &namespace.endpoint, "");
        Self { namespace, directory, file }
    }

    /// Sends these commands and runs the ledger over them. What it said, in all of its runs.
    fn run(&self, commands: &[&str]) -> Vec<String> {
        let lines: String = commands.iter().map(|command| format!("{}\n", json!({ "body": command }))).collect();
        run_with_input(["send", "--endpoint", &self.namespace.endpoint, "--hub", "flights"], &lines).expect_code(0);
        run(["run", path(&self.file), "--until-caught-up"]).expect_code(0);
        let out = fs::read_to_string(self.directory.path().join("out.ndjson")).unwrap();
        json_lines(&out).iter().map(|line| line["body"].to_string().trim_matches('"').to_owned()).collect()
    }

    fn state(&self, arguments: &[&str]) -> Ended {
        let (action, rest) = arguments.split_first().unwrap();
        run([&["state", action, path(&self.file)], rest].concat())
    }

    fn import(&self, lines: &str, more: &[&str]) -> Ended {
        let file = self.directory.path().join("state.ndjson");
        fs::write(&file, lines).unwrap();
        self.state(&[&["import", path(&file), "--yes"], more].concat())
    }
}

#[test]
fn state_is_found_copied_out_put_in_and_gone_on_from() {
    let story = Story::new();
    assert_eq!(
        story.run(&["add:a", "add:a", "add:b", "fill:big:100", "wake:9000000000000"]),
        ["1", "2", "1", "kept", "asleep"]
    );

    let got = story.state(&["get", "a"]).expect_code(0);
    assert_eq!((got.stdout.as_str(), got.stderr.as_str()), ("2\n", "partition 0, as of event 4:\n"));
    let missing = story.state(&["get", "c"]).expect_code(1);
    is_for_people(&missing);
    assert!(missing.stderr.contains("has the key \"c\"; `weir state scan` lists keys"), "{}", missing.stderr);

    let table = story.state(&["scan"]).expect_code(0);
    assert_eq!(table.stdout.lines().count(), 4, "{}", table.stdout);
    assert!(table.stdout.contains("xxxx…"), "{}", table.stdout);
    assert!(table.stderr.contains("as of event 4, to be woken at 9000000000000 ms"), "{}", table.stderr);
    let keys: Value = serde_json::from_str(&story.state(&["scan", "b", "--json"]).expect_code(0).stdout).unwrap();
    assert_eq!(keys[0]["keys"], json!([{ "key": "b", "bytes": 1 }, { "key": "big", "bytes": 100 }]));

    let exported = story.state(&["export"]).expect_code(0).stdout;
    let lines = json_lines(&exported);
    assert_eq!(lines[0]["sequence-number"], 4);
    assert_eq!(lines[1], json!({ "key": "a", "value": "2" }));
    assert_eq!(story.state(&["export"]).expect_code(0).stdout, exported, "the same state, the same lines");

    let mended = exported.replace(r#"{"key":"a","value":"2"}"#, r#"{"key":"a","value":"41"}"#);
    assert!(story.import(&mended, &[]).expect_code(0).stderr.contains("3 keys imported"));
    assert_eq!(story.state(&["export"]).expect_code(0).stdout, mended, "wake-up and all");
    assert_eq!(story.run(&["add:a", "add:b"])[5..], ["42", "2"]);

    // By now the checkpoint is further.
    let old = story.import(&mended, &[]).expect_code(1);
    is_for_people(&old);
    assert!(old.stderr.contains("the file has its state as of event 4, and its checkpoint is at 6"), "{}", old.stderr);
    story.import(&mended, &["--at-checkpoint"]).expect_code(0);
    assert_eq!(story.run(&["add:a"])[7..], ["42"]);

    for (lines, why) in [
        ("{\"key\":\"a\",\"value\":\"1\"}\n", "line 1: comes before the head"),
        ("hello\n", "line 1: is no line of `weir state export`"),
        (&*mended.replace("\"weir-state\":1", "\"weir-state\":2"), "it is of version 2, and this Weir reads 1"),
        (&*mended.replace("\"partition\":\"0\"", "\"partition\":\"7\""), "has no such partition"),
        (&*mended.replace("localhost/flights", "localhost/others"), "the file has a state of localhost/others"),
        (&*mended.lines().take(3).map(|line| format!("{line}\n")).collect::<String>(), "has 2 of its 3 keys"),
        (&*format!("{mended}{{\"key\":\"a\",\"value\":\"1\"}}\n"), "the key \"a\" comes a second time"),
        ("", "holds no state"),
    ] {
        let refused = story.import(lines, &[]).expect_code(1);
        is_for_people(&refused);
        assert!(refused.stderr.contains(why) && refused.stderr.contains("nothing was written"), "{}", refused.stderr);
    }
}

#[test]
fn a_running_deployment_is_read_and_never_written() {
    let story = Story::new();
    story.run(&["add:a"]);
    let exported = story.state(&["export"]).expect_code(0).stdout;
    let weir = Weir::start(&mut command(["run", path(&story.file)]));
    weir.wait_stderr("ledger.wasm");
    assert_eq!(story.state(&["get", "a"]).expect_code(0).stdout, "1\n");
    let refused = story.import(&exported, &[]).expect_code(1);
    assert!(refused.stderr.contains("a running host"), "{}", refused.stderr);
    drop(weir.kill());
    story.import(&exported, &[]).expect_code(0);
}

/// Files below a directory whose path says this.
fn files(directory: &Path, word: &str) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![directory.to_owned()], vec![]);
    while let Some(path) = open.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => open.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => found.extend(Some(path).filter(|path| path.to_string_lossy().contains(word))),
        }
    }
    found
}

/// Does this to the file, and looks at what everybody says of it; then it is as before.
fn damaged(story: &Story, file: &Path, change: impl FnOnce(&Path), words: &[&str]) {
    let whole = fs::read(file).unwrap();
    change(file);
    for refused in
        [story.state(&["scan"]).expect_code(1), run(["run", path(&story.file), "--until-caught-up"]).expect_code(1)]
    {
        is_for_people(&refused);
        for word in words {
            assert!(refused.stderr.contains(word), "{word} in\n{}", refused.stderr);
        }
    }
    fs::write(file, whole).unwrap();
    story.state(&["scan"]).expect_code(0);
}

#[test]
fn what_is_damaged_cut_off_or_gone_is_refused_and_never_guessed() {
    let story = Story::new();
    story.run(&["add:a", "fill:big:200000"]);
    let checkpoints = story.directory.path().join("checkpoints");
    let records = files(&checkpoints, "checkpoint.json");
    let [record] = records.as_slice() else { panic!("{records:?}") };
    let segments = files(&checkpoints, "/state/");
    let [segment] = segments.as_slice() else { panic!("a state of 200 KB has a segment: {segments:?}") };

    damaged(&story, segment, |file| fs::remove_file(file).unwrap(), &["partition 0", "part of its state"]);
    let cut = |file: &Path| fs::write(file, &fs::read(file).unwrap()[..1000]).unwrap();
    damaged(&story, segment, cut, &["partition 0", "doesn't match its name. Restore the file from a backup"]);
    let flip = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        bytes[100_000] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    damaged(&story, segment, flip, &["partition 0", "doesn't match its name. Restore the file from a backup"]);
    let elsewhere = |file: &Path| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replacen("\"sequence-number\": 1", "\"sequence-number\": 0", 1)).unwrap();
    };
    damaged(&story, record, elsewhere, &["partition 0", "checksum"]);
    let later = |file: &Path| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replacen("\"weir\": 1", "\"weir\": 2", 1)).unwrap();
    };
    damaged(&story, record, later, &["partition 0", "version"]);
    assert_eq!(story.run(&["add:a"])[2..], ["2"], "nothing was lost");
}
