//! The unit of the log: what one transfer brought in, encoded once, in the form in which it is pushed and journalled.

use bytes::Bytes;

use super::annotate;

/// An event as it arrived: the parts of its encoded message that are kept byte for byte.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    /// Header and delivery annotations, as encoded sections; often empty.
    pub head: Bytes,
    /// The producer's own message annotations: encoded keys and values, without the map around them.
    pub annotations: Bytes,
    /// How many keys plus values `annotations` holds.
    pub annotation_items: u32,
    /// The partition key the producer named.
    pub key: Option<String>,
    /// From the properties section to the end of the message.
    pub tail: Bytes,
}

/// A run of events of one partition that arrived together.
#[derive(Debug)]
pub struct Block {
    /// Sequence number of the first event; the others follow without a gap.
    pub first: i64,
    /// Offset of the first event: the position of its first byte in the partition's log.
    pub offset: i64,
    /// When the partition took it in, in milliseconds since 1970.
    pub enqueued_ms: i64,
    /// Where each event ends in `data`.
    pub ends: Box<[u32]>,
    /// The encoded messages, one after another.
    pub data: Bytes,
}

impl Block {
    /// Encodes `events` behind each other, with the annotations that say where they stand.
    #[must_use]
    pub fn encode(first: i64, offset: i64, enqueued_ms: i64, events: &[Incoming]) -> Self {
        let size: usize = events.iter().map(annotate::size_hint).sum();
        let mut data = Vec::with_capacity(size);
        let mut ends = Vec::with_capacity(events.len());
        for (sequence, event) in (first..).zip(events) {
            let at = offset.saturating_add_unsigned(data.len() as u64);
            annotate::write(&mut data, event, sequence, at, enqueued_ms);
            ends.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        Self { first, offset, enqueued_ms, ends: ends.into(), data: data.into() }
    }

    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds nothing; the log never keeps such a block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The sequence number after its last event.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.first.saturating_add_unsigned(self.ends.len() as u64)
    }

    /// The offset after its last event.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.offset.saturating_add_unsigned(self.data.len() as u64)
    }

    /// The bytes of the event at `index`.
    #[must_use]
    pub fn event(&self, index: usize) -> &[u8] {
        &self.data[self.start(index)..self.ends[index] as usize]
    }

    /// The same as a handle that keeps the block's buffer alive.
    #[must_use]
    pub fn event_bytes(&self, index: usize) -> Bytes {
        self.data.slice(self.start(index)..self.ends[index] as usize)
    }

    /// The offset of the event at `index`.
    #[must_use]
    pub fn offset_of(&self, index: usize) -> i64 {
        self.offset.saturating_add_unsigned(self.start(index) as u64)
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }
}
