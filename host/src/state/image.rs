//! State as stores keep it: segments that never change once they are written, and a tail that is written with each checkpoint.
//!
//! The first segment is a base, each further one holds what changed since the one before, and the tail holds the rest. So a commit writes
//! what changed, and not the whole state. Plain data: what is inside, only `codec.rs` knows.

use std::fmt;

use bytes::Bytes;

/// The most bytes of a tail. It lies in the checkpoint's own record, which others read at every poll (KEDA); beyond it, it becomes a segment.
pub const TAIL_BYTES: usize = 64 << 10;

/// The most segments of an image: each is a request when a partition is taken over. Beyond it, all become a new base.
pub const MOST_SEGMENTS: usize = 32;

/// Names and checks the content of a segment: its BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of this content.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A part of a state that is written once, under its digest, before a checkpoint names it. Within one partition no two ever have the same
/// content unless they are the same, so that one may be removed as soon as the newest checkpoint doesn't name it.
#[derive(Clone)]
pub struct Segment {
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub len: usize,
    /// Its content; in a commit `None` where a checkpoint that was written before names it already, so that it is stored.
    pub bytes: Option<Bytes>,
}

impl Segment {
    /// Of this content, which is not stored yet.
    pub fn new(bytes: Bytes) -> Self {
        Self { digest: Digest::of(&bytes), len: bytes.len(), bytes: Some(bytes) }
    }
}

/// Equal is what has equal content, at hand or not.
impl PartialEq for Segment {
    fn eq(&self, other: &Self) -> bool {
        (self.digest, self.len) == (other.digest, other.len)
    }
}

impl Eq for Segment {}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = if self.bytes.is_some() { ", at hand" } else { "" };
        write!(f, "{} ({} bytes{here})", self.digest, self.len)
    }
}

/// The state of a partition as of one event, as it is stored with the checkpoint of that event.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StateImage {
    /// What lies beside the checkpoint, the oldest first.
    pub segments: Vec<Segment>,
    /// What lies in the checkpoint's record.
    pub tail: Bytes,
}

impl StateImage {
    /// Whether there is none: the processor keeps no state.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tail.is_empty()
    }

    /// Bytes of all its parts.
    pub fn len(&self) -> usize {
        self.segments.iter().fold(self.tail.len(), |sum, segment| sum.saturating_add(segment.len))
    }

    /// Bytes that a store is handed with it: the tail, and segments that it does not have yet.
    pub fn unwritten(&self) -> usize {
        self.segments
            .iter()
            .flat_map(|segment| &segment.bytes)
            .fold(self.tail.len(), |sum, bytes| sum.saturating_add(bytes.len()))
    }
}

impl fmt::Debug for StateImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes beside {:?}", self.tail.len(), self.segments)
    }
}
