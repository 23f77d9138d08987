//! What a processor keeps in the host is that of exactly the event its checkpoint stands at, whatever became of the calls between.

use super::guests::Call;
use super::*;
use crate::guest::Redelivery;
use crate::local::DirectoryStore;
use crate::model::{Checkpoint, OwnerId, PartitionId, Position};
use crate::options::{Fleet, Start};
use crate::state::{PartitionState, StateImage};
use crate::testing::{Faults, FaultyStore, image};

const LIMIT: usize = 16 << 20;

/// Counts events under one key, and each under its own: what was applied twice shows.
fn count(call: &Call<'_>, events: usize) {
    for event in &call.batch.events()[..events] {
        for key in ["all".to_owned(), event.sequence_number.to_string()] {
            let before = call.state.get(&key).map_or(0, |value| number(&value));
            call.state.set(&key, (before + 1).to_string().into()).unwrap();
        }
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

fn all(call: &Call<'_>) -> Result<Answer, Failure> {
    count(call, call.batch.events().len());
    done(call.batch)
}

fn answer(call: &Call<'_>, progress: Progress) -> Result<Answer, Failure> {
    count(call, call.batch.events().len());
    Ok(Answer { ack: ack(progress), outputs: each(call.batch) })
}

/// The checkpoint, and the state that it carries.
async fn stored(store: &dyn CheckpointStore) -> (i64, PartitionState) {
    let (checkpoint, _) = store.load(&PartitionId::from("0")).await.unwrap().unwrap();
    let at = checkpoint.position.sequence_number;
    (at, PartitionState::load(LIMIT, checkpoint.position, checkpoint.state).unwrap())
}

/// Each event up to the checkpoint was counted once, and none behind it, but for these.
async fn is_exact(store: &dyn CheckpointStore, but: &[i64]) -> i64 {
    let (at, state) = stored(store).await;
    let counts: BTreeMap<String, u64> =
        state.scan("", None, usize::MAX).into_iter().map(|(key, value)| (key.to_string(), number(&value))).collect();
    let counted = (0..=at).filter(|n| !but.contains(n));
    let mut expected: BTreeMap<String, u64> = counted.map(|n| (n.to_string(), 1)).collect();
    if !expected.is_empty() {
        expected.insert("all".into(), expected.len() as u64);
    }
    assert_eq!(counts, expected, "at {at}");
    at
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_deleted_under_a_host_takes_the_state_along_and_that_is_refused() {
    use crate::status::State;
    for start in [Start::Earliest, Start::Latest] {
        let mut world = World::new(1);
        world.options.start = start;
        let guest = TestGuest::new(all).keeping_state();
        let host = world.start(&guest);
        until("it begins", || host.shows(|p| matches!(p.state, State::Running))).await;
        world.push("0", 10);
        until("they are committed", || world.store.checkpoint("0") == Some(9)).await;
        world.store.forget("0");
        world.push("0", 1);
        until("it is refused", || host.shows(|p| matches!(p.state, State::Failed(_)))).await;
        let outcome = host.task.await.unwrap().to_string();
        assert!(outcome.contains("is gone, and the processor's state with it. Restore it"), "{start:?}: {outcome}");
        assert_eq!(world.store.checkpoint("0"), None, "{start:?}: nothing was made up");
    }
}

#[tokio::test(start_paused = true)]
async fn it_survives_a_restart() {
    let world = World::new(1);
    let guest = TestGuest::new(all).keeping_state();
    for round in 1..=3 {
        world.push("0", 25);
        assert!(world.catch_up(&guest).await.is_success());
        assert_eq!(is_exact(&world.store, &[]).await, round * 25 - 1);
    }
    assert_eq!(guest.seen().len(), 75, "nothing came twice");
}

#[tokio::test(start_paused = true)]
async fn it_lies_in_files_as_well() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(1);
    // Some 300 KiB: in segments.
    let guest = TestGuest::new(|call| {
        for event in call.batch.events() {
            call.state.set(&event.sequence_number.to_string(), vec![1; 3000].into()).unwrap();
        }
        done(call.batch)
    })
    .keeping_state();
    for round in 1..=4 {
        world.push("0", 25);
        let store = DirectoryStore::open(root.path(), scope("hub"), &OwnerId::from("me")).unwrap();
        let spec = ProcessorSpec { store: Arc::new(store.clone()), ..world.spec(&guest) };
        assert!(catch_up(Host::builder().processor(spec)).await.is_success());
        let (at, state) = stored(&store).await;
        assert_eq!((at, state.keys()), (round * 25 - 1, round as usize * 25));
        drop((state, store));
    }
    let parts = std::fs::read_dir(root.path().join("n/hub/g/0/state")).unwrap().count();
    assert!((1..=4).contains(&parts), "{parts} files");
}

#[tokio::test(start_paused = true)]
async fn it_moves_to_whoever_takes_over() {
    let mut world = World::new(1);
    world.options.fleet = Some(Fleet::default());
    let guest = TestGuest::new(all).keeping_state();
    world.push("0", 35);
    let ann = Running::start(Host::builder().owner("ann").processor(world.spec(&guest)));
    until("all is committed", || world.store.checkpoint("0") == Some(34)).await;
    // What it does now is nowhere but in its memory.
    world.push("0", 20);
    until("it was handed over", || guest.seen().len() == 55).await;
    ann.task.abort();
    let _ = ann.task.await;
    let ben = Running::start(Host::builder().owner("ben").processor(world.spec(&guest)));
    until("the other has it", || world.store.checkpoint("0") == Some(54)).await;
    assert!(ben.stop().await.is_success());
    assert_eq!((is_exact(&world.store, &[]).await, guest.seen().len()), (54, 75));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_leaves_nothing_of_it() {
    let world = World::new(1);
    world.push("0", 40);
    let guest = TestGuest::new(|call| {
        match call.nth {
            1 => {
                all(call)?;
                Err(Failure::Retry { after: None, reason: "busy".into() })
            }
            3 => {
                all(call)?;
                Err(trap())
            }
            6 => {
                all(call)?;
                // Refused: there are not so many.
                Ok(Answer { ack: ack(Progress::Through(1_000)), outputs: Vec::new() })
            }
            _ => all(call),
        }
    })
    .keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(is_exact(&world.store, &[]).await, 39);
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_is_applied_when_it_does() {
    let world = World::new(1);
    world.push("0", 30);
    let guest = TestGuest::new(|call| {
        let len = call.batch.events().len();
        // Half of it, and now and then nothing of it.
        let standing = if call.nth % 3 == 2 { 0 } else { len / 2 };
        if len == 1 || call.nth > 20 {
            return all(call);
        }
        count(call, standing);
        let redeliver = Some(Redelivery { index: standing as u32, after: None, reason: "later".into() });
        Ok(Answer { ack: Ack { redeliver, ..ack(Progress::All) }, outputs: each(call.batch) })
    })
    .keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(is_exact(&world.store, &[]).await, 29);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_waits_for_an_event_whose_state_is_known() {
    let world = World::new(1);
    world.push("0", 40);
    // Batches end at 9, 19, 29, 39.
    let guest = TestGuest::new(|call| match call.nth {
        0 => answer(call, Progress::Hold),
        1 => answer(call, Progress::Through(14)),
        2 => answer(call, Progress::Through(19)),
        _ => answer(call, Progress::Through(35)),
    })
    .keeping_state()
    .taking(Duration::from_secs(5));
    let outcome = world.catch_up(&guest).await;
    assert!(matches!(end(&outcome, 0), PartitionEnd::CaughtUp { held: 4 }), "{outcome:?}");
    assert_eq!(world.store.history("0"), [9, 19, 29], "14 and 35 lie within a call");
    assert_eq!(is_exact(&world.store, &[]).await, 29);
    // The next one goes on behind 29, and repeats what lies above.
    let guest = TestGuest::new(all).keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!((guest.seen()[0], is_exact(&world.store, &[]).await), (30, 39));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_read_again_takes_its_state_back() {
    let world = World::new(1);
    world.push("0", 40);
    let guest = TestGuest::new(|call| match call.nth {
        0 => answer(call, Progress::Hold),
        // The watermark is at 14, within this call: the state is that of 9.
        1 => answer(call, Progress::Through(14)),
        2 => {
            count(call, 3);
            Err(trap())
        }
        _ => all(call),
    })
    .keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(guest.calls()[3].0, 10, "{:?}", guest.calls());
    let opened = guest.log(|log| log.openings.last().cloned()).unwrap();
    assert_eq!(opened.checkpoint.map(|c| c.sequence_number), Some(9));
    assert_eq!(is_exact(&world.store, &[]).await, 39);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_leaves_it_as_it_is() {
    let mut world = World::new(1);
    world.options.retry.attempts = 2;
    world.push("0", 20);
    let poisoned = |call: &Call<'_>| {
        let poison = |n: i64| n == 3 || n == 19;
        count(call, call.batch.events().len());
        match call.batch.events().iter().any(|event| poison(event.sequence_number)) {
            true => Err(trap()),
            false => done(call.batch),
        }
    };
    let guest = TestGuest::new(poisoned).keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(is_exact(&world.store, &[3, 19]).await, 19, "the last one, too");
    assert_eq!(world.dead.ids().len(), 2);
    let calls = guest.calls().len();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(guest.calls().len(), calls, "and it doesn't come again");
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_told_again_when_its_surroundings_are() {
    let mut world = World::new(1);
    world.options.retry.attempts = 2;
    world.push("0", 40);
    let broke = std::sync::atomic::AtomicBool::new(false);
    let guest = TestGuest::new(move |call| {
        let numbers: Vec<i64> = call.batch.events().iter().map(|event| event.sequence_number).collect();
        count(call, numbers.len());
        let last = *numbers.last().unwrap();
        if numbers.contains(&13) || last >= 30 && !broke.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return Err(trap());
        }
        let progress = match last {
            10.. if !broke.load(std::sync::atomic::Ordering::Relaxed) => Progress::Through(last - 2),
            _ => Progress::All,
        };
        Ok(Answer { ack: ack(progress), outputs: each(call.batch) })
    })
    .keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(is_exact(&world.store, &[13]).await, 39);
    assert_eq!(world.dead.ids(), ["hub/0/13/rejected"]);
}

#[tokio::test(start_paused = true)]
async fn processing_goes_on_while_a_commit_is_under_way() {
    let mut world = World::new(1);
    world.options.checkpoint.events = 1;
    world.push("0", 100);
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&calls);
    let guest = TestGuest::new(move |call| {
        log.lock().unwrap().push(tokio::time::Instant::now());
        all(call)
    });
    let guest = guest.keeping_state().taking(Duration::from_millis(100));
    let slow = FaultyStore::new(world.store.clone(), 1, Faults { delay: Duration::from_secs(2), ..Faults::NONE });
    let spec = ProcessorSpec { store: Arc::new(slow), ..world.spec(&guest) };
    assert!(catch_up(Host::builder().processor(spec)).await.is_success());
    let calls = calls.lock().unwrap().clone();
    assert!(calls[9] - calls[0] < Duration::from_millis(950), "nine calls of 100 ms, and nothing between them");
    let history = world.store.history("0");
    assert!(history.len() > 1 && history[0] < 99, "{history:?}");
    assert_eq!(is_exact(&world.store, &[]).await, 99);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_none_has_checkpoints_as_ever() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| {
        assert!(call.state.set("a", "b".into()).unwrap_err().contains("keeps no state"));
        done(call.batch)
    });
    assert!(world.catch_up(&guest).await.is_success());
    let (checkpoint, _) = world.store.load(&PartitionId::from("0")).await.unwrap().unwrap();
    assert_eq!((checkpoint.position.sequence_number, checkpoint.state), (19, StateImage::default()));
}

#[tokio::test(start_paused = true)]
async fn a_processor_without_state_carries_on_what_another_left() {
    let world = World::new(1);
    world.push("0", 20);
    assert!(world.catch_up(&TestGuest::new(all).keeping_state()).await.is_success());
    world.push("0", 20);
    assert!(world.catch_up(&TestGuest::new(|call| done(call.batch))).await.is_success());
    let (at, state) = stored(&world.store).await;
    assert_eq!((at, state.get("all")), (39, Some("20".into())));
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_refused_unless_it_is_that_of_its_event() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(all).keeping_state();
    assert!(world.catch_up(&guest).await.is_success());
    let (good, _) = world.store.load(&PartitionId::from("0")).await.unwrap().unwrap();
    let elsewhere = Position { sequence_number: 12, offset: "768".into() };
    let calls = guest.calls().len();
    for (bad, why) in [
        (Checkpoint { position: elsewhere, ..good.clone() }, "that of event 19, not of 12"),
        (Checkpoint { state: image("counts"), ..good.clone() }, "nothing that Weir wrote"),
        (Checkpoint { state: image(good.state.tail.slice(..50)), ..good.clone() }, "is damaged"),
    ] {
        world.store.overwrite("0", bad);
        let outcome = world.catch_up(&guest).await.to_string();
        assert!(outcome.contains(why) && outcome.contains("--drop-state"), "{outcome}");
    }
    assert_eq!(guest.calls().len(), calls);
    world.store.overwrite("0", good);
    world.push("0", 5);
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(is_exact(&world.store, &[]).await, 24);
}
