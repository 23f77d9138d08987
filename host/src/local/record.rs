//! The records of the directory store: JSON that a person can read, with a version and a checksum that a damaged file
//! can't satisfy.
//!
//! A record says itself what it belongs to (rule R14): a file that was copied to another partition's place is refused.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{Checkpoint, ETag, Incarnation, Mark, OwnerId, PartitionId, Position, Scope};
use crate::seams::{Ownership, Part, Presence, StoreError};
use crate::state::{Digest, Segment, StateImage};

/// A record's content, and what is to be said when its file can't be understood.
pub(super) trait Stored: Serialize + DeserializeOwned {
    /// What a damaged file means, and what to do.
    const DAMAGE: &'static str;
}

/// Why a file gave no record.
pub(super) enum Unreadable {
    /// The file system says no.
    Io(String),
    /// Not what any Weir wrote, or not in this place.
    Damaged(String),
    /// Another Weir's, which may mean more by it than this one can know.
    OtherVersion(String),
}

impl Unreadable {
    pub(super) fn damaged<T: Stored>(path: &Path, what: &str) -> Self {
        Self::Damaged(format!("{}: {what}. {}", path.display(), T::DAMAGE))
    }
}

impl From<Unreadable> for StoreError {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Io(text) => Self::Determinate(text),
            Unreadable::Damaged(text) | Unreadable::OtherVersion(text) => Self::Corrupt(text),
        }
    }
}

/// The layout of these files. Raised when an older Weir could misread a newer file.
const VERSION: u32 = 1;

/// A file's content.
#[derive(Serialize, Deserialize)]
struct File<T> {
    weir: u32,
    record: T,
    /// BLAKE3 of `record` as compact JSON.
    checksum: String,
}

/// What every record says of itself.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Subject {
    namespace: String,
    event_hub: String,
    consumer_group: String,
    pub(super) partition: String,
}

impl Subject {
    pub(super) fn new(scope: &Scope, partition: &PartitionId) -> Self {
        Self {
            namespace: scope.namespace.to_lowercase(),
            event_hub: scope.event_hub.to_lowercase(),
            consumer_group: scope.consumer_group.to_lowercase(),
            partition: partition.to_string(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct OwnershipRecord {
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) owner: Option<String>,
    pub(super) generation: u64,
    /// Of the tenancy that wrote it. Missing in what an older Weir wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mark: Option<String>,
    /// Counts the writes of this record, so that equal content has another ETag.
    pub(super) revision: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CheckpointRecord {
    #[serde(flatten)]
    pub(super) subject: Subject,
    sequence_number: i64,
    offset: String,
    pub(super) generation: u64,
    /// Like [`OwnershipRecord::mark`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// The tail of the state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    state_base64: String,
    /// Files of their own, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    state_segments: Vec<SegmentRecord>,
    pub(super) revision: u64,
}

#[derive(Serialize, Deserialize)]
struct SegmentRecord {
    digest: String,
    bytes: usize,
}

/// The directory of the hosts' announcements, which no partition's directory can be (see [`segment`]).
pub(super) const HOSTS: &str = "+hosts";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PresenceRecord {
    owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    exclusive: bool,
    part: Part,
    capacity: Option<u32>,
    wanted: u32,
    version: String,
    pub(super) revision: u64,
}

impl Stored for OwnershipRecord {
    const DAMAGE: &'static str = "It only says who has the partition and is written anew; the partition goes on from its checkpoint, which is a file of its own";
}

impl Stored for CheckpointRecord {
    const DAMAGE: &'static str = "Restore the file from a backup, or move it away: its partition then begins at the configured `start`, which \
                                  processes events again (\"earliest\") or leaves out those that came meanwhile (\"latest\")";
}

impl Stored for PresenceRecord {
    const DAMAGE: &'static str = "It only says that a host is there, which the host itself says again";
}

impl PresenceRecord {
    pub(super) fn new(presence: &Presence, revision: u64) -> Self {
        let Presence { owner, incarnation, exclusive, part, capacity, wanted, version } = presence.clone();
        let incarnation = incarnation.as_ref().map(ToString::to_string);
        Self { owner: owner.to_string(), incarnation, exclusive, part, capacity, wanted, version, revision }
    }

    pub(super) fn presence(self) -> Presence {
        let Self { owner, incarnation, exclusive, part, capacity, wanted, version, .. } = self;
        let incarnation = incarnation.as_deref().and_then(Incarnation::parse);
        Presence { owner: OwnerId::from(&*owner), incarnation, exclusive, part, capacity, wanted, version }
    }
}

impl OwnershipRecord {
    pub(super) fn ownership(&self, etag: ETag) -> Ownership {
        let owner = self.owner.as_deref().map(OwnerId::from);
        let mark = self.mark.as_deref().and_then(Mark::parse);
        Ownership { owner, generation: self.generation, mark, etag, age: None }
    }
}

impl CheckpointRecord {
    pub(super) fn new(subject: Subject, checkpoint: &Checkpoint, revision: u64) -> Self {
        let StateImage { segments, tail } = &checkpoint.state;
        let record = |segment: &Segment| SegmentRecord { digest: segment.digest.to_string(), bytes: segment.len };
        Self {
            subject,
            sequence_number: checkpoint.position.sequence_number,
            offset: checkpoint.position.offset.to_string(),
            generation: checkpoint.generation,
            mark: checkpoint.mark.as_ref().map(ToString::to_string),
            state_base64: BASE64_STANDARD.encode(tail),
            state_segments: segments.iter().map(record).collect(),
            revision,
        }
    }

    /// Whether its state has the segment with this name.
    pub(super) fn names(&self, digest: &str) -> bool {
        self.state_segments.iter().any(|segment| segment.digest == digest)
    }

    /// The segments of its state are not at hand.
    pub(super) fn checkpoint(&self, path: &Path) -> Result<Checkpoint, Unreadable> {
        let damaged = |what: &str| Unreadable::damaged::<Self>(path, what);
        let tail = BASE64_STANDARD.decode(&self.state_base64);
        let tail = tail.map_err(|e| damaged(&format!("its state is not base64 ({e})")))?;
        let segment = |record: &SegmentRecord| match Digest::parse(&record.digest) {
            Some(digest) => Ok(Segment { digest, len: record.bytes, bytes: None }),
            None => Err(damaged(&format!("it is damaged (no digest: `{}`)", record.digest))),
        };
        let segments = self.state_segments.iter().map(segment).collect::<Result<_, _>>()?;
        let position =
            Position { sequence_number: self.sequence_number, offset: ByteString::from(self.offset.as_str()) };
        let mark = self.mark.as_deref().and_then(Mark::parse);
        let state = StateImage { segments, tail: Bytes::from(tail) };
        Ok(Checkpoint { position, generation: self.generation, mark, state })
    }
}

/// The bytes of a record's file, and the ETag of that content.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<(Vec<u8>, ETag), serde_json::Error> {
    let checksum = checksum(record)?;
    let mut bytes = serde_json::to_vec_pretty(&File { weir: VERSION, record, checksum: checksum.clone() })?;
    bytes.push(b'\n');
    Ok((bytes, ETag(checksum)))
}

/// Reads a record's file back; whatever is not exactly what was written is refused.
pub(super) fn decode<T: Stored>(path: &Path, bytes: &[u8]) -> Result<(T, ETag), Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        weir: u32,
    }
    let damaged = |e: serde_json::Error| Unreadable::damaged::<T>(path, &format!("it is damaged ({e})"));
    let Version { weir } = serde_json::from_slice(bytes).map_err(damaged)?;
    if weir != VERSION {
        return Err(Unreadable::OtherVersion(format!(
            "{}: its layout has version {weir}, this Weir understands {VERSION}; run the Weir that wrote it",
            path.display()
        )));
    }
    let file: File<T> = serde_json::from_slice(bytes).map_err(damaged)?;
    let expected = checksum(&file.record).map_err(damaged)?;
    if expected != file.checksum {
        let what = "its checksum doesn't match its content (edited by hand, or damaged)";
        return Err(Unreadable::damaged::<T>(path, what));
    }
    Ok((file.record, ETag(expected)))
}

fn checksum<T: Serialize>(record: &T) -> Result<String, serde_json::Error> {
    Ok(blake3::hash(&serde_json::to_vec(record)?).to_hex().to_string())
}

/// A directory or file name for any text: lower-case, with everything that a file system might take amiss written as
/// `%xx`. Different names stay different (but for case, which Event Hubs ignores), and none can leave its directory.
pub(crate) fn segment(name: &str) -> String {
    let mut segment = String::new();
    for byte in name.to_lowercase().bytes() {
        let plain = byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'$');
        if plain || (byte == b'.' && !segment.is_empty()) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02x}"));
        }
    }
    if segment.is_empty() { "%".into() } else { segment }
}

/// Where a scope's records are.
pub(super) fn scope_directory(root: &Path, scope: &Scope) -> PathBuf {
    [&scope.namespace, &scope.event_hub, &scope.consumer_group].iter().fold(root.into(), |p, s| p.join(segment(s)))
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn no_name_leaves_its_directory_or_meets_another() {
        assert_eq!(segment("Flights.Out-1_$Default"), "flights.out-1_$default");
        assert_eq!(segment(".."), "%2e.");
        assert_eq!(segment("."), "%2e");
        assert_eq!(segment(""), "%");
        assert_eq!(segment("a/../b\\c\0"), "a%2f..%2fb%5cc%00");
        assert_ne!(segment("a%2f"), segment("a/"));
    }
}
