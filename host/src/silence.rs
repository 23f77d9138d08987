//! Tells a quiet partition from a dead link.
//!
//! A half-open connection delivers nothing and reports nothing, exactly like a partition without traffic. So after some silence
//! the service is asked how far the partition goes, on another connection and beside the listening. If there is more than was
//! received, and still none of it comes, the link is dead. Traffic costs nothing, a quiet partition one small question now and
//! then. A question that fails proves nothing about the link: it is said, and asked again.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use crate::model::{PartitionInfo, SequenceNumber};
use crate::seams::SourceError;

/// The part of the patience that events which are known to wait may still take.
const GRACE: u32 = 4;

/// An answer of the service about the partition.
pub(crate) type Answer = Result<PartitionInfo, SourceError>;

/// The watch over one link.
pub(crate) struct Silence {
    patience: Duration,
    /// Until when silence is nothing to wonder about. `None`: the link is not listened to.
    until: Option<Instant>,
    asking: Option<BoxFuture<'static, Answer>>,
    /// The newest event that is known to wait.
    awaited: Option<SequenceNumber>,
}

/// What the silence came to.
pub(crate) enum Notice {
    /// Time to ask the service.
    Long,
    /// What the service answered.
    Answered(Answer),
    /// Events up to this one are there, and none comes: the link is dead.
    Dead(SequenceNumber),
}

impl Silence {
    /// Asks after `patience` without an event.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, until: None, asking: None, awaited: None }
    }

    /// The link is listened to from now on.
    pub(crate) fn listen(&mut self, now: Instant) {
        self.until = Some(now + self.patience);
    }

    /// Whether the link is listened to.
    pub(crate) fn is_listening(&self) -> bool {
        self.until.is_some()
    }

    /// Events came; what was found out before is void.
    pub(crate) fn broken(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Waits for the next notice, for as long as the link is listened to. Cancel safe.
    pub(crate) async fn notice(&mut self) -> Notice {
        if let Some(asking) = &mut self.asking {
            let answer = asking.await;
            self.asking = None;
            return Notice::Answered(answer);
        }
        match self.until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
        self.awaited.map_or(Notice::Long, Notice::Dead)
    }

    /// The question to the service, to be polled beside the listening.
    pub(crate) fn ask(&mut self, question: BoxFuture<'static, Answer>) {
        self.asking = Some(question);
    }

    /// The service says that events up to `newest` wait; they get a last chance.
    pub(crate) fn expect(&mut self, newest: SequenceNumber, now: Instant) {
        self.awaited = Some(newest);
        self.until = Some(now + self.patience / GRACE);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use futures::FutureExt;

    use super::*;
    use crate::model::PartitionId;
    use crate::seams::SourceErrorKind;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn info() -> PartitionInfo {
        PartitionInfo {
            id: PartitionId::from("0"),
            beginning_sequence_number: 0,
            last_enqueued_sequence_number: 7,
            last_enqueued_offset: "7".into(),
            last_enqueued_time: 0,
            is_empty: false,
        }
    }

    async fn after(silence: &mut Silence) -> (Duration, Notice) {
        let before = Instant::now();
        let notice = silence.notice().await;
        (before.elapsed(), notice)
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_wait_and_dont_come_prove_a_link_dead_after_a_grace() {
        let mut silence = Silence::new(PATIENCE);
        silence.listen(Instant::now());
        assert!(matches!(after(&mut silence).await, (PATIENCE, Notice::Long)));
        silence.ask(async { Ok(info()) }.boxed());
        assert!(matches!(silence.notice().await, Notice::Answered(Ok(_))));
        silence.expect(7, Instant::now());
        assert!(matches!(after(&mut silence).await, (t, Notice::Dead(7)) if t == PATIENCE / 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_fails_is_no_verdict() {
        let mut silence = Silence::new(PATIENCE);
        silence.listen(Instant::now());
        for _ in 0..5 {
            assert!(matches!(after(&mut silence).await, (PATIENCE, Notice::Long)));
            let failed = SourceError { kind: SourceErrorKind::Transient, detail: "busy".into() };
            silence.ask(async { Err(failed) }.boxed());
            assert!(matches!(silence.notice().await, Notice::Answered(Err(_))));
            silence.listen(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_void_the_question_and_the_suspicion() {
        let mut silence = Silence::new(PATIENCE);
        silence.listen(Instant::now());
        silence.ask(async { Ok(info()) }.boxed());
        silence.broken();
        assert!(!silence.is_listening() && silence.notice().now_or_never().is_none());
        silence.listen(Instant::now());
        silence.expect(7, Instant::now());
        silence.broken();
        silence.listen(Instant::now());
        assert!(matches!(after(&mut silence).await, (PATIENCE, Notice::Long)));
    }
}
