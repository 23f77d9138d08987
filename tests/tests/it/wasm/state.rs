//! A module's state through the real sandbox: what it reads, what it may keep, what becomes of it when a call fails.

use weir_host::guest::{Answer, Failure, Instance, OpenReason, Opening};
use weir_host::model::Position;
use weir_host::state::PartitionState;
use weir_host::wasm::ProcessorOptions;

use super::support::*;

/// A ledger over this state. The host's part of a call is the test's.
async fn ledger(state: &PartitionState) -> Box<dyn Instance> {
    let module = module(&engine(), "ledger").await;
    let processor = module.processor(ProcessorOptions::new("ledger")).unwrap();
    assert!(processor.uses_state());
    let opening = Opening { state: state.clone(), ..opening(&serde_json::json!({}), OpenReason::FirstStart) };
    processor.open(opening).await.unwrap()
}

/// One call, kept if it ends in an answer.
async fn call(guest: &mut dyn Instance, state: &PartitionState, commands: &[&str]) -> Result<Answer, Failure> {
    state.begin();
    let answer = guest.process(batch(commands)).await;
    match answer {
        Ok(_) => state.keep(Some(&Position { sequence_number: 100, offset: "100".into() })),
        Err(_) => state.roll_back(),
    }
    answer
}

async fn said(guest: &mut dyn Instance, state: &PartitionState, commands: &[&str]) -> Vec<String> {
    let answer = call(guest, state, commands).await.unwrap();
    bodies(&answer).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_is_written_is_read_and_what_fails_leaves_no_trace() {
    let state = PartitionState::new(1 << 20, None);
    let mut guest = ledger(&state).await;
    assert_eq!(said(&mut *guest, &state, &["add:a", "add:a", "get:a", "get:b"]).await, ["1", "2", "2", "none"]);
    assert!(matches!(call(&mut *guest, &state, &["add:a", "retry"]).await, Err(Failure::Retry { .. })));
    assert_eq!(said(&mut *guest, &state, &["get:a", "add:b", "many:b,c,a"]).await, ["2", "1", "1,none,2"]);
    assert!(matches!(call(&mut *guest, &state, &["add:a", "delete:b", "panic"]).await, Err(Failure::Trap(_))));
    // A fresh instance finds the state as it was.
    let mut guest = ledger(&state).await;
    assert_eq!(said(&mut *guest, &state, &["scan:", "delete:a", "scan:", "get:a"]).await, ["a,b", "gone", "b", "none"]);
    assert_eq!(state.keys(), 1);
}

#[tokio::test]
async fn a_state_over_its_limit_is_refused_with_the_knob() {
    let state = PartitionState::new(10_000, None);
    let mut guest = ledger(&state).await;
    let said = said(&mut *guest, &state, &["fill:a:5000", "fill:b:6000", "fill:a:10", "fill:b:6000"]).await;
    assert_eq!((said[0].as_str(), said[2].as_str(), said[3].as_str()), ("kept", "kept", "kept"));
    assert!(said[1].contains("limits.state"), "{}", said[1]);
}

#[tokio::test]
async fn the_same_key_asked_for_a_thousand_times_is_no_way_to_the_hosts_memory() {
    let state = PartitionState::new(1 << 20, None);
    let mut guest = ledger(&state).await;
    let many = format!("many:{}", vec!["a"; 1000].join(","));
    said(&mut *guest, &state, &["fill:a:500000"]).await;
    let report = trap(call(&mut *guest, &state, &[&many]).await);
    assert!(report.message.contains("of its state at once; raise limits.host-call-bytes"), "{}", report.message);
}

#[tokio::test]
async fn a_scan_of_any_length_comes_in_pages() {
    let state = PartitionState::new(64 << 20, None);
    let mut guest = ledger(&state).await;
    let fill: Vec<String> = (0..2500).map(|n| format!("fill:k/{n:04}:1")).collect();
    call(&mut *guest, &state, &fill.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    let expected: Vec<String> = (0..2500).map(|n| format!("k/{n:04}")).collect();
    assert_eq!(said(&mut *guest, &state, &["scan:k/", "scan:l"]).await, [expected.join(","), String::new()]);
    // Values of which a few fill a page, and one that is larger than a page.
    assert_eq!(
        said(&mut *guest, &state, &["fill:m/1:700000", "fill:m/2:700000", "fill:m/3:3000000", "fill:m/4:1", "scan:m/"])
            .await[4],
        "m/1,m/2,m/3,m/4"
    );
}

#[tokio::test]
async fn a_tick_has_the_time_and_its_outputs_a_key() {
    let state = PartitionState::new(1 << 20, None);
    let mut guest = ledger(&state).await;
    said(&mut *guest, &state, &["wake:2000", "wake:1000", "wake:3000"]).await;
    assert_eq!(state.wake(), Some(1000), "the earliest wins");
    state.begin_tick();
    let answer = guest.tick(1234).await.unwrap();
    state.keep(None);
    assert_eq!(bodies(&answer), ["1234 1"]);
    assert_eq!(state.wake(), None, "it is used up");
}
