//! What befalls checkpoints: open outcomes, lost races, stores that are away.

use super::*;
use crate::local::DirectoryStore;
use crate::model::{Checkpoint, OwnerId, Position};
use crate::state::StateImage;
use crate::testing::{Faults, FaultyStore};

fn behind_faults(world: &World, guest: &TestGuest, seed: u64, faults: Faults) -> HostBuilder {
    let store = Arc::new(FaultyStore::new(world.store.clone(), seed, faults));
    Host::builder().processor(ProcessorSpec { store, ..world.spec(guest) })
}

#[tokio::test(start_paused = true)]
async fn a_write_that_took_place_but_was_reported_as_failed_is_recognised() {
    let mut world = World::new(1);
    world.options.checkpoint.events = 10;
    world.options.store_retry.backoff = Duration::from_millis(1);
    world.push("0", 100);
    let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_millis(50));
    let faults = Faults { unknown_done: 0.5, ..Faults::NONE };
    let outcome = catch_up(behind_faults(&world, &guest, 3, faults)).await;
    assert!(outcome.is_success(), "{outcome}");
    let history = world.store.history("0");
    assert_eq!(history.last(), Some(&99));
    assert!(history.len() > 5 && history.windows(2).all(|w| w[0] < w[1]), "nothing is written twice: {history:?}");
    assert_eq!(guest.seen(), (0..100).collect::<Vec<_>>(), "and the tenancy goes on");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_outlives_its_sender_harms_nothing() {
    for seed in 0..50 {
        let mut world = World::new(1);
        world.options.checkpoint.events = 10;
        world.push("0", 100);
        let guest = TestGuest::new(|call| done(call.batch)).taking(Duration::from_millis(50));
        let faults = Faults { late: 0.4, delay: Duration::from_millis(300), ..Faults::NONE };
        let host = Running::start(behind_faults(&world, &guest, seed, faults));
        until("all is committed", || world.store.checkpoint("0") == Some(99)).await;
        host.stop().await;
        let history = world.store.history("0");
        assert!(history.windows(2).all(|w| w[0] < w[1]), "seed {seed}: {history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_ends_the_tenancy_with_everything_in_it() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| done(call.batch));
    let host = world.start(&guest);
    until("the first checkpoint", || world.store.checkpoint("0") == Some(19)).await;
    // A newer owner was here, and further.
    let position = Position { sequence_number: 24, offset: "1536".into() };
    world.store.overwrite("0", Checkpoint { position, generation: 2, mark: None, state: StateImage::default() });
    world.push("0", 20);
    until("it goes on after the other", || world.store.checkpoint("0") == Some(39)).await;
    assert!(host.stop().await.is_success());
    let resumed = guest.log(|log| log.openings.last().cloned()).unwrap();
    assert_eq!(resumed.checkpoint.unwrap().sequence_number, 24);
    assert_eq!(world.store.history("0"), [19, 39], "never over the other's");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_stops_the_partition_loudly() {
    let world = World::new(1);
    world.push("0", 20);
    let guest = TestGuest::new(|call| done(call.batch));
    let store = Arc::new(Away { inner: world.store.clone() });
    let spec = ProcessorSpec { store, ..world.spec(&guest) };
    let outcome = Running::start(Host::builder().processor(spec)).task.await.unwrap();
    let text = outcome.to_string();
    assert!(
        text.contains("checkpoint at sequence number 19") && text.contains("after 10 attempt(s): the disk is full"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_any_more_when_nobody_commits() {
    let mut world = World::new(1);
    world.options.checkpoint.events = 10;
    world.options.store_retry.attempts = 1;
    world.options.sink_timeout = Duration::from_secs(86_400);
    world.push("0", 100);
    // Corked with the first batch through and the second at the sink.
    let (out, sink) = (world.out.clone(), world.out.clone());
    let guest = TestGuest::new(move |call| {
        if call.nth == 1 {
            sink.cork(true);
        }
        done(call.batch)
    })
    .taking(Duration::from_secs(1));
    let store = Arc::new(Away { inner: world.store.clone() });
    let host = Running::start(Host::builder().processor(ProcessorSpec { store, ..world.spec(&guest) }));
    let outcome = host.task.await.unwrap();
    assert!(outcome.to_string().contains("checkpoint at sequence number 9"), "{outcome}");
    out.cork(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(out.ids(), ids(0, 0..10));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_stops_its_own_partition_only() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(2);
    let guest = TestGuest::new(|call| done(call.batch));
    let run = async || {
        let store = DirectoryStore::open(root.path(), scope("hub"), &OwnerId::from("me")).unwrap();
        catch_up(Host::builder().processor(ProcessorSpec { store: Arc::new(store), ..world.spec(&guest) })).await
    };
    world.push("0", 10);
    world.push("1", 10);
    assert!(run().await.is_success());
    let damaged = root.path().join("n/hub/g/0/checkpoint.json");
    std::fs::write(&damaged, "{").unwrap();
    world.push("0", 10);
    world.push("1", 10);
    let outcome = run().await;
    assert_eq!(outcome.errors().len(), 1, "{outcome}");
    let text = outcome.to_string();
    assert!(text.contains("partition 0") && text.contains("checkpoint.json: it is damaged"), "{text}");
    assert!(matches!(end(&outcome, 1), PartitionEnd::CaughtUp { held: 0 }), "{outcome:?}");
    assert_eq!(guest.seen().len(), 30);
}

/// Everything but writing checkpoints works.
struct Away {
    inner: MemoryStore,
}

#[async_trait::async_trait]
impl CheckpointStore for Away {
    async fn list(&self) -> Result<crate::seams::Listing, crate::seams::StoreError> {
        self.inner.list().await
    }

    async fn claim(
        &self,
        partition: &crate::model::PartitionId,
        owner: &crate::model::OwnerId,
        mark: crate::model::Mark,
        expected: Option<&crate::model::ETag>,
    ) -> Result<crate::seams::Written<crate::model::Tenancy>, crate::seams::StoreError> {
        self.inner.claim(partition, owner, mark, expected).await
    }

    async fn renew(
        &self,
        tenancy: &crate::model::Tenancy,
    ) -> Result<crate::seams::Written<crate::model::Tenancy>, crate::seams::StoreError> {
        self.inner.renew(tenancy).await
    }

    async fn release(
        &self,
        tenancy: &crate::model::Tenancy,
    ) -> Result<crate::seams::Written<()>, crate::seams::StoreError> {
        self.inner.release(tenancy).await
    }

    async fn announce(
        &self,
        presence: &crate::seams::Presence,
        expected: Option<&crate::model::ETag>,
    ) -> Result<crate::seams::Written<crate::model::ETag>, crate::seams::StoreError> {
        self.inner.announce(presence, expected).await
    }

    async fn withdraw(
        &self,
        owner: &crate::model::OwnerId,
        expected: &crate::model::ETag,
    ) -> Result<crate::seams::Written<()>, crate::seams::StoreError> {
        self.inner.withdraw(owner, expected).await
    }

    async fn load(
        &self,
        partition: &crate::model::PartitionId,
    ) -> Result<Option<(Checkpoint, crate::model::ETag)>, crate::seams::StoreError> {
        self.inner.load(partition).await
    }

    async fn commit(
        &self,
        _partition: &crate::model::PartitionId,
        _checkpoint: &Checkpoint,
        _expected: Option<&crate::model::ETag>,
    ) -> Result<crate::seams::Written<crate::model::ETag>, crate::seams::StoreError> {
        Err(crate::seams::StoreError::Determinate("the disk is full".into()))
    }
}
