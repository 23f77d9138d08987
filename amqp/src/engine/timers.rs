//! What a connection does when nothing comes: heartbeats, giving up, and not waiting for ever for a close.

use std::time::{Duration, Instant};

use bytes::Buf;

use super::config::ConnectionConfig;
use super::connection::{Connection, Phase};
use super::event::CloseReason;
use crate::frame::FrameKind;

/// A peer that asks for heartbeats faster than this gets this.
const FASTEST_HEARTBEAT: Duration = Duration::from_millis(5);

/// All times come from the caller. `now` is the latest one seen.
#[derive(Debug)]
pub(crate) struct Timers {
    now: Instant,
    received: Instant,
    /// Silence after which the peer is given up.
    idle_limit: Option<Duration>,
    /// Half of the silence that the peer tolerates.
    heartbeat: Option<Duration>,
    next_heartbeat: Option<Instant>,
    close_timeout: Duration,
    closing: Option<ClosingSince>,
}

#[derive(Debug, Clone, Copy)]
enum ClosingSince {
    /// The close was a command, which carries no time: the next deadline, at once, brings it.
    Unknown,
    Known(Instant),
}

impl Timers {
    pub(crate) fn new(config: &ConnectionConfig, now: Instant) -> Self {
        Self {
            now,
            received: now,
            idle_limit: config.idle_timeout.map(|timeout| timeout.saturating_mul(2)),
            heartbeat: None,
            next_heartbeat: None,
            close_timeout: config.close_timeout,
            closing: None,
        }
    }

    pub(crate) fn received(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.received = self.now;
    }

    pub(crate) fn heartbeats(&mut self, idle_time_out: Option<u32>) {
        self.heartbeat = idle_time_out
            .filter(|millis| *millis > 0)
            .map(|millis| (Duration::from_millis(u64::from(millis)) / 2).max(FASTEST_HEARTBEAT));
        self.next_heartbeat = self.heartbeat.and_then(|interval| self.now.checked_add(interval));
    }

    pub(crate) fn closing(&mut self) {
        self.closing = Some(ClosingSince::Unknown);
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.received.checked_add(self.idle_limit?)
    }

    fn close_deadline(&self) -> Option<Instant> {
        match self.closing? {
            ClosingSince::Unknown => Some(self.now),
            ClosingSince::Known(since) => since.checked_add(self.close_timeout),
        }
    }
}

impl Connection {
    /// When to call [`on_deadline`](Self::on_deadline), if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Closed) {
            return None;
        }
        let timers = &self.timers;
        [timers.idle_deadline(), timers.close_deadline(), timers.next_heartbeat].into_iter().flatten().min()
    }

    /// Does what is due. Feed what the socket has first, if the clock may have run ahead of the reader.
    pub fn on_deadline(&mut self, now: Instant) {
        let timers = &mut self.timers;
        timers.now = timers.now.max(now);
        let now = timers.now;
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        if let Some(ClosingSince::Unknown) = timers.closing {
            timers.closing = Some(ClosingSince::Known(now));
        }
        if timers.close_deadline().is_some_and(|at| at <= now) {
            return self.finish(CloseReason::Local);
        }
        if timers.idle_deadline().is_some_and(|at| at <= now) {
            return self.give_up();
        }
        if timers.next_heartbeat.is_some_and(|at| at <= now) {
            timers.next_heartbeat = timers.heartbeat.and_then(|interval| now.checked_add(interval));
            // Bytes that wait already will do: the peer hears them as soon as it reads at all.
            if !self.output.has_remaining() {
                self.output.frame(FrameKind::Amqp, 0, |_| {});
            }
        }
    }

    fn give_up(&mut self) {
        if matches!(self.phase, Phase::Open) {
            let text = "no frame arrived within the idle timeout";
            let error =
                crate::performative::AmqpError::new(crate::performative::condition::RESOURCE_LIMIT_EXCEEDED, text);
            // Refused only when closing already, which ends by its own deadline.
            let _ = self.close(Some(error));
        }
        self.finish(CloseReason::IdleTimeout);
    }
}
