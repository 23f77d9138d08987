//! Every place where the pipeline meets the world: a source of events, a store of checkpoints, sinks for outputs.
//!
//! Adapters (`azure/`, `local/`, `testing/`) implement these traits, the pipeline is written against them, and only the wiring
//! in `host.rs` knows both. Each trait states what it promises, and each error says what the pipeline may conclude from it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{
    Checkpoint, ETag, Event, Incarnation, Mark, Output, OwnerId, PartitionId, PartitionInfo, StartPosition, Tenancy,
};

/// A hub to read from, seen through one consumer group.
#[async_trait]
pub trait EventSource: Send + Sync + 'static {
    /// The hub's partitions as of now. Grows when partitions are added; never shrinks.
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError>;

    /// What is in one partition as of now.
    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError>;

    /// Attaches to a partition. An error is final for this attempt; the pump retries with backoff. A receiver never
    /// re-attaches by itself: whatever ends it surfaces in [`PartitionReceiver::receive`], and the pump opens a new one after the
    /// last event it applied.
    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError>;
}

/// How to attach.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The AMQP owner level ("epoch"): a higher or equal one takes the link from whoever holds it. `None` shares.
    pub owner_level: Option<i64>,
    /// Events that may lie between the service and [`PartitionReceiver::receive`].
    pub prefetch: u32,
}

/// An attached partition.
#[async_trait]
pub trait PartitionReceiver: Send {
    /// Waits for events, then appends those at hand to `events`: at least one, at most `max`, in sequence. Cancel safe: dropping the
    /// future loses nothing. Not calling is back-pressure: credit runs out and the service stops sending.
    async fn receive(&mut self, max: usize, events: &mut Vec<Event>) -> Result<(), SourceError>;

    /// Detaches and releases what the receiver holds at the service. Errors don't matter any more.
    async fn close(self: Box<Self>);
}

/// Why a source could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct SourceError {
    /// What to do about it.
    pub kind: SourceErrorKind,
    /// What the service or the network said.
    pub detail: String,
}

/// What a reader of a [`SourceError`] can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// Passing: the link, session or connection ended, the service is busy. Open again after backoff.
    Transient,
    /// Another reader with an equal or higher owner level took the link. The ownership must be claimed again first.
    Stolen,
    /// Credentials are missing, wrong or not sufficient. Retrying helps only after someone acts.
    Unauthorized,
    /// The namespace, hub, group or partition doesn't exist.
    NotFound,
    /// The start position isn't valid (any more).
    InvalidPosition,
}

impl fmt::Display for SourceErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "no working link to the event hub",
            Self::Stolen => "another reader took the partition",
            Self::Unauthorized => "the namespace refused the credentials",
            Self::NotFound => "not found in the namespace",
            Self::InvalidPosition => "the start position is not valid",
        })
    }
}

/// Ownership and checkpoints of one [`crate::model::Scope`], and which hosts share it. Every write to a partition is conditional: it
/// names the ETag that it replaces, and a lost race is a value ([`Written::Conflict`]), not an error.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Everything known of the scope, in one round trip: all that a host needs to decide what to claim and what to give up.
    async fn list(&self) -> Result<Listing, StoreError>;

    /// Takes a partition that is free (`expected: None` where no record exists) or whose record still has the ETag `expected`. The
    /// record keeps the `mark`, also when it is renewed and released, so that whoever wrote it knows it again.
    /// The new tenancy's generation is above that of the ownership record and of the checkpoint, whichever is higher: it counts on even
    /// where the ownership record was lost or rewritten by somebody who keeps no generations.
    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError>;

    /// Says again that the partition is owned: the record is as young as a new one. The tenancy goes on with another ETag; a
    /// conflict means that it is over.
    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError>;

    /// Gives a partition back: the record stays, without an owner.
    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError>;

    /// Says that a host is there, in place of the announcement with the ETag `expected` (`None`: there must be none). A conflict means
    /// that another process goes by the same name.
    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError>;

    /// Takes a host's announcement away, if it still has this ETag; one that is gone already is as good.
    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError>;

    /// Reads a partition's checkpoint, with all of its state at hand. `None`: there never was one.
    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError>;

    /// Replaces the checkpoint and its state in one atomic, durable write, if it still has the ETag `expected` (`None`: if there
    /// is none yet). Segments of the state that are at hand are made durable before; those that aren't are named by the checkpoint that is
    /// replaced, and stay. What the new one doesn't name may be removed.
    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError>;
}

/// What a store knows of its scope at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The partitions that were ever owned or have a checkpoint, in no particular order.
    pub partitions: Vec<PartitionRecord>,
    /// The hosts that said they are there, in no particular order.
    pub hosts: Vec<HostRecord>,
}

/// What a store knows of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionRecord {
    /// The partition.
    pub partition: PartitionId,
    /// Its owner and the condition for changing it; `None` when it was never owned.
    pub ownership: Option<Ownership>,
    /// Its checkpoint's position, generation and mark, without its state; `None` when it never had one.
    pub checkpoint: Option<Checkpoint>,
}

/// An ownership record.
#[derive(Clone, Debug, PartialEq)]
pub struct Ownership {
    /// `None`: released.
    pub owner: Option<OwnerId>,
    /// How many ownerships there were, this one included; 0 when the record's writer doesn't count.
    pub generation: u64,
    /// The tenancy that wrote it, be it its release; `None`: another SDK, or a Weir that left no mark.
    pub mark: Option<Mark>,
    /// Condition for the next write.
    pub etag: ETag,
    /// How long ago it was written, by the store's own clock alone; `None` where the store has none, and then it counts as fresh.
    pub age: Option<Duration>,
}

/// What a host says of itself to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The host, by the name under which it owns partitions.
    pub owner: OwnerId,
    /// Which start of it; `None`: a Weir that doesn't tell.
    pub incarnation: Option<Incarnation>,
    /// Whether this announcement stands for all of its ownerships, which it doesn't renew.
    pub exclusive: bool,
    /// The most partitions that it takes; `None`: as many as there are.
    pub capacity: Option<u32>,
    /// How it takes part.
    pub part: Part,
    /// How many partitions it would have now if nobody were in its way; to show, not to reckon with.
    pub wanted: u32,
    /// The Weir that it runs.
    pub version: String,
}

/// How a host takes part in the sharing of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It takes an even share.
    Fair,
    /// It has partitions of its own choice, which are not shared.
    Fixed,
    /// It takes nothing more, and gives up what it has.
    Leaving,
}

/// A host's announcement as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRecord {
    /// What it said.
    pub presence: Presence,
    /// Changes with every announcement, whatever it says.
    pub etag: ETag,
    /// Like [`Ownership::age`].
    pub age: Option<Duration>,
}

/// The outcome of a conditional write.
#[derive(Clone, Debug, PartialEq)]
pub enum Written<T> {
    /// The write took place.
    Done(T),
    /// Somebody else wrote first; nothing changed. Read again before deciding anything.
    Conflict,
}

impl<T> Written<T> {
    /// The same outcome with another value.
    pub fn map<U>(self, done: impl FnOnce(T) -> U) -> Written<U> {
        match self {
            Self::Done(value) => Written::Done(done(value)),
            Self::Conflict => Written::Conflict,
        }
    }
}

/// Why a store could not answer, and what is certain about the write it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The write did not happen: it may be repeated as it is.
    #[error("{0}")]
    Determinate(String),
    /// The write may have happened: read before writing again.
    #[error("{0} (the write may have happened)")]
    Indeterminate(String),
    /// What is stored can't be understood. Nothing is guessed: a person must look.
    #[error("{0}")]
    Corrupt(String),
}

/// Where outputs and dead letters go.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Publishes in order and returns when all of it is durable downstream. An error leaves open which were accepted: the caller
    /// repeats all of them, and their ids tell the repeats.
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError>;

    /// The largest output that can ever be accepted, in bytes of body, properties, keys and ids.
    fn max_output_bytes(&self) -> usize;

    /// The most outputs of one publish. A publish is given a time, and repeated as a whole when it fails: whatever costs a round
    /// trip per output should not be handed more than it can do in that time.
    fn max_outputs(&self) -> usize {
        4096
    }
}

/// Why a sink did not accept.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Passing: try again after backoff.
    #[error("{0}")]
    Transient(String),
    /// Will not pass by itself: credentials, a missing hub, a full disk, an output that is too large.
    #[error("{0}")]
    Permanent(String),
}
