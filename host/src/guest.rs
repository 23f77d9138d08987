//! What the pipeline knows of a guest: opened once per partition, given batches, answering what became of them.
//!
//! The contract is `wit/processor.wit`; these types are its one host-side model, whatever WIT version a module was built for.
//! `wasm/` implements the traits for components; tests implement them in plain Rust. A guest's failure is a value with a
//! disposition, never a transport error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;

use crate::model::{Event, PartitionId, Position, Property, Scope, SequenceNumber, Timestamp};
use crate::state::PartitionState;

/// A compiled processor, ready to be opened for any number of partitions.
#[async_trait]
pub trait Processor: Send + Sync + 'static {
    /// Makes a fresh instance and calls its `open`. Bounded in time and memory like every guest call.
    async fn open(&self, opening: Opening) -> Result<Box<dyn Instance>, Failure>;

    /// Whether its instances keep state in the host, or ask to be woken. If not, their partitions cost nothing of it.
    fn uses_state(&self) -> bool {
        false
    }

    /// Digest of the code, for logs and dead letters; `None` where there is no module.
    fn digest(&self) -> Option<Arc<str>> {
        None
    }
}

/// A live guest of one partition. One call at a time. After [`Failure::Trap`] the instance is dead and must be replaced.
#[async_trait]
pub trait Instance: Send + 'static {
    /// Hands over a batch. What the guest emitted comes back with its answer, and is dropped on failure.
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure>;

    /// Wakes it, as it asked the state for ([`PartitionState::wake_at`]), between two batches. What an answer says of events means those
    /// handed over so far: there is none to reject or to ask for again, and an output needs a key as its origin. Never called where nobody
    /// asks.
    async fn tick(&mut self, now: Timestamp) -> Result<Answer, Failure> {
        let _ = now;
        let ack = Ack { progress: Progress::Hold, rejected: Vec::new(), redeliver: None };
        Ok(Answer { ack, outputs: Vec::new() })
    }

    /// Says good-bye. Nothing that the guest does here counts any more; failures are logged by the implementation.
    async fn close(self: Box<Self>, reason: CloseReason);
}

/// A run of events in sequence, shared and cheap to cut: a redelivery is the tail of the same buffer.
#[derive(Clone, Debug)]
pub struct Batch {
    events: Arc<Vec<Event>>,
    from: usize,
    to: usize,
}

impl Batch {
    /// Wraps a run of events.
    pub fn new(events: Vec<Event>) -> Self {
        Self { from: 0, to: events.len(), events: Arc::new(events) }
    }

    /// The events.
    pub fn events(&self) -> &[Event] {
        self.events.get(self.from..self.to).unwrap_or_default()
    }

    /// The events from `index` on (empty beyond the end).
    pub fn tail(&self, index: usize) -> Self {
        let from = self.from.saturating_add(index).min(self.to);
        Self { events: Arc::clone(&self.events), from, to: self.to }
    }

    /// The first `len` events (all, if there are fewer).
    pub fn head(&self, len: usize) -> Self {
        let to = self.from.saturating_add(len).min(self.to);
        Self { events: Arc::clone(&self.events), from: self.from, to }
    }
}

/// What an instance is told when it is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Namespace, hub and group.
    pub scope: Scope,
    /// The partition that it will see.
    pub partition: PartitionId,
    /// Why it is opened.
    pub reason: OpenReason,
    /// Where processing goes on: right after this event.
    pub checkpoint: Option<Position>,
    /// The deployment's `config` table, as JSON.
    pub config: Arc<str>,
    /// What the processor keeps in the host for this partition. It may be read at any time, and changed during a call, `open` included;
    /// whoever calls the instance begins and ends the calls.
    pub state: PartitionState,
}

/// Why an instance is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenReason {
    /// The partition has no checkpoint yet.
    FirstStart,
    /// The host was started again.
    Restart,
    /// The partition was taken over from another owner.
    Claimed,
    /// New code replaces old.
    Swapped,
    /// The last instance trapped.
    AfterTrap,
}

/// Why an instance is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The host stops.
    Shutdown,
    /// Another host owns the partition now.
    LostOwnership,
    /// The partition was given back.
    Released,
    /// New code replaces this.
    Swapped,
}

/// A guest's answer to a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What became of the events.
    pub ack: Ack,
    /// What the guest emitted during the call, in order.
    pub outputs: Vec<GuestOutput>,
}

/// How far the checkpoint may move, and what to do with the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// How far.
    pub progress: Progress,
    /// Events to be dead-lettered; they count as finished.
    pub rejected: Vec<Rejection>,
    /// Events to be handed over again.
    pub redeliver: Option<Redelivery>,
}

/// How far the checkpoint may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every event handed over so far is finished (with a redelivery: every event before it).
    All,
    /// Nothing new is finished.
    Hold,
    /// Finished up to and including this event, which may lie in an earlier batch.
    Through(SequenceNumber),
}

/// An event that can't be processed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// Its index in the batch.
    pub index: u32,
    /// Why, for the person who finds it among the dead letters.
    pub reason: String,
}

/// What was done before `index` stands; that event and those after it come again.
#[derive(Clone, Debug, PartialEq)]
pub struct Redelivery {
    /// Index in the batch of the first event that comes again.
    pub index: u32,
    /// How long to wait first; the host's backoff when the guest doesn't say.
    pub after: Option<Duration>,
    /// Why.
    pub reason: String,
}

/// What an output comes from; its id is made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The event at this index of the batch.
    Event(u32),
    /// A key of the guest's own.
    Key(String),
}

/// An output as the guest emitted it, before the host gave it an id and resolved its target.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestOutput {
    /// What it comes from; `None`: the last event of the batch.
    pub origin: Option<Origin>,
    /// A name from the deployment's outputs; `None`: the default one.
    pub target: Option<ByteString>,
    /// Chooses the partition.
    pub partition_key: Option<ByteString>,
    /// Content type of the body.
    pub content_type: Option<ByteString>,
    /// Message id.
    pub message_id: Option<ByteString>,
    /// Correlation id.
    pub correlation_id: Option<ByteString>,
    /// Application properties.
    pub properties: Vec<Property>,
    /// The body.
    pub body: Bytes,
}

/// A guest call that did not end in an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Nothing of this batch counts; the same batch comes again.
    Retry {
        /// How long to wait first; the host's backoff when the guest doesn't say.
        after: Option<Duration>,
        /// Why, in the guest's words.
        reason: String,
    },
    /// The guest asks for a person: the partition stops.
    Fatal(String),
    /// The guest broke: the instance is dead, and the host decides by policy.
    Trap(TrapReport),
}

/// What is known of a guest that broke.
#[derive(Clone, Debug, PartialEq)]
pub struct TrapReport {
    /// The kind of end.
    pub cause: TrapCause,
    /// One sentence, for example the trap's message.
    pub message: String,
    /// What the guest wrote to its standard error during the call (a Rust panic's message is there), bounded.
    pub stderr: String,
    /// The guest's frames, innermost first, one a line; empty when there are none.
    pub backtrace: String,
}

/// How a guest broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapCause {
    /// A WebAssembly trap: a panic, a wild pointer, a stack overflow.
    Trap,
    /// The call took longer than its limit.
    Deadline,
    /// The guest wanted more memory than its limit.
    OutOfMemory,
    /// The guest called `exit`.
    Exit,
    /// The answer breaks the contract: an index or a sequence number out of range, an unknown output.
    InvalidAnswer,
}

impl fmt::Display for TrapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "the guest trapped",
            Self::Deadline => "the guest exceeded its time limit",
            Self::OutOfMemory => "the guest exceeded its memory limit",
            Self::Exit => "the guest called exit",
            Self::InvalidAnswer => "the guest's answer breaks the contract",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, .. } => write!(f, "the guest asked for a retry: {reason}"),
            Self::Fatal(reason) => write!(f, "the guest stopped the partition: {reason}"),
            Self::Trap(report) => write!(f, "{}: {}", report.cause, report.message),
        }
    }
}
