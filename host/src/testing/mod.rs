//! Everything a pipeline needs, in memory and under the test's control: for this crate's tests and for those who embed
//! it.
//!
//! - [`MemoryHub`]: a hub that is written to while it is read, grows partitions, and breaks its links on demand.
//! - [`MemoryStore`], [`MemorySink`]: where checkpoints and outputs go; a sink can be corked.
//! - [`FaultyStore`], [`FaultySink`], [`FaultySource`]: seeded wrappers around any of their kind, with "done, but
//!   reported as failed" among the faults.
//! - [`conformance`]: what every checkpoint store must do, as a function to be called with yours.

pub mod conformance;
mod faulty;
mod sink;
mod source;
mod store;

pub use faulty::{Faults, FaultySink, FaultySource, FaultyStore};
pub use sink::MemorySink;
pub use source::{Fault, MemoryHub};
pub use store::MemoryStore;

use bytes::Bytes;
use bytestring::ByteString;

use crate::model::{Event, SequenceNumber};
use crate::state::{Segment, StateImage, TAIL_BYTES};

/// A state's image of so many bytes, for a store to keep: a tail, and where that isn't enough also a segment. No host could read it.
pub fn image(bytes: impl Into<Bytes>) -> StateImage {
    let bytes = bytes.into();
    match bytes.len() > TAIL_BYTES {
        true => StateImage { segments: vec![Segment::new(bytes)], tail: Bytes::from_static(b"tail") },
        false => StateImage { segments: Vec::new(), tail: bytes },
    }
}

/// An event with a body and otherwise only what the service would add.
pub fn event(sequence_number: SequenceNumber, body: impl Into<Bytes>) -> Event {
    Event {
        sequence_number,
        offset: ByteString::from((sequence_number * 64).to_string()),
        enqueued_time: 1_700_000_000_000 + sequence_number,
        partition_key: None,
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
        body: body.into(),
    }
}
