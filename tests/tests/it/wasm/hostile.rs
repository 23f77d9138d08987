//! Guests that mean harm: each is named by its cause, its neighbour answers meanwhile, and what comes back of it is bounded.

use std::time::Duration;

use tokio::time::timeout;
use weir_host::guest::{Batch, Failure, Progress, TrapCause};
use weir_host::wasm::{Engine, EngineOptions, Limits};

use super::support::*;

/// Far more than anything here takes; only a hang meets it.
const LONG: Duration = Duration::from_secs(60);

/// A limit that an endless call soon meets.
fn brief() -> Limits {
    Limits { time: Duration::from_millis(100), memory: 16 << 20, ..Limits::default() }
}

/// What becomes of a hostile batch, while a neighbour on the same thread does its work.
async fn beside_a_neighbour(
    engine: &Engine,
    limits: Limits,
    hostile: Batch,
) -> Result<weir_host::guest::Answer, Failure> {
    let mut guest = misbehave(engine, super::support::limits(limits)).await;
    let mut neighbour = misbehave(engine, options()).await;
    let work = async {
        for _ in 0..10 {
            let answer = neighbour.process(batch(&["one", "two"])).await.unwrap();
            assert_eq!(bodies(&answer), ["one", "two"]);
        }
    };
    let both = async { tokio::join!(guest.process(hostile), work) };
    timeout(LONG, both).await.expect("neither hangs").0
}

#[tokio::test]
async fn each_way_to_break_is_named_and_leaves_the_neighbour_alone() {
    let engine = engine();
    let realloc = "x".repeat(77_777);
    for (command, cause, words) in [
        ("loop", TrapCause::Deadline, "raise limits.time"),
        ("sleep:3600000", TrapCause::Deadline, "waited for more than 100ms"),
        ("flood", TrapCause::Deadline, "raise limits.time"),
        ("flood-log", TrapCause::Deadline, "raise limits.time"),
        ("flood-print", TrapCause::Deadline, "raise limits.time"),
        ("allocate", TrapCause::OutOfMemory, "raise limits.memory"),
        ("recurse", TrapCause::Trap, "too deep a recursion"),
        ("descend", TrapCause::Trap, "raise host.guest-stack"),
        ("exit", TrapCause::Exit, "called exit"),
        ("panic", TrapCause::Trap, "asked to"),
        ("abort", TrapCause::Trap, "it aborted"),
        (&realloc, TrapCause::Trap, "event 100 (75 KiB)"),
    ] {
        let report = trap(beside_a_neighbour(&engine, brief(), batch(&[command])).await);
        let name = &command[..command.len().min(20)];
        assert_eq!(report.cause, cause, "{name}: {}", report.message);
        assert!(report.message.contains(words), "{name}: {}", report.message);
        assert!(report.message.len() < 4 << 10 && report.stderr.len() < 64 << 10, "{name}");
        if name.starts_with("xx") {
            assert!(report.backtrace.contains("realloc"), "before its own code: {}", report.backtrace);
        }
    }
}

#[tokio::test]
async fn indices_that_lead_nowhere_are_refused_and_none_is_cut_short() {
    for (commands, words) in [
        (vec!["reject-index:4294967295"], "rejects the event at index 4294967295"),
        (vec!["reject-index:1"], "rejects the event at index 1, and the batch has 1 events"),
        (vec!["redeliver-index:4294967295"], "from index 4294967295 again"),
        (vec!["origin-index:4294967295"], "comes from the event at index 4294967295"),
    ] {
        let report = trap(beside_a_neighbour(&engine(), brief(), batch(&commands)).await);
        assert_eq!(report.cause, TrapCause::InvalidAnswer, "{commands:?}");
        assert!(report.message.contains(words), "{commands:?}: {}", report.message);
    }
    // Whether a sequence number was handed over is for the tracker to say; it gets what the guest said.
    for number in [i64::MIN, -1, i64::MAX] {
        let answer = obey(&[&format!("through:{number}")]).await.unwrap();
        assert_eq!(answer.ack.progress, Progress::Through(number));
    }
}

#[tokio::test]
async fn long_texts_are_cut_everywhere() {
    const MOST: usize = 5 << 10;
    let log = Log::capture();
    let megabyte = 1 << 20;
    let run = async |command: &str| beside_a_neighbour(&engine(), Limits::default(), batch(&[command])).await;

    let answer = run(&format!("long-reject:{megabyte}")).await.unwrap();
    let reason = &answer.ack.rejected[0].reason;
    assert!(reason.len() < MOST && reason.ends_with("more bytes)"), "{} bytes", reason.len());
    let Err(Failure::Retry { reason, .. }) = run(&format!("long-retry:{megabyte}")).await else { panic!("a retry") };
    assert!(reason.len() < MOST, "{} bytes", reason.len());
    for command in ["long-fatal", "long-target"] {
        let Err(Failure::Fatal(reason)) = run(&format!("{command}:{megabyte}")).await else { panic!("{command}") };
        assert!(reason.len() < MOST, "{command}: {} bytes", reason.len());
    }
    run(&format!("long-log:{megabyte}")).await.unwrap();
    let lines = log.lines("fields=\"long=xxx");
    assert!(!lines.is_empty() && lines.iter().all(|line| line.len() < 3 * MOST), "{}", lines.len());
}

#[tokio::test]
async fn what_the_host_copies_is_bounded() {
    let limits = Limits { host_call_bytes: 1 << 20, ..Limits::default() };
    for command in ["long-log:2000000", "long-fatal:2000000"] {
        let report = trap(beside_a_neighbour(&engine(), limits.clone(), batch(&[command])).await);
        assert_eq!(report.cause, TrapCause::Trap);
        let words = "handed over more than 1 MiB at once";
        assert!(report.message.contains(words), "{command}: {}", report.message);
        assert!(report.message.contains("raise limits.host-call-bytes"), "{command}: {}", report.message);
    }
    assert!(obey_within(super::support::limits(limits), &["long-log:500000"]).await.is_ok());
}

#[tokio::test]
async fn tables_have_a_limit_of_their_own() {
    let limits = Limits { table_elements: 1, ..Limits::default() };
    let opened = misbehave_with(&engine(), super::support::limits(limits), serde_json::json!({})).await.err();
    let report = trap(Err(opened.expect("too small a limit")));
    assert_eq!(report.cause, TrapCause::OutOfMemory);
    assert!(report.message.contains("raise limits.table-elements"), "{}", report.message);
}

#[tokio::test]
async fn a_larger_stack_goes_deeper() {
    let within = async |stack: usize, command: &str| {
        let engine = Engine::new(EngineOptions { threads: 1, stack, ..EngineOptions::default() }).unwrap();
        misbehave(&engine, options()).await.process(batch(&[command])).await
    };
    let report = trap(within(256 << 10, "descend:10000").await);
    assert!(report.message.contains("its stack of 256 KiB overflowed"), "{}", report.message);
    assert!(report.backtrace.contains("misbehave::descend"), "{}", report.backtrace);
    assert!(within(16 << 20, "descend:10000").await.is_ok());
}
