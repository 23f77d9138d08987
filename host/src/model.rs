//! The host's vocabulary: what flows through the pipeline and what is remembered of it.
//!
//! Everything here is plain data, cheap to clone (text and bodies share their buffers) and free of I/O. Names are those of
//! Event Hubs; where two words exist, [`SequenceNumber`] is what is compared and [`Offset`] is what is only passed on.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::state::StateImage;

/// The name of one partition of a hub, such as `"0"`. Opaque: the service numbers them, but nothing here relies on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(Arc<str>);

impl PartitionId {
    /// The id as the service writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PartitionId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The position of an event in its partition; strictly increasing, not always by one. This is the number to compare.
pub type SequenceNumber = i64;

/// The service's own position of an event: an opaque string that is stored and passed on, never compared or parsed
/// (in geo-replicated namespaces it is not a number).
pub type Offset = ByteString;

/// Milliseconds since the Unix epoch.
pub type Timestamp = i64;

/// Identifies one stream of one group: what ownership and checkpoints are filed under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Fully qualified namespace, such as `fleet.servicebus.windows.net`.
    pub namespace: String,
    /// Event hub.
    pub event_hub: String,
    /// Consumer group.
    pub consumer_group: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.event_hub, self.consumer_group)
    }
}

/// An AMQP application property's value, as far as a guest can see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// AMQP null.
    Null,
    /// AMQP boolean.
    Boolean(bool),
    /// Any signed AMQP integer.
    Integer(i64),
    /// Any unsigned AMQP integer.
    Unsigned(u64),
    /// AMQP float or double.
    Double(f64),
    /// AMQP string or symbol.
    Text(ByteString),
    /// AMQP binary.
    Binary(Bytes),
    /// AMQP timestamp.
    Timestamp(Timestamp),
    /// AMQP uuid, in network byte order.
    Uuid([u8; 16]),
    /// Anything else (described, list, map, array, decimal, char), as its AMQP encoding.
    Other(Bytes),
}

impl Value {
    /// Bytes that count for a sink's limit.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Other(bytes) => bytes.len(),
            _ => 8,
        }
    }
}

/// One application property.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// The property's name.
    pub key: ByteString,
    /// The property's value.
    pub value: Value,
}

/// An event as it was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Position in the partition.
    pub sequence_number: SequenceNumber,
    /// The service's opaque position.
    pub offset: Offset,
    /// When the service took the event in.
    pub enqueued_time: Timestamp,
    /// The key that chose the partition, if the producer gave one.
    pub partition_key: Option<ByteString>,
    /// Content type of the body.
    pub content_type: Option<ByteString>,
    /// Message id, written as text whatever its AMQP type.
    pub message_id: Option<ByteString>,
    /// Correlation id, written as text whatever its AMQP type.
    pub correlation_id: Option<ByteString>,
    /// Application properties in the order they came.
    pub properties: Vec<Property>,
    /// The body: data sections joined; a value section's string or binary as its bytes; anything else as AMQP encoding.
    pub body: Bytes,
}

impl Event {
    /// What the event weighs against the memory cap, in bytes: body, text and a flat sum for the record itself.
    pub fn weight(&self) -> usize {
        let text = |t: &Option<ByteString>| t.as_ref().map_or(0, |t| t.len());
        let properties: usize = self
            .properties
            .iter()
            .map(|p| {
                size_of::<Property>()
                    + p.key.len()
                    + match &p.value {
                        Value::Text(t) => t.len(),
                        Value::Binary(b) | Value::Other(b) => b.len(),
                        _ => 0,
                    }
            })
            .sum();
        size_of::<Self>()
            + self.body.len()
            + self.offset.len()
            + text(&self.partition_key)
            + text(&self.content_type)
            + text(&self.message_id)
            + text(&self.correlation_id)
            + properties
    }

    /// Where this event stands.
    pub fn position(&self) -> Position {
        Position { sequence_number: self.sequence_number, offset: self.offset.clone() }
    }
}

/// A place in a partition: right *at* an event that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Compared.
    pub sequence_number: SequenceNumber,
    /// Passed on.
    pub offset: Offset,
}

/// Where to begin reading. There is no `Latest`: it is resolved to a position before anything is attached, since a link that
/// drops before its first event would otherwise come back at a later "latest" and lose what lay between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPosition {
    /// The first event that is still retained.
    Earliest,
    /// The first event after this one.
    After(SequenceNumber),
    /// The first event enqueued at or after this time.
    EnqueuedTime(Timestamp),
}

/// What the service says of a partition now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The partition.
    pub id: PartitionId,
    /// Sequence number of the first retained event (of the next one, when empty).
    pub beginning_sequence_number: SequenceNumber,
    /// Sequence number of the newest event; `-1` when nothing was ever enqueued.
    pub last_enqueued_sequence_number: SequenceNumber,
    /// Offset of the newest event; of no meaning when nothing was ever enqueued.
    pub last_enqueued_offset: Offset,
    /// When the newest event was enqueued; of no meaning when nothing ever was.
    pub last_enqueued_time: Timestamp,
    /// Whether no event is retained.
    pub is_empty: bool,
}

impl PartitionInfo {
    /// Events enqueued but not covered by `checkpoint`: the partition's lag.
    pub fn lag(&self, checkpoint: Option<SequenceNumber>) -> u64 {
        if self.is_empty {
            return 0;
        }
        let done = checkpoint.unwrap_or(i64::MIN).max(self.beginning_sequence_number - 1);
        u64::try_from(self.last_enqueued_sequence_number - done).unwrap_or(0)
    }
}

/// Who owns a partition: stable over restarts of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// The id as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for OwnerId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One start of a process, as a random number: tells it from another one that goes by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// From a number that no other start has.
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What no other tenancy has: which process claimed, and which of its claims it was. By this, and by nothing else, a host knows its own
/// ownerships and commits again: generations begin anew where the ownership record is lost before the first checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    incarnation: Incarnation,
    claim: u64,
}

impl Mark {
    /// The mark of a process's `claim`th claim; one process never uses a number twice.
    pub const fn new(incarnation: Incarnation, claim: u64) -> Self {
        Self { incarnation, claim }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, claim) = text.split_once('-')?;
        Some(Self { incarnation: Incarnation::parse(incarnation)?, claim: claim.parse().ok()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.incarnation, self.claim)
    }
}

/// Counts the ownerships of a partition; a newer generation ends every older tenancy.
pub type Generation = u64;

/// What a conditional write compares: opaque, changes with every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// One uninterrupted ownership of one partition by one host. What it began with ends with it: memory, prefetch and the right
/// to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenancy {
    /// The partition.
    pub partition: PartitionId,
    /// The owner.
    pub owner: OwnerId,
    /// Which tenancy this is, and nobody else's.
    pub mark: Mark,
    /// Which ownership this is.
    pub generation: Generation,
    /// The condition for the next write of the ownership record.
    pub ownership: ETag,
}

/// Progress: every event up to and including `position` is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last finished event, inclusive.
    pub position: Position,
    /// The ownership that it was written under.
    pub generation: Generation,
    /// The tenancy that wrote it; `None`: another SDK, or a Weir that left no mark.
    pub mark: Option<Mark>,
    /// Processor state as of exactly this event; empty when the processor keeps none.
    pub state: StateImage,
}

/// An event to publish, with the id that makes a repeat recognisable.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Deterministic: `hub/partition/sequence number/n` or `hub/partition/key`. Sinks put it into the property
    /// [`OUTPUT_ID_PROPERTY`].
    pub id: ByteString,
    /// Chooses the partition.
    pub partition_key: Option<ByteString>,
    /// Content type of the body.
    pub content_type: Option<ByteString>,
    /// Message id; sinks fall back to `id`.
    pub message_id: Option<ByteString>,
    /// Correlation id.
    pub correlation_id: Option<ByteString>,
    /// Application properties.
    pub properties: Vec<Property>,
    /// The body, published as one data section.
    pub body: Bytes,
}

/// The application property that carries an output's id.
pub const OUTPUT_ID_PROPERTY: &str = "weir-output-id";
