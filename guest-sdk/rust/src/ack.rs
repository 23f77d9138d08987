//! What a guest answers: an [`Ack`] or [`Failure`] for a batch, an [`Outcome`] for one event.

use std::fmt;
use std::time::Duration;

use crate::event::BodyError;
use crate::{Ack, Failure, Progress, Redelivery, Rejection, Retry};

/// What became of one event: finished, or a [`Problem`] and what to do about it.
pub type Outcome = Result<(), Problem>;

/// Why an event could not be finished. Its outputs are dropped; those of the events before it stand, except after `Fatal`.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// It never will be: dead-letter it with this reason, and go on.
    Reject(String),
    /// Not now: this event and those after it come again.
    Retry {
        /// How long to wait first; `None` leaves it to the host's backoff.
        after: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// A person must look: stop this partition.
    Fatal(String),
}

impl Problem {
    /// Dead-letter the event.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }

    /// Hand the event, and those after it, over again, after the host's backoff.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    /// Hand the event, and those after it, over again, after this time.
    pub fn retry_after(after: Duration, reason: impl Into<String>) -> Self {
        Self::Retry { after: Some(after), reason: reason.into() }
    }

    /// Stop the partition and report.
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self::Fatal(reason.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject(reason) => write!(f, "rejected: {reason}"),
            Self::Retry { reason, .. } => write!(f, "to be tried again: {reason}"),
            Self::Fatal(reason) => write!(f, "fatal: {reason}"),
        }
    }
}

impl std::error::Error for Problem {}

/// What can't be read can't be processed, now or later. (There is no such conversion to [`Failure`]: it would let one broken
/// event stop a partition by a `?`.)
impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self::Reject(error.to_string())
    }
}

impl Ack {
    fn new(progress: Progress) -> Self {
        Self { progress, rejected: Vec::new(), redeliver: None }
    }

    /// Every event handed over so far is finished (with [`redeliver`](Self::redeliver): every event before it).
    pub fn all() -> Self {
        Self::new(Progress::All)
    }

    /// Nothing new is finished, for example while a window is held in memory.
    pub fn hold() -> Self {
        Self::new(Progress::Hold)
    }

    /// Finished up to and including this sequence number, which may lie in an earlier batch.
    pub fn through(sequence_number: i64) -> Self {
        Self::new(Progress::Through(sequence_number))
    }

    /// Dead-letters the event at this index of the batch. It counts as finished.
    #[must_use]
    pub fn reject(mut self, index: u32, reason: impl Into<String>) -> Self {
        self.rejected.push(Rejection { index, reason: reason.into() });
        self
    }

    /// Has the event at this index, and those after it, handed over again after the host's backoff.
    #[must_use]
    pub fn redeliver(mut self, index: u32, reason: impl Into<String>) -> Self {
        self.redeliver = Some(Redelivery { index, after: None, reason: reason.into() });
        self
    }

    /// Like [`redeliver`](Self::redeliver), after this time.
    #[must_use]
    pub fn redeliver_after(mut self, index: u32, after: Duration, reason: impl Into<String>) -> Self {
        self.redeliver = Some(Redelivery { index, after: Some(millis(after)), reason: reason.into() });
        self
    }
}

impl Failure {
    /// Nothing of this batch counts; it comes again after the host's backoff.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Retry { after: None, reason: reason.into() })
    }

    /// Nothing of this batch counts; it comes again after this time.
    pub fn retry_after(after: Duration, reason: impl Into<String>) -> Self {
        Self::Retry(Retry { after: Some(millis(after)), reason: reason.into() })
    }

    /// Stop this partition and report: a person must look.
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self::Fatal(reason.into())
    }
}

/// The contract's durations are whole milliseconds; what doesn't fit is "very long" either way.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
