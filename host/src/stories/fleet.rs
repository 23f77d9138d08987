//! Fleets: several hosts over one store share the partitions, follow the dead, and hand over without a repeat.

use super::*;
use crate::options::Fleet;
use crate::status::{FleetSnapshot, State};
use crate::testing::{Faults, FaultyStore};

pub(super) const EXPIRY: Duration = Duration::from_secs(60);
/// The longest cycle.
pub(super) const CYCLE: Duration = Duration::from_secs(13);

pub(super) fn fleet() -> Fleet {
    Fleet { expiry: EXPIRY, ..Fleet::default() }
}

impl World {
    /// One more host of the fleet.
    pub(super) fn join(&self, owner: &str, guest: &TestGuest, fleet: Fleet) -> Running {
        let mut spec = self.spec(guest);
        spec.options.fleet = Some(fleet);
        Running::start(Host::builder().owner(owner).processor(spec))
    }

    /// How many partitions each of these owns.
    pub(super) fn shares<const N: usize>(&self, owners: [&str; N]) -> [usize; N] {
        let partitions = self.hub.partition_count();
        owners.map(|owner| {
            let owns = |n: &usize| self.store.owner(&n.to_string()).is_some_and(|o| o.as_str() == owner);
            (0..partitions).filter(owns).count()
        })
    }

    pub(super) fn push_all(&self, count: usize) {
        for partition in 0..self.hub.partition_count() {
            self.push(&partition.to_string(), count);
        }
    }

    pub(super) fn all_committed(&self, through: i64) -> bool {
        (0..self.hub.partition_count()).all(|n| self.store.checkpoint(&n.to_string()) == Some(through))
    }

    pub(super) fn assert_no_checkpoint_went_back(&self) {
        for partition in 0..self.hub.partition_count() {
            let history = self.store.history(&partition.to_string());
            assert!(history.is_sorted(), "partition {partition}: {history:?}");
        }
    }
}

impl Running {
    pub(super) fn fleet(&self) -> Option<FleetSnapshot> {
        self.status.snapshot().processors[0].fleet.clone()
    }
}

/// Sequence numbers handed over, by partition, sorted.
pub(super) fn handed_over(guests: &[&TestGuest], partitions: usize) -> Vec<Vec<i64>> {
    let mut all = vec![Vec::new(); partitions];
    for guest in guests {
        guest.log(|log| {
            for (partition, numbers) in &log.calls {
                all[partition.parse::<usize>().unwrap()].extend(numbers);
            }
        });
    }
    all.iter_mut().for_each(|numbers| numbers.sort_unstable());
    all
}

pub(super) fn processing() -> TestGuest {
    TestGuest::new(|call| done(call.batch)).taking(Duration::from_millis(20))
}

#[tokio::test(start_paused = true)]
async fn hosts_that_come_and_go_share_evenly_and_no_event_is_processed_twice() {
    let world = World::new(12);
    let guests = [processing(), processing(), processing()];
    let a = world.join("a", &guests[0], fleet());
    world.push_all(50);
    until("one host has them all", || world.shares(["a"]) == [12]).await;
    let b = world.join("b", &guests[1], fleet());
    until("two share", || world.shares(["a", "b"]) == [6, 6]).await;
    let c = world.join("c", &guests[2], fleet());
    world.push_all(50);
    until("three share", || world.shares(["a", "b", "c"]) == [4, 4, 4]).await;
    world.push_all(50);
    until("each knows its place", || a.fleet().is_some_and(|f| (f.hosts, f.quota, f.held) == (3, 4, 4))).await;
    assert!(b.stop().await.is_success());
    until("the others have its share", || world.shares(["a", "b", "c"]) == [6, 0, 6]).await;
    world.push_all(50);
    until("all is committed", || world.all_committed(199)).await;
    for host in [a, c] {
        assert!(host.stop().await.is_success());
    }
    assert_eq!(world.shares(["a", "b", "c"]), [0, 0, 0], "everything is released");
    let seen = handed_over(&guests.each_ref(), 12);
    assert!(seen.iter().all(|numbers| *numbers == (0..200).collect::<Vec<_>>()), "each event once: {seen:?}");
    world.assert_no_checkpoint_went_back();
}

#[tokio::test(start_paused = true)]
async fn the_dead_are_followed_within_the_expiry_and_two_cycles() {
    let world = World::new(4);
    let guests = [processing(), processing()];
    let a = world.join("a", &guests[0], fleet());
    let b = world.join("b", &guests[1], fleet());
    until("two share", || world.shares(["a", "b"]) == [2, 2]).await;
    world.push_all(30);
    until("all is committed", || world.all_committed(29)).await;
    a.task.abort();
    let _ = a.task.await;
    let died = tokio::time::Instant::now();
    world.push_all(30);
    until("the other has them all", || world.shares(["a", "b"]) == [0, 4]).await;
    assert!(died.elapsed() <= EXPIRY + 2 * CYCLE, "after {:?}", died.elapsed());
    until("all is committed", || world.all_committed(59)).await;
    assert!(b.stop().await.is_success());
    world.assert_no_checkpoint_went_back();
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_to_do_stands_by_and_takes_over() {
    let world = World::new(1);
    let guests = [processing(), processing()];
    let a = world.join("a", &guests[0], fleet());
    until("it has the partition", || world.shares(["a"]) == [1]).await;
    let b = world.join("b", &guests[1], fleet());
    until("the other stands by", || b.fleet().is_some_and(|f| f.standby && f.hosts == 2)).await;
    world.push_all(10);
    until("all is committed", || world.all_committed(9)).await;
    assert!(a.stop().await.is_success());
    until("the other takes over", || world.shares(["b"]) == [1]).await;
    world.push_all(10);
    until("all is committed", || world.all_committed(19)).await;
    assert!(b.stop().await.is_success());
    assert_eq!(handed_over(&guests.each_ref(), 1), [(0..20).collect::<Vec<_>>()]);
}

#[tokio::test(start_paused = true)]
async fn caps_and_assignments_are_kept() {
    let world = World::new(6);
    let guests = [processing(), processing(), processing()];
    let listed = Some(vec!["0".into(), "5".into()]);
    let fixed = world.join("fixed", &guests[0], Fleet { assignment: listed, ..fleet() });
    until("it has its own", || world.shares(["fixed"]) == [2]).await;
    let small = world.join("small", &guests[1], Fleet { most: Some(1), ..fleet() });
    let large = world.join("large", &guests[2], fleet());
    until("the rest is shared", || world.shares(["fixed", "small", "large"]) == [2, 1, 3]).await;
    assert_eq!(world.store.owner("5").unwrap().as_str(), "fixed");
    world.push_all(10);
    until("all is committed", || world.all_committed(9)).await;
    for host in [fixed, small, large] {
        assert!(host.stop().await.is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_cut_off_from_the_store_stops_before_another_may_begin() {
    let world = World::new(1);
    world.push("0", 10_000);
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(1));
    let store = Arc::new(FaultyStore::new(world.store.clone(), 1, Faults::NONE));
    let mut spec = ProcessorSpec { store: store.clone(), ..world.spec(&guest) };
    spec.options.fleet = Some(fleet());
    // Commits would end the tenancy on their own.
    spec.options.checkpoint.interval = Duration::from_secs(3600);
    spec.options.checkpoint.events = u64::MAX;
    let host = Running::start(Host::builder().owner("a").processor(spec));
    until("it works", || !guest.calls().is_empty()).await;
    store.set(Faults { not_done: 1.0, ..Faults::NONE });
    let cut_off = tokio::time::Instant::now();
    until("it has stopped", || host.shows(|p| matches!(&p.state, State::Retrying(why) if why.contains("confirm"))))
        .await;
    assert!(cut_off.elapsed() < EXPIRY, "after {:?}", cut_off.elapsed());
    let calls = guest.calls().len();
    tokio::time::sleep(2 * EXPIRY).await;
    assert_eq!(guest.calls().len(), calls, "nothing is handed over without an ownership");
    store.set(Faults::NONE);
    until("it goes on", || guest.calls().len() > calls).await;
    assert!(host.stop().await.is_success());
    world.assert_no_checkpoint_went_back();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_isnt_read_is_not_kept() {
    let world = World::new(1);
    let guest = processing();
    // No link is ever attached.
    for _ in 0..10_000 {
        world.hub.fault("0", crate::testing::Fault::Open(crate::seams::SourceErrorKind::Transient));
    }
    let host = world.join("a", &guest, fleet());
    until("it is claimed", || world.store.owner("0").is_some()).await;
    until("it is given up", || host.shows(|p| matches!(&p.state, State::Retrying(why) if why.contains("isn't read"))))
        .await;
    assert!(host.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_grows_is_read_in_full() {
    let world = World::new(4);
    let guests = [processing(), processing()];
    let a = world.join("a", &guests[0], fleet());
    let b = world.join("b", &guests[1], fleet());
    until("two share", || world.shares(["a", "b"]) == [2, 2]).await;
    world.hub.add_partitions(4);
    world.push_all(10);
    until("the new ones are shared too", || world.shares(["a", "b"]) == [4, 4]).await;
    until("and read from their first event", || world.all_committed(9)).await;
    for host in [a, b] {
        assert!(host.stop().await.is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_stopped_while_it_claims_leaves_nothing_in_its_name() {
    let world = World::new(8);
    let guest = processing();
    // Each claim is answered at another time.
    let slow = Faults { delay: Duration::from_secs(1), ..Faults::NONE };
    let store = Arc::new(FaultyStore::new(world.store.clone(), 7, slow));
    let mut spec = ProcessorSpec { store, ..world.spec(&guest) };
    spec.options.fleet = Some(fleet());
    let host = Running::start(Host::builder().owner("a").processor(spec));
    until("it has claimed some", || world.shares(["a"]) != [0]).await;
    assert_ne!(world.shares(["a"]), [8], "and not all");
    assert!(host.stop().await.is_success());
    assert_eq!(world.shares(["a"]), [0], "everything is released");
}
