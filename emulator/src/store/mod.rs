//! Hubs that survive a restart: a directory with a journal of plain segment files for each partition.
//!
//! The promise: an event is acknowledged, and shown to readers, only after its batch was handed to the operating system
//! in one `write`. It survives the end of the process, SIGKILL included. It is not synced: a power loss or a crash of
//! the system may cost what the kernel had not written back, at most the newest segment of each partition; recovery
//! then ends at the first record that does not check out, so what is left is still a gapless prefix.
//!
//! Why not an embedded database: events live in memory anyway, so the disk is only read at start, front to back, and
//! only dropped from its old end. A log-structured store would write each batch to its journal too, and then again into
//! tables and through compactions, for lookups that nobody makes.

mod record;
mod segment;
mod writer;

pub(crate) use segment::Journal;
pub(crate) use writer::{Batch, QUEUE_BYTES, Writer};

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Groups, Log, Retention};

/// What can go wrong with the data directory.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process; stop it or choose another directory", .0.display())]
    InUse(PathBuf),
    /// A file is not what it should be.
    #[error("{} is damaged at byte {at}: {why}; restore it, or delete the hub's directory to start empty", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// In what way.
        why: String,
    },
    /// An earlier write failed and could not be taken back.
    #[error("the journal {} takes no more events since an earlier write failed; restart the namespace", .0.display())]
    Broken(PathBuf),
    /// The thread that writes has ended.
    #[error("the namespace is shutting down")]
    Stopped,
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Segments are rolled at this size: the unit of deletion by retention, and of what a power loss can touch.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// A locked data directory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Held for its lock.
    _lock: File,
}

/// What is remembered of a hub beside its events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HubRecord {
    pub(crate) name: String,
    pub(crate) created_ms: i64,
    pub(crate) partitions: u32,
    /// `None`: any.
    pub(crate) groups: Option<Vec<String>>,
}

impl HubRecord {
    pub(crate) fn groups(&self) -> Groups {
        self.groups.clone().map_or(Groups::Any, Groups::Listed)
    }
}

impl Store {
    /// Opens the directory, making it if needed, and locks it against other processes.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(StoreError::io("can't create the data directory", root))?;
        let path = root.join("lock");
        let file = File::create(&path).map_err(StoreError::io("can't create the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(root.to_owned())),
            Err(TryLockError::Error(source)) => Err(StoreError::io("can't lock", &path)(source)),
        }
    }

    /// The hubs that the directory holds.
    pub(crate) fn hubs(&self) -> Result<Vec<HubRecord>, StoreError> {
        let mut hubs = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(StoreError::io("can't list", &self.root))? {
            let path = entry.map_err(StoreError::io("can't list", &self.root))?.path().join("hub.json");
            match fs::read(&path) {
                Ok(bytes) => hubs.push(serde_json::from_slice(&bytes).map_err(|error| StoreError::Damaged {
                    path,
                    at: 0,
                    why: error.to_string(),
                })?),
                // A file beside the hubs, or a hub whose creation was cut short before it was acknowledged.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(StoreError::io("can't read", &path)(error)),
            }
        }
        hubs.sort_by(|a: &HubRecord, b| a.name.cmp(&b.name));
        Ok(hubs)
    }

    /// Remembers a hub, or what changed about it.
    pub(crate) fn save(&self, hub: &HubRecord) -> Result<(), StoreError> {
        let directory = self.hub(&hub.name);
        fs::create_dir_all(&directory).map_err(StoreError::io("can't create", &directory))?;
        let (path, draft) = (directory.join("hub.json"), directory.join("hub.json.new"));
        let json = serde_json::to_vec_pretty(hub).unwrap_or_default();
        fs::write(&draft, json).map_err(StoreError::io("can't write", &draft))?;
        fs::rename(&draft, &path).map_err(StoreError::io("can't replace", &path))
    }

    /// Opens the journal of a partition and rebuilds its log.
    pub(crate) fn partition(&self, hub: &str, id: u32, retention: Retention) -> Result<(Log, Journal), StoreError> {
        let mut log = Log::new(retention);
        let journal = Journal::open(&self.hub(hub).join(id.to_string()), SEGMENT_BYTES, |block| {
            let (first, next) = (block.first, log.next());
            log.push(Arc::new(block)).then_some(()).ok_or((first, next))
        })?;
        Ok((log, journal))
    }

    fn hub(&self, name: &str) -> PathBuf {
        self.root.join(name.to_ascii_lowercase())
    }
}
