//! Ownership and checkpoints in a directory, for one host on one machine.
//!
//! `ROOT/namespace/hub/group/partition/{ownership,checkpoint}.json`, and `…/group/+hosts/NAME.json` for who is there. The segments of
//! a state lie beside its checkpoint, in `…/partition/state/DIGEST`. A write goes to a temporary file, is flushed to the disk, renamed over the old one, and the directory is flushed: after a
//! crash at any moment there is the old record or the new one. `group/lock` is locked for as long as the store lives, and by the kernel's doing no longer
//! than its process lives, so conditions checked in this process hold.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Serialize;

use super::durable::{create, create_directories, sync_entry};
use super::record::{
    self, CheckpointRecord, HOSTS, OwnershipRecord, PresenceRecord, Stored, Subject, Unreadable, segment,
};
use super::segments::{read_segments, sweep, write_segments};
use crate::model::{Checkpoint, ETag, Mark, OwnerId, PartitionId, Scope, Tenancy};
use crate::seams::{CheckpointStore, HostRecord, Listing, PartitionRecord, Presence, StoreError, Written};
use crate::state::StateImage;

/// The checkpoint store of one scope, in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    scope: Scope,
    /// Held for as long as the store lives; `None`: read only.
    lock: Option<File>,
    /// One write at a time: between reading the ETag and replacing the file, nobody else writes.
    writing: Mutex<()>,
}

/// Why a directory can't be used for checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the checkpoints of {scope} in {} are in use by {holder}; stop that process, or give this one a consumer group or a checkpoint \
         directory of its own", directory.display()
    )]
    InUse {
        /// Namespace, hub and group.
        scope: Scope,
        /// The scope's directory.
        directory: PathBuf,
        /// Who holds it, as it said of itself.
        holder: String,
    },
    /// The file system says no.
    #[error("can't use {} for checkpoints: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl DirectoryStore {
    /// Opens a scope's store for writing, creating it where needed. Refuses while another store, in whatever process,
    /// has it open.
    pub fn open(root: &Path, scope: Scope, owner: &OwnerId) -> Result<Self, OpenError> {
        let directory = record::scope_directory(root, &scope);
        let path = directory.join("lock");
        let io = |error| OpenError::Io { path: path.clone(), error };
        create_directories(&directory).map_err(io)?;
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message; whoever holds the lock writes it right after taking it.
                let _ = lock.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process".into() } else { holder.trim().to_owned() };
                return Err(OpenError::InUse { scope, directory, holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        lock.set_len(0).map_err(io)?;
        writeln!(lock, "process {} (owner {owner})", std::process::id()).map_err(io)?;
        // Whoever said that it is there is gone: the lock was free.
        match fs::remove_dir_all(directory.join(HOSTS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        Ok(Self::new(directory, scope, Some(lock)))
    }

    /// A scope's store to look at, also while a host writes it. Writes are refused.
    pub fn read_only(root: &Path, scope: Scope) -> Self {
        Self::new(record::scope_directory(root, &scope), scope, None)
    }

    fn new(directory: PathBuf, scope: Scope, lock: Option<File>) -> Self {
        Self { inner: Arc::new(Inner { directory, scope, lock, writing: Mutex::new(()) }) }
    }

    /// Runs file work where it may block. It goes on to its end even if nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| Err(StoreError::Indeterminate(format!("the file operation was cut off: {e}"))))
    }
}

impl Inner {
    fn path<R: Record>(&self, partition: &PartitionId) -> PathBuf {
        self.directory.join(segment(partition.as_str())).join(R::FILE)
    }

    fn read<R: Record>(&self, partition: &PartitionId) -> Result<Option<(R, ETag)>, Unreadable> {
        let path = self.path::<R>(partition);
        let Some((found, etag)) = read::<R>(&path)? else { return Ok(None) };
        if *found.subject() != Subject::new(&self.scope, partition) {
            return Err(Unreadable::damaged::<R>(&path, "it belongs to another partition, hub or group"));
        }
        Ok(Some((found, etag)))
    }

    /// Replaces a record if it still has the expected ETag. `make` is given the record found, and runs while nobody else writes.
    fn replace<R: Record, T>(
        &self,
        partition: &PartitionId,
        expected: Option<&ETag>,
        make: impl FnOnce(Option<R>) -> Result<(R, T), StoreError>,
    ) -> Result<Written<(ETag, T)>, StoreError> {
        self.writable()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match self.read::<R>(partition) {
            Err(Unreadable::Damaged(why)) if R::REPLACED_WHEN_DAMAGED => {
                tracing::warn!("{why}");
                None
            }
            found => found?,
        };
        if found.as_ref().map(|(_, etag)| etag) != expected {
            return Ok(Written::Conflict);
        }
        let (new, result) = make(found.map(|(record, _)| record))?;
        let etag = write(&self.path::<R>(partition), &new)?;
        Ok(Written::Done((etag, result)))
    }

    fn writable(&self) -> Result<(), StoreError> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(StoreError::Determinate("this store was opened for reading only".into())),
        }
    }

    /// Writes an ownership record again, if it still has the tenancy's ETag.
    fn rewrite(&self, tenancy: &Tenancy, owner: Option<&OwnerId>) -> Result<Written<ETag>, StoreError> {
        let written = self.replace::<OwnershipRecord, _>(&tenancy.partition, Some(&tenancy.ownership), |found| {
            let revision = found.map_or(0, |o| o.revision) + 1;
            let subject = Subject::new(&self.scope, &tenancy.partition);
            let owner = owner.map(ToString::to_string);
            let mark = Some(tenancy.mark.to_string());
            Ok((OwnershipRecord { subject, owner, generation: tenancy.generation, mark, revision }, ()))
        })?;
        Ok(written.map(|(etag, ())| etag))
    }

    /// Where a host's announcement is.
    fn host(&self, owner: &OwnerId) -> PathBuf {
        self.directory.join(HOSTS).join(segment(owner.as_str())).with_added_extension("json")
    }

    fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        self.writable()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.host(&presence.owner);
        let found = intact(read::<PresenceRecord>(&path))?;
        if found.as_ref().map(|(_, etag)| etag) != expected {
            return Ok(Written::Conflict);
        }
        let revision = found.map_or(0, |(found, _)| found.revision) + 1;
        write(&path, &PresenceRecord::new(presence, revision)).map(Written::Done)
    }

    fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        self.writable()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.host(owner);
        if intact(read::<PresenceRecord>(&path))?.is_some_and(|(_, etag)| etag != *expected) {
            return Ok(Written::Conflict);
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Determinate(format!("can't remove {}: {e}", path.display())))
            }
            _ => Ok(Written::Done(())),
        }
    }

    fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        let directory = self.directory.join(HOSTS);
        let mut hosts = Vec::new();
        for path in entries(&directory)? {
            if path.extension().is_some_and(|e| e == "json")
                && let Some((record, etag)) = intact(read::<PresenceRecord>(&path))?
            {
                hosts.push(HostRecord { presence: record.presence(), etag, age: None });
            }
        }
        Ok(hosts)
    }

    fn list(&self) -> Result<Listing, StoreError> {
        Ok(Listing { partitions: self.partitions()?, hosts: self.hosts()? })
    }

    /// Nothing that is wrong with one partition's files keeps the others from being listed: a damaged checkpoint is refused when it is
    /// loaded, a damaged ownership record is replaced when the partition is claimed, and then it is said.
    fn partitions(&self) -> Result<Vec<PartitionRecord>, StoreError> {
        let mut records = Vec::new();
        for path in entries(&self.directory)? {
            if !path.is_dir() || path.ends_with(HOSTS) {
                continue;
            }
            let Some(id) = partition_of(&path)? else { continue };
            let checkpoint = self.read::<CheckpointRecord>(&id).and_then(|found| {
                found.map(|(found, _)| found.checkpoint(&self.path::<CheckpointRecord>(&id))).transpose()
            });
            records.push(PartitionRecord {
                ownership: intact(self.read::<OwnershipRecord>(&id))?.map(|(found, etag)| found.ownership(etag)),
                checkpoint: intact(checkpoint)?.map(|found| Checkpoint { state: StateImage::default(), ..found }),
                partition: id,
            });
        }
        records.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok(records)
    }
}

#[async_trait]
impl CheckpointStore for DirectoryStore {
    async fn list(&self) -> Result<Listing, StoreError> {
        self.blocking(Inner::list).await
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        let (partition, owner, expected) = (partition.clone(), owner.clone(), expected.cloned());
        self.blocking(move |inner| {
            let committed = intact(inner.read::<CheckpointRecord>(&partition))?.map_or(0, |(c, _)| c.generation);
            let written = inner.replace::<OwnershipRecord, _>(&partition, expected.as_ref(), |found| {
                let (generation, revision) = found.map_or((0, 0), |o| (o.generation, o.revision));
                let (generation, revision) = (generation.max(committed) + 1, revision + 1);
                let subject = Subject::new(&inner.scope, &partition);
                let (owner, mark) = (Some(owner.to_string()), Some(mark.to_string()));
                Ok((OwnershipRecord { subject, owner, generation, mark, revision }, generation))
            })?;
            Ok(written.map(|(ownership, generation)| Tenancy { partition, owner, mark, generation, ownership }))
        })
        .await
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        let tenancy = tenancy.clone();
        self.blocking(move |inner| {
            let renewed = inner.rewrite(&tenancy, Some(&tenancy.owner))?;
            Ok(renewed.map(|ownership| Tenancy { ownership, ..tenancy }))
        })
        .await
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        let tenancy = tenancy.clone();
        self.blocking(move |inner| Ok(inner.rewrite(&tenancy, None)?.map(drop))).await
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        let (presence, expected) = (presence.clone(), expected.cloned());
        self.blocking(move |inner| inner.announce(&presence, expected.as_ref())).await
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        let (owner, expected) = (owner.clone(), expected.clone());
        self.blocking(move |inner| inner.withdraw(&owner, &expected)).await
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        let partition = partition.clone();
        self.blocking(move |inner| {
            let path = inner.path::<CheckpointRecord>(&partition);
            let mut before = None;
            loop {
                let Some((found, etag)) = inner.read::<CheckpointRecord>(&partition)? else { return Ok(None) };
                let mut checkpoint = found.checkpoint(&path)?;
                let Some(gone) = read_segments(&path, &mut checkpoint.state)? else {
                    return Ok(Some((checkpoint, etag)));
                };
                // The host that writes here may have replaced the checkpoint meanwhile: then that one is there to be read.
                if before.replace(etag.clone()) == Some(etag) {
                    let what = format!("a part of its state is gone, the file {}", gone.display());
                    return Err(Unreadable::damaged::<CheckpointRecord>(&path, &what).into());
                }
            }
        })
        .await
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let (partition, checkpoint, expected) = (partition.clone(), checkpoint.clone(), expected.cloned());
        self.blocking(move |inner| {
            let path = inner.path::<CheckpointRecord>(&partition);
            let written = inner.replace::<CheckpointRecord, _>(&partition, expected.as_ref(), |found| {
                sweep(&path, found.as_ref());
                write_segments(&path, &checkpoint.state)?;
                let revision = found.map_or(0, |c| c.revision) + 1;
                Ok((CheckpointRecord::new(Subject::new(&inner.scope, &partition), &checkpoint, revision), ()))
            })?;
            Ok(written.map(|(etag, ())| etag))
        })
        .await
    }
}

/// A record of one partition, of which there are two kinds.
trait Record: Stored {
    const FILE: &'static str;
    /// Whether a damaged one is as good as none: nothing depends on what it said.
    const REPLACED_WHEN_DAMAGED: bool;
    fn subject(&self) -> &Subject;
}

impl Record for OwnershipRecord {
    const FILE: &'static str = "ownership.json";
    // The lock says who may write here, and the checkpoint carries the generation on.
    const REPLACED_WHEN_DAMAGED: bool = true;
    fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl Record for CheckpointRecord {
    const FILE: &'static str = "checkpoint.json";
    const REPLACED_WHEN_DAMAGED: bool = false;
    fn subject(&self) -> &Subject {
        &self.subject
    }
}

/// What is in a directory, which need not exist.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |e: io::Error| StoreError::Determinate(format!("can't list {}: {e}", directory.display()));
    match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect(),
    }
}

/// Whose a partition's directory is, by its records, and where none can be read by its name. `None`: nobody's.
fn partition_of(directory: &Path) -> Result<Option<PartitionId>, StoreError> {
    let (ownership, checkpoint) = (directory.join(OwnershipRecord::FILE), directory.join(CheckpointRecord::FILE));
    let id = intact(read::<OwnershipRecord>(&ownership))?.map(|(found, _)| found.subject.partition);
    let id = match id {
        Some(id) => Some(id),
        None => intact(read::<CheckpointRecord>(&checkpoint))?.map(|(found, _)| found.subject.partition),
    };
    let name = || {
        let name = directory.file_name()?.to_str()?;
        ((ownership.exists() || checkpoint.exists()) && segment(name) == name).then(|| name.to_owned())
    };
    Ok(id.or_else(name).map(|id| PartitionId::from(&*id)))
}

fn read<R: Stored>(path: &Path) -> Result<Option<(R, ETag)>, Unreadable> {
    match fs::read(path) {
        Ok(bytes) => record::decode(path, &bytes).map(Some),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Unreadable::Io(format!("can't read {}: {e}", path.display()))),
    }
}

/// What can be understood of a record: here a damaged one counts as absent. Whoever needs it says so.
fn intact<T>(read: Result<Option<T>, Unreadable>) -> Result<Option<T>, StoreError> {
    match read {
        Err(Unreadable::Damaged(why) | Unreadable::OtherVersion(why)) => {
            tracing::debug!("left out: {why}");
            Ok(None)
        }
        read => Ok(read?),
    }
}

/// Replaces a file in one step that survives a crash at any moment.
fn write<R: Serialize>(path: &Path, new: &R) -> Result<ETag, StoreError> {
    let before = |e: &dyn std::fmt::Display| StoreError::Determinate(format!("can't write {}: {e}", path.display()));
    let after = |e: io::Error| StoreError::Indeterminate(format!("writing {}: {e}", path.display()));
    let (bytes, etag) = record::encode(new).map_err(|e| before(&e))?;
    let Some(directory) = path.parent() else { return Err(before(&"it has no directory")) };
    create_directories(directory).map_err(|e| before(&e))?;
    let temporary = path.with_extension("json.new");
    create(&temporary, &bytes).map_err(|e| before(&e))?;
    fs::rename(&temporary, path).and_then(|()| sync_entry(path)).map_err(after)?;
    Ok(etag)
}

#[cfg(test)]
mod tests;
