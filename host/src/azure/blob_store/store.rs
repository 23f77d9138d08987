//! The store itself: what the seam promises, as requests to a container.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::container::{BlobContainer, Condition, Listed};
use super::layout::{self, INLINE, Layout, Marked, Owned, Place, State};
use crate::model::{Checkpoint, ETag, Generation, Mark, OwnerId, PartitionId, Scope, Tenancy};
use crate::seams::{CheckpointStore, HostRecord, Listing, Ownership, PartitionRecord, Presence, StoreError, Written};

/// State that no checkpoint names is removed after this time. A commit writes the state first and the checkpoint that names it second:
/// removing it between the two would lose it, so this is far longer than any write may take.
const UNNAMED_STATE_STAYS: Duration = Duration::from_secs(3600);

/// Names of foreign blobs that are remembered, so that each is warned of once.
const WARNINGS: usize = 1000;

/// Ownership and checkpoints of one scope in a blob container. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    container: BlobContainer,
    layout: Layout,
    memory: Mutex<Memory>,
}

/// What was seen. Only ever saves requests: every write has its condition all the same.
#[derive(Debug, Default)]
struct Memory {
    /// Whether there was a list, which then knew every partition.
    listed: bool,
    partitions: HashMap<PartitionId, Seen>,
    warned: HashSet<String>,
}

#[derive(Debug, Default)]
struct Seen {
    ownership: Option<ETag>,
    /// Of ownership and checkpoint, the higher.
    generation: Generation,
    /// The digest of the blob that the checkpoint's state is in.
    side: Option<String>,
    /// Old blobs with state that nobody names.
    unnamed: Vec<(String, ETag)>,
}

impl BlobStore {
    pub(super) fn new(container: BlobContainer, scope: &Scope) -> Self {
        Self(Arc::new(Inner { container, layout: Layout::new(scope), memory: Mutex::default() }))
    }
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something about a blob, once.
    fn warn(&self, name: &str, what: &str) {
        let mut memory = self.memory();
        if memory.warned.len() < WARNINGS && memory.warned.insert(name.to_owned()) {
            tracing::warn!(blob = name, container = ?self.container, "{what}");
        }
    }

    fn understand(&self, blobs: Vec<Listed>) -> Listing {
        let blank = |partition| PartitionRecord { partition, ownership: None, checkpoint: None };
        let mut records: BTreeMap<PartitionId, PartitionRecord> = BTreeMap::new();
        let mut marks: HashMap<PartitionId, Marked> = HashMap::new();
        let mut states = Vec::new();
        let mut hosts = Vec::new();
        for Listed { name, metadata, etag, age } in blobs {
            match self.layout.place(&name) {
                Place::Ownership(id) => {
                    let Owned { owner, generation, mark, sound } = layout::read_ownership(&metadata);
                    if !sound {
                        self.warn(&name, "this ownership names no owner, not even an empty one: it counts as free");
                    }
                    let ownership = Ownership { owner, generation, mark, etag, age };
                    records.entry(id.clone()).or_insert_with(|| blank(id)).ownership = Some(ownership);
                }
                Place::Checkpoint(id) => match layout::read_checkpoint(&metadata) {
                    Ok(marked) => {
                        let checkpoint = Checkpoint {
                            position: marked.position.clone(),
                            generation: marked.generation.unwrap_or(0),
                            mark: marked.mark,
                            state: Bytes::new(),
                        };
                        marks.insert(id.clone(), marked);
                        records.entry(id.clone()).or_insert_with(|| blank(id)).checkpoint = Some(checkpoint);
                    }
                    // A damaged checkpoint stops its own partition, when it is loaded, and not the list of all.
                    Err(why) => self.warn(&name, &format!("left out of the list of checkpoints: {why}")),
                },
                Place::Host => match layout::read_presence(&metadata) {
                    Some(presence) => hosts.push(HostRecord { presence, etag, age }),
                    None => self.warn(&name, "not a host's announcement: ignored"),
                },
                Place::State { partition, digest } => states.push((partition, digest, name, etag, age)),
                Place::Later => {}
                Place::Foreign => self.warn(&name, "not a blob of any Event Hubs client: left alone"),
            }
        }
        let mut seen: HashMap<PartitionId, Seen> = records
            .iter()
            .map(|(id, record)| {
                let owned = record.ownership.as_ref().map_or(0, |o| o.generation);
                let committed = record.checkpoint.as_ref().map_or(0, |c| c.generation);
                let seen = Seen {
                    ownership: record.ownership.as_ref().map(|o| o.etag.clone()),
                    generation: owned.max(committed),
                    side: marks.get(id).and_then(|m| m.side.clone()),
                    unnamed: Vec::new(),
                };
                (id.clone(), seen)
            })
            .collect();
        for (partition, digest, name, etag, age) in states {
            // Another client may have taken our marks off the checkpoint: then nobody knows what its body names.
            let ours =
                marks.get(&partition).is_some_and(|m| m.generation.is_some() && m.side.as_ref() != Some(&digest));
            if let Some(seen) = seen.get_mut(&partition).filter(|_| ours && age > Some(UNNAMED_STATE_STAYS)) {
                seen.unnamed.push((name, etag));
            }
        }
        let mut memory = self.memory();
        memory.listed = true;
        memory.partitions = seen;
        Listing { partitions: records.into_values().collect(), hosts }
    }

    /// The highest generation of a partition whose ownership record is as `expected`; `None`: it isn't.
    async fn generation(
        &self,
        partition: &PartitionId,
        expected: Option<&ETag>,
    ) -> Result<Option<Generation>, StoreError> {
        {
            let memory = self.memory();
            match memory.partitions.get(partition) {
                Some(seen) if seen.ownership.as_ref() == expected => return Ok(Some(seen.generation)),
                None if memory.listed && expected.is_none() => return Ok(Some(0)),
                _ => {}
            }
        }
        let (ownership, checkpoint) = (self.layout.ownership(partition), self.layout.checkpoint(partition));
        let (owned, marked) = tokio::try_join!(self.container.head(&ownership), self.container.head(&checkpoint))?;
        if owned.as_ref().map(|(_, etag)| etag) != expected {
            return Ok(None);
        }
        let owned = owned.map_or(0, |(metadata, _)| layout::read_ownership(&metadata).generation);
        let marked = marked.and_then(|(metadata, _)| layout::read_checkpoint(&metadata).ok());
        Ok(Some(owned.max(marked.and_then(|m| m.generation).unwrap_or(0))))
    }

    /// Writes an ownership record, if it still is as expected.
    async fn own(
        &self,
        partition: &PartitionId,
        owner: Option<&OwnerId>,
        (generation, mark): (Generation, Mark),
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let (name, metadata) = (self.layout.ownership(partition), layout::ownership(owner, generation, mark));
        let written = self.container.put(&name, expected.into(), metadata, Bytes::new()).await?;
        if let Written::Done(etag) = &written {
            let mut memory = self.memory();
            let seen = memory.partitions.entry(partition.clone()).or_default();
            seen.ownership = Some(etag.clone());
            seen.generation = seen.generation.max(generation);
        }
        Ok(written)
    }

    /// Reads the state that a checkpoint keeps elsewhere; `None`: it is gone.
    async fn state(&self, partition: &PartitionId, digest: &str, bytes: usize) -> Result<Option<Bytes>, StoreError> {
        let name = self.layout.state(partition, digest);
        let Some(blob) = self.container.get(&name, bytes).await? else { return Ok(None) };
        match layout::digest(&blob.body) == digest {
            true => Ok(Some(blob.body)),
            false => Err(self.corrupt(&name, "its content doesn't match its name")),
        }
    }

    fn corrupt(&self, name: &str, what: &str) -> StoreError {
        StoreError::Corrupt(format!(
            "blob {name} in {:?}: {what}. Restore an older version of it, or delete it: its partition then begins at the configured `start`, \
             which processes events again",
            self.container
        ))
    }

    /// Removes state that nobody needs any more. What fails is left for a later sweep.
    async fn sweep(&self, unneeded: Vec<(String, Option<ETag>)>) {
        for (name, etag) in unneeded {
            match self.container.delete(&name, etag.as_ref()).await {
                // Somebody wrote it again and may be about to name it.
                Ok(Written::Done(()) | Written::Conflict) => {}
                Err(error) => tracing::debug!(blob = name, %error, "old state stays for now"),
            }
        }
    }
}

#[async_trait]
impl CheckpointStore for BlobStore {
    async fn list(&self) -> Result<Listing, StoreError> {
        let blobs = self.0.container.list(&self.0.layout.prefix).await?;
        Ok(self.0.understand(blobs))
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        let Some(generation) = self.0.generation(partition, expected).await? else { return Ok(Written::Conflict) };
        let generation = generation + 1;
        let written = self.0.own(partition, Some(owner), (generation, mark), expected).await?;
        let (partition, owner) = (partition.clone(), owner.clone());
        Ok(written.map(|ownership| Tenancy { partition, owner, mark, generation, ownership }))
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        let Tenancy { partition, owner, mark, generation, ownership } = tenancy;
        let written = self.0.own(partition, Some(owner), (*generation, *mark), Some(ownership)).await?;
        Ok(written.map(|ownership| Tenancy { ownership, ..tenancy.clone() }))
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        let Tenancy { partition, mark, generation, ownership, .. } = tenancy;
        Ok(self.0.own(partition, None, (*generation, *mark), Some(ownership)).await?.map(drop))
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        let (name, metadata) = (self.0.layout.host(&presence.owner), layout::presence(presence));
        self.0.container.put(&name, expected.into(), metadata, Bytes::new()).await
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        let name = self.0.layout.host(owner);
        match self.0.container.delete(&name, Some(expected)).await? {
            // A condition on a blob that isn't there fails as well.
            Written::Conflict if self.0.container.head(&name).await?.is_none() => Ok(Written::Done(())),
            written => Ok(written),
        }
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        let name = self.0.layout.checkpoint(partition);
        let mut before = None;
        loop {
            let Some(blob) = self.0.container.get(&name, INLINE).await? else { return Ok(None) };
            let corrupt = |why: String| self.0.corrupt(&name, &why);
            let marked = layout::read_checkpoint(&blob.metadata).map_err(corrupt)?;
            let ((generation, mark), state) = layout::read_body(&marked, &blob.body).map_err(corrupt)?;
            let (state, side) = match state {
                State::Here(state) => (Some(state), None),
                State::Elsewhere { digest, bytes } => (self.0.state(partition, &digest, bytes).await?, Some(digest)),
            };
            let Some(state) = state else {
                // Whoever committed meanwhile removed the old state: what it wrote is there to be read.
                if before.replace(blob.etag.clone()) == Some(blob.etag) {
                    return Err(corrupt("the blob that holds its state is gone".into()));
                }
                continue;
            };
            self.0.memory().partitions.entry(partition.clone()).or_default().side = side;
            return Ok(Some((Checkpoint { position: marked.position, generation, mark, state }, blob.etag)));
        }
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let inner = &self.0;
        let digest = layout::digest(&checkpoint.state);
        let elsewhere = checkpoint.state.len() > INLINE;
        if elsewhere {
            let (name, state) = (inner.layout.state(partition, &digest), checkpoint.state.clone());
            // Written even if it is there: that makes it young, and safe from a sweep.
            let written = inner.container.put(&name, Condition::Any, layout::Metadata::new(), state).await;
            written
                .map_err(|e| StoreError::Determinate(format!("the checkpoint's state could not be written: {e}")))?;
        }
        let body = layout::body(checkpoint, &digest, elsewhere);
        let body = body.map_err(|e| StoreError::Determinate(format!("the checkpoint can't be encoded: {e}")))?;
        let side = elsewhere.then_some(digest);
        let metadata = layout::checkpoint(checkpoint, side.as_deref());
        let name = inner.layout.checkpoint(partition);
        let written = inner.container.put(&name, expected.into(), metadata, body).await?;
        if matches!(written, Written::Done(_)) {
            let unneeded = {
                let mut memory = inner.memory();
                let seen = memory.partitions.entry(partition.clone()).or_default();
                let named = side.as_deref().map(|digest| inner.layout.state(partition, digest));
                let before = std::mem::replace(&mut seen.side, side);
                let before = before.map(|digest| (inner.layout.state(partition, &digest), None));
                let unnamed = seen.unnamed.drain(..).map(|(name, etag)| (name, Some(etag)));
                before.into_iter().chain(unnamed).filter(|(name, _)| Some(name) != named.as_ref()).collect::<Vec<_>>()
            };
            if !unneeded.is_empty() {
                let inner = Arc::clone(inner);
                tokio::spawn(async move { inner.sweep(unneeded).await });
            }
        }
        Ok(written)
    }
}
