//! What answers come to: order, retries, redelivery, holding, rejecting.

use super::*;
use crate::dead_letter::REASON_PROPERTY;
use crate::guest::{OpenReason, Redelivery, Rejection};
use crate::options::OnPoison;

#[tokio::test(start_paused = true)]
async fn events_flow_in_order_and_the_checkpoint_follows() {
    let world = World::new(2);
    world.push("0", 95);
    world.push("1", 7);
    let guest = TestGuest::new(|call| done(call.batch));
    let outcome = world.catch_up(&guest).await;
    assert!(outcome.is_success(), "{outcome}");
    let (first, second): (Vec<_>, Vec<_>) = world.out.ids().into_iter().partition(|id| id.starts_with("hub/0/"));
    assert_eq!(first, ids(0, 0..95));
    assert_eq!(second, ids(1, 0..7));
    assert_eq!((world.store.checkpoint("0"), world.store.checkpoint("1")), (Some(94), Some(6)));
    assert_eq!((world.store.owner("0"), world.hub.attached("0")), (None, 0), "released and detached");
    assert_eq!(guest.log(|log| log.closed.len()), 2);

    // Again: only what is new.
    world.push("0", 5);
    let guest = TestGuest::new(|call| done(call.batch));
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(guest.calls(), [(95, 99)]);
    let opening = guest.log(|log| log.openings.iter().find(|o| o.partition.as_str() == "0").cloned()).unwrap();
    assert_eq!(opening.reason, OpenReason::Restart);
    assert_eq!(opening.checkpoint.unwrap().sequence_number, 94);
}

#[tokio::test(start_paused = true)]
async fn a_retry_hands_the_same_batch_to_the_same_instance() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| match call.nth {
        1 | 2 => Err(Failure::Retry { after: Some(Duration::from_secs(7)), reason: "the database is away".into() }),
        _ => done(call.batch),
    });
    let before = tokio::time::Instant::now();
    assert!(world.catch_up(&guest).await.is_success());
    assert!(before.elapsed() >= Duration::from_secs(14), "the guest's pauses are kept");
    assert_eq!(guest.calls(), [(0, 9), (10, 19), (10, 19), (10, 19)]);
    assert_eq!(guest.log(|log| log.openings.len()), 1);
    assert_eq!(world.out.ids(), ids(0, 0..20), "what a failed call emitted is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_trap_costs_the_instance_but_not_the_partition() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| if call.nth == 1 { Err(trap()) } else { done(call.batch) });
    assert!(world.catch_up(&guest).await.is_success());
    let calls = [(0, 9), (10, 19), (10, 14), (15, 16), (17, 17), (18, 18), (19, 19)];
    assert_eq!(guest.calls(), calls, "it looks for an event, and finds none");
    let openings = guest.log(|log| log.openings.clone());
    let seen: Vec<_> = openings.iter().map(|o| (o.reason, o.checkpoint.as_ref().map(|c| c.sequence_number))).collect();
    assert_eq!(seen, [(OpenReason::FirstStart, None), (OpenReason::AfterTrap, Some(9))]);
    assert_eq!(world.out.ids(), ids(0, 0..20));
}

#[tokio::test(start_paused = true)]
async fn a_trap_while_events_are_held_rewinds_to_the_watermark() {
    let world = World::new(1);
    world.push("0", 40);
    // Everything from 5 on is held until the last batch; the third call breaks.
    let guest = TestGuest::new(|call| {
        let last = call.batch.events().last().unwrap().sequence_number;
        match (call.nth, last) {
            (2, _) => Err(trap()),
            (_, 39) => done(call.batch),
            (0, _) => Ok(Answer { ack: ack(Progress::Through(4)), outputs: each(call.batch) }),
            _ => Ok(Answer { ack: ack(Progress::Hold), outputs: each(call.batch) }),
        }
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(
        guest.calls()[..4],
        [(0, 9), (10, 19), (20, 29), (5, 9)],
        "what the guest held comes again, in smaller calls"
    );
    let reopened = guest.log(|log| log.openings[1].clone());
    assert_eq!((reopened.reason, reopened.checkpoint.unwrap().sequence_number), (OpenReason::AfterTrap, 4));
    assert_eq!(world.store.checkpoint("0"), Some(39));
    let mut all = world.out.ids();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40, "repeats carry equal ids");
}

#[tokio::test(start_paused = true)]
async fn an_endless_trap_while_holding_stops_after_its_attempts() {
    let mut world = World::new(1);
    world.options.delivery.on_poison = OnPoison::Stop;
    world.push("0", 40);
    let guest = TestGuest::new(|call| {
        let first = call.batch.events()[0].sequence_number;
        if first >= 20 { Err(trap()) } else { Ok(Answer { ack: ack(Progress::Hold), outputs: Vec::new() }) }
    });
    let outcome = world.catch_up(&guest).await;
    let text = outcome.to_string();
    assert!(text.contains("sequence number 20 after 5 attempt(s)"), "{text}");
    assert_eq!(world.store.checkpoint("0"), None);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_comes_before_anything_newer() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| {
        let mut answer = done(call.batch)?;
        if call.nth == 0 {
            let after = Some(Duration::from_secs(3));
            answer.ack.redeliver = Some(Redelivery { index: 4, after, reason: "not yet".into() });
        }
        Ok(answer)
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(guest.calls(), [(0, 9), (4, 9), (10, 19)]);
    assert_eq!(world.out.ids(), ids(0, 0..20), "outputs of events that come again come with them");
    assert_eq!(world.store.checkpoint("0"), Some(19));
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_without_progress_is_an_attempt_and_progress_resets_them() {
    let mut world = World::new(1);
    world.options.delivery.on_poison = OnPoison::Stop;
    world.push("0", 10);
    let again = |batch: &Batch, index| {
        let mut answer = done(batch)?;
        answer.ack.redeliver = Some(Redelivery { index, after: None, reason: "locked".into() });
        Ok(answer)
    };
    // Four times nothing, one event, again four times nothing, one event …: never five in a row.
    let patient = TestGuest::new(move |call| match call.batch.events().len() {
        1 => done(call.batch),
        _ => again(call.batch, u32::from(call.nth % 5 == 4)),
    });
    assert!(world.catch_up(&patient).await.is_success());
    assert_eq!(world.out.ids(), ids(0, 0..10));

    world.push("0", 10);
    let stuck = TestGuest::new(move |call| again(call.batch, 0));
    let outcome = world.catch_up(&stuck).await;
    assert_eq!(stuck.calls(), [(10, 19); 5]);
    let text = outcome.to_string();
    assert!(text.contains("sequence number 10 after 5 attempt(s)") && text.contains("locked"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_window_holds_the_checkpoint_until_it_closes() {
    let world = World::new(1);
    world.push("0", 30);
    let guest = TestGuest::new(|call| {
        let progress = if call.nth == 2 { Progress::Through(14) } else { Progress::Hold };
        Ok(Answer { ack: ack(progress), outputs: Vec::new() })
    });
    let outcome = world.catch_up(&guest).await;
    assert!(matches!(end(&outcome, 0), PartitionEnd::CaughtUp { held: 15 }), "{outcome:?}");
    assert_eq!(world.store.history("0"), [14]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_holds_more_than_it_may_stops_its_partition() {
    let mut world = World::new(1);
    world.options.held_events = 25;
    world.push("0", 20);
    let guest = TestGuest::new(|_| Ok(Answer { ack: ack(Progress::Hold), outputs: Vec::new() }));
    let host = world.start(&guest);
    until("it holds them", || host.shows(|p| p.held == 20)).await;
    world.push("0", 10);
    let outcome = host.task.await.unwrap().to_string();
    assert!(outcome.contains("holds 30 events") && outcome.contains("limits.held-events"), "{outcome}");
    assert_eq!(world.store.checkpoint("0"), None);
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_given_no_more_than_it_can_take_in_its_time() {
    let mut world = World::new(1);
    world.options.batch.events = 1_000;
    world.options.sink_timeout = Duration::from_secs(1);
    world.options.sink_retry.attempts = 1;
    world.out = world.out.clone().paced(Duration::from_millis(8), 100);
    world.push("0", 1_000);
    let guest = TestGuest::new(|call| done(call.batch));
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(world.out.ids(), ids(0, 0..1_000));
    assert!(world.out.publishes() >= 10);
}

#[tokio::test(start_paused = true)]
async fn rejected_events_are_dead_lettered_before_the_checkpoint_passes() {
    let world = World::new(1);
    world.push("0", 10);
    let guest = TestGuest::new(|_| {
        let rejected = vec![Rejection { index: 3, reason: "no carrier".into() }];
        Ok(Answer { ack: Ack { rejected, ..ack(Progress::All) }, outputs: Vec::new() })
    });
    world.dead.cork(true);
    let host = world.start(&guest);
    until("the batch is answered", || host.shows(|p| p.rejected == 1)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.store.checkpoint("0"), None);
    world.dead.cork(false);
    until("the checkpoint follows", || world.store.checkpoint("0") == Some(9)).await;
    let letters = world.dead.accepted();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].properties.iter().any(|p| p.key == REASON_PROPERTY));
    assert_eq!(host.partition(0).dead_lettered, 1);
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_rejection_without_a_dead_letter_sink_stops_the_partition() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| {
        let rejected = if call.nth == 1 { vec![Rejection { index: 3, reason: "no carrier".into() }] } else { vec![] };
        Ok(Answer { ack: Ack { rejected, ..ack(Progress::All) }, outputs: Vec::new() })
    });
    let spec = ProcessorSpec { dead_letter: None, ..world.spec(&guest) };
    let outcome = catch_up(Host::builder().processor(spec)).await;
    let text = outcome.to_string();
    assert!(text.contains("sequence number 13 (no carrier)") && text.contains("dead-letter"), "{text}");
    assert_eq!(world.store.checkpoint("0"), Some(9), "what was settled before is committed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_the_contract_counts_as_a_broken_guest() {
    let mut world = World::new(1);
    world.options.delivery.on_poison = OnPoison::Stop;
    world.push("0", 10);
    let guest = TestGuest::new(|_| Ok(Answer { ack: ack(Progress::Through(10)), outputs: Vec::new() }));
    let outcome = world.catch_up(&guest).await;
    let text = outcome.to_string();
    assert!(text.contains("breaks the contract: it finishes through 10"), "{text}");
    assert_eq!(guest.log(|log| log.openings.len()), 5, "a fresh instance for each attempt");
    assert_eq!(world.store.checkpoint("0"), None);
}
