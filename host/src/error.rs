//! Why a partition stopped, for the person who has to act: where, what, why, what to do.

use std::fmt;

use crate::guest::{Failure, TrapReport};
use crate::model::{PartitionId, SequenceNumber};

/// A partition that stopped because of an error. The others went on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("processor `{processor}`, event hub `{event_hub}`, partition {partition}: {cause}")]
pub struct PartitionError {
    /// The processor's name.
    pub processor: String,
    /// The hub.
    pub event_hub: String,
    /// The partition.
    pub partition: PartitionId,
    /// What happened.
    pub cause: Cause,
}

/// What stopped a partition.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The guest failed at an event as often as it may, or asked for a person.
    #[error("stopped at {range} after {attempts} attempt(s); `dead-letter` and `on-poison` say what becomes of such events: {}", Told(.failure))]
    Guest {
        /// The events in hand.
        range: Range,
        /// How often they were handed over.
        attempts: u32,
        /// How the last attempt ended.
        failure: Failure,
    },
    /// The guest failed at everything, in a run that has an end. (A service rests, and tries again.)
    #[error(
        "the guest fails at everything: {failed} events in a row ({range}), and none between them worked, so none was given up; mend the \
         module or what it needs: {}",
        Told(.failure)
    )]
    Broken {
        /// From the first event that was not given up to the last that was tried.
        range: Range,
        /// How many failed in a row.
        failed: u32,
        /// How the last one failed.
        failure: Failure,
    },
    /// The guest rejected an event and there is no place for it.
    #[error(
        "the guest rejected sequence number {sequence_number} ({reason}), but the processor has no dead-letter sink; nothing was \
         dropped: configure `dead-letter` and start again"
    )]
    NoDeadLetter {
        /// The rejected event.
        sequence_number: SequenceNumber,
        /// The guest's reason.
        reason: String,
    },
    /// A sink did not accept.
    #[error("output `{sink}` did not accept what came of {range} after {attempts} attempt(s): {detail}")]
    Sink {
        /// The output's name.
        sink: String,
        /// Where the outputs come from.
        range: Range,
        /// How often it was tried.
        attempts: u32,
        /// What it said.
        detail: String,
    },
    /// The checkpoint can't be written.
    #[error(
        "the checkpoint at sequence number {sequence_number} could not be written after {attempts} attempt(s): {detail}"
    )]
    Commit {
        /// The position.
        sequence_number: SequenceNumber,
        /// How often it was tried.
        attempts: u32,
        /// What the store said.
        detail: String,
    },
    /// The stored checkpoint is not one to go on from.
    #[error("the checkpoint can't be used: {0}")]
    Checkpoint(String),
    /// There is nothing to read at the position.
    #[error("can't read from {position}: {detail}; set the checkpoint, or `start`, to a position that exists")]
    Position {
        /// Where it should have begun.
        position: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Events are gone, and the policy is to stop.
    #[error(
        "sequence numbers {first} to {last} are not in the event hub any more (older than its retention, or removed by compaction) and were \
         never processed; to go on behind them set `on-missing-events = \"continue\"`"
    )]
    Missing {
        /// The first that should have come.
        first: SequenceNumber,
        /// The last before the first that is there.
        last: SequenceNumber,
    },
    /// The guest holds more events than it may.
    #[error(
        "the guest holds {held} events without finishing them, up to {range}, and may hold {limit}; acknowledge earlier, or raise \
         `limits.held-events`"
    )]
    Held {
        /// The batch that was too much.
        range: Range,
        /// Held events.
        held: usize,
        /// The limit.
        limit: usize,
    },
    /// A run with an end gave up on something that a service would go on trying.
    #[error("gave up after {attempts} attempts: {detail}")]
    Unreachable {
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        detail: String,
    },
    /// A defect of the host.
    #[error("the partition's task ended unexpectedly ({0}); this is a defect of the host")]
    Defect(String),
}

/// The events in hand when something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Before the first event: while the guest was opened.
    Opening,
    /// Between two events: while the guest was woken.
    Tick,
    /// From the first to the last of these sequence numbers, both included.
    Events(SequenceNumber, SequenceNumber),
}

impl Range {
    /// The events of both.
    pub(crate) fn through(self, later: Self) -> Self {
        match (self, later) {
            (Self::Opening | Self::Tick, other) | (other, Self::Opening | Self::Tick) => other,
            (Self::Events(first, _), Self::Events(_, last)) => Self::Events(first, last),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("the opening of the guest"),
            Self::Tick => f.write_str("a wake-up of the guest"),
            Self::Events(first, last) if first == last => write!(f, "sequence number {first}"),
            Self::Events(first, last) => write!(f, "sequence numbers {first} to {last}"),
        }
    }
}

/// A guest's failure with all that is known of it.
pub(crate) struct Told<'a>(pub(crate) &'a Failure);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        if let Failure::Trap(TrapReport { stderr, backtrace, .. }) = self.0 {
            for (title, text) in [("the guest's standard error", stderr), ("the guest's backtrace", backtrace)] {
                if !text.trim().is_empty() {
                    write!(f, "\n  {title}:")?;
                    for line in text.trim_end().lines() {
                        write!(f, "\n    {line}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
