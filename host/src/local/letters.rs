//! Dead letters in a directory: a readable file each, to be looked at with anything.
//!
//! A letter appears whole or not at all: it is written beside its place, flushed, and renamed onto it. One that comes again replaces
//! itself, so what was accepted survives a crash of the machine and a repeat adds nothing. A crash between the two steps leaves a file that
//! begins with a dot, which nobody takes for a letter and anybody may delete.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;

use super::durable::{create_directories, sync_entry};
use crate::dead_letter::{self, Place};
use crate::model::Output;
use crate::seams::{Sink, SinkError};

/// Letters of one publish: each costs two flushes of a disk, which may take tens of milliseconds.
const AT_ONCE: usize = 128;

/// A directory of dead letters, shared by any number of processors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LetterDirectory {
    root: Arc<Path>,
}

impl LetterDirectory {
    /// The letters below `root`. Nothing is created before there is a letter.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Creates the directory where it is missing, so that one that can't be written to is found before it is needed.
    pub fn create(&self) -> io::Result<()> {
        create_directories(&self.root)
    }

    /// Where a processor's letters of a namespace's hub lie, in the order of partitions and events.
    pub fn list(&self, (namespace, event_hub): (&str, &str), processor: &str) -> io::Result<Vec<Place>> {
        let folder = Place::folder(namespace, event_hub);
        let mut places = Vec::new();
        for partition in names(&self.root.join(&folder))? {
            for name in names(&self.root.join(&folder).join(&partition))? {
                if !Place::parse(&format!("{folder}/{partition}/{name}/0.json"))
                    .is_some_and(|place| place.is_of((namespace, event_hub), processor))
                {
                    continue;
                }
                let files = names(&self.root.join(&folder).join(&partition).join(&name))?;
                places.extend(
                    files.iter().filter_map(|file| Place::parse(&format!("{folder}/{partition}/{name}/{file}"))),
                );
            }
        }
        places.sort_by_cached_key(Place::order);
        Ok(places)
    }

    /// The content of a letter's file; `None`: it is gone.
    pub fn read(&self, place: &Place) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Removes a letter, which may be gone already.
    pub fn remove(&self, place: &Place) -> io::Result<()> {
        match fs::remove_file(self.path(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_entry(&self.path(place))),
        }
    }

    /// The file of a letter.
    pub fn path(&self, place: &Place) -> PathBuf {
        self.root.join(place.path())
    }

    fn write(&self, letters: &[(Place, Vec<u8>)]) -> Result<(), SinkError> {
        let mut directories = BTreeSet::new();
        for (place, text) in letters {
            let path = self.path(place);
            let failed = |error| SinkError::Permanent(format!("can't write {}: {error}", path.display()));
            replace(&path, text).map_err(failed)?;
            directories.insert(path.parent().map(Path::to_owned));
        }
        for directory in directories.into_iter().flatten() {
            let failed = |error| SinkError::Permanent(format!("can't flush {}: {error}", directory.display()));
            sync_entry(&directory.join("any")).map_err(failed)?;
        }
        Ok(())
    }
}

/// Puts a whole file in the place of whatever is there.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if let Some(directory) = path.parent() {
        create_directories(directory)?;
    }
    // Its own even when a letter is written twice at once: by a host that lost its partition, and by the one that took it.
    let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    let beside = path.with_file_name(format!(".{name}.{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Relaxed)));
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The disk may be full: leave as little as possible behind.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// The names in a directory; none where there is no directory.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    // A name that is no text is not ours.
    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
}

#[async_trait]
impl Sink for LetterDirectory {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        let text = |letter: &Output| {
            let failed = |error| SinkError::Permanent(format!("can't write {}: {error}", letter.id));
            Ok((Place::of(letter), dead_letter::write(letter).map_err(failed)?))
        };
        let letters = outputs.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write(&letters)).await;
        written.unwrap_or_else(|error| Err(SinkError::Transient(format!("the write was cut off: {error}"))))
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }

    fn max_outputs(&self) -> usize {
        AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::dead_letter::tests::letter_of;
    use crate::testing::{conformance, event};

    #[tokio::test]
    async fn conforms() {
        let root = tempfile::tempdir().unwrap();
        let letters = LetterDirectory::new(&root.path().join("not/there/yet"));
        letters.create().unwrap();
        conformance::sink(&letters, async || {
            let mut stored = Vec::new();
            for processor in ["one", "two"] {
                for place in letters.list(("n", "hub"), processor).unwrap() {
                    stored.push(dead_letter::read(&letters.read(&place).unwrap().unwrap()).unwrap());
                }
            }
            stored
        })
        .await;
    }

    #[tokio::test]
    async fn letters_are_listed_in_order_beside_whatever_else_is_there() {
        let root = tempfile::tempdir().unwrap();
        let letters = LetterDirectory::new(root.path());
        assert_eq!(letters.list(("n", "hub"), "delays").unwrap(), []);
        let published = [100, 9, 30].map(|number| letter_of("Hub", "delays", &event(number, "x")));
        letters.publish(&published).await.unwrap();
        letters.publish(&[letter_of("hub", "copies", &event(9, "theirs"))]).await.unwrap();
        for other in ["notes.txt", "hub@n/README", "hub@n/3/delays/.9.json.1-0.tmp", "hub@n/3/delays/9.json.bak"] {
            fs::write(root.path().join(other), "{").unwrap();
        }
        let places = letters.list(("n", "HUB"), "delays").unwrap();
        assert_eq!(places.iter().filter_map(Place::number).collect::<Vec<_>>(), [9, 30, 100]);
        let file = fs::read_to_string(root.path().join("hub@n/3/delays/9.json")).unwrap();
        assert!(file.contains("\n  \"body\": \"x\"\n") && file.contains("\"weir-reason\": \"not a flight\""), "{file}");
        letters.remove(&places[0]).unwrap();
        letters.remove(&places[0]).unwrap();
        assert_eq!(letters.read(&places[0]).unwrap(), None);
        assert_eq!(letters.list(("n", "hub"), "delays").unwrap(), places[1..]);
        assert_eq!(letters.list(("n", "hub"), "copies").unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_letter_that_can_not_be_written_says_where() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("hub@n"), "a file in the way").unwrap();
        let error =
            LetterDirectory::new(root.path()).publish(&[letter_of("hub", "p", &event(1, ""))]).await.unwrap_err();
        assert!(matches!(&error, SinkError::Permanent(why) if why.contains("hub@n/3/p/1.json")), "{error}");
    }
}
