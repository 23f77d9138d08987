//! Where a processor's letters lie: a directory, a container, an event hub, or a file.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};

use super::in_hub::{Came, LetterHub};
use super::letter::text;
use crate::azure::{BlobContainer, LetterContainer, Patience};
use crate::cli::failure::Failure;
use crate::cli::hub;
use crate::cli::reach::Address;
use crate::config::{ProcessorConfig, SinkConfig};
use crate::dead_letter::{
    self, ORIGIN_EVENT_HUB_PROPERTY, ORIGIN_NAMESPACE_PROPERTY, ORIGIN_PARTITION_PROPERTY, ORIGIN_PROCESSOR_PROPERTY,
    Place,
};
use crate::local::LetterDirectory;
use crate::model::{ETag, Output};
use crate::seams::Written;

/// Letters that are asked for together.
const AT_ONCE: usize = 16;
/// A list of a hundred thousand blobs comes in twenty answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// A processor's letters.
pub(super) struct Shelf {
    namespace: String,
    event_hub: String,
    processor: String,
    /// For messages.
    name: String,
    kind: Kind,
}

enum Kind {
    Directory(LetterDirectory),
    Container(LetterContainer),
    File(PathBuf),
    Hub(Box<LetterHub>),
}

/// Where one letter is.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Place(Place),
    Line {
        id: String,
        partition: Option<String>,
        at: u64,
        bytes: u64,
    },
    /// It was read already: a hub is not asked for one event.
    Read(Box<Came>),
}

impl Entry {
    /// Whether the letter with this id can be here: `hub/partition/sequence number/…`.
    pub(super) fn may_be(&self, wanted: &str) -> bool {
        match self {
            Self::Line { id, .. } => id == wanted,
            Self::Read(came) => came.letter.id == wanted,
            Self::Place(place) => {
                let mut parts = wanted.split('/').skip(1);
                let partition = parts.next().is_some_and(|partition| place.is_in(partition));
                partition && parts.next().is_some_and(|number| number.parse().ok() == place.number())
            }
        }
    }

    pub(super) fn is_in(&self, wanted: &str) -> bool {
        match self {
            Self::Line { partition, .. } => partition.as_deref() == Some(wanted),
            Self::Read(came) => text(&came.letter, ORIGIN_PARTITION_PROPERTY).as_deref() == Some(wanted),
            Self::Place(place) => place.is_in(wanted),
        }
    }
}

/// A letter that was read.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) output: Output,
    /// What it is removed by, where somebody may replace it meanwhile.
    etag: Option<ETag>,
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Shelf {
    pub(super) fn of(processor: &ProcessorConfig) -> Result<Self, Failure> {
        let why = |why: &str| Failure::usage(format!("the dead letters of processor `{}` {why}", processor.name));
        let (kind, name) = match &processor.dead_letter {
            Some(SinkConfig::Directory(path)) => {
                (Kind::Directory(LetterDirectory::new(path)), format!("the directory {path:?}"))
            }
            Some(SinkConfig::Container { url, credential }) => {
                let patience = Patience { attempt: PATIENCE, ..Patience::default() };
                let container = BlobContainer::new(url, *credential, patience)
                    .map_err(|error| Failure::usage(format!("dead-letter.container: {error}")))?;
                (Kind::Container(LetterContainer::new(container)), format!("the container {url}"))
            }
            Some(SinkConfig::File(path)) => (Kind::File((**path).clone()), format!("the file {path:?}")),
            Some(SinkConfig::EventHub { namespace, event_hub }) => {
                let address = Address::of(namespace);
                let letters = LetterHub::new(hub::namespace(namespace)?, address, event_hub.to_string());
                let name = letters.to_string();
                (Kind::Hub(Box::new(letters)), name)
            }
            Some(SinkConfig::Stdout) => {
                return Err(why(
                    "go to standard output and are kept nowhere; write dead-letter = { directory = \"dead\" }",
                ));
            }
            None => return Err(why("have no place; write dead-letter = { directory = \"dead\" }")),
        };
        let namespace = processor.namespace.fully_qualified.to_string();
        Ok(Self {
            namespace,
            event_hub: processor.event_hub.to_string(),
            processor: processor.name.to_string(),
            name,
            kind,
        })
    }

    /// Whether letters can be taken away one by one.
    pub(super) fn gives_up_letters(&self) -> bool {
        !matches!(self.kind, Kind::File(_))
    }

    /// Where the processor's letters are, and what is wrong with others. The error is a sentence for a person.
    pub(super) async fn entries(&self) -> Result<(Vec<Entry>, Vec<String>), String> {
        let failed = |why: &dyn fmt::Display| format!("can't list the letters in {self}: {why}");
        let places = match &self.kind {
            Kind::Directory(letters) => {
                letters.list((&self.namespace, &self.event_hub), &self.processor).map_err(|e| failed(&e))?
            }
            Kind::Container(letters) => {
                letters.list((&self.namespace, &self.event_hub), &self.processor).await.map_err(|e| failed(&e))?
            }
            Kind::File(path) => return self.lines(path).map_err(|e| failed(&e)),
            Kind::Hub(hub) => {
                let letters = hub.letters(|letter| self.is_ours(letter)).await.map_err(|e| failed(&e))?;
                return Ok((letters.into_iter().map(|letter| Entry::Read(Box::new(letter))).collect(), vec![]));
            }
        };
        Ok((places.into_iter().map(Entry::Place).collect(), vec![]))
    }

    /// The letters of a file in its order. Of those with one id, the last counts: a repeat is no second letter.
    fn lines(&self, path: &Path) -> std::io::Result<(Vec<Entry>, Vec<String>)> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((vec![], vec![])),
            file => file?,
        };
        let mut lines = BufReader::with_capacity(1 << 18, file);
        let (mut entries, mut problems) = (Vec::<Entry>::new(), vec![]);
        let mut places: HashMap<String, usize> = HashMap::new();
        let (mut line, mut at, mut number) = (Vec::new(), 0, 0_u64);
        loop {
            line.clear();
            let bytes = lines.read_until(b'\n', &mut line)? as u64;
            if bytes == 0 {
                return Ok((entries, problems));
            }
            number += 1;
            match dead_letter::read(&line) {
                // A host is writing it, or was killed while it did: it comes again.
                Err(_) if !line.ends_with(b"\n") => {}
                Err(why) => problems.push(format!("{}, line {number}: not a letter: {why}", path.display())),
                Ok(letter) => {
                    if self.is_ours(&letter) {
                        let id = letter.id.to_string();
                        let partition = text(&letter, ORIGIN_PARTITION_PROPERTY);
                        let entry = Entry::Line { id: id.clone(), partition, at, bytes };
                        let place = *places.entry(id).or_insert(entries.len());
                        match entries.get_mut(place) {
                            Some(known) => *known = entry,
                            None => entries.push(entry),
                        }
                    }
                }
            }
            at += bytes;
        }
    }

    /// Whether a letter is the processor's, as far as it says so. Another namespace may have a hub of that name, and so letters of these ids.
    fn is_ours(&self, letter: &Output) -> bool {
        let is = |key, own: &str| text(letter, key).is_none_or(|said| said.eq_ignore_ascii_case(own));
        text(letter, ORIGIN_PROCESSOR_PROPERTY).is_none_or(|name| name == self.processor)
            && is(ORIGIN_EVENT_HUB_PROPERTY, &self.event_hub)
            && is(ORIGIN_NAMESPACE_PROPERTY, &self.namespace)
    }

    /// Reads letters, some at a time, in their order.
    pub(super) fn read_all(&self, entries: Vec<Entry>) -> impl Stream<Item = (Entry, Result<Option<Letter>, String>)> {
        let reads: Vec<_> = entries
            .into_iter()
            .map(|entry| async move {
                let read = self.read(&entry).await;
                (entry, read)
            })
            .collect();
        stream::iter(reads).buffered(AT_ONCE)
    }

    /// Reads a letter; `None`: it is gone. The error is a sentence for a person.
    pub(super) async fn read(&self, entry: &Entry) -> Result<Option<Letter>, String> {
        let (content, etag, name) = match (&self.kind, entry) {
            (Kind::Directory(letters), Entry::Place(place)) => {
                let name = letters.path(place).display().to_string();
                let content = letters.read(place).map_err(|error| format!("can't read {name}: {error}"))?;
                (content, None, name)
            }
            (Kind::Container(letters), Entry::Place(place)) => {
                let name = format!("{} in {self}", place.path());
                let read = letters.read(place).await.map_err(|error| format!("can't read {name}: {error}"))?;
                let (content, etag) = read.unzip();
                (content, etag, name)
            }
            (Kind::File(path), Entry::Line { at, bytes, id, .. }) => {
                let name = format!("{id} in {self}");
                let line = line(path, *at, *bytes).map_err(|error| format!("can't read {name}: {error}"))?;
                (Some(line), None, name)
            }
            (_, Entry::Read(came)) => return Ok(Some(Letter { output: came.letter.clone(), etag: None })),
            _ => return Ok(None),
        };
        let Some(content) = content else { return Ok(None) };
        let output = dead_letter::read(&content).map_err(|why| format!("{name} is not a letter: {why}"))?;
        Ok(Some(Letter { output, etag }))
    }

    /// Removes a letter that was read, in a hub by a word that it is done with. `how` completes "the letter was". The error is a clause for
    /// a person.
    pub(super) async fn remove(&self, entry: &Entry, letter: &Letter, how: &str) -> Result<(), String> {
        match (&self.kind, entry, &letter.etag) {
            (Kind::Directory(letters), Entry::Place(place), _) => {
                letters.remove(place).map_err(|error| error.to_string())
            }
            (Kind::Container(letters), Entry::Place(place), Some(etag)) => match letters.remove(place, etag).await {
                Ok(Written::Done(())) => Ok(()),
                Ok(Written::Conflict) => Err("it was written again meanwhile".into()),
                Err(error) => Err(error.to_string()),
            },
            (Kind::Hub(hub), Entry::Read(came), _) => hub.settle(came, how).await,
            _ => Err("letters can't be taken out of a file".into()),
        }
    }
}

fn line(path: &Path, at: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut line = Vec::new();
    file.take(bytes).read_to_end(&mut line)?;
    Ok(line)
}
