//! Secrets that a processor is granted: by name, from the host's environment or from a mounted file.
//!
//! A file is read each time that the guest asks, so a secret that was rotated is the new one without a restart. Values are never printed:
//! not by `Debug`, not in errors.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest secret, in bytes: certificates with their chains fit.
const LARGEST: u64 = 64 << 10;

/// Where a secret comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// This value, for example of an environment variable of the host.
    Value(String),
    /// This file, read whenever the guest asks.
    File(PathBuf),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("(hidden)"),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// The secrets of one processor.
pub(super) struct Secrets(BTreeMap<String, SecretSource>);

impl Secrets {
    pub(super) fn new(secrets: BTreeMap<String, SecretSource>) -> Self {
        Self(secrets)
    }

    /// What can't be read now, in a sentence each. It may come later.
    pub(super) fn unreadable(&self) -> Vec<String> {
        self.0.keys().filter_map(|name| self.get(name).err()).collect()
    }

    /// The value. The error is for the guest, and says neither values nor paths.
    pub(super) fn get(&self, name: &str) -> Result<Vec<u8>, String> {
        match self.0.get(name) {
            None => Err(format!("the secret {name:?} is not granted; add it to [processor.grants.secrets]")),
            Some(SecretSource::Value(value)) => Ok(value.clone().into_bytes()),
            Some(SecretSource::File(path)) => {
                read(path).map_err(|error| format!("the file of the secret {name:?} can't be read: {error}"))
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // Anything else may block a thread that others run on.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut value = Vec::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut value)?;
    match value.len() as u64 > LARGEST {
        true => Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it has more than 64 KiB")),
        false => Ok(value),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_and_nothing_is_printed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "old").unwrap();
        let sources = [
            ("token".to_owned(), SecretSource::File(path.clone())),
            ("key".to_owned(), SecretSource::Value("hunter2".into())),
        ];
        let shown = format!("{sources:?}");
        assert!(!shown.contains("hunter2") && shown.contains("(hidden)"), "{shown}");
        let secrets = Secrets::new(sources.into());
        assert_eq!(secrets.get("key").unwrap(), b"hunter2");
        assert_eq!(secrets.get("token").unwrap(), b"old");
        std::fs::write(&path, "new").unwrap();
        assert_eq!(secrets.get("token").unwrap(), b"new", "rotated");
        std::fs::write(&path, vec![b'x'; 65 << 10]).unwrap();
        let refused = secrets.get("token").unwrap_err();
        assert!(refused.contains("more than 64 KiB"), "{refused}");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(secrets.get("token").unwrap_err().contains("no regular file"));
        assert!(secrets.get("other").unwrap_err().contains("[processor.grants.secrets]"));
    }
}
