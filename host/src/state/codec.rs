//! How parts of a state are written down, and read back only where they are exactly what was written.
//!
//! ```text
//! "weirst" | version | kind | head | changes … | first 16 bytes of the BLAKE3 digest of everything before
//! ```
//!
//! Head and changes are bincode 2 in its standard configuration. A change is a key and its value, or a key and nothing where it was
//! removed, in the order of the keys. There is no count: they end where the seal begins. Nothing is allocated by what a length says; a text
//! or value that doesn't lie in the input is refused.

use std::sync::Arc;

use bincode::config::{Configuration, standard};
use bytes::Bytes;

const MAGIC: [u8; 6] = *b"weirst";
/// Raised when an older Weir could misread what a newer one writes.
const VERSION: u8 = 1;
const SEAL: usize = 16;
const CONFIG: Configuration = standard();

/// More than any change costs beside its key and its value, and any part beside its changes.
pub(super) const CHANGE: usize = 20;
pub(super) const FRAME: usize = 128;

/// A key and what it became; `None`: it was removed.
pub(super) type Change = (Arc<str>, Option<Bytes>);

/// What a part is.
pub(super) trait Part: bincode::Encode + bincode::Decode<()> {
    const KIND: u8;
    /// For the messages.
    const NAME: &'static str;
}

/// The head of a segment.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(super) struct SegmentHead {
    /// Counts the segments of a partition's state, so that no two of them have the same content.
    pub(super) number: u64,
}

impl Part for SegmentHead {
    const KIND: u8 = b's';
    const NAME: &'static str = "a segment of its state";
}

/// The head of a tail: what the whole state is.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(super) struct TailHead {
    /// The event that the state is as of (rule R14).
    pub(super) at: i64,
    /// When the processor wants to be woken.
    pub(super) wake: Option<i64>,
    /// Keys of the whole state, and what they and their values count.
    pub(super) keys: u64,
    pub(super) size: u64,
    /// The number of the next segment.
    pub(super) next: u64,
    /// Digest of the digests of all segments, in order.
    pub(super) segments: [u8; 32],
}

impl Part for TailHead {
    const KIND: u8 = b't';
    const NAME: &'static str = "its state";
}

/// Writes a part; the changes come in the order of their keys.
pub(super) fn write<'a, H: Part>(
    head: &H,
    changes: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    expected: usize,
) -> Result<Bytes, String> {
    let failed = |error: bincode::error::EncodeError| format!("{} can't be encoded: {error}", H::NAME);
    let mut part = Vec::with_capacity(expected + FRAME);
    part.extend_from_slice(&MAGIC);
    part.extend_from_slice(&[VERSION, H::KIND]);
    bincode::encode_into_std_write(head, &mut part, CONFIG).map_err(failed)?;
    for change in changes {
        bincode::encode_into_std_write(change, &mut part, CONFIG).map_err(failed)?;
    }
    let seal = seal(&part);
    part.extend_from_slice(&seal);
    Ok(part.into())
}

/// Reads a part. The error is a clause that says what is wrong.
pub(super) fn read<H: Part>(part: &[u8]) -> Result<(H, Vec<Change>), String> {
    let damaged = |what: &str| format!("{} is damaged ({what})", H::NAME);
    let Some(rest) = part.strip_prefix(&MAGIC) else {
        return Err(format!("what is stored as {} is nothing that Weir wrote", H::NAME));
    };
    match rest {
        [VERSION, ..] => {}
        [version, ..] => {
            return Err(format!(
                "{} has version {version}, this Weir understands {VERSION}; run the Weir that wrote it",
                H::NAME
            ));
        }
        [] => return Err(damaged("it is cut off")),
    }
    let Some((content, sealed)) = part.split_last_chunk::<SEAL>() else { return Err(damaged("it is cut off")) };
    if seal(content) != *sealed {
        return Err(damaged("its checksum doesn't match its content"));
    }
    let undecodable = |error: bincode::error::DecodeError| damaged(&error.to_string());
    let body = match content.get(MAGIC.len() + 1..) {
        Some([kind, body @ ..]) if *kind == H::KIND => body,
        _ => return Err(damaged("it is another part of a state")),
    };
    let (head, used) = bincode::decode_from_slice(body, CONFIG).map_err(undecodable)?;
    let mut rest = body.get(used..).unwrap_or_default();
    let mut changes: Vec<Change> = Vec::new();
    while !rest.is_empty() {
        let ((key, value), used): ((&str, Option<&[u8]>), usize) =
            bincode::borrow_decode_from_slice(rest, CONFIG).map_err(undecodable)?;
        if changes.last().is_some_and(|(last, _)| **last >= *key) {
            return Err(damaged("its keys are out of order"));
        }
        // Copied: a value that outlives the others would otherwise keep all of them in memory.
        changes.push((key.into(), value.map(Bytes::copy_from_slice)));
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok((head, changes))
}

fn seal(content: &[u8]) -> [u8; SEAL] {
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&blake3::hash(content).as_bytes()[..SEAL]);
    seal
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn head(at: i64) -> TailHead {
        TailHead { at, wake: Some(-1), keys: 3, size: 77, next: 9, segments: [7; 32] }
    }

    fn part(changes: &BTreeMap<String, Option<Vec<u8>>>) -> Bytes {
        write(&head(5), changes.iter().map(|(key, value)| (&**key, value.as_deref())), 0).unwrap()
    }

    fn changes() -> impl Strategy<Value = BTreeMap<String, Option<Vec<u8>>>> {
        prop::collection::btree_map(".{0,20}", prop::option::of(prop::collection::vec(any::<u8>(), 0..300)), 0..12)
    }

    /// A part of any content, under a seal that fits.
    fn forged(kind: u8, body: &[u8]) -> Vec<u8> {
        let content = [&MAGIC[..], &[VERSION, kind], body].concat();
        [&content[..], &seal(&content)].concat()
    }

    proptest! {
        #[test]
        fn what_was_written_comes_back(changes in changes()) {
            let (found, read) = read::<TailHead>(&part(&changes)).unwrap();
            prop_assert_eq!(found, head(5));
            let read: BTreeMap<_, _> = read.into_iter().map(|(k, v)| (k.to_string(), v.map(|v| v.to_vec()))).collect();
            prop_assert_eq!(read, changes);
        }

        #[test]
        fn anything_else_is_refused(changes in changes(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let part = part(&changes);
            let at = at.index(part.len());
            prop_assert!(read::<TailHead>(&part[..at]).is_err(), "cut off at {}", at);
            let mut flipped = part.to_vec();
            flipped[at] ^= 1 << bit;
            prop_assert!(read::<TailHead>(&flipped).is_err(), "bit {} of byte {}", bit, at);
            let longer = [&part[..], &[0]].concat();
            prop_assert!(read::<TailHead>(&longer).is_err());
        }

        #[test]
        fn nor_does_a_crafted_one_do_harm(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read::<TailHead>(&forged(b't', &body));
            let _ = read::<SegmentHead>(&forged(b's', &body));
        }
    }

    #[test]
    fn a_length_allocates_nothing_by_itself() {
        // A key of 2^63 bytes, and a value of 2^63 bytes behind a key of one.
        let huge = [253, 0, 0, 0, 0, 0, 0, 0, 0x80];
        let number = [0];
        for body in [[&number[..], &huge].concat(), [&number[..], &[1, b'k', 1], &huge].concat()] {
            let why = read::<SegmentHead>(&forged(b's', &body)).unwrap_err();
            assert!(why.contains("damaged"), "{why}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let good = part(&BTreeMap::from([("a".into(), None)]));
        let mut newer = good.to_vec();
        newer[MAGIC.len()] = 2;
        let same_twice = forged(b's', &[0, 1, b'k', 0, 1, b'k', 0]);
        for (why, text) in [
            (read::<TailHead>(b"{}").map(drop), "nothing that Weir wrote"),
            (read::<TailHead>(&newer).map(drop), "version 2, this Weir understands 1"),
            (read::<TailHead>(&good[..20]).map(drop), "damaged"),
            (read::<TailHead>(&good[..6]).map(drop), "cut off"),
            (read::<SegmentHead>(&good).map(drop), "another part"),
            (read::<SegmentHead>(&same_twice).map(drop), "out of order"),
            (read::<SegmentHead>(&forged(b's', &[0, 1, 0xff, 0])).map(drop), "damaged"),
        ] {
            let why = why.unwrap_err();
            assert!(why.contains(text), "{why}");
        }
    }

    #[test]
    fn the_layout_is_as_it_was() {
        // Stored states depend on it: when this fails, raise the version.
        let part = write(&SegmentHead { number: 3 }, [("a", Some(&b"xy"[..])), ("b", None)].into_iter(), 0).unwrap();
        assert_eq!(part[..part.len() - SEAL], *b"weirst\x01s\x03\x01a\x01\x02xy\x01b\x00");
        let tail = write(&TailHead { wake: None, ..head(-2) }, [].into_iter(), 0).unwrap();
        assert_eq!(tail[..13], *b"weirst\x01t\x03\x00\x03\x4d\x09");
        assert_eq!(tail.len(), 13 + 32 + SEAL);
    }
}
