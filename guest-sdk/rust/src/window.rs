//! Windows over event time: events are added up by key and span of time, and each window gives one result.
//!
//! ```
//! use std::time::Duration;
//! use serde::{Deserialize, Serialize};
//! use weir_guest::window::{Aggregate, Item, Spec, Windows};
//! use weir_guest::{Ack, Event, Failure, NoConfig, Opening, Output, Outputs, Processor};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Hottest(Option<f64>);
//!
//! impl Aggregate for Hottest {
//!     type Input = f64;
//!     fn add(&mut self, celsius: &f64) {
//!         self.0 = Some(self.0.map_or(*celsius, |hottest| hottest.max(*celsius)));
//!     }
//!     fn merge(&mut self, other: Self) {
//!         other.0.iter().for_each(|celsius| self.add(celsius));
//!     }
//! }
//!
//! #[derive(Deserialize)]
//! struct Reading<'a> {
//!     sensor: &'a str,
//!     at: i64,
//!     celsius: f64,
//! }
//!
//! struct Hourly(Windows<Hottest>);
//!
//! impl Processor for Hourly {
//!     type Config = NoConfig;
//!
//!     fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
//!         let hourly = Spec::tumbling("hourly", Duration::from_secs(3_600)).out_of_orderness(Duration::from_secs(60));
//!         Ok(Self(hourly.results(|window, hottest: &Hottest| {
//!             Ok(Some(Output::json(&(window.start, hottest.0))?.key(window.key)))
//!         })?))
//!     }
//!
//!     fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
//!         self.0.process(events, out, |event| {
//!             let reading: Reading = event.json()?;
//!             Ok(Some(Item::new(reading.at, reading.sensor, reading.celsius)))
//!         })
//!     }
//!
//!     fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
//!         self.0.tick(now, out)
//!     }
//! }
//! ```
//!
//! # What is promised
//!
//! Everything lies in the [`state`](crate::state), and nothing in memory between calls. So results don't depend on how the stream
//! is cut into batches, nor on restarts, takeovers, retries and traps: they are those of one pass over the partition's events, one by one.
//!
//! - **Assignment.** A *tumbling* window of `size` holds the times `[start, start + size)`; starts are multiples of the size since 1970
//!   (moved by [`offset`](Spec::offset)). *Hopping* windows (others call them sliding) begin every `hop`, and an event lies in all that
//!   cover its time. A *session* of a key begins with an event, and ends `gap` after its last one; an event that lies within two sessions
//!   makes them one. Two events that are exactly `gap` apart are in two sessions.
//! - **Watermark.** The greatest event time seen, less [`out_of_orderness`](Spec::out_of_orderness). It never falls. It is the partition's
//!   own: partitions don't wait for each other, and a window has a result in each partition that has events for it. For one result over
//!   all, publish with the window's key as the partition key.
//! - **Closing.** A window closes when the watermark reaches its end plus [`allowed_lateness`](Spec::allowed_lateness). Then, and only then,
//!   its result is emitted: one for each window and key. The results of one event come in the order of their ends, then of their keys.
//! - **Late events.** An event is late when each window that it belongs to has closed; it then changes nothing. No event is late that is
//!   behind the greatest time by no more than the out-of-orderness plus the allowed lateness. Late events are counted in the metric
//!   `window_late_events` (label `window`), and go to an output if [`late_to`](Spec::late_to) names one.
//! - **Early results**, if asked for: of an open window, each so many events ([`early_every_events`](Spec::early_every_events)), or of all
//!   that have changed when the watermark passes a multiple of an interval ([`early_every`](Spec::early_every)). A window that closes at
//!   that same event has its result instead.
//! - **Ids.** A result's id is made of the name, the window's bounds and its key, `hourly/1357030800000-1357034400000/EWR`, and an
//!   early one's has its number as well, `…-1357034400000+early.2/EWR`. So what is emitted again after a crash is recognised downstream,
//!   and an id never stands for two different results.
//! - **Idle streams.** Windows close because events come. With [`idle_timeout`](Spec::idle_timeout), all that are open close when for this
//!   time, by the host's clock, no event has come; what comes for them afterwards is late. This one rule depends on when events arrive, so a
//!   run that is made again may close other windows by it. A result of it that was emitted, but not yet committed when the host
//!   crashed, may come again with more events under the same id.
//!
//! # What it costs
//!
//! In a batch each accumulator is read at most once and written at most once, however many events it takes, and an event that closes nothing
//! touches only the windows that it lies in (for hopping windows `size / hop`). Closing reads what closes, in order. An early
//! result by an interval reads all open windows. The sessions of a key are one entry, closed ones excepted. All results of
//! one event leave in one call: the limit `outputs` of the deployment bounds the keys of a window.

mod batch;
mod fixed;
mod open;
mod sessions;
mod spec;
mod time;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use spec::Spec;

use self::batch::Batch;
use self::spec::Settings;
use crate::{Ack, BodyError, Event, Failure, Output, Outputs, Problem, processor};

/// What a window makes of its events: an accumulator, written as JSON between batches.
///
/// `add` and `merge` should not depend on the order of events: with out-of-order input it is not that of their times.
pub trait Aggregate: Default + Serialize + DeserializeOwned + 'static {
    /// What is taken from an event.
    type Input;

    /// Takes one more event.
    fn add(&mut self, input: &Self::Input);

    /// Takes over another accumulator: two sessions have become one. Tumbling and hopping windows never merge.
    fn merge(&mut self, other: Self);
}

/// What the windows need of an event.
#[derive(Clone, Debug)]
pub struct Item<'a, I> {
    /// When it happened, in milliseconds since 1970.
    pub time: i64,
    /// Events are added up by this; empty is a key as well.
    pub key: Cow<'a, str>,
    /// What is added up.
    pub input: I,
}

impl<'a, I> Item<'a, I> {
    /// All three.
    pub fn new(time: i64, key: impl Into<Cow<'a, str>>, input: I) -> Self {
        Self { time, key: key.into(), input }
    }
}

/// A window that gives a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// Its first millisecond, since 1970. For a session: the time of its first event.
    pub start: i64,
    /// The first millisecond after it. For a session: its last event, and the gap.
    pub end: i64,
    /// Its key.
    pub key: &'a str,
    /// How many events it has taken.
    pub events: u64,
    /// Which result this is.
    pub pane: Pane,
}

/// Which of a window's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// An early one, counted from 1; the window is open.
    Early(u32),
    /// The only or last one; the window has closed.
    Final,
}

/// Makes an output of a window's accumulator; `None`: none.
type MakeResult<A> = Box<dyn Fn(&Window<'_>, &A) -> Result<Option<Output>, BodyError>>;

/// Windows of one kind, as a [`Spec`] describes them.
pub struct Windows<A> {
    settings: Settings,
    result: MakeResult<A>,
}

impl<A: Aggregate> Windows<A> {
    /// Processes a batch, and answers for it as [`each`](crate::each) does. `item` says what the windows need of an event; `None`: the event
    /// is not for them. What can't be read is a [`Problem`], and such an event moves no window and no watermark.
    pub fn process(
        &self,
        events: Vec<Event>,
        out: &mut Outputs,
        mut item: impl for<'a> FnMut(&'a Event) -> Result<Option<Item<'a, A::Input>>, Problem>,
    ) -> Result<Ack, Failure> {
        let mut batch = Batch::begin(self)?;
        let ack = processor::each(events, out, |event, out| {
            let taken = match item(&event)? {
                Some(item) => batch.add(event.enqueued_time, &item, out)?,
                None => true,
            };
            if let Some(target) = self.settings.late_to.as_ref().filter(|_| !taken) {
                out.emit(Output::from(event).to(target));
            }
            Ok(())
        })?;
        batch.finish()?;
        Ok(ack)
    }

    /// To be called by the processor's own [`tick`](crate::Processor::tick) with what that is given, where
    /// [`idle_timeout`](Spec::idle_timeout) is used: closes what has waited long enough, and asks for the next tick.
    pub fn tick(&self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        Batch::begin(self)?.idle(now, out)?;
        Ok(Ack::all())
    }

    /// Emits a result, under the id that it always has.
    fn emit(&self, window: &Window<'_>, value: &A, out: &mut Outputs) -> Result<(), Failure> {
        let id = self.id(window);
        let result = (self.result)(window, value)
            .map_err(|why| Failure::Fatal(format!("window {id}: its result can't be made: {why}")))?;
        if let Some(output) = result {
            out.emit(output.from_key(id));
        }
        Ok(())
    }

    /// The name has no `/`, and the bounds are numbers, so the key may be any text.
    fn id(&self, window: &Window<'_>) -> String {
        let (name, Window { start, end, key, .. }) = (&self.settings.name, window);
        match window.pane {
            Pane::Early(n) => format!("{name}/{start}-{end}+early.{n}/{key}"),
            Pane::Final => format!("{name}/{start}-{end}/{key}"),
        }
    }
}

impl<A> fmt::Debug for Windows<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("settings", &self.settings).finish_non_exhaustive()
    }
}
