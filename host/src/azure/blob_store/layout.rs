//! Names and metadata of the blobs; what is in a checkpoint's body, `body.rs` says. Pure.
//!
//! What is shared with every Azure SDK and with KEDA, byte by byte:
//!
//! ```text
//! <namespace>/<event hub>/<consumer group>/ownership/<partition>    metadata ownerid ("" = released); empty body
//! <namespace>/<event hub>/<consumer group>/checkpoint/<partition>   metadata offset, sequencenumber
//! ```
//!
//! All of it lower-case. Metadata of ours stands beside theirs (`weir…`), and a checkpoint's body is ours. Under `…/weir/` is what no
//! SDK knows: who is there (`hosts/<owner>`), and the segments of a state, of
//! which only the tail is in a checkpoint's body (`state/<partition>/<digest>`).

use std::collections::HashMap;

use bytestring::ByteString;

use crate::model::{Checkpoint, Incarnation, Mark, OwnerId, PartitionId, Position, Scope};
use crate::seams::{Part, Presence};
use crate::state::Digest;

pub(super) type Metadata = HashMap<String, String>;

/// Whose write it was: a random number per write, by which a host knows its own after a lost answer.
pub(super) const WRITE: &str = "weirwrite";
const OWNER: &str = "ownerid";
const OFFSET: &str = "offset";
const SEQUENCE_NUMBER: &str = "sequencenumber";
const GENERATION: &str = "weirgeneration";
/// Of the tenancy that wrote it.
const MARK: &str = "weirmark";
/// The beginnings of the digests of the state's segments.
const STATE: &str = "weirstate";
/// So much of a digest tells it from any other of its partition; metadata has a limit.
const SHORT: usize = 16;
/// Which start of a host; and, where it is there, that the announcement stands for all of its ownerships.
const INCARNATION: &str = "weirincarnation";
const EXCLUSIVE: &str = "weirexclusive";
const CAPACITY: &str = "weircapacity";
const WANTED: &str = "weirwanted";
const PART: &str = "weirpart";
const FAIR: &str = "fair";
const FIXED: &str = "fixed";
const LEAVING: &str = "leaving";
const VERSION_OF_HOST: &str = "weirversion";
/// There, when text in the other values is percent-escaped: a header takes plain ASCII only.
const ESCAPED: &str = "weirescaped";

/// What a blob's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Ownership(PartitionId),
    Checkpoint(PartitionId),
    Host,
    /// A segment of its state.
    Segment {
        partition: PartitionId,
        digest: Digest,
    },
    /// Under `weir/`, but not of this version.
    Later,
    Foreign,
}

/// Where a scope's blobs are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Ends with `/`.
    pub(super) prefix: String,
}

impl Layout {
    pub(super) fn new(scope: &Scope) -> Self {
        Self { prefix: format!("{}/{}/{}/", scope.namespace, scope.event_hub, scope.consumer_group).to_lowercase() }
    }

    pub(super) fn ownership(&self, partition: &PartitionId) -> String {
        format!("{}ownership/{}", self.prefix, escape_name(partition.as_str()))
    }

    pub(super) fn checkpoint(&self, partition: &PartitionId) -> String {
        format!("{}checkpoint/{}", self.prefix, escape_name(partition.as_str()))
    }

    pub(super) fn host(&self, owner: &OwnerId) -> String {
        format!("{}weir/hosts/{}", self.prefix, escape_name(owner.as_str()))
    }

    pub(super) fn segment(&self, partition: &PartitionId, digest: &Digest) -> String {
        format!("{}weir/state/{}/{digest}", self.prefix, escape_name(partition.as_str()))
    }

    pub(super) fn place(&self, name: &str) -> Place {
        let Some(rest) = name.strip_prefix(&*self.prefix) else { return Place::Foreign };
        let segments: Vec<&str> = rest.split('/').collect();
        let partition = |name: &str| Some(PartitionId::from(&*unescape(name)?)).filter(|id| !id.as_str().is_empty());
        match *segments {
            ["ownership", id] => partition(id).map_or(Place::Foreign, Place::Ownership),
            ["checkpoint", id] => partition(id).map_or(Place::Foreign, Place::Checkpoint),
            ["weir", "hosts", _] => Place::Host,
            ["weir", "state", id, digest] => match (partition(id), Digest::parse(digest)) {
                (Some(partition), Some(digest)) => Place::Segment { partition, digest },
                _ => Place::Later,
            },
            ["weir", ..] => Place::Later,
            _ => Place::Foreign,
        }
    }
}

/// An ownership record as metadata.
pub(super) fn ownership(owner: Option<&OwnerId>, generation: u64, mark: Mark) -> Metadata {
    let mut metadata =
        Metadata::from([(GENERATION.to_owned(), generation.to_string()), (MARK.to_owned(), mark.to_string())]);
    // Present even when empty: other SDKs fail their whole list where it is missing.
    put_text(&mut metadata, &[(OWNER, owner.map_or("", OwnerId::as_str))]);
    metadata
}

/// What an ownership record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// `None`: released, or nobody knows by whom it was written.
    pub(super) owner: Option<OwnerId>,
    pub(super) generation: u64,
    pub(super) mark: Option<Mark>,
    /// Whether it names an owner at all, be it nobody.
    pub(super) sound: bool,
}

pub(super) fn read_ownership(metadata: &Metadata) -> Owned {
    let metadata = folded(metadata);
    let owner = text(&metadata, OWNER);
    Owned {
        sound: owner.is_some(),
        owner: owner.filter(|o| !o.is_empty()).map(|o| OwnerId::from(&*o)),
        generation: number(&metadata, GENERATION).unwrap_or(0),
        mark: mark(&metadata),
    }
}

/// A checkpoint as metadata.
pub(super) fn checkpoint(checkpoint: &Checkpoint) -> Metadata {
    let Position { sequence_number, offset } = &checkpoint.position;
    let mut metadata = Metadata::from([
        (SEQUENCE_NUMBER.to_owned(), sequence_number.to_string()),
        (GENERATION.to_owned(), checkpoint.generation.to_string()),
    ]);
    put_text(&mut metadata, &[(OFFSET, offset)]);
    metadata.extend(checkpoint.mark.map(|mark| (MARK.to_owned(), mark.to_string())));
    let segments: Vec<String> = checkpoint.state.segments.iter().map(|segment| short(&segment.digest)).collect();
    if !segments.is_empty() {
        metadata.insert(STATE.to_owned(), segments.join(","));
    }
    metadata
}

/// What a checkpoint's metadata says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) position: Position,
    /// `None`: somebody else wrote it.
    pub(super) generation: Option<u64>,
    pub(super) mark: Option<Mark>,
    segments: Vec<String>,
}

impl Marked {
    /// Whether the checkpoint's state has this segment.
    pub(super) fn names(&self, digest: &Digest) -> bool {
        self.segments.contains(&short(digest))
    }
}

fn short(digest: &Digest) -> String {
    let mut text = digest.to_string();
    text.truncate(SHORT);
    text
}

/// The error says what is wrong.
pub(super) fn read_checkpoint(metadata: &Metadata) -> Result<Marked, String> {
    let metadata = folded(metadata);
    let offset = text(&metadata, OFFSET).ok_or("its metadata has no `offset`")?;
    let given = metadata.get(SEQUENCE_NUMBER).ok_or("its metadata has no `sequencenumber`")?;
    let sequence_number = given.trim().parse().map_err(|_| format!("its `sequencenumber` is no number: `{given}`"))?;
    Ok(Marked {
        position: Position { sequence_number, offset: ByteString::from(offset) },
        generation: number(&metadata, GENERATION),
        mark: mark(&metadata),
        segments: metadata.get(STATE).map(|all| all.split(',').map(str::to_owned).collect()).unwrap_or_default(),
    })
}

pub(super) fn presence(presence: &Presence) -> Metadata {
    let part = match presence.part {
        Part::Fair => FAIR,
        Part::Fixed => FIXED,
        Part::Leaving => LEAVING,
    };
    let mut metadata =
        Metadata::from([(WANTED.to_owned(), presence.wanted.to_string()), (PART.to_owned(), part.to_owned())]);
    metadata.extend(presence.incarnation.map(|incarnation| (INCARNATION.to_owned(), incarnation.to_string())));
    metadata.extend(presence.exclusive.then(|| (EXCLUSIVE.to_owned(), "1".to_owned())));
    metadata.extend(presence.capacity.map(|capacity| (CAPACITY.to_owned(), capacity.to_string())));
    put_text(&mut metadata, &[(OWNER, presence.owner.as_str()), (VERSION_OF_HOST, &presence.version)]);
    metadata
}

/// `None`: it isn't one.
pub(super) fn read_presence(metadata: &Metadata) -> Option<Presence> {
    let metadata = folded(metadata);
    Some(Presence {
        owner: OwnerId::from(&*text(&metadata, OWNER).filter(|o| !o.is_empty())?),
        incarnation: metadata.get(INCARNATION).and_then(|text| Incarnation::parse(text.trim())),
        exclusive: metadata.contains_key(EXCLUSIVE),
        part: match metadata.get(PART).map(String::as_str) {
            Some(FAIR) => Part::Fair,
            Some(FIXED) => Part::Fixed,
            Some(LEAVING) => Part::Leaving,
            _ => return None,
        },
        capacity: match metadata.contains_key(CAPACITY) {
            true => Some(number(&metadata, CAPACITY)?),
            false => None,
        },
        wanted: number(&metadata, WANTED)?,
        version: text(&metadata, VERSION_OF_HOST)?,
    })
}

/// Metadata keys come in any case.
fn folded(metadata: &Metadata) -> Metadata {
    metadata.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.clone())).collect()
}

fn number<T: std::str::FromStr>(metadata: &Metadata, key: &str) -> Option<T> {
    metadata.get(key)?.trim().parse().ok()
}

fn mark(metadata: &Metadata) -> Option<Mark> {
    Mark::parse(metadata.get(MARK)?.trim())
}

/// Puts text in, all of it escaped where one of it needs it.
fn put_text(metadata: &mut Metadata, entries: &[(&str, &str)]) {
    let plain = |c: u8| (0x21..=0x7e).contains(&c);
    let escaped = !entries.iter().all(|(_, text)| text.bytes().all(plain));
    for (key, text) in entries {
        let text = if escaped { escape(text, |c| plain(c) && c != b'%') } else { (*text).to_owned() };
        metadata.insert((*key).to_owned(), text);
    }
    if escaped {
        metadata.insert(ESCAPED.to_owned(), "1".to_owned());
    }
}

/// From [`folded`] metadata.
fn text(metadata: &Metadata, key: &str) -> Option<String> {
    let text = metadata.get(key)?;
    if metadata.contains_key(ESCAPED) { unescape(text) } else { Some(text.clone()) }
}

/// One segment of a name: what a URL or a service might take amiss is written as `%xx`, so that different ids stay different and none
/// leaves its place. Ids as Event Hubs gives them stay as they are.
fn escape_name(name: &str) -> String {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'$');
    escape(name, plain)
}

fn escape(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02x}"));
        }
    }
    escaped
}

/// `None`: not what [`escape`] writes.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;

    use super::*;
    use crate::state::{Segment, StateImage};

    pub(in super::super) const MARK: Mark = Mark::new(Incarnation::new(0xa1), 7);
    const WRITTEN: &str = "00000000000000a1-7";

    fn layout() -> Layout {
        Layout::new(&Scope {
            namespace: "Fleet.servicebus.windows.net".into(),
            event_hub: "Flights".into(),
            consumer_group: "$Default".into(),
        })
    }

    pub(in super::super) fn metadata<const N: usize>(entries: [(&str, &str); N]) -> Metadata {
        entries.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    pub(in super::super) fn at(sequence_number: i64, state: &'static [u8]) -> Checkpoint {
        let position = Position { sequence_number, offset: ByteString::from("64") };
        let state = StateImage { segments: Vec::new(), tail: Bytes::from_static(state) };
        Checkpoint { position, generation: 3, mark: Some(MARK), state }
    }

    #[test]
    fn names_are_those_of_the_sdks() {
        let (layout, zero) = (layout(), PartitionId::from("0"));
        assert_eq!(layout.ownership(&zero), "fleet.servicebus.windows.net/flights/$default/ownership/0");
        assert_eq!(layout.checkpoint(&zero), "fleet.servicebus.windows.net/flights/$default/checkpoint/0");
        for id in ["0", "1023", "one/../weird", "..", "Ä %2f"] {
            let id = PartitionId::from(id);
            assert_eq!(layout.place(&layout.ownership(&id)), Place::Ownership(id.clone()));
            assert_eq!(layout.place(&layout.checkpoint(&id)), Place::Checkpoint(id.clone()));
            let digest = Digest::of(b"abc");
            assert_eq!(layout.place(&layout.segment(&id, &digest)), Place::Segment { partition: id, digest });
        }
        assert_eq!(layout.place(&layout.host(&OwnerId::from("../A"))), Place::Host);
        for foreign in ["ownership/", "ownership/0/1", "ownership", "notes.txt", "checkpoint/%zz"] {
            assert_eq!(layout.place(&format!("{}{foreign}", layout.prefix)), Place::Foreign, "{foreign}");
        }
        assert_eq!(layout.place("fleet/flights/$default/ownership/0"), Place::Foreign);
        assert_eq!(layout.place(&format!("{}weir/deployments/7", layout.prefix)), Place::Later);
    }

    #[test]
    fn ownership_is_metadata_that_every_sdk_reads() {
        let ann = OwnerId::from("ann");
        let ours = |owner| metadata([("ownerid", owner), ("weirgeneration", "4"), ("weirmark", WRITTEN)]);
        assert_eq!(ownership(Some(&ann), 4, MARK), ours("ann"));
        assert_eq!(ownership(None, 4, MARK), ours(""));
        assert_eq!(read_ownership(&ours("ann")).mark, Some(MARK));
        let owned = |owner: Option<&str>, generation, sound| Owned {
            owner: owner.map(OwnerId::from),
            generation,
            mark: None,
            sound,
        };
        assert_eq!(read_ownership(&metadata([("OwnerId", "x"), ("WeirGeneration", "7")])), owned(Some("x"), 7, true));
        assert_eq!(
            read_ownership(&metadata([("ownerid", "5%41")])),
            owned(Some("5%41"), 0, true),
            "not ours to decode"
        );
        assert_eq!(read_ownership(&metadata([("ownerid", "")])), owned(None, 0, true));
        assert_eq!(read_ownership(&metadata([("owner", "x")])), owned(None, 0, false));
        for odd in ["Ben #2 (ö)", " x", "a\r\nb", "50%"] {
            let id = OwnerId::from(odd);
            let written = ownership(Some(&id), 1, MARK);
            assert!(written.values().all(|v| v.bytes().all(|c| (0x21..=0x7e).contains(&c))), "{written:?}");
            assert_eq!(read_ownership(&written).owner, Some(id));
        }
    }

    #[test]
    fn checkpoints_are_metadata_that_every_sdk_reads() {
        let written = checkpoint(&at(12, b""));
        let position = [("offset", "64"), ("sequencenumber", "12")];
        let unmarked = metadata([position[0], position[1], ("weirgeneration", "3")]);
        let marks = Metadata::from([("weirmark".to_owned(), WRITTEN.to_owned())]);
        assert_eq!(written, unmarked.clone().into_iter().chain(marks).collect());
        assert_eq!(read_checkpoint(&unmarked).map(|m| (m.generation, m.mark)), Ok((Some(3), None)), "an older Weir's");
        let position = at(12, b"").position;
        let mut large = at(12, b"x");
        large.state.segments = [b"one", b"two"].map(|bytes| Segment::new(Bytes::from_static(bytes))).into();
        let read = read_checkpoint(&checkpoint(&large)).unwrap();
        let segments = vec![short(&Digest::of(b"one")), short(&Digest::of(b"two"))];
        assert_eq!(read, Marked { position: position.clone(), generation: Some(3), mark: Some(MARK), segments });
        assert!(read.names(&Digest::of(b"two")) && !read.names(&Digest::of(b"three")));
        let foreign = read_checkpoint(&metadata([("Offset", "64"), ("SequenceNumber", "12")])).unwrap();
        assert_eq!(foreign, Marked { position, generation: None, mark: None, segments: Vec::new() });
        for (bad, why) in [
            (metadata([("offset", "64")]), "no `sequencenumber`"),
            (metadata([("sequencenumber", "1")]), "no `offset`"),
            (metadata([("offset", "64"), ("sequencenumber", "many")]), "`many`"),
        ] {
            assert!(read_checkpoint(&bad).unwrap_err().contains(why));
        }
    }

    #[test]
    fn presence_comes_back_as_it_was_said() {
        for capacity in [None, Some(0), Some(7)] {
            for part in [Part::Fair, Part::Fixed, Part::Leaving] {
                for (incarnation, exclusive) in [(None, false), (Some(Incarnation::new(u64::MAX)), true)] {
                    let (owner, version) = (OwnerId::from("a b"), "0.1.0".into());
                    let said = Presence { owner, incarnation, exclusive, part, capacity, wanted: 3, version };
                    assert_eq!(read_presence(&presence(&said)), Some(said));
                }
            }
        }
        assert_eq!(read_presence(&metadata([("ownerid", "a")])), None);
        assert_eq!(read_presence(&Metadata::new()), None);
    }

    #[test]
    fn what_is_escaped_comes_back() {
        for text in ["", "a", "%", "%%41", "ö/..", "a b"] {
            assert_eq!(unescape(&escape_name(text)).as_deref(), Some(text));
        }
        assert_eq!(unescape("%4"), None);
        assert_eq!(unescape("%zz"), None);
        assert_eq!(unescape("%ff"), None);
    }
}
