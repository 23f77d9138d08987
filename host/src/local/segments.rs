//! The segments of a state, as files beside their checkpoint.
//!
//! A segment never changes, so its file is written once: under another name, flushed, and then renamed. It is there before a checkpoint
//! names it, and is removed with the next checkpoint after one that doesn't.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::durable::{create, create_directories, sync_entry};
use super::record::CheckpointRecord;
use crate::seams::StoreError;
use crate::state::{Digest, Segment, StateImage};

/// Where the segments of the checkpoint at `path` are.
fn directory(path: &Path) -> PathBuf {
    path.with_file_name("state")
}

/// Makes every segment that is at hand durable.
pub(super) fn write_segments(path: &Path, state: &StateImage) -> Result<(), StoreError> {
    let directory = directory(path);
    for Segment { digest, bytes, .. } in &state.segments {
        let Some(bytes) = bytes else { continue };
        let path = directory.join(digest.to_string());
        let temporary = path.with_extension("new");
        // No checkpoint names it yet: whatever happened, nothing did.
        let written = create_directories(&directory)
            .and_then(|()| create(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| sync_entry(&path));
        written.map_err(|e| StoreError::Determinate(format!("can't write {}: {e}", path.display())))?;
    }
    Ok(())
}

/// Puts every segment at hand; `Some`: this file is gone.
pub(super) fn read_segments(path: &Path, state: &mut StateImage) -> Result<Option<PathBuf>, StoreError> {
    for segment in &mut state.segments {
        let path = directory(path).join(segment.digest.to_string());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(path)),
            Err(e) => return Err(StoreError::Determinate(format!("can't read {}: {e}", path.display()))),
        };
        if Digest::of(&bytes) != segment.digest {
            return Err(StoreError::Corrupt(format!(
                "{}: it is a part of a processor's state, and its content doesn't match its name. Restore the file from a backup, or move \
                 its checkpoint away: the partition then begins at the configured `start`, with no state",
                path.display()
            )));
        }
        segment.bytes = Some(bytes.into());
    }
    Ok(None)
}

/// Removes what the checkpoint at `path`, as it is now, doesn't name: an older one did, or one that was never written. Nobody may write one
/// meanwhile. What fails is left for the next time.
pub(super) fn sweep(path: &Path, checkpoint: Option<&CheckpointRecord>) {
    let Ok(entries) = fs::read_dir(directory(path)) else { return };
    for entry in entries.flatten() {
        let is_named = |name: &str| checkpoint.is_some_and(|checkpoint| checkpoint.names(name));
        if !entry.file_name().to_str().is_some_and(is_named)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(file = %entry.path().display(), %error, "an old part of a state stays for now");
        }
    }
}
