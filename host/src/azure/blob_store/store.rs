//! The store itself: what the seam promises, as requests to a container.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::body;
use super::container::{BlobContainer, Condition, Listed};
use super::layout::{self, Layout, Marked, Owned, Place};
use crate::model::{Checkpoint, ETag, Generation, Mark, OwnerId, PartitionId, Scope, Tenancy};
use crate::seams::{CheckpointStore, HostRecord, Listing, Ownership, PartitionRecord, Presence, StoreError, Written};
use crate::state::{Digest, Segment, StateImage, TAIL_BYTES};

/// A segment that no checkpoint names is removed after this time. A commit writes it first and the checkpoint that names it second:
/// removing it between the two would lose it, so this is far longer than any write may take.
const UNNAMED_STATE_STAYS: Duration = Duration::from_secs(3600);

/// Segments that are read at a time.
const TOGETHER: usize = 8;

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
    /// What the checkpoint names that was read or written here last.
    segments: Vec<Digest>,
    /// Old segments that nobody names.
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
                            state: StateImage::default(),
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
                Place::Segment { partition, digest } => states.push((partition, digest, name, etag, age)),
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
                    segments: Vec::new(),
                    unnamed: Vec::new(),
                };
                (id.clone(), seen)
            })
            .collect();
        for (partition, digest, name, etag, age) in states {
            // Another client may have taken our marks off the checkpoint: then nobody knows what its body names.
            let ours = marks.get(&partition).is_some_and(|m| m.generation.is_some() && !m.names(&digest));
            if let Some(seen) = seen.get_mut(&partition).filter(|_| ours && age > Some(UNNAMED_STATE_STAYS)) {
                seen.unnamed.push((name, etag));
            }
        }
        let mut memory = self.memory();
        memory.listed = true;
        for (partition, seen) in &mut seen {
            seen.segments = memory.partitions.remove(partition).map(|before| before.segments).unwrap_or_default();
        }
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

    /// Reads a segment; `None`: it is gone.
    async fn segment(&self, partition: &PartitionId, segment: &Segment) -> Result<Option<Segment>, StoreError> {
        let name = self.layout.segment(partition, &segment.digest);
        let Some(blob) = self.container.get(&name, segment.len).await? else { return Ok(None) };
        match Digest::of(&blob.body) == segment.digest {
            true => Ok(Some(Segment { bytes: Some(blob.body), ..*segment })),
            false => Err(self.corrupt(&name, "its content doesn't match its name")),
        }
    }

    /// Reads the segments that a checkpoint names; the error in the answer names the one that is gone.
    async fn segments(
        &self,
        partition: &PartitionId,
        segments: &[Segment],
    ) -> Result<Result<Vec<Segment>, Digest>, StoreError> {
        // One borrow for all: a closure over each segment would have to hold for every lifetime.
        let reads: Vec<_> = segments.iter().map(|segment| self.segment(partition, segment)).collect();
        let read: Vec<_> = stream::iter(reads).buffered(TOGETHER).try_collect().await?;
        let found = read.into_iter().zip(segments).map(|(read, named)| read.ok_or(named.digest));
        Ok(found.collect())
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
            let Some(blob) = self.0.container.get(&name, TAIL_BYTES).await? else { return Ok(None) };
            let corrupt = |why: String| self.0.corrupt(&name, &why);
            let marked = layout::read_checkpoint(&blob.metadata).map_err(corrupt)?;
            let ((generation, mark), mut state) = body::read(&marked, &blob.body, &name).map_err(corrupt)?;
            match self.0.segments(partition, &state.segments).await? {
                Ok(segments) => state.segments = segments,
                Err(gone) => {
                    // Whoever committed meanwhile removed what its checkpoint doesn't name any more: that one is there to be read.
                    if before.replace(blob.etag.clone()) == Some(blob.etag) {
                        let gone = self.0.layout.segment(partition, &gone);
                        return Err(corrupt(format!("a part of its state is gone, the blob {gone}")));
                    }
                    continue;
                }
            }
            let named = state.segments.iter().map(|segment| segment.digest).collect();
            self.0.memory().partitions.entry(partition.clone()).or_default().segments = named;
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
        for Segment { digest, bytes, .. } in &checkpoint.state.segments {
            let Some(bytes) = bytes else { continue };
            // Written even if it is there: that makes it young, and safe from a sweep.
            let name = inner.layout.segment(partition, digest);
            let written = inner.container.put(&name, Condition::Any, layout::Metadata::new(), bytes.clone()).await;
            let failed = |why: &dyn std::fmt::Display| {
                StoreError::Determinate(format!("the checkpoint's state could not be written: {why}"))
            };
            match written {
                Ok(Written::Done(_)) => {}
                Ok(Written::Conflict) => return Err(failed(&"the service takes it for conditional, which it is not")),
                Err(error) => return Err(failed(&error)),
            }
        }
        let name = inner.layout.checkpoint(partition);
        let body = body::write(checkpoint, &name);
        let body = body.map_err(|e| StoreError::Determinate(format!("the checkpoint can't be encoded: {e}")))?;
        let written = inner.container.put(&name, expected.into(), layout::checkpoint(checkpoint), body).await?;
        if matches!(written, Written::Done(_)) {
            let named: Vec<Digest> = checkpoint.state.segments.iter().map(|segment| segment.digest).collect();
            let is_named = |name: &String| named.iter().any(|digest| inner.layout.segment(partition, digest) == *name);
            let unneeded = {
                let mut memory = inner.memory();
                let seen = memory.partitions.entry(partition.clone()).or_default();
                let before = std::mem::take(&mut seen.segments).into_iter().filter(|digest| !named.contains(digest));
                let before = before.map(|digest| (inner.layout.segment(partition, &digest), None));
                let unnamed = seen.unnamed.drain(..).map(|(name, etag)| (name, Some(etag)));
                let unneeded = before.chain(unnamed.filter(|(name, _)| !is_named(name))).collect::<Vec<_>>();
                seen.segments = named.clone();
                unneeded
            };
            if !unneeded.is_empty() {
                let inner = Arc::clone(inner);
                tokio::spawn(async move { inner.sweep(unneeded).await });
            }
        }
        Ok(written)
    }
}
