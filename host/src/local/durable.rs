//! Names that survive a crash of the machine: a file's content is flushed with the file, its name with its directory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Flushes the directory entry of a path.
pub(super) fn sync_entry(path: &Path) -> io::Result<()> {
    // Only Unix can open a directory; elsewhere creating or renaming alone must do.
    let parent = path.parent().filter(|_| cfg!(unix));
    // The parent of a bare name is the working directory, written as nothing.
    match parent.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes a file and flushes its content; its name is [`sync_entry`]'s.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Creates a directory and those above it where they are missing, and flushes the entry of each new one.
pub(super) fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_directories(parent)?;
    }
    match fs::create_dir(directory) {
        // Somebody else was faster, which may be a file: then whatever is opened in it says so.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.and_then(|()| sync_entry(directory)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn creates_what_is_missing_and_leaves_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        create_directories(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        sync_entry(&deep.join("file")).unwrap();
        create_directories(&deep).unwrap();
        assert!(deep.join("file").is_file());
        assert!(create_directories(&deep.join("file/below")).is_err());
        create_directories(Path::new("")).unwrap();
        sync_entry(Path::new("bare")).unwrap();
    }
}
