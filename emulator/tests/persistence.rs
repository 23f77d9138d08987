//! A namespace in a directory: what was acknowledged is there again, whatever ended the process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use weir_emulator::model::Run;
use weir_emulator::{Groups, Incoming, Namespace, NamespaceError, Retention, StoreError};

fn open(directory: &Path) -> Namespace {
    Namespace::in_directory(directory, Retention::default()).unwrap()
}

fn event(body: &str) -> Incoming {
    // A data section.
    let mut tail = vec![0x00, 0x53, 0x75, 0xa0, u8::try_from(body.len()).unwrap()];
    tail.extend_from_slice(body.as_bytes());
    Incoming { tail: tail.into(), key: Some("key".into()), ..Incoming::default() }
}

fn events(namespace: &Namespace, hub: &str, partition: &str) -> Vec<Vec<u8>> {
    let mut runs = Vec::new();
    namespace.hub(hub).unwrap().partition(partition).unwrap().read(0, usize::MAX >> 1, &mut runs);
    runs.iter().flat_map(|Run { block, from, to }| (*from..*to).map(|i| block.event(i).to_vec())).collect()
}

fn segment(directory: &Path, hub: &str) -> PathBuf {
    directory.join(hub).join("0").join("00000000000000000000.log")
}

#[test]
fn hubs_partitions_and_events_are_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let before = {
        let namespace = open(directory.path());
        namespace.create_hub("Flights", 2, Groups::Listed(vec!["g".into()])).unwrap();
        namespace.publish("flights", 0, &[event("a"), event("b")]).unwrap();
        namespace.publish("flights", 1, &[event("c")]).unwrap();
        namespace.add_partitions("flights", 1).unwrap();
        assert_eq!(namespace.publish("flights", 2, &[event("d")]).unwrap(), 0..1);
        let state = |id: &str| namespace.hub("flights").unwrap().partition(id).unwrap().state(0);
        (events(&namespace, "flights", "0"), state("0"), state("1"), state("2"))
    };
    let namespace = open(directory.path());
    let hub = namespace.hub("FLIGHTS").unwrap();
    assert_eq!((&*hub.name, hub.partition_count()), ("Flights", 3));
    assert!(hub.groups.has("G") && hub.groups.has("$Default") && !hub.groups.has("other"));
    let state = |id: &str| hub.partition(id).unwrap().state(0);
    assert_eq!((events(&namespace, "flights", "0"), state("0"), state("1"), state("2")), before);
    assert_eq!(namespace.publish("flights", 0, &[event("e")]).unwrap(), 2..3);
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = segment(directory.path(), "h");
    {
        let namespace = open(directory.path());
        namespace.create_hub("h", 1, Groups::Any).unwrap();
        namespace.publish("h", 0, &[event("one")]).unwrap();
    }
    let whole = fs::read(&file).unwrap();
    {
        open(directory.path()).publish("h", 0, &[event("two"), event("three")]).unwrap();
    }
    let full = fs::read(&file).unwrap();
    for length in [whole.len() + 1, whole.len() + 20, full.len() - 1] {
        fs::write(&file, &full[..length]).unwrap();
        let namespace = open(directory.path());
        assert_eq!(events(&namespace, "h", "0").len(), 1, "cut at {length}");
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
    let mut flipped = full.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&file, flipped).unwrap();
    let namespace = open(directory.path());
    assert_eq!(events(&namespace, "h", "0").len(), 1);
    assert_eq!(namespace.publish("h", 0, &[event("again")]).unwrap(), 1..2);
    drop(namespace);
    assert_eq!(events(&open(directory.path()), "h", "0").len(), 2);
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path());
    let error = Namespace::in_directory(directory.path(), Retention::default()).unwrap_err();
    assert!(matches!(error, NamespaceError::Store(StoreError::InUse(_))), "{error}");
}

#[test]
fn damage_is_named_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    {
        let namespace = open(directory.path());
        namespace.create_hub("h", 1, Groups::Any).unwrap();
        namespace.publish("h", 0, &[event("one")]).unwrap();
    }
    // A newer segment makes the damaged one an old one, which nothing may have torn.
    let file = segment(directory.path(), "h");
    fs::copy(&file, file.with_file_name("00000000000000000001.log")).unwrap();
    OpenOptions::new().append(true).open(&file).unwrap().write_all(b"rubbish").unwrap();
    let error = Namespace::in_directory(directory.path(), Retention::default()).unwrap_err().to_string();
    assert!(error.contains("00000000000000000000.log is damaged at byte"), "{error}");
}

#[test]
fn retention_by_size_drops_the_oldest_events_and_keeps_counting() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention { bytes: 1000, ..Retention::default() };
    let namespace = Namespace::in_directory(directory.path(), retention).unwrap();
    namespace.create_hub("h", 1, Groups::Any).unwrap();
    for i in 0..100 {
        assert_eq!(namespace.publish("h", 0, &[event(&i.to_string())]).unwrap(), i..i + 1);
    }
    let state = namespace.hub("h").unwrap().partition("0").unwrap().state(0);
    assert!(state.bytes <= 1000 && state.begin > 80, "{state:?}");
    assert_eq!(state.last, 99);
    drop(namespace);
    let namespace = Namespace::in_directory(directory.path(), retention).unwrap();
    let partition = namespace.hub("h").unwrap().partition("0").unwrap();
    assert_eq!(partition.state(0), state);
}

/// The child prints each sequence number after it was acknowledged; the parent kills it in the middle.
#[test]
fn what_was_acknowledged_survives_sigkill() {
    const CHILD: &str = "WEIR_TEST_JOURNAL";
    const ENOUGH: usize = 2000;
    if let Some(directory) = std::env::var_os(CHILD) {
        let namespace = open(Path::new(&directory));
        namespace.create_hub("h", 1, Groups::Any).unwrap();
        let mut out = std::io::stdout();
        loop {
            let range = namespace.publish("h", 0, &[event("x"), event("y")]).unwrap();
            writeln!(out, "acknowledged {}", range.end).unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_acknowledged_survives_sigkill", "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(next) = line.unwrap().strip_prefix("acknowledged ") {
            acknowledged = next.parse().unwrap_or(acknowledged);
        }
        if acknowledged >= ENOUGH {
            child.kill().unwrap();
            break;
        }
    }
    let ended = child.wait().unwrap();
    assert!(acknowledged >= ENOUGH, "the child ended by itself ({ended}) after {acknowledged} events");
    assert_eq!(ended.signal(), Some(9), "killed in the middle: {ended}");
    let namespace = open(directory.path());
    let kept = events(&namespace, "h", "0").len();
    assert!(kept >= acknowledged && kept.is_multiple_of(2), "{kept} kept, {acknowledged} acknowledged");
}
