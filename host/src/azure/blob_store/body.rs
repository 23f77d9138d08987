//! A checkpoint's body: a line that says whose it is and what its state is made of, and the tail of the state. Pure.
//!
//! A body says itself which event it stands at (rule R14): an SDK that moves a checkpoint of ours only rewrites the metadata, and the
//! state would silently be that of another event.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::layout::Marked;
use crate::model::{Checkpoint, Mark, Position};
use crate::state::{Digest, Segment, StateImage};

/// The layout of our bodies. Raised when an older Weir could misread a newer body.
const VERSION: u32 = 1;

/// The first line of a checkpoint's body; what follows is the tail of the state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Head {
    weir: u32,
    /// The blob that it was written for, in lower case: a copy elsewhere would be another partition's state. Missing in what an older Weir
    /// wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    sequence_number: i64,
    offset: String,
    generation: u64,
    /// Missing in what an older Weir wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    state_bytes: usize,
    state_digest: String,
    /// Blobs of their own, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    state_segments: Vec<SegmentRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SegmentRecord {
    digest: String,
    bytes: usize,
}

/// A checkpoint's body.
pub(super) fn write(checkpoint: &Checkpoint, name: &str) -> Result<Bytes, serde_json::Error> {
    let StateImage { segments, tail } = &checkpoint.state;
    let record = |segment: &Segment| SegmentRecord { digest: segment.digest.to_string(), bytes: segment.len };
    let head = Head {
        weir: VERSION,
        of: Some(name.to_lowercase()),
        sequence_number: checkpoint.position.sequence_number,
        offset: checkpoint.position.offset.to_string(),
        generation: checkpoint.generation,
        mark: checkpoint.mark.as_ref().map(ToString::to_string),
        state_bytes: tail.len(),
        state_digest: Digest::of(tail).to_string(),
        state_segments: segments.iter().map(record).collect(),
    };
    let mut body = BytesMut::from(&*serde_json::to_vec(&head)?);
    body.extend_from_slice(b"\n");
    body.extend_from_slice(tail);
    Ok(body.freeze())
}

/// Whose a checkpoint is.
pub(super) type Writer = (u64, Option<Mark>);

/// Reads a checkpoint's body beside its metadata: the writer and the state, whose segments are not at hand. The error says what is wrong.
pub(super) fn read(marked: &Marked, body: &Bytes, name: &str) -> Result<(Writer, StateImage), String> {
    let Some(line) = body.split(|b| *b == b'\n').next().filter(|line| line.starts_with(b"{\"weir\":")) else {
        return match marked.generation {
            None => Ok(((0, None), StateImage::default())),
            Some(_) => Err("its body was replaced: the metadata is Weir's, the body is not".into()),
        };
    };
    #[derive(Deserialize)]
    struct Version {
        weir: u32,
    }
    let damaged = |e: serde_json::Error| format!("its body is damaged ({e})");
    let Version { weir } = serde_json::from_slice(line).map_err(damaged)?;
    if weir != VERSION {
        return Err(format!(
            "its body has version {weir}, this Weir understands {VERSION}; run the Weir that wrote it"
        ));
    }
    let head: Head = serde_json::from_slice(line).map_err(damaged)?;
    if let Some(of) = head.of.filter(|of| *of != name.to_lowercase()) {
        return Err(format!("its body was written for {of}: it is a copy, and its state is that of another partition"));
    }
    let Position { sequence_number, offset } = &marked.position;
    let moved = head.sequence_number != *sequence_number || head.offset != **offset;
    if moved && head.state_bytes == 0 && head.state_segments.is_empty() {
        // Another client moved it, and there was no state that could be at the wrong place.
        return Ok(((marked.generation.unwrap_or(0), marked.mark), StateImage::default()));
    }
    if moved {
        return Err(format!(
            "another client moved it to {sequence_number} while the processor's state is that of {}; a processor with state needs a consumer \
             group of its own",
            head.sequence_number
        ));
    }
    let writer = (head.generation, head.mark.as_deref().and_then(Mark::parse));
    let tail = body.get(line.len() + 1..).map(|tail| body.slice_ref(tail)).unwrap_or_default();
    if tail.len() != head.state_bytes || Digest::of(&tail).to_string() != head.state_digest {
        return Err("its state doesn't match its digest".into());
    }
    let segment = |record: &SegmentRecord| match Digest::parse(&record.digest) {
        Some(digest) => Ok(Segment { digest, len: record.bytes, bytes: None }),
        None => Err(format!("its body is damaged (no digest: `{}`)", record.digest)),
    };
    let segments = head.state_segments.iter().map(segment).collect::<Result<_, _>>()?;
    Ok((writer, StateImage { segments, tail }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::layout::tests::{MARK, at, metadata};
    use super::super::layout::{Metadata, checkpoint, read_checkpoint};
    use super::*;

    #[test]
    fn a_body_is_believed_only_where_it_fits_its_metadata() {
        let read = |metadata: &Metadata, body: &Bytes| read(&read_checkpoint(metadata).unwrap(), body, "a/b");
        let mine = at(12, b"{\n\0}");
        let (marks, bytes) = (checkpoint(&mine), write(&mine, "A/b").unwrap());
        assert_eq!(read(&marks, &bytes), Ok(((3, Some(MARK)), mine.state.clone())));
        let mut large = at(12, b"tail");
        large.state.segments = vec![Segment::new(Bytes::from_static(b"base"))];
        let (_, image) = read(&marks, &write(&large, "a/b").unwrap()).unwrap();
        assert_eq!(image, large.state);
        assert!(image.segments.iter().all(|segment| segment.bytes.is_none()), "they have blobs of their own");
        let cut = bytes.slice(..bytes.len() - 1);
        assert!(read(&marks, &cut).unwrap_err().contains("digest"));
        assert!(read(&marks, &bytes.slice(..20)).unwrap_err().contains("damaged"));
        assert!(read(&marks, &Bytes::new()).unwrap_err().contains("replaced"));
        let newer = Bytes::from_static(b"{\"weir\":2,\"else\":1}\n");
        assert!(read(&marks, &newer).unwrap_err().contains("version 2"));

        let copied = write(&mine, "a/c").unwrap();
        assert!(read(&marks, &copied).unwrap_err().contains("written for a/c: it is a copy"));

        // What another client's SetMetadata leaves: its position, our body.
        let moved = metadata([("offset", "99"), ("sequencenumber", "20")]);
        assert!(read(&moved, &bytes).unwrap_err().contains("moved it to 20"));
        let same = metadata([("offset", "64"), ("sequencenumber", "12")]);
        assert_eq!(read(&same, &bytes), Ok(((3, Some(MARK)), mine.state.clone())), "the same place: the state fits");
        let stateless = write(&at(12, b""), "a/b").unwrap();
        assert_eq!(read(&moved, &stateless), Ok(((0, None), StateImage::default())));
        assert_eq!(read(&moved, &Bytes::new()), Ok(((0, None), StateImage::default())), "never was ours");
        assert_eq!(read(&moved, &Bytes::from_static(b"{\"Offset\":1}")), Ok(((0, None), StateImage::default())));
    }
}
