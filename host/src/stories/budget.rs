//! What a host asks of its checkpoint store: within a budget, and as the status says.

use super::*;
use crate::options::Fleet;

#[tokio::test(start_paused = true)]
async fn a_budget_delays_checkpoints_fairly_and_never_the_last_ones() {
    let world = World::new(8);
    for partition in 0..8 {
        world.push(&partition.to_string(), 2_000);
    }
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(1));
    let host = Host::builder().checkpoint_writes_per_minute(Some(12)).processor(world.spec(&guest));
    let host = Running::start(host);
    let writes = || -> Vec<usize> { (0..8).map(|n| world.store.history(&n.to_string()).len()).collect() };
    let mut before = 0;
    for minute in 1..=3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let writes = writes();
        let all: usize = writes.iter().sum();
        assert!((11..=13).contains(&(all - before)), "minute {minute}: {writes:?}");
        assert!(writes.iter().max() <= writes.iter().min().map(|least| least + 1).as_ref(), "in turn: {writes:?}");
        before = all;
    }
    let budget = host.status.snapshot().checkpoint_budget.unwrap();
    assert!(budget.waiting > 0 && budget.delayed > 0 && budget.longest_wait_ms > 1_000, "{budget:?}");
    assert!(host.stop().await.is_success());
    assert_eq!(writes().iter().sum::<usize>(), before + 8, "the last ones don't wait for their turn");
    for partition in 0..8 {
        let seen = guest.log(|log| {
            let of = log.calls.iter().filter(|(id, _)| *id == partition.to_string());
            of.flat_map(|(_, numbers)| numbers.clone()).max()
        });
        assert_eq!(world.store.checkpoint(&partition.to_string()), seen, "partition {partition}: all of it is written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_not_reached_changes_nothing() {
    let run = async |budget| {
        let world = World::new(2);
        world.push("0", 200);
        let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(1));
        let host = Running::start(Host::builder().checkpoint_writes_per_minute(budget).processor(world.spec(&guest)));
        until("all is committed", || world.store.checkpoint("0") == Some(199)).await;
        let snapshot = host.status.snapshot();
        assert!(host.stop().await.is_success());
        (world.store.history("0"), snapshot.checkpoint_budget.map(|budget| budget.delayed))
    };
    let (free, none) = run(None).await;
    let (within, delayed) = run(Some(6_000)).await;
    assert_eq!((free, none, delayed), (within, None, Some(0)));
}

/// The formulas of docs/checkpoints.md.
#[tokio::test(start_paused = true)]
async fn the_status_counts_the_calls_of_the_last_minute() {
    let mut world = World::new(6);
    world.options.fleet = Some(Fleet::default());
    world.options.checkpoint.interval = Duration::from_secs(10);
    world.options.checkpoint.events = u64::MAX;
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(1));
    world.push("0", 5_000);
    let host = Running::start(Host::builder().owner("a").processor(world.spec(&guest)));
    tokio::time::sleep(Duration::from_secs(150)).await;
    let snapshot = host.status.snapshot();
    let calls = snapshot.storage_calls_per_minute;
    // A cycle takes 8 to 13 s.
    assert!((4..=8).contains(&calls.lists) && calls.announcements.abs_diff(calls.lists) <= 1, "{calls:?}");
    // A renewal a partition every 20 s.
    assert!((12..=24).contains(&calls.ownerships), "{calls:?}");
    // One busy partition, a checkpoint every 10 s and at most a batch later; the others are idle.
    assert!((5..=7).contains(&calls.commits) && calls.reads == 0, "{calls:?}");
    assert_eq!(snapshot.processors[0].storage_calls_per_minute, calls);
    assert!(host.stop().await.is_success());
}
