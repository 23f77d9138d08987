//! A checkpoint store in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::model::{Checkpoint, ETag, OwnerId, PartitionId, SequenceNumber, Tenancy};
use crate::seams::{CheckpointStore, Ownership, PartitionRecord, StoreError, Written};

/// A checkpoint store in memory. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    writes: u64,
    ownerships: BTreeMap<PartitionId, Ownership>,
    checkpoints: BTreeMap<PartitionId, (Checkpoint, ETag)>,
    history: Vec<(PartitionId, SequenceNumber)>,
}

impl Inner {
    fn etag(&mut self) -> ETag {
        self.writes += 1;
        ETag(self.writes.to_string())
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
        inner.checkpoints.insert(PartitionId::from(partition), (checkpoint, etag));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CheckpointStore for MemoryStore {
    async fn list(&self) -> Result<Vec<PartitionRecord>, StoreError> {
        let inner = self.lock();
        let mut records: BTreeMap<&PartitionId, PartitionRecord> = BTreeMap::new();
        let blank = |p: &PartitionId| PartitionRecord { partition: p.clone(), ownership: None, checkpoint: None };
        for (p, ownership) in &inner.ownerships {
            records.entry(p).or_insert_with(|| blank(p)).ownership = Some(ownership.clone());
        }
        for (p, (checkpoint, _)) in &inner.checkpoints {
            records.entry(p).or_insert_with(|| blank(p)).checkpoint = Some(checkpoint.clone());
        }
        Ok(records.into_values().collect())
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        let mut inner = self.lock();
        let current = inner.ownerships.get(partition);
        if current.map(|o| &o.etag) != expected {
            return Ok(Written::Conflict);
        }
        let generation = current.map_or(0, |o| o.generation) + 1;
        let etag = inner.etag();
        let ownership = Ownership { owner: Some(owner.clone()), generation, etag: etag.clone() };
        inner.ownerships.insert(partition.clone(), ownership);
        Ok(Written::Done(Tenancy { partition: partition.clone(), owner: owner.clone(), generation, ownership: etag }))
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        let mut inner = self.lock();
        let etag = inner.etag();
        match inner.ownerships.get_mut(&tenancy.partition) {
            Some(o) if o.etag == tenancy.ownership => {
                o.owner = None;
                o.etag = etag;
                Ok(Written::Done(()))
            }
            _ => Ok(Written::Conflict),
        }
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        Ok(self.lock().checkpoints.get(partition).cloned())
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let mut inner = self.lock();
        if inner.checkpoints.get(partition).map(|(_, etag)| etag) != expected {
            return Ok(Written::Conflict);
        }
        let etag = inner.etag();
        inner.checkpoints.insert(partition.clone(), (checkpoint.clone(), etag.clone()));
        inner.history.push((partition.clone(), checkpoint.position.sequence_number));
        Ok(Written::Done(etag))
    }
}
