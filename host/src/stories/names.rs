//! Whose a host's name is: restarts go on under it, a second live process of one name stops.

use std::sync::Mutex;

use super::fleet::{CYCLE, EXPIRY, fleet, handed_over, processing};
use super::*;
use crate::model::{Checkpoint, ETag, Mark, OwnerId, PartitionId, Tenancy};
use crate::options::Fleet;
use crate::seams::{Listing, Presence, StoreError, Written};
use crate::testing::{Faults, FaultyStore};

/// The longest that a restart waits for a sign of its predecessor, and a moment to claim.
const SURE: Duration = Duration::from_secs(26);

impl World {
    /// A host over a store of its own, which can be made to fail.
    pub(super) fn join_over(
        &self,
        store: Arc<dyn CheckpointStore>,
        owner: &str,
        guest: &TestGuest,
        fleet: Fleet,
    ) -> Running {
        let mut spec = ProcessorSpec { store, ..self.spec(guest) };
        spec.options.fleet = Some(fleet);
        Running::start(Host::builder().owner(owner).processor(spec))
    }

    async fn sign(&self) -> Option<ETag> {
        self.store.list().await.unwrap().hosts.first().map(|host| host.etag.clone())
    }

    async fn next_sign(&self) {
        let last = self.sign().await;
        while self.sign().await == last {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What becomes of the signs of life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Signs {
    Pass,
    /// They, and taking one back, get no answer.
    Hang,
    Panic,
}

/// A store that is well but for the signs of life.
struct Moody {
    store: MemoryStore,
    signs: Mutex<Signs>,
}

impl Moody {
    fn over(world: &World) -> Arc<Self> {
        Arc::new(Self { store: world.store.clone(), signs: Mutex::new(Signs::Pass) })
    }

    fn set(&self, signs: Signs) {
        *self.signs.lock().unwrap() = signs;
    }

    async fn mood(&self) {
        let signs = *self.signs.lock().unwrap();
        match signs {
            Signs::Pass => {}
            Signs::Hang => pending().await,
            Signs::Panic => panic!("as the test wants it"),
        }
    }
}

#[async_trait::async_trait]
impl CheckpointStore for Moody {
    async fn list(&self) -> Result<Listing, StoreError> {
        self.store.list().await
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        self.store.claim(partition, owner, mark, expected).await
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        self.store.renew(tenancy).await
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        self.store.release(tenancy).await
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        self.mood().await;
        self.store.announce(presence, expected).await
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        self.mood().await;
        self.store.withdraw(owner, expected).await
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        self.store.load(partition).await
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        self.store.commit(partition, checkpoint, expected).await
    }
}

async fn kill(host: Running) {
    host.task.abort();
    let _ = host.task.await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_has_its_partitions_again_long_before_the_expiry() {
    let world = World::new(4);
    let guest = processing();
    for stands_still in [0, 5, 30, 90].map(Duration::from_secs) {
        let host = world.join("a", &guest, fleet());
        until("it has them all", || world.shares(["a"]) == [4] && host.fleet().is_some_and(|f| f.held == 4)).await;
        kill(host).await;
        tokio::time::sleep(stands_still).await;
        let started = tokio::time::Instant::now();
        let calls = guest.log(|log| log.openings.len());
        let again = world.join("a", &guest, fleet());
        until("it works again", || guest.log(|log| log.openings.len()) == calls + 4).await;
        let took = started.elapsed();
        assert!(took + stands_still.min(SURE) <= SURE + Duration::from_secs(1), "{took:?} after {stands_still:?}");
        assert!(again.stop().await.is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_process_of_one_name_stops_and_takes_nothing() {
    let world = World::new(4);
    let guests = [processing(), processing()];
    let first = world.join("a", &guests[0], fleet());
    until("it has them all", || world.shares(["a"]) == [4]).await;
    world.push_all(20);
    for _ in 0..3 {
        let second = world.join("a", &guests[1], fleet());
        let outcome = tokio::time::timeout(EXPIRY / 2, second.task).await.unwrap().unwrap();
        let text = outcome.to_string();
        assert!(
            !outcome.is_success() && text.contains("at work under the name `a`") && text.contains("host.owner"),
            "{text}"
        );
        world.push_all(20);
    }
    until("all is committed", || world.all_committed(79)).await;
    assert!(guests[1].calls().is_empty());
    assert!(first.stop().await.is_success());
    assert_eq!(handed_over(&guests.each_ref(), 4), vec![(0..80).collect::<Vec<_>>(); 4], "each event once");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_start_at_once_one_works() {
    let world = World::new(2);
    let guests = [processing(), processing()];
    world.push_all(20);
    let slow = Faults { delay: Duration::from_secs(1), ..Faults::NONE };
    for seed in 0..20 {
        let stores = [0, 1].map(|n| Arc::new(FaultyStore::new(world.store.clone(), seed * 2 + n, slow)));
        let mut hosts = [0, 1].map(|n| Some(world.join_over(stores[n].clone(), "a", &guests[n], fleet())));
        until("one stops", || hosts.iter().flatten().any(|host| host.task.is_finished())).await;
        let loser = hosts.iter().position(|host| host.as_ref().is_some_and(|host| host.task.is_finished())).unwrap();
        let outcome = hosts[loser].take().unwrap().task.await.unwrap();
        assert!(outcome.to_string().contains("under the name `a`"), "{outcome}");
        until("the other has them", || world.shares(["a"]) == [2]).await;
        assert!(hosts[1 - loser].take().unwrap().stop().await.is_success());
    }
    world.assert_no_checkpoint_went_back();
}

#[tokio::test(start_paused = true)]
async fn who_was_silent_for_too_long_has_lost_its_name() {
    let world = World::new(2);
    let guests = [processing(), processing()];
    let store = Arc::new(FaultyStore::new(world.store.clone(), 1, Faults::NONE));
    let old = world.join_over(store.clone(), "a", &guests[0], fleet());
    until("it has them all", || world.shares(["a"]) == [2]).await;
    world.push_all(20);
    until("all is committed", || world.all_committed(19)).await;
    // Nothing gets through any more, as if the process stood still.
    store.set(Faults { not_done: 1.0, ..Faults::NONE });
    let new = world.join("a", &guests[1], fleet());
    until("its successor works", || guests[1].log(|log| log.openings.len()) == 2).await;
    tokio::time::sleep(2 * EXPIRY).await;
    store.set(Faults::NONE);
    let outcome = tokio::time::timeout(EXPIRY, old.task).await.unwrap().unwrap();
    assert!(outcome.to_string().contains("has taken the name `a`"), "{outcome}");
    world.push_all(20);
    until("all is committed", || world.all_committed(39)).await;
    assert_eq!(world.shares(["a"]), [2]);
    assert!(new.stop().await.is_success());
    world.assert_no_checkpoint_went_back();
}

#[tokio::test(start_paused = true)]
async fn a_predecessor_that_is_leaving_is_waited_for() {
    let mut world = World::new(1);
    world.options.batch.events = 1;
    let guests = [TestGuest::new(|call| done(call.batch)).taking(Duration::from_secs(20)), processing()];
    let old = world.join("a", &guests[0], fleet());
    world.push("0", 2);
    until("it works", || !guests[0].calls().is_empty()).await;
    let stopping = tokio::spawn(old.stop());
    let new = world.join("a", &guests[1], fleet());
    until("its successor works", || !guests[1].calls().is_empty()).await;
    assert!(stopping.await.unwrap().is_success());
    until("all is committed", || world.all_committed(1)).await;
    assert!(new.stop().await.is_success());
    assert_eq!(handed_over(&guests.each_ref(), 1), [[0, 1]], "each event once");
}

#[tokio::test(start_paused = true)]
async fn a_sign_that_fails_once_costs_no_name() {
    let world = World::new(2);
    let guests = [processing(), processing()];
    let store = Moody::over(&world);
    let first = world.join_over(store.clone(), "a", &guests[0], fleet());
    until("it has them all", || world.shares(["a"]) == [2]).await;
    for _ in 0..20 {
        world.next_sign().await;
        store.set(Signs::Hang);
        let second = world.join("a", &guests[1], fleet());
        // The next sign is under way by now, and the one after it is not.
        tokio::time::sleep(CYCLE).await;
        store.set(Signs::Pass);
        let outcome = tokio::time::timeout(EXPIRY / 2, second.task).await.unwrap().unwrap();
        assert!(outcome.to_string().contains("at work under the name `a`"), "{outcome}");
    }
    assert!(guests[1].calls().is_empty());
    assert!(first.stop().await.is_success());
}

#[tokio::test(start_paused = true)]
async fn a_sign_under_way_does_not_hold_up_a_stop() {
    let world = World::new(2);
    let guest = processing();
    let store = Moody::over(&world);
    let retry = EXPIRY / 12;
    // Taking it back gets an answer, or doesn't.
    for (after, most) in [(Signs::Pass, Duration::from_secs(1)), (Signs::Hang, retry + Duration::from_secs(1))] {
        let host = world.join_over(store.clone(), "a", &guest, fleet());
        until("it has them all", || world.shares(["a"]) == [2]).await;
        world.next_sign().await;
        store.set(Signs::Hang);
        tokio::time::sleep(CYCLE).await;
        store.set(after);
        let told = tokio::time::Instant::now();
        assert!(host.stop().await.is_success());
        assert!(told.elapsed() <= most, "{:?}", told.elapsed());
        assert_eq!(world.sign().await.is_none(), after == Signs::Pass);
        store.set(Signs::Pass);
    }
}

#[tokio::test(start_paused = true)]
async fn a_defect_of_the_signs_stops_the_host() {
    let world = World::new(2);
    let guest = processing();
    let store = Moody::over(&world);
    let host = world.join_over(store.clone(), "a", &guest, fleet());
    until("it has them all", || world.shares(["a"]) == [2]).await;
    store.set(Signs::Panic);
    let outcome = tokio::time::timeout(2 * CYCLE, host.task).await.unwrap().unwrap();
    assert!(!outcome.is_success() && outcome.to_string().contains("defect of the host"), "{outcome}");
    assert_eq!(world.shares(["a"]), [0], "everything is released");
}

#[tokio::test(start_paused = true)]
async fn a_sign_that_is_deleted_is_written_again() {
    let world = World::new(2);
    let guest = processing();
    let host = world.join("a", &guest, fleet());
    until("it has them all", || world.shares(["a"]) == [2]).await;
    let sign = world.sign().await.unwrap();
    world.store.withdraw(&OwnerId::from("a"), &sign).await.unwrap();
    assert_eq!(world.sign().await, None);
    tokio::time::timeout(CYCLE, world.next_sign()).await.unwrap();
    assert_eq!(world.shares(["a"]), [2]);
    assert!(host.stop().await.is_success());
    assert_eq!(world.sign().await, None);
}
