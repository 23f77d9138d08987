//! Checkpoint stores from the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use crate::azure::{BlobContainer, Patience};
use crate::config::CheckpointsConfig;
use crate::local::{DirectoryStore, OpenError};
use crate::model::{OwnerId, Scope};
use crate::seams::CheckpointStore;

/// Where the stores of all processors are.
pub(crate) enum Stores {
    Directory(PathBuf),
    Container(BlobContainer),
}

impl Stores {
    pub(crate) fn new(config: &CheckpointsConfig) -> Result<Self, String> {
        Ok(match config {
            CheckpointsConfig::Directory(directory) => Self::Directory((**directory).clone()),
            CheckpointsConfig::Container { url, credential, .. } => {
                let container = BlobContainer::new(url, *credential, Patience::default());
                Self::Container(container.map_err(|error| format!("checkpoints.container: {error}"))?)
            }
        })
    }

    /// Asks whether they can be used, and says what about them will hurt.
    pub(crate) async fn check(&self) -> Result<(), String> {
        if let Self::Container(container) = self {
            for warning in container.check().await.map_err(|error| format!("checkpoints.container: {error}"))? {
                tracing::warn!("{warning}");
            }
        }
        Ok(())
    }

    /// A scope's store, to be written.
    pub(crate) fn open(&self, scope: &Scope, owner: &OwnerId) -> Result<Arc<dyn CheckpointStore>, String> {
        Ok(match self {
            Self::Directory(root) => {
                Arc::new(DirectoryStore::open(root, scope.clone(), owner).map_err(|error| error.to_string())?)
            }
            Self::Container(container) => Arc::new(container.store(scope)),
        })
    }

    /// A scope's store, to be changed by a command. A directory is refused while a host works in it; who owns a partition in a container is
    /// for the caller to look at.
    pub(crate) fn change(&self, scope: &Scope, owner: &OwnerId) -> Result<Arc<dyn CheckpointStore>, String> {
        match self {
            Self::Directory(root) => match DirectoryStore::open(root, scope.clone(), owner) {
                Ok(store) => Ok(Arc::new(store)),
                Err(OpenError::InUse { holder, directory, .. }) => Err(format!(
                    "a running host, {holder}, has the checkpoints in {}: stop it first. --force can't help here: the directory is \
                     locked for as long as that process lives",
                    directory.display()
                )),
                Err(error) => Err(error.to_string()),
            },
            Self::Container(container) => Ok(Arc::new(container.store(scope))),
        }
    }

    /// A scope's store, to be looked at beside a running host.
    pub(crate) fn look(&self, scope: &Scope) -> Arc<dyn CheckpointStore> {
        match self {
            Self::Directory(root) => Arc::new(DirectoryStore::read_only(root, scope.clone())),
            Self::Container(container) => Arc::new(container.store(scope)),
        }
    }
}
