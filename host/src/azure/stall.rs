//! Tells a quiet partition from a dead link.
//!
//! A half-open connection delivers nothing and reports nothing, exactly like a partition without traffic, and the SDK sets no
//! idle timeout of its own. So after some silence the watch asks the service, on another connection, whether events wait; if
//! they do, and still none arrives, the link is dead. No traffic costs one small question per interval; traffic costs nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, Sleep};

use crate::model::SequenceNumber;

/// Asks whether events wait behind the last one that was received. Not knowing counts as no.
pub(super) type Probe = Box<dyn Fn(Option<SequenceNumber>) -> BoxFuture<'static, bool> + Send + Sync>;

/// How long events that are known to wait may still take.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct StallWatch {
    interval: Duration,
    probe: Probe,
    suspicion: Suspicion,
    timer: Pin<Box<Sleep>>,
    asking: Option<BoxFuture<'static, bool>>,
}

impl StallWatch {
    pub(super) fn new(interval: Duration, probe: Probe) -> Self {
        let timer = Box::pin(tokio::time::sleep(interval));
        Self { interval, probe, suspicion: Suspicion::default(), timer, asking: None }
    }

    /// Events arrived.
    pub(super) fn progressed(&mut self) {
        self.suspicion.moved = true;
    }

    /// Ready when the link is dead. To be polled whenever there is nothing to receive.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, last: Option<SequenceNumber>) -> Poll<()> {
        loop {
            let next = if let Some(asking) = &mut self.asking {
                let behind = ready!(asking.as_mut().poll(cx));
                self.asking = None;
                self.suspicion.answered(behind)
            } else {
                ready!(self.timer.as_mut().poll(cx));
                self.suspicion.time_is_up()
            };
            match next {
                Next::Rest => self.timer.as_mut().reset(Instant::now() + self.interval),
                Next::Ask => self.asking = Some((self.probe)(last)),
                Next::Grace => self.timer.as_mut().reset(Instant::now() + GRACE.min(self.interval)),
                Next::Dead => return Poll::Ready(()),
            }
        }
    }
}

/// What the watch believes; without clock or I/O.
#[derive(Default)]
struct Suspicion {
    /// Something arrived since the last rest.
    moved: bool,
    /// Events are known to wait.
    behind: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Come back after the interval.
    Rest,
    /// Ask whether events wait.
    Ask,
    /// Come back after the grace.
    Grace,
    Dead,
}

impl Suspicion {
    fn time_is_up(&mut self) -> Next {
        match self {
            Self { moved: true, .. } => self.rest(),
            Self { behind: true, .. } => Next::Dead,
            _ => Next::Ask,
        }
    }

    fn answered(&mut self, behind: bool) -> Next {
        if self.moved || !behind {
            return self.rest();
        }
        self.behind = true;
        Next::Grace
    }

    fn rest(&mut self) -> Next {
        *self = Self::default();
        Next::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_with_events_waiting_is_a_stall_after_a_grace() {
        let mut link = Suspicion::default();
        assert_eq!(link.time_is_up(), Next::Ask);
        assert_eq!(link.answered(true), Next::Grace);
        assert_eq!(link.time_is_up(), Next::Dead);
    }

    #[test]
    fn silence_without_events_is_asked_about_again_and_again() {
        let mut link = Suspicion::default();
        for _ in 0..3 {
            assert_eq!(link.time_is_up(), Next::Ask);
            assert_eq!(link.answered(false), Next::Rest);
        }
    }

    #[test]
    fn traffic_is_never_asked_about_and_clears_the_suspicion() {
        let mut link = Suspicion { moved: true, behind: false };
        assert_eq!(link.time_is_up(), Next::Rest);
        assert_eq!(link.time_is_up(), Next::Ask);
        link.moved = true;
        assert_eq!(link.answered(true), Next::Rest);
        assert_eq!(link.time_is_up(), Next::Ask);
        assert_eq!(link.answered(true), Next::Grace);
        link.moved = true;
        assert_eq!(link.time_is_up(), Next::Rest);
        assert_eq!(link.time_is_up(), Next::Ask);
    }
}
