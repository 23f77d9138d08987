//! Exclusive mode: one sign of life per host stands for all of its ownerships, and nothing that a fleet promises is lost by it.

use super::fleet::{CYCLE, EXPIRY, fleet, handed_over, processing};
use super::*;
use crate::model::{PartitionId, PartitionInfo, StartPosition};
use crate::options::Fleet;
use crate::seams::{OpenOptions, PartitionReceiver, SourceError, SourceErrorKind};
use crate::status::State;
use crate::testing::{Faults, FaultyStore};

fn exclusive() -> Fleet {
    Fleet { exclusive: true, ..fleet() }
}

#[tokio::test(start_paused = true)]
async fn hosts_come_and_go_and_no_event_is_processed_twice() {
    let world = World::new(12);
    let guests = [processing(), processing(), processing()];
    let a = world.join("a", &guests[0], exclusive());
    world.push_all(50);
    until("one host has them all", || world.shares(["a"]) == [12]).await;
    let b = world.join("b", &guests[1], exclusive());
    let c = world.join("c", &guests[2], exclusive());
    world.push_all(50);
    until("three share", || world.shares(["a", "b", "c"]) == [4, 4, 4]).await;
    // Far beyond the age at which a record that nobody renews would be abandoned.
    tokio::time::sleep(5 * EXPIRY).await;
    assert_eq!(world.shares(["a", "b", "c"]), [4, 4, 4]);
    world.push_all(50);
    assert!(b.stop().await.is_success());
    until("the others have its share", || world.shares(["a", "b", "c"]) == [6, 0, 6]).await;
    world.push_all(50);
    until("all is committed", || world.all_committed(199)).await;
    for host in [a, c] {
        assert!(host.stop().await.is_success());
    }
    assert_eq!(handed_over(&guests.each_ref(), 12), vec![(0..200).collect::<Vec<_>>(); 12], "each event once");
    world.assert_no_checkpoint_went_back();
}

#[tokio::test(start_paused = true)]
async fn a_leaving_host_is_waited_for_however_old_its_records_are() {
    let mut world = World::new(1);
    world.options.batch.events = 1;
    // Longer than a cycle, and less than it takes to be stolen from for being stuck.
    let guests = [TestGuest::new(|call| done(call.batch)).taking(EXPIRY * 2 / 3), processing()];
    let mut spec = world.spec(&guests[0]);
    spec.options.fleet = Some(exclusive());
    let a = Running::start(Host::builder().owner("a").shutdown_deadline(2 * EXPIRY).processor(spec));
    until("it is claimed", || world.shares(["a"]) == [1]).await;
    tokio::time::sleep(3 * EXPIRY).await;
    world.push("0", 3);
    until("it works", || !guests[0].calls().is_empty()).await;
    let stopping = tokio::spawn(a.stop());
    let b = world.join("b", &guests[1], exclusive());
    assert!(stopping.await.unwrap().is_success());
    until("all is committed", || world.all_committed(2)).await;
    assert!(b.stop().await.is_success());
    assert_eq!(handed_over(&guests.each_ref(), 1), [[0, 1, 2]], "each event once");
}

#[tokio::test(start_paused = true)]
async fn the_dead_are_followed_within_the_expiry_and_two_cycles() {
    let world = World::new(4);
    let guests = [processing(), processing()];
    let a = world.join("a", &guests[0], exclusive());
    let b = world.join("b", &guests[1], exclusive());
    until("two share", || world.shares(["a", "b"]) == [2, 2]).await;
    tokio::time::sleep(3 * EXPIRY).await;
    a.task.abort();
    let _ = a.task.await;
    let died = tokio::time::Instant::now();
    world.push_all(30);
    until("the other has them all", || world.shares(["a", "b"]) == [0, 4]).await;
    assert!(died.elapsed() <= EXPIRY + 2 * CYCLE, "after {:?}", died.elapsed());
    until("all is committed", || world.all_committed(29)).await;
    assert!(b.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_host_cut_off_from_the_store_stops_before_another_may_begin() {
    let world = World::new(1);
    world.push("0", 10_000);
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(1));
    let store = Arc::new(FaultyStore::new(world.store.clone(), 1, Faults::NONE));
    let mut spec = ProcessorSpec { store: store.clone(), ..world.spec(&guest) };
    spec.options.fleet = Some(exclusive());
    // Commits would end the tenancy on their own.
    spec.options.checkpoint.interval = Duration::from_secs(3600);
    spec.options.checkpoint.events = u64::MAX;
    let host = Running::start(Host::builder().owner("a").processor(spec));
    until("it works", || !guest.calls().is_empty()).await;
    store.set(Faults { not_done: 1.0, ..Faults::NONE });
    let cut_off = tokio::time::Instant::now();
    until("it has stopped", || {
        host.shows(|p| matches!(&p.state, State::Retrying(why) if why.contains("sign of life")))
    })
    .await;
    assert!(cut_off.elapsed() < EXPIRY, "after {:?}", cut_off.elapsed());
    let calls = guest.calls().len();
    tokio::time::sleep(2 * EXPIRY).await;
    assert_eq!(guest.calls().len(), calls, "nothing is handed over without a sign of life");
    store.set(Faults::NONE);
    until("it goes on", || guest.calls().len() > calls).await;
    assert!(host.stop().await.is_success());
    world.assert_no_checkpoint_went_back();
}

/// A hub whose partition 0 this host can't attach to.
struct Deaf(MemoryHub);

#[async_trait::async_trait]
impl EventSource for Deaf {
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        self.0.partitions().await
    }

    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError> {
        self.0.partition_info(partition).await
    }

    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError> {
        match partition.as_str() {
            "0" => Err(SourceError { kind: SourceErrorKind::Transient, detail: "no way there".into() }),
            _ => self.0.open(partition, start, options).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_one_host_cant_read_goes_to_another() {
    for mode in [exclusive(), fleet()] {
        let world = World::new(4);
        let guests = [processing(), processing()];
        let mut spec = ProcessorSpec { source: Arc::new(Deaf(world.hub.clone())), ..world.spec(&guests[0]) };
        spec.options.fleet = Some(mode.clone());
        let a = Running::start(Host::builder().owner("a").processor(spec));
        until("it has them all", || world.shares(["a"]) == [4]).await;
        world.push_all(10);
        let b = world.join("b", &guests[1], mode);
        until("all is committed", || world.all_committed(9)).await;
        assert_eq!(world.store.owner("0").map(|o| o.to_string()).as_deref(), Some("b"));
        for host in [a, b] {
            assert!(host.stop().await.is_success());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_belong_is_refused() {
    let world = World::new(2);
    let guest = processing();
    world.store.take("0", "a-python-one");
    let outcome = world.join("a", &guest, exclusive()).task.await.unwrap();
    let text = outcome.to_string();
    assert!(text.contains("partition 0 belongs to `a-python-one`") && text.contains("checkpoints.exclusive"), "{text}");
    let shared = world.join("a", &guest, fleet());
    until("in a shared group it has its share", || world.shares(["a"]) == [1]).await;
    let outcome = world.join("b", &guest, exclusive()).task.await.unwrap();
    let text = outcome.to_string();
    assert!(!outcome.is_success() && text.contains("the host `a` says false"), "{text}");
    assert!(shared.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn of_two_that_disagree_and_start_at_once_not_both_enter() {
    let slow = Faults { delay: Duration::from_secs(1), ..Faults::NONE };
    let mut both_seen = 0;
    for seed in 0..40 {
        let world = World::new(2);
        let guests = [processing(), processing()];
        world.push_all(5);
        let hosts = [("a", exclusive()), ("b", fleet())];
        let mut n = 0;
        let running = hosts.map(|(owner, mode)| {
            let store = Arc::new(FaultyStore::new(world.store.clone(), seed * 2 + n, slow));
            n += 1;
            world.join_over(store, owner, &guests[n as usize - 1], mode)
        });
        until("one is refused", || running.iter().any(|host| host.task.is_finished())).await;
        tokio::time::sleep(EXPIRY).await;
        let mut refused = 0;
        for (host, guest) in running.into_iter().zip(&guests) {
            if host.task.is_finished() {
                let text = host.task.await.unwrap().to_string();
                assert!(text.contains("all hosts of a group must agree"), "{text}");
                assert!(guest.calls().is_empty(), "who is refused has claimed nothing");
                refused += 1;
            } else {
                assert!(host.stop().await.is_success());
            }
        }
        assert!(refused > 0);
        both_seen += u32::from(refused == 2);
        assert_eq!(world.store.list().await.unwrap().hosts, [], "every sign is taken back");
    }
    assert!(both_seen > 0, "some start so close that each sees the other only afterwards");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_comes_later_is_said_loudly() {
    let world = World::new(2);
    let guest = processing();
    let host = world.join("a", &guest, exclusive());
    until("it has them all", || world.shares(["a"]) == [2]).await;
    world.store.take("1", "a-python-one");
    let problem = || host.status.snapshot().processors[0].problem.clone();
    until("it is said", || problem().is_some_and(|p| p.contains("a-python-one"))).await;
    assert!(!host.stop().await.is_success());
}

/// Calls a minute of a fleet that has settled and has nothing to do.
async fn calls(partitions: usize, hosts: usize, mode: Fleet) -> u64 {
    let world = World::new(partitions);
    let guest = processing();
    let names: Vec<_> = (0..hosts).map(|n| format!("h{n}")).collect();
    let running: Vec<_> = names.iter().map(|name| world.join(name, &guest, mode.clone())).collect();
    let even = |f: crate::status::FleetSnapshot| f.hosts == hosts && f.held == partitions / hosts && f.claimable == 0;
    while !running.iter().all(|host| host.fleet().is_some_and(even)) {
        tokio::time::sleep(CYCLE).await;
    }
    let before = world.store.calls();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let calls = world.store.calls() - before;
    for host in running {
        host.task.abort();
    }
    calls / 10
}

#[tokio::test(start_paused = true)]
async fn what_it_saves() {
    for (partitions, hosts, most) in [(32, 4, 52), (256, 8, 104), (1024, 16, 208)] {
        let calls = calls(partitions, hosts, exclusive()).await;
        eprintln!("{partitions} partitions on {hosts} hosts: {calls} calls a minute");
        assert!((most / 2..=most).contains(&calls), "{partitions} partitions on {hosts} hosts: {calls} calls a minute");
    }
    assert!(calls(32, 4, fleet()).await > 2 * 52, "a group that is shared renews each ownership");
}
