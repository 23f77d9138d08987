//! A guest that asks to be woken is woken: once, at that time or later, whatever becomes of the host between.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::clock::Clock;
use crate::guest::{Redelivery, Rejection};
use crate::model::PartitionId;
use crate::state::PartitionState;

/// A world whose clock begins at 0.
fn world() -> World {
    let mut world = World::new(1);
    world.options.clock = Clock::virtual_from(0);
    world
}

/// An answer with one output of this key.
fn keyed(key: &str, progress: Progress) -> Result<Answer, Failure> {
    Ok(Answer { ack: ack(progress), outputs: vec![output(Origin::Key(key.into()))] })
}

/// Gathers events and is woken ten seconds after the first, to say how many they were.
fn windows() -> TestGuest {
    TestGuest::new(|call| {
        let open = call.state.get("open").map_or(0, |value| value[0]);
        if open == 0 {
            call.state.set("since", call.batch.events()[0].sequence_number.to_string().into()).unwrap();
            call.state.wake_at(10_000);
        }
        call.state.set("open", vec![open + call.batch.events().len() as u8].into()).unwrap();
        Ok(Answer { ack: ack(Progress::All), outputs: Vec::new() })
    })
    .waking(close)
}

fn close(state: &PartitionState, _: i64) -> Result<Answer, Failure> {
    let (open, since) = (state.get("open").unwrap(), state.get("since").unwrap());
    state.delete("open");
    keyed(&format!("{}+{}", std::str::from_utf8(&since).unwrap(), open[0]), Progress::All)
}

async fn state(world: &World) -> (i64, PartitionState) {
    let (checkpoint, _) = world.store.load(&PartitionId::from("0")).await.unwrap().unwrap();
    let at = checkpoint.position.sequence_number;
    (at, PartitionState::load(1 << 20, checkpoint.position, checkpoint.state).unwrap())
}

#[tokio::test(start_paused = true)]
async fn it_is_woken_though_no_event_comes() {
    let world = world();
    world.push("0", 7);
    let guest = windows();
    let host = world.start(&guest);
    until("it was woken", || guest.log(|log| !log.ticks.is_empty())).await;
    assert_eq!(guest.log(|log| log.ticks.clone()), [10_000]);
    until("its output is there", || world.out.ids() == ["hub/0/key/0+7"]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (at, stored) = state(&world).await;
    assert_eq!((at, stored.get("open"), stored.wake()), (6, None, None), "what the tick changed is committed too");
    assert_eq!(world.store.history("0"), [6, 6]);
    assert!(host.stop().await.is_success());
    assert_eq!(guest.log(|log| log.ticks.len()), 1, "once");
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_outlives_the_host() {
    let world = world();
    world.push("0", 7);
    let guest = windows();
    let host = world.start(&guest);
    until("it is committed", || world.store.checkpoint("0") == Some(6)).await;
    host.task.abort();
    let _ = host.task.await;
    assert_eq!(state(&world).await.1.wake(), Some(10_000));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let host = world.start(&guest);
    until("it was woken", || world.out.ids() == ["hub/0/key/0+7"]).await;
    assert!(guest.log(|log| log.ticks[0] >= 30_000), "later, since nobody was there");
    assert!(host.stop().await.is_success());
    assert_eq!(state(&world).await.1.wake(), None);
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!((guest.log(|log| log.ticks.len()), guest.seen().len()), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_fails_comes_again_and_leaves_nothing() {
    for broken in [false, true] {
        let world = world();
        world.push("0", 7);
        let failures = AtomicUsize::new(3);
        let guest = windows().waking(move |state, now| {
            if failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                close(state, now)?;
                state.wake_at(1_000_000);
                return Err(if broken { trap() } else { Failure::Retry { after: None, reason: "busy".into() } });
            }
            close(state, now)
        });
        let host = world.start(&guest);
        until("it was woken", || world.out.ids() == ["hub/0/key/0+7"]).await;
        assert!(host.stop().await.is_success());
        assert_eq!(guest.log(|log| (log.ticks.len(), log.openings.len())), (4, if broken { 4 } else { 1 }));
        assert_eq!(state(&world).await.1.wake(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_never_works_stops_the_partition() {
    let world = world();
    world.push("0", 7);
    let guest = windows().waking(|_, _| Err(trap()));
    let outcome = world.start(&guest).task.await.unwrap().to_string();
    assert!(outcome.contains("a wake-up of the guest after 5 attempt(s)"), "{outcome}");
    assert_eq!(state(&world).await.1.wake(), Some(10_000), "it is still to be woken");
}

#[tokio::test(start_paused = true)]
async fn what_it_held_is_finished_by_a_tick_or_comes_again() {
    let world = world();
    world.push("0", 7);
    let traps = AtomicUsize::new(1);
    let guest = TestGuest::new(|call| {
        call.state.wake_at(5_000);
        Ok(Answer { ack: ack(Progress::Hold), outputs: Vec::new() })
    })
    .waking(move |_, _| match traps.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
        Ok(_) => Err(trap()),
        Err(_) => keyed("window", Progress::Through(6)),
    });
    let host = world.start(&guest);
    until("it is finished", || world.store.checkpoint("0") == Some(6)).await;
    assert!(host.stop().await.is_success());
    assert_eq!(guest.calls(), [(0, 6), (0, 6)], "what it held was gone with it");
    assert_eq!(world.out.ids(), ["hub/0/key/window"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_tick_is_about_no_event() {
    let rejected = vec![Rejection { index: 0, reason: "none".into() }];
    let redeliver = Some(Redelivery { index: 0, after: None, reason: "none".into() });
    let answers = [
        (Ack { rejected, ..ack(Progress::All) }, None, "rejects index 0, but was handed no event"),
        (Ack { redeliver, ..ack(Progress::All) }, None, "redelivery from index 0, but was handed no event"),
        (ack(Progress::Through(7)), None, "finishes through 7, but was handed only events up to 6"),
        (ack(Progress::All), Some(GuestOutput { origin: None, ..output(Origin::Event(0)) }), "no key as its origin"),
        (ack(Progress::All), Some(output(Origin::Event(0))), "index 0"),
    ];
    for (ack, output, why) in answers {
        let world = world();
        world.push("0", 7);
        let guest = windows()
            .waking(move |_, _| Ok(Answer { ack: ack.clone(), outputs: output.clone().into_iter().collect() }));
        let outcome = world.start(&guest).task.await.unwrap().to_string();
        assert!(outcome.contains(why), "{outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_always_due_still_gets_its_events() {
    let world = world();
    world.push("0", 500);
    let guest = TestGuest::new(|call| {
        call.state.wake_at(0);
        done(call.batch)
    })
    .waking(|state, now| {
        state.wake_at(now);
        Ok(Answer { ack: ack(Progress::All), outputs: Vec::new() })
    });
    let host = world.start(&guest);
    until("all is processed", || world.out.ids().len() == 500).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(host.stop().await.is_success());
    let ticks = guest.log(|log| log.ticks.clone());
    assert!(ticks.len() > 50 && ticks.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{ticks:?}");
}
