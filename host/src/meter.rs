//! How often a host calls its checkpoint store, by what for: what a fleet costs at its storage account.
//!
//! What is counted are calls of the seam, as they are made, over the last 60 seconds; nothing is extrapolated. In a container, each is one
//! request, but for these: a list takes one for every 5,000 blobs, a state above 64 KiB two more with its checkpoint, and an
//! attempt that is repeated by the store one more.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;
use tokio::time::Instant;

use crate::model::{Checkpoint, ETag, Mark, OwnerId, PartitionId, Tenancy};
use crate::seams::{CheckpointStore, Listing, Presence, StoreError, Written};

/// Calls to a checkpoint store in the last 60 seconds, or since the start while that is shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoreCalls {
    /// Lists: one a cycle in a fleet.
    pub lists: u64,
    /// Announcements that the host is there: one a cycle in a fleet.
    pub announcements: u64,
    /// Claims, renewals and releases of partitions.
    pub ownerships: u64,
    /// Checkpoints read.
    pub reads: u64,
    /// Checkpoints written, or tried to.
    pub commits: u64,
}

impl StoreCalls {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.lists + self.announcements + self.ownerships + self.reads + self.commits
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            lists: self.lists + other.lists,
            announcements: self.announcements + other.announcements,
            ownerships: self.ownerships + other.ownerships,
            reads: self.reads + other.reads,
            commits: self.commits + other.commits,
        }
    }
}

const SECONDS: usize = 60;

/// Counts of each of the last seconds. Pure: time comes in.
#[derive(Debug)]
struct Window {
    seconds: [StoreCalls; SECONDS],
    /// The newest second in it.
    newest: u64,
}

impl Window {
    fn new() -> Self {
        Self { seconds: [StoreCalls::default(); SECONDS], newest: 0 }
    }

    /// Moves on to this second and answers its counts.
    fn at(&mut self, second: u64) -> &mut StoreCalls {
        let gone = second.saturating_sub(self.newest).min(SECONDS as u64);
        for ago in 0..gone {
            self.seconds[slot(second - ago)] = StoreCalls::default();
        }
        self.newest = self.newest.max(second);
        &mut self.seconds[slot(self.newest)]
    }

    fn sum(&mut self, second: u64) -> StoreCalls {
        self.at(second);
        self.seconds.iter().fold(StoreCalls::default(), |all, calls| all.plus(*calls))
    }
}

fn slot(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

/// Counts the calls of one processor.
#[derive(Debug)]
pub(crate) struct Meter {
    began: Instant,
    window: Mutex<Window>,
}

impl Meter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), window: Mutex::new(Window::new()) })
    }

    pub(crate) fn calls(&self) -> StoreCalls {
        self.within(Window::sum)
    }

    fn count(&self, add: impl FnOnce(&mut StoreCalls) -> &mut u64) {
        self.within(|window, second| *add(window.at(second)) += 1);
    }

    fn within<T>(&self, look: impl FnOnce(&mut Window, u64) -> T) -> T {
        look(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner), self.began.elapsed().as_secs())
    }
}

/// A store whose calls are counted.
pub(crate) struct Metered {
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) meter: Arc<Meter>,
}

#[async_trait]
impl CheckpointStore for Metered {
    async fn list(&self) -> Result<Listing, StoreError> {
        self.meter.count(|calls| &mut calls.lists);
        self.store.list().await
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        self.meter.count(|calls| &mut calls.ownerships);
        self.store.claim(partition, owner, mark, expected).await
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        self.meter.count(|calls| &mut calls.ownerships);
        self.store.renew(tenancy).await
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        self.meter.count(|calls| &mut calls.ownerships);
        self.store.release(tenancy).await
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        self.meter.count(|calls| &mut calls.announcements);
        self.store.announce(presence, expected).await
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        self.meter.count(|calls| &mut calls.announcements);
        self.store.withdraw(owner, expected).await
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        self.meter.count(|calls| &mut calls.reads);
        self.store.load(partition).await
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        self.meter.count(|calls| &mut calls.commits);
        self.store.commit(partition, checkpoint, expected).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_counts_and_nothing_older() {
        let mut window = Window::new();
        window.at(0).lists += 1;
        window.at(0).commits += 2;
        window.at(30).commits += 3;
        let sums = |window: &mut Window, second| {
            let sum = window.sum(second);
            (sum.lists, sum.commits, sum.total())
        };
        assert_eq!(sums(&mut window, 59), (1, 5, 6));
        assert_eq!(sums(&mut window, 60), (0, 3, 3));
        assert_eq!(sums(&mut window, 89), (0, 3, 3));
        assert_eq!(sums(&mut window, 90), (0, 0, 0));
        window.at(91).reads += 1;
        assert_eq!(window.sum(10_000).total(), 0, "a long silence");
        window.at(10_000).reads += 1;
        window.at(10_000).ownerships += 1;
        window.at(10_000).announcements += 1;
        assert_eq!(window.sum(10_059).total(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_is_counted_once() {
        let meter = Meter::new();
        let store = Metered { store: Arc::new(crate::testing::MemoryStore::new()), meter: Arc::clone(&meter) };
        crate::testing::conformance::checkpoint_store(&store).await;
        let first = meter.calls();
        assert!(
            first.lists > 0 && first.announcements > 0 && first.ownerships > 0 && first.reads > 0 && first.commits > 0
        );
        assert!(store.list().await.is_ok() && store.load(&PartitionId::from("0")).await.is_ok());
        assert_eq!(meter.calls(), StoreCalls { lists: first.lists + 1, reads: first.reads + 1, ..first });
        tokio::time::sleep(std::time::Duration::from_secs(61)).await;
        assert_eq!(meter.calls(), StoreCalls::default());
    }
}
