//! A checkpoint store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::model::{Checkpoint, ETag, Mark, OwnerId, PartitionId, SequenceNumber, Tenancy};
use crate::seams::{CheckpointStore, HostRecord, Listing, Ownership, PartitionRecord, Presence, StoreError, Written};
use crate::state::{Digest, StateImage};

/// A checkpoint store in memory. Clones are the same store. Its clock is tokio's: in a test with paused time, records age as the
/// test lets time pass.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    writes: u64,
    calls: u64,
    ownerships: BTreeMap<PartitionId, Owned>,
    checkpoints: BTreeMap<PartitionId, (Checkpoint, ETag)>,
    /// What the checkpoints' states name.
    segments: BTreeMap<PartitionId, HashMap<Digest, Bytes>>,
    hosts: BTreeMap<String, (Presence, ETag, Instant)>,
    history: Vec<(PartitionId, SequenceNumber)>,
}

#[derive(Debug)]
struct Owned {
    owner: Option<OwnerId>,
    generation: u64,
    mark: Option<Mark>,
    etag: ETag,
    at: Instant,
}

impl Inner {
    fn etag(&mut self) -> ETag {
        self.writes += 1;
        ETag(self.writes.to_string())
    }

    /// Stores a checkpoint with the segments of its state, all of which must be there then, and no others.
    fn keep(&mut self, partition: &PartitionId, checkpoint: &Checkpoint, etag: ETag) -> Result<(), StoreError> {
        let mut known = self.segments.remove(partition).unwrap_or_default();
        let mut named = HashMap::new();
        let mut checkpoint = checkpoint.clone();
        for segment in &mut checkpoint.state.segments {
            let bytes = segment.bytes.take().or_else(|| known.remove(&segment.digest));
            let bytes = bytes.ok_or_else(|| StoreError::Corrupt(format!("segment {} is not there", segment.digest)))?;
            named.insert(segment.digest, bytes.clone());
            segment.bytes = Some(bytes);
        }
        self.segments.insert(partition.clone(), named);
        self.checkpoints.insert(partition.clone(), (checkpoint, etag));
        Ok(())
    }

    /// Writes an ownership record again, if it still has the tenancy's ETag.
    fn rewrite(&mut self, tenancy: &Tenancy, owner: Option<OwnerId>) -> Written<ETag> {
        let etag = self.etag();
        match self.ownerships.get_mut(&tenancy.partition) {
            Some(owned) if owned.etag == tenancy.ownership => {
                let (generation, mark) = (tenancy.generation, Some(tenancy.mark));
                *owned = Owned { owner, generation, mark, etag: etag.clone(), at: Instant::now() };
                Written::Done(etag)
            }
            _ => Written::Conflict,
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A partition's checkpoint.
    pub fn checkpoint(&self, partition: &str) -> Option<SequenceNumber> {
        let inner = self.lock();
        inner.checkpoints.get(&PartitionId::from(partition)).map(|(c, _)| c.position.sequence_number)
    }

    /// A partition's owner.
    pub fn owner(&self, partition: &str) -> Option<OwnerId> {
        self.lock().ownerships.get(&PartitionId::from(partition)).and_then(|o| o.owner.clone())
    }

    /// Every checkpoint that was ever written to a partition, in order.
    pub fn history(&self, partition: &str) -> Vec<SequenceNumber> {
        let partition = PartitionId::from(partition);
        self.lock().history.iter().filter(|(p, _)| *p == partition).map(|(_, n)| *n).collect()
    }

    /// Writes a checkpoint past every condition, as somebody else would.
    pub fn overwrite(&self, partition: &str, checkpoint: Checkpoint) {
        let mut inner = self.lock();
        let etag = inner.etag();
        // It can only lack a segment that this store doesn't have.
        let _ = inner.keep(&PartitionId::from(partition), &checkpoint, etag);
    }

    /// Deletes a checkpoint, as a person would.
    pub fn forget(&self, partition: &str) {
        self.lock().checkpoints.remove(&PartitionId::from(partition));
    }

    /// Takes a partition as another SDK would: past every condition, and counting nothing.
    pub fn take(&self, partition: &str, owner: &str) {
        let mut inner = self.lock();
        let etag = inner.etag();
        let owned = Owned { owner: Some(OwnerId::from(owner)), generation: 0, mark: None, etag, at: Instant::now() };
        inner.ownerships.insert(PartitionId::from(partition), owned);
    }

    /// Calls of all hosts so far, reads and writes.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call.
    fn call(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        inner.calls += 1;
        inner
    }
}

#[async_trait]
impl CheckpointStore for MemoryStore {
    async fn list(&self) -> Result<Listing, StoreError> {
        let inner = self.call();
        let mut records: BTreeMap<&PartitionId, PartitionRecord> = BTreeMap::new();
        let blank = |p: &PartitionId| PartitionRecord { partition: p.clone(), ownership: None, checkpoint: None };
        for (p, owned) in &inner.ownerships {
            records.entry(p).or_insert_with(|| blank(p)).ownership = Some(Ownership {
                owner: owned.owner.clone(),
                generation: owned.generation,
                mark: owned.mark,
                etag: owned.etag.clone(),
                age: Some(owned.at.elapsed()),
            });
        }
        for (p, (checkpoint, _)) in &inner.checkpoints {
            let listed = Checkpoint { state: StateImage::default(), ..checkpoint.clone() };
            records.entry(p).or_insert_with(|| blank(p)).checkpoint = Some(listed);
        }
        let hosts = inner.hosts.values().map(|(presence, etag, at)| HostRecord {
            presence: presence.clone(),
            etag: etag.clone(),
            age: Some(at.elapsed()),
        });
        Ok(Listing { hosts: hosts.collect(), partitions: records.into_values().collect() })
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        let mut inner = self.call();
        let current = inner.ownerships.get(partition);
        if current.map(|o| &o.etag) != expected {
            return Ok(Written::Conflict);
        }
        let committed = inner.checkpoints.get(partition).map_or(0, |(c, _)| c.generation);
        let generation = current.map_or(0, |o| o.generation).max(committed) + 1;
        let etag = inner.etag();
        let owned =
            Owned { owner: Some(owner.clone()), generation, mark: Some(mark), etag: etag.clone(), at: Instant::now() };
        inner.ownerships.insert(partition.clone(), owned);
        let (partition, owner) = (partition.clone(), owner.clone());
        Ok(Written::Done(Tenancy { partition, owner, mark, generation, ownership: etag }))
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        let renewed = self.call().rewrite(tenancy, Some(tenancy.owner.clone()));
        Ok(renewed.map(|ownership| Tenancy { ownership, ..tenancy.clone() }))
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        Ok(self.call().rewrite(tenancy, None).map(|_| ()))
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        let mut inner = self.call();
        let name = presence.owner.to_string();
        if inner.hosts.get(&name).map(|(_, etag, _)| etag) != expected {
            return Ok(Written::Conflict);
        }
        let etag = inner.etag();
        inner.hosts.insert(name, (presence.clone(), etag.clone(), Instant::now()));
        Ok(Written::Done(etag))
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        let mut inner = self.call();
        if inner.hosts.get(owner.as_str()).is_some_and(|(_, etag, _)| etag != expected) {
            return Ok(Written::Conflict);
        }
        inner.hosts.remove(owner.as_str());
        Ok(Written::Done(()))
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        Ok(self.call().checkpoints.get(partition).cloned())
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let mut inner = self.call();
        if inner.checkpoints.get(partition).map(|(_, etag)| etag) != expected {
            return Ok(Written::Conflict);
        }
        let etag = inner.etag();
        inner.keep(partition, checkpoint, etag.clone())?;
        inner.history.push((partition.clone(), checkpoint.position.sequence_number));
        Ok(Written::Done(etag))
    }
}
