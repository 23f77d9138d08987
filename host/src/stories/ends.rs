//! How partitions, processors and hosts end, and what stays untouched by it.

use super::*;
use crate::guest::CloseReason;
use crate::options::{OnPoison, Start};
use crate::seams::{SinkError, SourceErrorKind};
use crate::status::State;

#[tokio::test(start_paused = true)]
async fn a_broken_partition_stops_with_all_that_is_known_and_the_others_go_on() {
    let mut world = World::new(2);
    world.options.delivery.on_poison = OnPoison::Stop;
    world.push("0", 30);
    world.push("1", 30);
    let guest = TestGuest::new(|call| {
        let first = call.batch.events()[0].sequence_number;
        if call.partition == "0" && first >= 20 { Err(trap()) } else { done(call.batch) }
    });
    let outcome = world.catch_up(&guest).await;
    assert!(!outcome.is_success());
    assert_eq!(outcome.errors().len(), 1);
    let text = outcome.to_string();
    for part in [
        "processor `test`",
        "event hub `hub`, partition 0",
        "sequence number 20 after 5 attempt(s)",
        "unreachable executed",
        "panicked at flights.rs",
        "delays::parse",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!((world.store.checkpoint("0"), world.store.checkpoint("1")), (Some(19), Some(29)));
    assert_eq!(world.store.owner("0"), None, "a stopped partition is released");
}

#[tokio::test(start_paused = true)]
async fn fatal_stops_at_once_and_what_was_settled_is_committed() {
    let world = World::new(1);
    world.push("0", 30);
    let guest = TestGuest::new(|call| match call.nth {
        2 => Err(Failure::Fatal("the schema is unknown".into())),
        _ => done(call.batch),
    });
    let host = world.start(&guest);
    let outcome = host.task.await.unwrap();
    assert_eq!(guest.calls().len(), 3, "no retry, and a host without anything to run ends");
    assert!(outcome.to_string().contains("the schema is unknown"), "{outcome}");
    assert_eq!((world.store.checkpoint("0"), world.out.ids()), (Some(19), ids(0, 0..20)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_panics_the_host_is_a_defect_of_one_partition() {
    let world = World::new(2);
    world.push("0", 5);
    world.push("1", 5);
    let guest =
        TestGuest::new(|call| if call.partition == "0" { panic!("as the test wants it") } else { done(call.batch) });
    let outcome = world.catch_up(&guest).await;
    assert!(outcome.to_string().contains("defect of the host"), "{outcome}");
    assert_eq!(world.store.checkpoint("1"), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_the_call_under_way_finish_and_starts_no_other() {
    let world = World::new(1);
    world.push("0", 100);
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(2));
    let host = world.start(&guest);
    until("the third call began", || guest.calls().len() == 3).await;
    let outcome = host.stop().await;
    assert!(outcome.is_success() && matches!(end(&outcome, 0), PartitionEnd::Stopped), "{outcome:?}");
    assert_eq!(guest.calls().len(), 3);
    assert_eq!(world.out.ids(), ids(0, 0..30));
    assert_eq!((world.store.checkpoint("0"), world.store.owner("0")), (Some(29), None));
    assert_eq!(guest.log(|log| log.closed.clone()), [CloseReason::Shutdown]);
    assert_eq!(world.hub.detached("0"), 1, "the link was closed, not just dropped");
    let next = TestGuest::new(|call| done(call.batch));
    assert!(world.catch_up(&next).await.is_success());
    assert_eq!(next.seen(), (30..100).collect::<Vec<_>>(), "a planned stop repeats nothing");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_is_cut_off() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(3600));
    let deadline = Duration::from_secs(5);
    let host = Running::start(Host::builder().shutdown_deadline(deadline).processor(world.spec(&guest)));
    until("the call began", || guest.calls().len() == 1).await;
    let before = tokio::time::Instant::now();
    let outcome = host.stop().await;
    assert!(before.elapsed() < deadline * 2);
    assert!(matches!(end(&outcome, 0), PartitionEnd::Unfinished(_)), "{outcome:?}");
    assert_eq!((world.store.checkpoint("0"), world.store.owner("0")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_drain_doesnt_wait_for_a_retry() {
    let world = World::new(1);
    world.push("0", 10);
    let guest =
        TestGuest::new(|_| Err(Failure::Retry { after: Some(Duration::from_secs(600)), reason: "later".into() }));
    let host = world.start(&guest);
    until("it is retried", || host.shows(|p| matches!(p.state, State::Retrying(_)))).await;
    let before = tokio::time::Instant::now();
    assert!(host.stop().await.is_success());
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_rewind_that_cant_finish_what_was_settled_reads_again_from_the_checkpoint() {
    let mut world = World::new(1);
    world.options.sink_timeout = Duration::from_secs(86_400);
    world.options.retry.attempts = 100;
    world.push("0", 30);
    world.out.cork(true);
    // The first batch is settled and waits at the sink, the second is held, and then the guest breaks.
    let guest = TestGuest::new(|call| match call.nth {
        1 => Ok(Answer { ack: ack(Progress::Hold), outputs: Vec::new() }),
        2 => Err(trap()),
        _ => done(call.batch),
    });
    let deadline = Duration::from_secs(5);
    let host = Running::start(Host::builder().shutdown_deadline(deadline).processor(world.spec(&guest)));
    until("it begins again", || guest.calls().len() > 3).await;
    assert_eq!(guest.calls()[3].0, 0, "from the checkpoint, not from the watermark");
    world.out.cork(false);
    until("all is committed", || world.store.checkpoint("0") == Some(29)).await;
    assert!(host.stop().await.is_success());
    let published = world.out.ids();
    assert!(ids(0, 0..30).iter().all(|id| published.contains(id)), "{published:?}");
}

#[tokio::test(start_paused = true)]
async fn a_corked_sink_holds_back_checkpoints_guest_and_broker() {
    let mut world = World::new(1);
    world.options.sink_timeout = Duration::from_secs(86_400);
    world.push("0", 1_000);
    world.out.cork(true);
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("it stands", || guest.calls().len() >= 6).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    // One batch at the sink, four settled, one settled and waiting for room.
    assert_eq!(guest.calls().len(), 6, "the guest is ahead by a bounded number of batches");
    assert!(host.partition(0).received <= 100, "and the broker is not read any further");
    assert_eq!(world.store.checkpoint("0"), None);
    world.out.cork(false);
    until("it flows", || world.store.checkpoint("0") == Some(999)).await;
    assert_eq!(world.out.ids(), ids(0, 0..1_000));
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn passing_sink_errors_are_retried_and_lasting_ones_stop_the_partition() {
    let world = World::new(1);
    world.push("0", 10);
    for _ in 0..3 {
        world.out.fail(SinkError::Transient("busy".into()));
    }
    let guest = TestGuest::new(|call| done(call.batch));
    assert!(world.catch_up(&guest).await.is_success());
    assert_eq!((guest.calls().len(), world.out.publishes()), (1, 4));
    assert_eq!(world.out.ids(), ids(0, 0..10));

    world.push("0", 10);
    world.out.fail(SinkError::Permanent("no such hub".into()));
    let outcome = world.catch_up(&guest).await;
    let text = outcome.to_string();
    assert!(
        text.contains("`default`") && text.contains("sequence numbers 10 to 19") && text.contains("no such hub"),
        "{text}"
    );
    assert_eq!(world.store.checkpoint("0"), Some(9));

    for _ in 0..10 {
        world.out.fail(SinkError::Transient("busy".into()));
    }
    let outcome = world.catch_up(&guest).await;
    assert!(outcome.to_string().contains("after 10 attempt(s): busy"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn processors_dont_share_their_troubles() {
    let (broken, fine) = (World::new(1), World::new(1));
    fine.push("0", 50);
    broken.hub.fail_listing(Some(SourceErrorKind::Unauthorized));
    let guest = TestGuest::new(|call| done(call.batch));
    let broken_spec = ProcessorSpec { name: "broken".into(), scope: scope("other"), ..broken.spec(&guest) };
    let host = Running::start(Host::builder().processor(broken_spec).processor(fine.spec(&guest)));
    until("the sound one is done", || fine.store.checkpoint("0") == Some(49)).await;
    let problem = host.status.snapshot().processors[0].problem.clone().unwrap();
    assert!(problem.contains("other") && problem.contains("refused the credentials"), "{problem}");

    // It never gave up.
    broken.push("0", 5);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    broken.hub.fail_listing(None);
    until("the broken one works", || broken.store.checkpoint("0") == Some(4)).await;
    assert_eq!(host.status.snapshot().processors[0].problem, None);
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_run_with_an_end_gives_up_on_what_never_comes() {
    let world = World::new(1);
    world.hub.fail_listing(Some(SourceErrorKind::NotFound));
    let guest = TestGuest::new(|call| done(call.batch));
    let outcome = world.catch_up(&guest).await;
    assert!(!outcome.is_success());
    assert!(outcome.to_string().contains("not found in the namespace"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn added_partitions_are_read_from_their_first_event() {
    let mut world = World::new(1);
    world.options.start = Start::Latest;
    world.push("0", 10);
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("it reads", || world.hub.attached("0") == 1).await;
    world.push("0", 3);
    world.hub.add_partitions(1);
    world.push("1", 4);
    until("both are done", || world.store.checkpoint("0") == Some(12) && world.store.checkpoint("1") == Some(3)).await;
    assert!(host.stop().await.is_success());
    let mut seen = guest.seen();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 10, 11, 12]);
}

#[tokio::test(start_paused = true)]
async fn the_memory_cap_holds_and_a_huge_event_still_passes() {
    let mut world = World::new(4);
    world.options.batch.events = 4;
    for partition in ["0", "1", "2", "3"] {
        for n in 0..50 {
            world.hub.push(partition, vec![0; if n == 20 { 100_000 } else { 1_000 }]);
        }
    }
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_millis(10));
    let host = Host::builder().memory(20_000).processor(world.spec(&guest));
    let host = host.until_caught_up(true).build().unwrap();
    let status = host.status();
    let watch = status.clone();
    let run = tokio::spawn(host.run(pending()));
    let mut most = 0;
    while !run.is_finished() {
        most = most.max(watch.snapshot().memory_in_flight);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(run.await.unwrap().is_success());
    assert_eq!(status.snapshot().memory_in_flight, 0);
    // The cap, and what four pumps may take in one go: four events, one of them huge.
    assert!(most > 10_000 && most <= 20_000 + 4 * 110_000, "{most}");
    assert_eq!(guest.seen().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn wrong_hosts_are_not_built() {
    let world = World::new(1);
    let guest = TestGuest::new(|call| done(call.batch));
    let twice = |name: &str| {
        Host::builder()
            .processor(world.spec(&guest))
            .processor(ProcessorSpec { name: name.into(), ..world.spec(&guest) })
    };
    assert!(Host::builder().build().unwrap_err().to_string().contains("no processor"));
    assert!(twice("test").build().unwrap_err().to_string().contains("named `test`"));
    assert!(twice("other").build().unwrap_err().to_string().contains("n/hub/g"));
}
