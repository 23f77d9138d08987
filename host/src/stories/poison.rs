//! Events at which a guest fails: found, set aside, given up as the policy says; and guests that fail at everything.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::dead_letter::{ATTEMPTS_PROPERTY, BACKTRACE_PROPERTY, CAUSE_PROPERTY, REASON_PROPERTY, STDERR_PROPERTY};
use crate::guest::Redelivery;
use crate::model::Value;
use crate::options::OnPoison;
use crate::status::State;

/// Breaks whenever one of these is in the batch.
fn breaks_at(poison: &[i64]) -> TestGuest {
    let poison: BTreeSet<i64> = poison.iter().copied().collect();
    TestGuest::new(move |call| {
        let mut numbers = call.batch.events().iter().map(|event| event.sequence_number);
        if numbers.any(|n| poison.contains(&n)) { Err(trap()) } else { done(call.batch) }
    })
}

fn letters(world: &World) -> Vec<String> {
    world.dead.ids()
}

/// Runs a hub of so many events over such a guest; what must come of it if these are poison, and no more.
async fn isolates(events: i64, batch: usize, poison: &[i64]) {
    let mut world = World::new(1);
    world.options.batch.events = batch;
    world.push("0", usize::try_from(events).unwrap());
    let guest = breaks_at(poison);
    let outcome = world.catch_up(&guest).await;
    assert!(outcome.is_success(), "{batch}, {poison:?}: {outcome}");
    let good: Vec<String> = (0..events).filter(|n| !poison.contains(n)).map(|n| format!("hub/0/{n}/0")).collect();
    assert_eq!(world.out.ids(), good, "in order and once, whatever failed beside them: {batch}, {poison:?}");
    let dead: Vec<String> = poison.iter().map(|n| format!("hub/0/{n}/rejected")).collect();
    assert_eq!(letters(&world), dead, "{batch}");
    assert_eq!(world.store.checkpoint("0"), Some(events - 1));
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_is_found_wherever_it_stands() {
    for batch in [1, 2, 3, 7, 10] {
        for poison in 0..10 {
            isolates(10, batch, &[poison]).await;
        }
    }
    for poison in [0, 1, 499, 500, 998, 999] {
        isolates(1000, 1000, &[poison]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn several_poison_events_are_found_one_after_the_other() {
    for poison in [[0, 1], [0, 9], [4, 5], [8, 9]] {
        isolates(10, 10, &poison).await;
    }
    isolates(9, 9, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
    isolates(30, 7, &[3, 4, 5, 10, 20, 21, 29]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_what_the_event_died_of() {
    let world = World::new(1);
    world.push("0", 10);
    assert!(world.catch_up(&breaks_at(&[3])).await.is_success());
    let letter = &world.dead.accepted()[0];
    let value = |key: &str| letter.properties.iter().find(|p| p.key == key).map(|p| p.value.clone()).unwrap();
    assert_eq!(letter.body, "body");
    assert_eq!(value(CAUSE_PROPERTY), Value::Text("trap".into()));
    assert_eq!(value(REASON_PROPERTY), Value::Text("unreachable executed".into()));
    assert_eq!(value(STDERR_PROPERTY), Value::Text("panicked at flights.rs".into()));
    assert_eq!(value(BACKTRACE_PROPERTY), Value::Text("delays::parse".into()));
    assert_eq!(value(ATTEMPTS_PROPERTY), Value::Integer(5));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_breaks_the_guest_once_is_no_poison() {
    for batch in [1, 10] {
        let mut world = World::new(1);
        world.options.batch.events = batch;
        world.push("0", 10);
        let broke = AtomicBool::new(false);
        let guest = TestGuest::new(move |call| {
            let hit = call.batch.events().iter().any(|event| event.sequence_number == 4);
            if hit && !broke.swap(true, Ordering::Relaxed) { Err(trap()) } else { done(call.batch) }
        });
        assert!(world.catch_up(&guest).await.is_success());
        assert_eq!((world.out.ids(), letters(&world)), (ids(0, 0..10), vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_only_breaks_the_guest_the_second_time_costs_nothing_the_first_time() {
    let world = World::new(1);
    world.push("0", 20);
    let again = AtomicBool::new(false);
    // The first call is asked for again, and the second one breaks, for good.
    let guest = TestGuest::new(move |call| {
        let hit = call.batch.events().iter().any(|event| event.sequence_number == 4);
        match (hit, again.swap(hit || again.load(Ordering::Relaxed), Ordering::Relaxed)) {
            (true, false) => Err(Failure::Retry { after: None, reason: "not yet".into() }),
            (true, true) => Err(trap()),
            _ => done(call.batch),
        }
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(letters(&world), ["hub/0/4/rejected"]);
    assert_eq!(world.out.ids().len(), 19);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_fails_at_everything_empties_nothing_into_the_dead_letters() {
    let world = World::new(1);
    world.push("0", 100);
    let guest = TestGuest::new(|_| Err(trap()));
    let outcome = world.catch_up(&guest).await.to_string();
    assert!(outcome.contains("fails at everything: 10 events in a row (sequence numbers 0 to 9)"), "{outcome}");
    assert_eq!((letters(&world), world.store.checkpoint("0")), (vec![], None));
}

#[tokio::test(start_paused = true)]
async fn an_outage_rests_the_partition_and_loses_nothing() {
    for (batch, most) in [(10, 0), (1, 9)] {
        let mut world = World::new(1);
        world.options.batch.events = batch;
        world.push("0", 40);
        let away = Arc::new(AtomicBool::new(true));
        let is_away = Arc::clone(&away);
        let guest = TestGuest::new(move |call| match is_away.load(Ordering::Relaxed) {
            true => Err(Failure::Retry { after: None, reason: "the database is away".into() }),
            false => done(call.batch),
        });
        let host = world.start(&guest);
        until("the breaker opens", || {
            host.shows(|p| matches!(&p.state, State::Retrying(why) if why.contains("fails at everything")))
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let calls = guest.calls().len();
        assert!(letters(&world).len() <= most, "{:?}", letters(&world));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(guest.calls().len() < calls + 1000, "it rests");
        away.store(false, Ordering::Relaxed);
        until("all is done", || world.store.checkpoint("0") == Some(39)).await;
        // A trial may have been under way.
        assert!(letters(&world).len() <= most + 9, "{:?}", letters(&world));
        assert_eq!(world.out.ids().len() + letters(&world).len(), 40);
        until("it runs", || host.shows(|p| p.state == State::Running)).await;
        assert!(host.stop().await.is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_poison_event_at_the_head_is_found() {
    let world = World::new(1);
    world.push("0", 30);
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let guest = TestGuest::new(move |call| {
        let poison = call.batch.events()[0].sequence_number == 0;
        if poison || is_away.load(Ordering::Relaxed) { Err(trap()) } else { done(call.batch) }
    });
    let host = world.start(&guest);
    until("the breaker opens", || host.shows(|p| matches!(&p.state, State::Retrying(w) if w.contains("everything"))))
        .await;
    away.store(false, Ordering::Relaxed);
    until("all is done", || world.store.checkpoint("0") == Some(29)).await;
    assert_eq!((letters(&world), world.out.ids()), (vec!["hub/0/0/rejected".to_owned()], ids(0, 1..30)));
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_behind_held_ones_is_found_and_told_once() {
    let world = World::new(1);
    world.push("0", 40);
    // A window over everything, closed by the last event.
    let guest = TestGuest::new(|call| {
        let numbers: Vec<i64> = call.batch.events().iter().map(|event| event.sequence_number).collect();
        if numbers.contains(&14) || numbers.contains(&25) {
            return Err(trap());
        }
        let progress = if numbers.contains(&39) { Progress::All } else { Progress::Hold };
        Ok(Answer { ack: ack(progress), outputs: each(call.batch) })
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(letters(&world), ["hub/0/14/rejected", "hub/0/25/rejected"]);
    assert_eq!(world.store.history("0"), [39]);
    let last: Vec<i64> = guest.seen().into_iter().rev().take(38).collect();
    let expected: Vec<i64> = (0..40).rev().filter(|n| ![14, 25].contains(n)).collect();
    assert_eq!(last, expected, "the last instance saw all of the window but the poison");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_breaks_whatever_follows_on_what_it_holds_is_broken() {
    let mut world = World::new(1);
    world.options.batch.events = 1;
    world.push("0", 40);
    let guest = TestGuest::new(|call| match call.batch.events()[0].sequence_number {
        0..20 => Ok(Answer { ack: ack(Progress::Hold), outputs: Vec::new() }),
        _ => Err(trap()),
    });
    let outcome = world.catch_up(&guest).await.to_string();
    assert!(outcome.contains("fails at everything: 10 events in a row"), "{outcome}");
    assert!(letters(&world).len() < 10, "{:?}", letters(&world));
}

#[tokio::test(start_paused = true)]
async fn attempts_of_a_retry_are_used_up_by_the_event_that_asks_for_it() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| match call.batch.events().iter().any(|event| event.sequence_number == 12) {
        true => Err(Failure::Retry { after: None, reason: "no such airport".into() }),
        false => done(call.batch),
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(letters(&world), ["hub/0/12/rejected"]);
    assert_eq!(guest.calls()[1..6], [(10, 19); 5], "the whole batch as often as was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_names_the_event_itself() {
    let world = World::new(1);
    world.push("0", 10);
    let guest = TestGuest::new(|call| {
        let mut answer = done(call.batch)?;
        if let Some(index) = call.batch.events().iter().position(|event| event.sequence_number == 6) {
            let reason = "locked".to_owned();
            answer.ack.redeliver = Some(Redelivery { index: u32::try_from(index).unwrap(), after: None, reason });
        }
        Ok(answer)
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(letters(&world), ["hub/0/6/rejected"]);
    assert_eq!(guest.calls(), [(0, 9), (6, 9), (6, 9), (6, 9), (6, 9), (6, 9), (7, 9)]);
    assert_eq!(world.out.ids().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn the_policy_is_kept() {
    let mut world = World::new(1);
    world.push("0", 20);
    world.options.delivery.on_poison = OnPoison::Drop;
    let guest = breaks_at(&[5]);
    let host = world.start(&guest);
    until("all is done", || world.store.checkpoint("0") == Some(19)).await;
    let partition = host.partition(0);
    assert_eq!((partition.dropped, partition.poisoned, partition.acknowledged), (1, 0, 19));
    assert_eq!(letters(&world), Vec::<String>::new());
    assert!(host.stop().await.is_success());

    world.push("0", 10);
    world.options.delivery.on_poison = OnPoison::Stop;
    let outcome = world.catch_up(&breaks_at(&[25])).await.to_string();
    assert!(outcome.contains("stopped at sequence number 25 after 5 attempt(s)"), "{outcome}");
    assert_eq!(world.store.checkpoint("0"), Some(24), "its neighbours before it are done");

    world.options.delivery.on_poison = OnPoison::DeadLetter;
    let spec = ProcessorSpec { dead_letter: None, ..world.spec(&breaks_at(&[25])) };
    let outcome = catch_up(Host::builder().processor(spec)).await.to_string();
    assert!(outcome.contains("stopped at sequence number 25") && outcome.contains("dead-letter"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_tried_again() {
    let mut world = World::new(1);
    world.options.delivery.max_age = Some(Duration::from_secs(3600));
    world.push("0", 10);
    let guest = TestGuest::new(|call| match call.batch.events().iter().any(|event| event.sequence_number == 4) {
        true => Err(Failure::Retry { after: None, reason: "later".into() }),
        false => done(call.batch),
    });
    assert!(world.catch_up(&guest).await.is_success());
    let value = world.dead.accepted()[0].properties.iter().find(|p| p.key == CAUSE_PROPERTY).unwrap().value.clone();
    assert_eq!(value, Value::Text("expired".into()));
    let with_it = guest.log(|log| log.calls.iter().filter(|(_, numbers)| numbers.contains(&4)).count());
    assert!(with_it < 5, "{with_it}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_searches_holds_up_no_other() {
    let world = World::new(2);
    world.push("0", 10);
    world.push("1", 100);
    let guest = TestGuest::new(|call| match call.partition {
        "0" => Err(Failure::Retry { after: Some(Duration::from_secs(3600)), reason: "later".into() }),
        _ => done(call.batch),
    });
    let host = world.start(&guest);
    until("the other is done", || world.store.checkpoint("1") == Some(99)).await;
    assert_eq!(world.store.checkpoint("0"), None);
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_after_an_outage_is_told_before_the_checkpoint_passes() {
    let world = World::new(1);
    world.push("0", 10);
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let guest = TestGuest::new(move |call| {
        let poison = call.batch.events()[0].sequence_number == 0;
        if poison || is_away.load(Ordering::Relaxed) { Err(trap()) } else { done(call.batch) }
    });
    world.dead.cork(true);
    let host = world.start(&guest);
    until("the breaker opens", || host.shows(|p| matches!(&p.state, State::Retrying(w) if w.contains("everything"))))
        .await;
    away.store(false, Ordering::Relaxed);
    // Nothing is enqueued any more: the ten are all there is.
    until("the rest is done", || host.shows(|p| p.acknowledged == 9)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.store.checkpoint("0"), None, "the letter of event 0 is not accepted yet");
    world.dead.cork(false);
    until("all is done", || world.store.checkpoint("0") == Some(9)).await;
    assert_eq!(letters(&world), ["hub/0/0/rejected"]);
    until("it runs", || host.shows(|p| p.state == State::Running)).await;
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn the_last_events_before_a_quiet_time_are_tried_again_after_an_outage() {
    let mut world = World::new(1);
    world.options.delivery.breaker.failures = 4;
    world.push("0", 6);
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let guest = TestGuest::new(move |call| match is_away.load(Ordering::Relaxed) {
        true => Err(trap()),
        false => done(call.batch),
    });
    world.options.batch.events = 3;
    let host = world.start(&guest);
    until("the breaker opens", || host.shows(|p| matches!(&p.state, State::Retrying(w) if w.contains("everything"))))
        .await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    away.store(false, Ordering::Relaxed);
    until("all is done", || world.store.checkpoint("0") == Some(5)).await;
    assert!(letters(&world).len() <= 3 + 3, "{:?}", letters(&world));
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn two_poison_events_in_one_window_keep_their_places() {
    for batch in [1, 4, 10] {
        let mut world = World::new(1);
        world.options.batch.events = batch;
        world.push("0", 40);
        // Everything is held; once 30 is there, what lies before 20 is finished, and in the end all of it.
        let guest = TestGuest::new(|call| {
            let numbers: Vec<i64> = call.batch.events().iter().map(|event| event.sequence_number).collect();
            if numbers.contains(&14) || numbers.contains(&25) {
                return Err(trap());
            }
            let progress = match numbers.last() {
                Some(39) => Progress::All,
                Some(30..) => Progress::Through(19),
                _ => Progress::Hold,
            };
            Ok(Answer { ack: ack(progress), outputs: each(call.batch) })
        });
        assert!(world.catch_up(&guest).await.is_success(), "{batch}");
        assert_eq!(letters(&world), ["hub/0/14/rejected", "hub/0/25/rejected"], "{batch}");
        let history = world.store.history("0");
        assert!(history.is_sorted() && history.iter().all(|at| [19, 39].contains(at)), "{batch}: {history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_behind_a_poison_event_is_no_poison() {
    let mut world = World::new(1);
    world.options.batch.events = 1;
    world.push("0", 10);
    let hiccup = AtomicBool::new(false);
    let guest = TestGuest::new(move |call| match call.batch.events()[0].sequence_number {
        4 => Err(Failure::Retry { after: None, reason: "never".into() }),
        5 if !hiccup.swap(true, Ordering::Relaxed) => Err(trap()),
        _ => done(call.batch),
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(letters(&world), ["hub/0/4/rejected"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_holds_and_breaks_at_large_batches_is_given_smaller_ones() {
    let world = World::new(1);
    world.push("0", 60);
    let guest = TestGuest::new(|call| {
        let numbers: Vec<i64> = call.batch.events().iter().map(|event| event.sequence_number).collect();
        if numbers.len() > 5 {
            return Err(trap());
        }
        let progress = if numbers.contains(&59) { Progress::All } else { Progress::Hold };
        Ok(Answer { ack: ack(progress), outputs: each(call.batch) })
    });
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!((letters(&world), world.store.checkpoint("0")), (vec![], Some(59)));
}
