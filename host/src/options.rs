//! What an operator may set for a processor, already validated, with the defaults of the reference page.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::BatchLimits;
pub use crate::breaker::BreakerPolicy;
use crate::checkpoint::Cadence;
use crate::clock::Clock;
use crate::model::{PartitionId, SequenceNumber, StartPosition, Timestamp};
use crate::retry::{Backoff, RetryPolicy};

/// How one processor reads, batches, retries and checkpoints.
#[derive(Clone, Debug)]
pub struct ProcessorOptions {
    /// The deployment's `config` table as JSON, handed to the guest when it is opened.
    pub config: Arc<str>,
    /// Where a partition without a checkpoint begins.
    pub start: Start,
    /// Events that may lie between the service and the host, per partition.
    pub prefetch: u32,
    /// What to do about events that are not in the hub any more.
    pub missing: MissingEvents,
    /// Events that a guest may hold back, per partition; each costs some 60 bytes of memory. Beyond it the partition stops.
    pub held_events: usize,
    /// What the state of one partition may come to, in bytes: keys, values and 64 bytes for each key. Beyond it, the guest is told so.
    pub state_limit: usize,
    /// The fleet that the partitions are shared with; `None`: all of them are for this host, and the store sees to it that no second
    /// one is at it.
    pub fleet: Option<Fleet>,
    /// AMQP owner level of the receivers; `None` shares the group with readers of other programs.
    pub owner_level: Option<i64>,
    /// When a batch is cut.
    pub batch: BatchLimits,
    /// When a checkpoint is written.
    pub checkpoint: Cadence,
    /// How often an event is handed over (the first time included), and the pauses between.
    pub retry: RetryPolicy,
    /// What becomes of an event that was handed over as often as it may.
    pub delivery: Delivery,
    /// How often a sink is tried with the same outputs before the partition stops.
    pub sink_retry: RetryPolicy,
    /// How long one publish may take. A sink that never answers counts as failed after this.
    pub sink_timeout: Duration,
    /// How often a checkpoint write is tried before the partition stops.
    pub store_retry: RetryPolicy,
    /// How long one call to the checkpoint store may take; then its outcome is unknown and is looked up.
    pub store_timeout: Duration,
    /// Pauses between attempts to attach, to list partitions and to claim. These never give up, unless the run has an
    /// end of its own.
    pub reconnect: Backoff,
    /// How long a link may be silent before the service is asked whether there is more. Too short costs management
    /// calls, too long leaves a half-open link unread.
    pub stall: Duration,
    /// Batches that the guest may be ahead of the slowest sink.
    pub emit_ahead: usize,
    /// How often the hub is asked for new partitions.
    pub partition_refresh: Duration,
    /// What a processor's wake-ups go by.
    pub clock: Clock,
}

impl Default for ProcessorOptions {
    fn default() -> Self {
        Self {
            config: "{}".into(),
            start: Start::Earliest,
            prefetch: 300,
            missing: MissingEvents::Continue,
            held_events: 500_000,
            state_limit: 16 << 20,
            fleet: None,
            owner_level: None,
            batch: BatchLimits::default(),
            checkpoint: Cadence::default(),
            retry: RetryPolicy::default(),
            delivery: Delivery::default(),
            sink_retry: RetryPolicy { attempts: 10, ..RetryPolicy::default() },
            sink_timeout: Duration::from_secs(60),
            store_retry: RetryPolicy { attempts: 10, ..RetryPolicy::default() },
            store_timeout: Duration::from_secs(15),
            reconnect: Backoff { first: Duration::from_millis(200), max: Duration::from_secs(30) },
            stall: Duration::from_secs(20),
            emit_ahead: 4,
            partition_refresh: Duration::from_secs(300),
            clock: Clock::default(),
        }
    }
}

/// What becomes of events that a guest can't process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// What to do with the one event that it is.
    pub on_poison: OnPoison,
    /// Age, since the service took it in, beyond which an event that fails is not tried again; `None`: no limit.
    pub max_age: Option<Duration>,
    /// When it is the guest that counts as broken.
    pub breaker: BreakerPolicy,
}

/// What to do with an event that was handed over as often as it may, the last time alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPoison {
    /// To the dead letters; where there is no place for them, the partition stops.
    #[default]
    DeadLetter,
    /// Stop the partition until a person acts.
    Stop,
    /// Go on without it: said as an error, and counted.
    Drop,
}

/// Where a partition without a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first retained event.
    Earliest,
    /// With what is enqueued after the partition was first claimed; that point becomes the first checkpoint. Partitions that are
    /// added while a host is there are read from their first event; those added while none is begin at the latest of then.
    Latest,
    /// With the first event after this one.
    After(SequenceNumber),
    /// With this event.
    From(SequenceNumber),
    /// With the first event enqueued at or after this time.
    EnqueuedTime(Timestamp),
}

/// How a host shares a hub's partitions with other hosts of its consumer group, through a store that all of them use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// When an ownership that nobody renews counts as abandoned; the same on all hosts. It is renewed after a third of it, and a
    /// host that could not renew stops after five sixths. A host that dies is followed within it and two cycles of a sixth.
    pub expiry: Duration,
    /// The most partitions that this host takes; `None`: as many as there are.
    pub most: Option<usize>,
    /// Take exactly these, whoever else is there.
    pub assignment: Option<Vec<PartitionId>>,
    /// Only Weir hosts use the group, all of them so: a host's sign of life stands for all of its ownerships, and none is renewed by itself.
    pub exclusive: bool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { expiry: Duration::from_secs(60), most: None, assignment: None, exclusive: false }
    }
}

/// What to do when events between the last one processed and the first one there are gone: older than the hub's retention, or
/// removed by compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingEvents {
    /// Say it, count it, go on with the first event that is there.
    Continue,
    /// Stop the partition until a person decides.
    Stop,
}

impl Start {
    /// The position to attach at; `None` for [`Start::Latest`], which only the service can resolve.
    pub fn position(self) -> Option<StartPosition> {
        match self {
            Self::Earliest => Some(StartPosition::Earliest),
            Self::Latest => None,
            Self::After(n) => Some(StartPosition::After(n)),
            Self::From(n) => Some(StartPosition::After(n.saturating_sub(1))),
            Self::EnqueuedTime(t) => Some(StartPosition::EnqueuedTime(t)),
        }
    }
}
