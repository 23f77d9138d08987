//! What windows there are, and when they give results.

use std::fmt::Display;
use std::time::Duration;

use super::time::LONGEST;
use super::{Aggregate, Window, Windows};
use crate::{BodyError, Failure, Output};

/// The most windows that one event may lie in.
const MOST_WINDOWS: u128 = 1_000;

/// Describes windows; [`results`](Self::results) makes them.
///
/// The name is part of the results' ids and of the state's keys (`window/NAME/…`): one for each kind of window in a processor. Windows that
/// are open when new code starts with another size close with the bounds that they have.
#[derive(Clone, Debug)]
pub struct Spec {
    name: String,
    shape: Shape,
    offset: Duration,
    out_of_orderness: Duration,
    allowed_lateness: Duration,
    idle_timeout: Option<Duration>,
    max_ahead: Option<Duration>,
    early_every: Option<Duration>,
    early_every_events: Option<u64>,
    late_to: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Fixed { size: Duration, hop: Duration },
    Session { gap: Duration },
}

impl Spec {
    /// Windows of one size, side by side.
    pub fn tumbling(name: impl Into<String>, size: Duration) -> Self {
        Self::new(name, Shape::Fixed { size, hop: size })
    }

    /// Windows of one size that begin every `hop`, which is no longer than the size.
    pub fn hopping(name: impl Into<String>, size: Duration, hop: Duration) -> Self {
        Self::new(name, Shape::Fixed { size, hop })
    }

    /// Windows of activity: an event that comes less than `gap` after the last one of its key, in event time, belongs to the same.
    pub fn session(name: impl Into<String>, gap: Duration) -> Self {
        Self::new(name, Shape::Session { gap })
    }

    fn new(name: impl Into<String>, shape: Shape) -> Self {
        Self {
            name: name.into(),
            shape,
            offset: Duration::ZERO,
            out_of_orderness: Duration::ZERO,
            allowed_lateness: Duration::ZERO,
            idle_timeout: None,
            max_ahead: None,
            early_every: None,
            early_every_events: None,
            late_to: None,
        }
    }

    /// Moves the starts of tumbling and hopping windows from the multiples of the hop since 1970 (UTC): days from 05:00 on.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = offset;
        self
    }

    /// How far events are usually behind the greatest time seen: the watermark stays back by this. Without it the stream is taken to be
    /// in order.
    #[must_use]
    pub fn out_of_orderness(mut self, bound: Duration) -> Self {
        self.out_of_orderness = bound;
        self
    }

    /// How long, in event time, a window stays open for stragglers after the watermark has reached its end. Its result comes that much later.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness = lateness;
        self
    }

    /// Closes all open windows when no event has come for this time, by the host's clock. The processor's `tick` must call
    /// [`Windows::tick`]. Choose more than the longest pause of a stream that goes on: what comes for a closed window is late.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Rejects an event whose time is further ahead of the time at which the service took it in. Without it, one event from the far future
    /// closes every window, and all that comes after it is late.
    #[must_use]
    pub fn max_ahead(mut self, ahead: Duration) -> Self {
        self.max_ahead = Some(ahead);
        self
    }

    /// Early results of all windows that have changed, when the watermark passes a multiple of this.
    #[must_use]
    pub fn early_every(mut self, interval: Duration) -> Self {
        self.early_every = Some(interval);
        self
    }

    /// An early result of a window when it has taken this many events since the last one.
    #[must_use]
    pub fn early_every_events(mut self, events: u64) -> Self {
        self.early_every_events = Some(events);
        self
    }

    /// Late events go to this output of the deployment, as they came.
    #[must_use]
    pub fn late_to(mut self, target: impl Into<String>) -> Self {
        self.late_to = Some(target.into());
        self
    }

    /// Makes the windows; `result` makes an output of what a window has added up, or none. The output's id is the window's (see
    /// [`window`](super)). Fails on a description that can't be, with a sentence.
    pub fn results<A: Aggregate>(
        self,
        result: impl Fn(&Window<'_>, &A) -> Result<Option<Output>, BodyError> + 'static,
    ) -> Result<Windows<A>, Failure> {
        Ok(Windows { settings: self.settings()?, result: Box::new(result) })
    }

    fn settings(self) -> Result<Settings, Failure> {
        let wrong = |why: &dyn Display| Failure::Fatal(format!("the windows `{}` can't be: {why}", self.name));
        if self.name.is_empty() || self.name.contains('/') {
            return Err(wrong(&"a name has at least one character, and no `/`"));
        }
        let span = |what: &str, span: Duration, least: u64| {
            let millis = i64::try_from(span.as_millis()).ok().filter(|_| span <= LONGEST);
            let fits = millis.filter(|millis| millis.unsigned_abs() >= least);
            fits.ok_or_else(|| wrong(&format_args!("{what} is {span:?}; it must be {least} ms to {LONGEST:?}")))
        };
        let optional = |what: &str, value: Option<Duration>| value.map(|value| span(what, value, 1)).transpose();
        let shape = match self.shape {
            Shape::Fixed { size, hop } => {
                if hop > size {
                    return Err(wrong(&format_args!(
                        "they begin every {hop:?} but last {size:?}, so events in between lie in none"
                    )));
                }
                let (size_ms, hop_ms) = (span("the size", size, 1)?, span("the hop", hop, 1)?);
                if size.as_millis().div_ceil(hop.as_millis().max(1)) > MOST_WINDOWS {
                    return Err(wrong(&format_args!(
                        "of {size:?} every {hop:?}, an event lies in more than {MOST_WINDOWS}: make the hop longer"
                    )));
                }
                Assigner::Fixed { size: size_ms, hop: hop_ms, offset: span("the offset", self.offset, 0)? }
            }
            Shape::Session { .. } if !self.offset.is_zero() => {
                return Err(wrong(&"sessions begin with an event, so an offset means nothing"));
            }
            Shape::Session { gap } => Assigner::Session { gap: span("the gap", gap, 1)? },
        };
        if self.early_every_events == Some(0) {
            return Err(wrong(&"an early result every 0 events; it must be 1 or more"));
        }
        Ok(Settings {
            assigner: shape,
            out_of_orderness: span("the out-of-orderness", self.out_of_orderness, 0)?,
            allowed_lateness: span("the allowed lateness", self.allowed_lateness, 0)?,
            idle_timeout: optional("the idle timeout", self.idle_timeout)?,
            max_ahead: self.max_ahead.map(|ahead| span("how far an event may be ahead", ahead, 0)).transpose()?,
            early_every: optional("the interval of early results", self.early_every)?,
            early_every_events: self.early_every_events,
            clock_key: format!("window/{}/clock", self.name),
            late_to: self.late_to,
            name: self.name,
        })
    }
}

/// A description that was checked. Spans are in milliseconds.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) assigner: Assigner,
    pub(super) out_of_orderness: i64,
    pub(super) allowed_lateness: i64,
    pub(super) idle_timeout: Option<i64>,
    pub(super) max_ahead: Option<i64>,
    pub(super) early_every: Option<i64>,
    pub(super) early_every_events: Option<u64>,
    pub(super) late_to: Option<String>,
    pub(super) clock_key: String,
}

/// Which windows an event lies in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Assigner {
    /// Tumbling (the hop is the size) and hopping.
    Fixed {
        size: i64,
        hop: i64,
        offset: i64,
    },
    Session {
        gap: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_cannot_be_says_why() {
        let secs = Duration::from_secs;
        let minute = Spec::tumbling("m", secs(60));
        assert!(minute.clone().settings().is_ok());
        for (spec, why) in [
            (
                Spec::tumbling("a/b", secs(1)),
                "the windows `a/b` can't be: a name has at least one character, and no `/`",
            ),
            (
                Spec::tumbling("m", secs(0)),
                "the windows `m` can't be: the size is 0ns; it must be 1 ms to 500000000000s",
            ),
            (
                Spec::hopping("m", secs(1), secs(2)),
                "the windows `m` can't be: they begin every 2s but last 1s, so events in between lie in none",
            ),
            (
                Spec::hopping("m", secs(3_600), secs(1)),
                "the windows `m` can't be: of 3600s every 1s, an event lies in more than 1000: make the hop longer",
            ),
            (
                Spec::session("m", secs(1)).offset(secs(1)),
                "the windows `m` can't be: sessions begin with an event, so an offset means nothing",
            ),
            (
                minute.clone().allowed_lateness(Duration::MAX),
                "the windows `m` can't be: the allowed lateness is 18446744073709551615.999999999s; it must be 0 ms to 500000000000s",
            ),
            (
                minute.early_every_events(0),
                "the windows `m` can't be: an early result every 0 events; it must be 1 or more",
            ),
        ] {
            assert_eq!(spec.settings().err(), Some(Failure::fatal(why)));
        }
    }
}
