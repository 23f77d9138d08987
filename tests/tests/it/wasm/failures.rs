//! Every way in which a guest can break, and what is said of it.

use std::time::Duration;

use weir_host::guest::TrapCause;
use weir_host::wasm::Limits;

use super::support::*;

#[tokio::test]
async fn a_panic_is_reported_with_its_message_and_its_frames() {
    let report = trap(obey(&["print-error:before", "panic"]).await);
    assert_eq!(report.cause, TrapCause::Trap);
    assert!(report.message.contains("panicked at") && report.message.contains("asked to"), "{}", report.message);
    assert!(report.message.contains("a batch of 2 events, 100 to 101"), "{}", report.message);
    assert!(report.stderr.starts_with("before\n"), "{}", report.stderr);
    assert!(report.backtrace.contains("misbehave::boom"), "{}", report.backtrace);
}

#[tokio::test]
async fn an_abort_is_a_trap() {
    let report = trap(obey(&["abort"]).await);
    assert_eq!(report.cause, TrapCause::Trap);
    assert!(report.message.contains("it aborted") && report.message.contains("event 100"), "{}", report.message);
}

#[tokio::test]
async fn an_endless_loop_meets_its_time_limit_and_the_backtrace_shows_where() {
    let report = trap(obey_within(in_time(Duration::from_millis(50)), &["loop"]).await);
    assert_eq!(report.cause, TrapCause::Deadline);
    assert!(report.message.contains("computed for more than 50ms"), "{}", report.message);
    assert!(report.backtrace.contains("misbehave::spin"), "{}", report.backtrace);
}

#[tokio::test]
async fn endless_waiting_meets_the_same_limit() {
    let report = trap(obey_within(in_time(Duration::from_millis(50)), &["sleep:3600000"]).await);
    assert_eq!(report.cause, TrapCause::Deadline);
    assert!(report.message.contains("waited for more than 50ms"), "{}", report.message);
}

#[tokio::test]
async fn waiting_within_the_limit_is_allowed() {
    assert!(obey(&["sleep:20", "sleep:20"]).await.is_ok());
}

#[tokio::test]
async fn allocation_stops_at_the_memory_limit() {
    let options = limits(Limits { memory: 16 << 20, ..Limits::default() });
    let report = trap(obey_within(options, &["allocate"]).await);
    assert_eq!(report.cause, TrapCause::OutOfMemory);
    assert!(report.message.contains("its limit is 16 MiB"), "{}", report.message);
    assert!(report.message.contains("raise limits.memory"), "{}", report.message);
}

#[tokio::test]
async fn a_batch_that_cannot_fit_is_refused_by_name() {
    let options = limits(Limits { memory: 4 << 20, ..Limits::default() });
    let big = "x".repeat(5 << 20);
    let report = trap(obey_within(options.clone(), &[&big]).await);
    assert_eq!(report.cause, TrapCause::OutOfMemory);
    assert!(report.message.contains("event 100 (5 MiB)") && report.message.contains("4 MiB"), "{}", report.message);
    // And one that would only just not fit traps in the guest's allocator, with the same sentence.
    let report = trap(obey_within(options, &[&"x".repeat(3 << 20), &"x".repeat(800 << 10)]).await);
    assert_eq!(report.cause, TrapCause::OutOfMemory);
    assert!(report.message.contains("lower batch.bytes"), "{}", report.message);
}

#[tokio::test]
async fn a_module_that_needs_more_memory_than_its_limit_does_not_start() {
    let options = limits(Limits { memory: 64 << 10, ..Limits::default() });
    let opened = misbehave_with(&engine(), options, serde_json::json!({})).await.err();
    let report = trap(Err(opened.expect("too small a limit")));
    assert_eq!(report.cause, TrapCause::OutOfMemory);
    assert!(report.message.contains("during `open`"), "{}", report.message);
}

#[tokio::test]
async fn too_deep_a_recursion_is_named() {
    let report = trap(obey(&["recurse"]).await);
    assert_eq!(report.cause, TrapCause::Trap);
    assert!(report.message.contains("recursion"), "{}", report.message);
    assert!(report.backtrace.contains("misbehave::recurse"), "{}", report.backtrace);
}

#[tokio::test]
async fn exit_is_recognised() {
    let report = trap(obey(&["exit"]).await);
    assert_eq!(report.cause, TrapCause::Exit);
    assert!(report.message.contains("called exit"), "{}", report.message);
}

#[tokio::test]
async fn answers_that_break_the_contract_are_refused() {
    for (command, why) in [
        ("reject-index:1000000", "rejects the event at index 1000000, and the batch has 1 events"),
        ("redeliver-index:1000000", "wants the events from index 1000000 again"),
        ("origin-index:1000000", "an output comes from the event at index 1000000"),
    ] {
        let report = trap(obey(&[command]).await);
        assert_eq!(report.cause, TrapCause::InvalidAnswer, "{command}");
        assert!(report.message.contains(why), "{command}: {}", report.message);
    }
}

#[tokio::test]
async fn a_broken_instance_is_gone_and_the_next_one_works() {
    let engine = engine();
    let mut guest = misbehave(&engine, options()).await;
    trap(guest.process(batch(&["panic"])).await);
    let report = trap(guest.process(batch(&["one"])).await);
    assert!(report.message.contains("the instance is gone"), "{}", report.message);
    let answer = misbehave(&engine, options()).await.process(batch(&["one"])).await.unwrap();
    assert_eq!(bodies(&answer), ["one"]);
}
