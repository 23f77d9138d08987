//! What befalls links: every event is seen once and in order, whatever the link does.

use super::*;
use crate::options::{MissingEvents, Start};
use crate::seams::SourceErrorKind::{InvalidPosition, NotFound, Stolen, Transient, Unauthorized};
use crate::status::State;
use crate::testing::Fault;

async fn sees_each_once(faults: &[Fault]) -> PartitionSnapshot {
    let world = World::new(1);
    world.push("0", 60);
    for fault in faults {
        world.hub.fault("0", *fault);
    }
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("all is processed", || world.store.checkpoint("0") == Some(59)).await;
    let snapshot = host.partition(0);
    assert!(host.stop().await.is_success());
    assert_eq!(guest.seen(), (0..60).collect::<Vec<_>>(), "{faults:?}");
    assert_eq!(world.out.ids(), ids(0, 0..60), "{faults:?}");
    assert_eq!(snapshot.state, State::Running, "{faults:?}");
    snapshot
}

#[tokio::test(start_paused = true)]
async fn a_broken_link_is_opened_again_after_the_last_event() {
    let faults = [
        Fault::EndAfter(7, Transient),
        Fault::Open(Transient),
        Fault::Open(Unauthorized),
        Fault::Open(NotFound),
        Fault::EndAfter(0, Transient),
        Fault::EndAfter(13, Unauthorized),
    ];
    assert_eq!(sees_each_once(&faults).await.reattached, 3);
}

#[tokio::test(start_paused = true)]
async fn a_replaying_link_is_skipped_over_and_counted() {
    let snapshot = sees_each_once(&[Fault::EndAfter(25, Transient), Fault::Replay(25)]).await;
    assert_eq!((snapshot.replayed, snapshot.received), (25, 60));
}

#[tokio::test(start_paused = true)]
async fn a_step_back_ends_the_link() {
    let snapshot = sees_each_once(&[Fault::StepBackAfter(25)]).await;
    assert_eq!((snapshot.reattached, snapshot.received), (1, 60));
}

#[tokio::test(start_paused = true)]
async fn what_a_link_leaves_out_is_asked_for_again() {
    let snapshot = sees_each_once(&[Fault::LoseAfter(25), Fault::LoseAfter(7)]).await;
    assert_eq!((snapshot.reattached, snapshot.missing), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hub_with_many_gaps_is_read_without_a_new_link_for_each() {
    let world = World::new(1);
    for n in 0..100 {
        world.hub.push_event("0", crate::testing::event(3 * n, "compacted"));
    }
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("all is read", || world.store.checkpoint("0") == Some(297)).await;
    let partition = host.partition(0);
    assert_eq!((partition.missing, partition.reattached), (198, 17));
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_link_is_replaced() {
    let snapshot = sees_each_once(&[Fault::StallAfter(25), Fault::StallAfter(0)]).await;
    assert_eq!(snapshot.reattached, 2);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_stalls_before_its_first_event_is_replaced_wherever_it_starts() {
    for start in [Start::Earliest, Start::From(0), Start::EnqueuedTime(1_700_000_000_000)] {
        let mut world = World::new(1);
        world.options.start = start;
        world.push("0", 10);
        world.hub.fault("0", Fault::StallAfter(0));
        let guest = TestGuest::new(|call| done(call.batch));
        let host = world.start(&guest);
        until("all is processed", || world.store.checkpoint("0") == Some(9)).await;
        assert_eq!(host.partition(0).reattached, 1, "{start:?}");
        assert!(host.stop().await.is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_link_outlives_questions_that_fail_and_the_status_says_so() {
    let world = World::new(1);
    world.push("0", 5);
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("they are processed", || world.store.checkpoint("0") == Some(4)).await;
    world.hub.fail_information(Some(Transient));
    until("the failed question shows", || {
        host.shows(|p| matches!(&p.state, State::Retrying(why) if why.contains("can't be asked")))
    })
    .await;
    world.push("0", 5);
    until("what comes is read", || world.store.checkpoint("0") == Some(9)).await;
    assert_eq!((host.partition(0).reattached, host.partition(0).state), (0, State::Running));
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_is_left_alone() {
    let world = World::new(1);
    world.push("0", 5);
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((host.partition(0).reattached, host.partition(0).state), (0, State::Running));
    world.push("0", 5);
    until("it is read", || world.store.checkpoint("0") == Some(9)).await;
    assert!(host.stop().await.is_success());
    assert_eq!(world.store.history("0"), [4, 9], "an idle partition is not written");
}

#[tokio::test(start_paused = true)]
async fn a_stolen_link_ends_the_tenancy_and_the_partition_is_claimed_again() {
    let world = World::new(1);
    world.push("0", 60);
    world.hub.fault("0", Fault::EndAfter(25, Stolen));
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("all is processed", || world.store.checkpoint("0") == Some(59)).await;
    assert!(host.stop().await.is_success());
    assert_eq!(guest.log(|log| log.openings.len()), 2, "a new tenancy has a new guest");
    assert_eq!((world.hub.attached("0"), world.hub.detached("0")), (0, 2), "every link was closed");
    let seen = guest.seen();
    assert!((0..60).all(|n| seen.contains(&n)), "{seen:?}");
    assert!(world.store.history("0").is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_position_that_isnt_valid_stops_the_partition() {
    let world = World::new(1);
    world.push("0", 10);
    world.hub.fault("0", Fault::Open(InvalidPosition));
    let guest = TestGuest::new(|call| done(call.batch));
    let outcome = world.start(&guest).task.await.unwrap();
    assert!(outcome.to_string().contains("can't read from the first retained event"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_beyond_the_hub_is_refused() {
    let world = World::new(1);
    world.push("0", 10);
    let guest = TestGuest::new(|call| done(call.batch));
    assert!(world.catch_up(&guest).await.is_success());
    let anew = World { hub: MemoryHub::new(1), store: world.store.clone(), ..World::new(1) };
    anew.push("0", 5);
    let outcome = anew.start(&guest).task.await.unwrap();
    let text = outcome.to_string();
    assert!(text.contains("it is at sequence number 9") && text.contains("created anew"), "{text}");
    assert_eq!(world.store.checkpoint("0"), Some(9), "and left as it is");
}

#[tokio::test(start_paused = true)]
async fn latest_is_asked_for_once_and_not_lost_with_the_tenancy() {
    let mut world = World::new(1);
    world.options.start = Start::Latest;
    world.push("0", 10);
    world.hub.fault("0", Fault::EndAfter(0, Stolen));
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("the link was stolen", || host.shows(|p| matches!(p.state, State::Retrying(_)))).await;
    world.push("0", 5);
    until("what came since is read", || world.store.checkpoint("0") == Some(14)).await;
    assert_eq!(guest.seen(), [10, 11, 12, 13, 14]);
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn latest_outlives_a_host_that_dies_before_it_has_acknowledged_anything() {
    for before in [0, 10] {
        let mut world = World::new(1);
        world.options.start = Start::Latest;
        world.push("0", before);
        let hangs = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(3600));
        let host = world.start(&hangs);
        until("it has begun", || world.hub.attached("0") == 1).await;
        world.push("0", 5);
        until("the guest has them", || !hangs.calls().is_empty()).await;
        host.task.abort();
        let _ = host.task.await;
        world.push("0", 5);
        let guest = TestGuest::new(|call| done(call.batch));
        assert!(world.catch_up(&guest).await.is_success());
        let from = before as i64;
        assert_eq!(guest.seen(), (from..from + 10).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn latest_outlives_its_checkpoint_where_a_host_remembers_it() {
    let mut world = World::new(1);
    world.options.start = Start::Latest;
    world.push("0", 10);
    world.hub.fault("0", Fault::EndAfter(0, Stolen));
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("the link was stolen", || host.shows(|p| matches!(p.state, State::Retrying(_)))).await;
    world.store.forget("0");
    until("what it remembers is written again", || world.store.checkpoint("0") == Some(9)).await;
    assert!(host.stop().await.is_success());
    world.push("0", 5);
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!(guest.seen(), [10, 11, 12, 13, 14], "although it ended before there was an event");
}

#[tokio::test(start_paused = true)]
async fn events_that_are_gone_are_counted_and_passed_over_or_stop_the_partition() {
    for (policy, mid_link) in [
        (MissingEvents::Continue, false),
        (MissingEvents::Continue, true),
        (MissingEvents::Stop, false),
        (MissingEvents::Stop, true),
    ] {
        let mut world = World::new(1);
        world.options.missing = policy;
        world.push("0", 10);
        let guest = TestGuest::new(|call| done(call.batch));
        let first = world.start(&guest);
        until("they are processed", || world.store.checkpoint("0") == Some(9)).await;
        // Sequence numbers 10 to 19 never reach anybody.
        let late = crate::testing::event(20, "late");
        let host = if mid_link {
            world.hub.push_event("0", late);
            first
        } else {
            assert!(first.stop().await.is_success());
            world.hub.push_event("0", late);
            world.hub.expire("0", 10);
            world.start(&guest)
        };
        match policy {
            MissingEvents::Continue => {
                until("it goes on", || world.store.checkpoint("0") == Some(20)).await;
                let partition = host.partition(0);
                assert_eq!((partition.missing, partition.state), (10, State::Running));
                assert!(host.stop().await.is_success());
            }
            MissingEvents::Stop => {
                let outcome = host.task.await.unwrap().to_string();
                assert!(outcome.contains("sequence numbers 10 to 19 are not in the event hub any more"), "{outcome}");
                assert_eq!((world.store.checkpoint("0"), guest.seen().last()), (Some(9), Some(&9)));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_with_an_end_ends_wherever_it_starts() {
    for (start, seen) in [
        (Start::Latest, vec![]),
        (Start::After(7), vec![8, 9]),
        (Start::From(7), vec![7, 8, 9]),
        (Start::EnqueuedTime(1_700_000_000_008), vec![8, 9]),
        (Start::EnqueuedTime(1_800_000_000_000), vec![]),
    ] {
        let mut world = World::new(2);
        world.options.start = start;
        world.push("0", 10);
        let guest = TestGuest::new(|call| done(call.batch));
        assert!(world.catch_up(&guest).await.is_success(), "{start:?}");
        assert_eq!(guest.seen(), seen, "{start:?}");
    }
    let world = World::new(1);
    world.push("0", 10);
    world.hub.expire("0", 10);
    let guest = TestGuest::new(|call| done(call.batch));
    assert!(world.catch_up(&guest).await.is_success(), "everything has expired");
}
