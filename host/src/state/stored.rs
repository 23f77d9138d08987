//! What of a state is stored, and what a commit adds to it. Pure.
//!
//! Changes since the newest segment gather in the tail, which each commit writes as a whole. When it outgrows its place it is sealed as a
//! segment; when the segments behind the base outgrow half of it, or are too many, the whole state becomes a new base. So a commit writes
//! at most [`TAIL_BYTES`] more than what changed since the last one, and over time each byte that changes is written about
//! three times: in a tail, in its segment, and for its share of a new base.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::{self, CHANGE, Change, FRAME, SegmentHead, TailHead};
use super::image::{Digest, MOST_SEGMENTS, Segment, StateImage, TAIL_BYTES};
use super::versions::Totals;
use crate::model::{SequenceNumber, Timestamp};

/// The stored side of a state.
#[derive(Debug, Default)]
pub(super) struct Stored {
    segments: Vec<Segment>,
    /// The number of the next segment.
    next: u64,
    /// What changed behind the segments.
    tail: BTreeMap<Arc<str>, Unsealed>,
}

/// What became of a key.
#[derive(Debug)]
struct Unsealed {
    value: Option<Bytes>,
    /// Whether it is there as of the newest segment. If it isn't, its removal leaves nothing to be written.
    sealed: bool,
}

/// What has to become a segment before the tail can be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: the tail has its place.
    Tail,
    /// The tail, behind the segments that there are.
    Delta,
    /// The whole state, in place of them.
    Whole,
}

/// A state as it was read.
pub(super) type Read = (BTreeMap<Arc<str>, Bytes>, Option<Timestamp>);

impl Stored {
    /// Reads an image that was stored with the checkpoint of this event. The error is a clause that says what is wrong.
    pub(super) fn read(image: StateImage, at: SequenceNumber) -> Result<(Self, Read), String> {
        let (head, tail) = codec::read::<TailHead>(&image.tail)?;
        if head.at != at {
            return Err(format!(
                "its state is that of event {}, not of {at}: another program moved the checkpoint. A processor with state needs a consumer \
                 group of its own",
                head.at
            ));
        }
        let mut segments = image.segments;
        if head.segments != root(&segments) {
            return Err("its state names other segments than its checkpoint does".into());
        }
        let mut map = BTreeMap::new();
        for segment in &mut segments {
            let digest = segment.digest;
            let Some(bytes) = segment.bytes.take() else {
                return Err(format!("segment {digest} of its state is missing"));
            };
            if bytes.len() != segment.len {
                return Err(format!(
                    "segment {digest} of its state should have {} bytes, and has {}",
                    segment.len,
                    bytes.len()
                ));
            }
            if Digest::of(&bytes) != digest {
                return Err(format!("segment {digest} of its state doesn't match its name"));
            }
            let (_, changes) = codec::read::<SegmentHead>(&bytes)?;
            apply(&mut map, changes);
        }
        let unsealed =
            |(key, value): &Change| (Arc::clone(key), Unsealed { value: value.clone(), sealed: map.contains_key(key) });
        let unsealed = tail.iter().map(unsealed).collect();
        apply(&mut map, tail);
        let found = Totals::of(&map, head.wake);
        if (head.keys, head.size) != (found.keys as u64, found.size as u64) {
            return Err(format!(
                "its state should have {} keys and {} bytes, and has {} and {}",
                head.keys, head.size, found.keys, found.size
            ));
        }
        Ok((Self { segments, next: head.next, tail: unsealed }, (map, head.wake)))
    }

    /// Takes a change in that belongs to the next commit: whether the key was there before, and what it became.
    pub(super) fn absorb(&mut self, key: Arc<str>, was_there: bool, value: Option<Bytes>) {
        match self.tail.entry(key) {
            Entry::Occupied(known) if value.is_none() && !known.get().sealed => drop(known.remove()),
            Entry::Occupied(mut known) => known.get_mut().value = value,
            Entry::Vacant(new) => drop(new.insert(Unsealed { value, sealed: was_there })),
        }
    }

    fn changes(&self) -> impl Iterator<Item = (&Arc<str>, Option<&Bytes>)> {
        self.tail.iter().map(|(key, unsealed)| (key, unsealed.value.as_ref()))
    }

    /// What the next commit needs.
    pub(super) fn plan(&self) -> Plan {
        let tail = weight(self.changes());
        let (base, deltas) = match &*self.segments {
            _ if tail <= TAIL_BYTES => return Plan::Tail,
            [] => return Plan::Delta,
            [base, deltas @ ..] => (base.len, deltas.iter().fold(0, |sum: usize, delta| sum.saturating_add(delta.len))),
        };
        match deltas.saturating_add(tail) > base / 2 || self.segments.len() >= MOST_SEGMENTS {
            true => Plan::Whole,
            false => Plan::Delta,
        }
    }

    /// The changes of a new segment behind the others.
    pub(super) fn delta(&self) -> Vec<Change> {
        self.changes().map(|(key, value)| (Arc::clone(key), value.cloned())).collect()
    }

    /// The number of a new segment.
    pub(super) fn number(&self) -> u64 {
        self.next
    }

    /// Puts the new segment in place. `tail`: the whole state, where it is so little that it needs none.
    pub(super) fn seal(&mut self, plan: &Plan, segment: Option<Bytes>, tail: Vec<Change>) {
        if *plan == Plan::Whole {
            self.segments.clear();
        }
        if let Some(bytes) = segment {
            self.segments.push(Segment::new(bytes));
            self.next += 1;
        }
        self.tail = tail.into_iter().map(|(key, value)| (key, Unsealed { value, sealed: false })).collect();
    }

    /// The image of a state of which everything is absorbed.
    pub(super) fn image(&self, at: SequenceNumber, totals: Totals) -> Result<StateImage, String> {
        let head = TailHead {
            at,
            wake: totals.wake,
            keys: totals.keys as u64,
            size: totals.size as u64,
            next: self.next,
            segments: root(&self.segments),
        };
        let tail = self.changes().map(|(key, value)| (&**key, value.map(|value| &**value)));
        Ok(StateImage { segments: self.segments.clone(), tail: codec::write(&head, tail, 0)? })
    }

    /// A checkpoint names all segments now: they need not be written again.
    pub(super) fn written(&mut self) {
        for segment in &mut self.segments {
            segment.bytes = None;
        }
    }
}

/// A new segment, or `None` where so little is better kept in the tail.
pub(super) fn segment(changes: &[Change], number: u64) -> Result<Option<Bytes>, String> {
    let expected = weight(changes.iter().map(|(key, value)| (key, value.as_ref())));
    if expected <= TAIL_BYTES {
        return Ok(None);
    }
    let changes = changes.iter().map(|(key, value)| (&**key, value.as_deref()));
    codec::write(&SegmentHead { number }, changes, expected).map(Some)
}

/// At least what a part with these changes has in bytes.
fn weight<'a>(changes: impl Iterator<Item = (&'a Arc<str>, Option<&'a Bytes>)>) -> usize {
    FRAME + changes.map(|(key, value)| CHANGE + key.len() + value.map_or(0, Bytes::len)).sum::<usize>()
}

fn apply(map: &mut BTreeMap<Arc<str>, Bytes>, changes: impl IntoIterator<Item = Change>) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

fn root(segments: &[Segment]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for segment in segments {
        hasher.update(segment.digest.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
