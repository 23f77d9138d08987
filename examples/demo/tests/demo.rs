//! The README's demo as a stranger runs it, in a process of its own: once, again, and with a module that is none.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use weir_tests::guests::guest;
use weir_tests::weir::{Ended, Weir};

/// Enough for the data set's two mangled rows, and a run takes seconds.
const FLIGHTS: &str = "10000";

fn demo(directory: &Path, module: &Path) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-demo"));
    command.args(["--flights", FLIGHTS, "--dir"]).arg(directory).arg("--module").arg(module);
    command.stdin(std::process::Stdio::null()).env("NO_COLOR", "1");
    Weir::start(&mut command).end()
}

/// The cells of the row that begins like this.
fn row<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let row = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|cells| cells.first() == Some(&first));
    row.unwrap_or_else(|| panic!("no row {first:?} in\n{text}"))
}

#[track_caller]
fn has(text: &str, sentence: &str) {
    assert!(text.contains(sentence), "{sentence:?} is missing in\n{text}");
}

#[test]
fn a_second_run_resumes_and_both_are_right() {
    let directory = TempDir::new().unwrap();
    let first = demo(directory.path(), &guest("delays")).expect_code(0).stdout;
    has(&first, "It is empty: this is the first run.");
    has(&first, "publishing: 10,002 of 10,002 events");
    has(&first, "processing: 10,002 of 10,002 events");
    has(&first, "are those that the CSV has, one by one (0 repeats)");
    let [_, read, emitted, rejected, ..] = row(&first, "delays")[..] else { panic!("{first}") };
    assert_eq!((read, rejected), ("10,002", "2"));

    let second = demo(directory.path(), &guest("delays")).expect_code(0).stdout;
    has(&second, "An earlier run left 10,002 events, all processed: this run resumes from its checkpoints");
    has(&second, "are those that the CSV has, one by one (0 repeats)");
    assert_eq!(row(&second, "delays")[1..4], [read, emitted, rejected], "only what is new");
    for partition in ["0", "1", "2", "3"] {
        let (was, is) = (row(&first, partition), row(&second, partition));
        assert_eq!((was[1], was[4], is[4]), ("none", "0", "0"), "before, and the lags\n{second}");
        assert_eq!(was[2], is[1], "where the first run ended, the second began\n{second}");
        assert_eq!(is[2], is[3], "now at the end\n{second}");
    }
    let letters = fs::read_to_string(directory.path().join("rejected.ndjson")).unwrap();
    assert_eq!(letters.lines().count(), 4);
}

#[test]
fn a_broken_module_is_said_before_anything_is_published() {
    let directory = TempDir::new().unwrap();
    let module = directory.path().join("core.wasm");
    fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let data = directory.path().join("data");
    let ended = demo(&data, &module).expect_code(1);
    has(&ended.stderr, "core WebAssembly module");
    assert_eq!(ended.stdout, "");
    assert!(!data.join("namespace").exists(), "no namespace was made");
}
