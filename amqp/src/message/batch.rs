//! Batches: an envelope whose data sections are encoded messages.

use bytes::{Bytes, BytesMut};

use super::{Message, encode_data_header};
use crate::wire::DecodeError;

/// The message format of a batch, as Event Hubs and Service Bus use it.
pub const BATCH_FORMAT: u32 = 0x8001_3700;

/// The most bytes in front of a message inside a batch: descriptor, binary32 and size.
const ENTRY_OVERHEAD: usize = 8;

impl Message {
    /// The encoded messages of a batch, as slices of the envelope.
    pub fn batch(&self) -> impl Iterator<Item = Result<Bytes, DecodeError>> {
        self.data()
    }
}

/// Collects encoded messages into a batch, by reference, up to a size.
#[derive(Debug)]
pub struct BatchBuilder {
    slices: Vec<Bytes>,
    headers: BytesMut,
    size: usize,
    max_size: usize,
    count: usize,
}

impl BatchBuilder {
    /// A batch of at most `max_size` bytes. `envelope` holds encoded sections that stand in front, such as message annotations with
    /// the partition key for all; it may be empty.
    #[must_use]
    pub fn new(envelope: Bytes, max_size: usize) -> Self {
        let size = envelope.len();
        let slices = if envelope.is_empty() { Vec::new() } else { vec![envelope] };
        Self { slices, headers: BytesMut::new(), size, max_size, count: 0 }
    }

    /// Adds an encoded message, unless it no longer fits.
    #[must_use]
    pub fn add(&mut self, message: &[Bytes]) -> bool {
        let len: usize = message.iter().map(Bytes::len).sum();
        if self.size + len + ENTRY_OVERHEAD > self.max_size {
            return false;
        }
        encode_data_header(&mut self.headers, len);
        let header = self.headers.split().freeze();
        self.size += header.len() + len;
        self.slices.push(header);
        self.slices.extend(message.iter().cloned());
        self.count += 1;
        true
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its encoded size so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The payload, for [`send`](crate::engine::Connection::send) with [`BATCH_FORMAT`].
    #[must_use]
    pub fn finish(self) -> Vec<Bytes> {
        self.slices
    }
}
