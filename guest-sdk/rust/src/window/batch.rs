//! A call on windows: reads their clock, takes events one by one, and writes everything back at the end.

use serde::{Deserialize, Serialize};

use super::fixed::Fixed;
use super::open::{Emit, Keeper};
use super::sessions::Sessions;
use super::spec::Assigner;
use super::time::RANGE;
use super::{Aggregate, Item, Windows};
use crate::{Failure, Outputs, Problem, metrics, state, timers};

/// How far the windows are in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    /// Never falls, also not when new code stays further back.
    watermark: i64,
    /// Windows that end here or before have closed for good, also when new code allows more lateness. So no window gives two results.
    closed: i64,
    /// When the last batch came, by the host's clock; where there is an idle timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrived: Option<i64>,
}

pub(super) struct Batch<'a, A> {
    windows: &'a Windows<A>,
    keeper: Box<dyn Keeper<A> + 'a>,
    clock: Clock,
    /// As it stands in the state.
    stored: Option<Clock>,
    late: u64,
}

impl<'a, A: Aggregate> Batch<'a, A> {
    pub(super) fn begin(windows: &'a Windows<A>) -> Result<Self, Failure> {
        let settings = &windows.settings;
        let stored = state::get(&settings.clock_key)?;
        let keeper: Box<dyn Keeper<A>> = match settings.assigner {
            Assigner::Fixed { size, hop, offset } => Box::new(Fixed::new(&settings.name, size, hop, offset)),
            Assigner::Session { gap } => Box::new(Sessions::new(&settings.name, gap)),
        };
        let clock = stored.unwrap_or(Clock { watermark: i64::MIN, closed: i64::MIN, arrived: None });
        Ok(Self { windows, keeper, clock, stored, late: 0 })
    }

    /// Takes an event; false if it is late. What is rejected has changed nothing.
    pub(super) fn add(&mut self, enqueued: i64, item: &Item<'_, A::Input>, out: &mut Outputs) -> Result<bool, Problem> {
        let (settings, time) = (&self.windows.settings, item.time);
        if !(-RANGE..=RANGE).contains(&time) {
            return Err(Problem::Reject(format!(
                "the event's time is {time} ms since 1970, more than 31,000 years away"
            )));
        }
        if let Some(ahead) = settings.max_ahead.filter(|ahead| time > enqueued.saturating_add(*ahead)) {
            return Err(Problem::Reject(format!(
                "the event's time is {time}, {} ms after the service took it in; the windows `{}` allow {ahead} ms",
                time.saturating_sub(enqueued),
                settings.name,
            )));
        }
        let taken = self.take(time, item, &mut Emit { windows: self.windows, out });
        let taken = taken.map_err(|failure| Problem::Fatal(reason(failure)))?;
        self.late += u64::from(!taken);
        Ok(taken)
    }

    /// The watermark first: what it closes can't hold this event, and early results are of the events before it.
    fn take(&mut self, time: i64, item: &Item<'_, A::Input>, emit: &mut Emit<'_, A>) -> Result<bool, Failure> {
        let settings = &self.windows.settings;
        let watermark = time - settings.out_of_orderness;
        if watermark > self.clock.watermark {
            let before = std::mem::replace(&mut self.clock.watermark, watermark);
            let limit = watermark - settings.allowed_lateness;
            self.clock.closed = self.clock.closed.max(limit);
            if self.keeper.first_end().is_some_and(|end| end <= limit) {
                self.keeper.close(limit, emit)?;
            }
            let passes = |every: i64| before != i64::MIN && before.div_euclid(every) != watermark.div_euclid(every);
            if settings.early_every.is_some_and(passes) {
                self.keeper.show(emit)?;
            }
        }
        self.keeper.add(self.clock.closed, time, &item.key, &item.input, emit)
    }

    /// The end of a batch.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let settings = &self.windows.settings;
        if let Some(timeout) = settings.idle_timeout {
            let now = timers::now();
            self.clock.arrived = Some(now);
            if self.keeper.first_end().is_some() {
                timers::wake_at(now.saturating_add(timeout));
            }
        }
        if self.late > 0 {
            metrics::counter_add("window_late_events", self.late, &[("window", &settings.name)]);
        }
        self.flush()
    }

    /// A tick: closes everything, if no event has come for long enough.
    pub(super) fn idle(mut self, now: i64, out: &mut Outputs) -> Result<(), Failure> {
        let (Some(timeout), Some(_)) = (self.windows.settings.idle_timeout, self.keeper.first_end()) else {
            return Ok(());
        };
        // Without a time, the windows come from code that had no timeout: it begins now.
        let due = self.clock.arrived.get_or_insert(now).saturating_add(timeout);
        if now < due {
            timers::wake_at(due);
        } else if let Some(last) = self.keeper.close(i64::MAX, &mut Emit { windows: self.windows, out })? {
            self.clock.closed = self.clock.closed.max(last);
        }
        self.flush()
    }

    fn flush(mut self) -> Result<(), Failure> {
        self.keeper.flush()?;
        if self.stored != Some(self.clock) {
            state::set(&self.windows.settings.clock_key, &self.clock)?;
        }
        Ok(())
    }
}

/// Everything that goes wrong within windows is fatal.
fn reason(failure: Failure) -> String {
    match failure {
        Failure::Fatal(why) => why,
        Failure::Retry(retry) => retry.reason,
    }
}
