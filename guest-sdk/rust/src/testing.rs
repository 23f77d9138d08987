//! Unit tests for guests, on any machine, without a host and without WebAssembly.
//!
//! A [`Harness`] does to a processor what the host does: opens it with a config, hands over batches with rising sequence
//! numbers and only the selected fields, checks that answers keep the contract, and collects what was emitted and logged.
//!
//! It keeps the processor's state, and takes back what a failed call changed. Its clock stands still until [`Harness::advance`] moves it and
//! makes the ticks that have become due. [`Harness::save`] is a commit, [`Harness::resume`] what comes after a crash.

mod contract;
pub(crate) mod stand_in;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use self::contract::{breach, breach_of_tick, mask, nothing};
use self::stand_in::Held;

use crate::log::Level;
use crate::{
    Ack, CloseReason, Event, Failure, Metadata, OpenReason, Opening, Output, Outputs, Partition, Processor, processor,
    timers,
};

/// The sequence number of an event that the harness shall number.
const UNNUMBERED: i64 = -1;

/// An event with this body, without key or properties; the harness numbers it. Other fields by struct update:
///
/// ```
/// use weir_guest::{Event, testing::event};
/// let keyed = Event { partition_key: Some("a".into()), ..event("body") };
/// ```
pub fn event(body: impl Into<Vec<u8>>) -> Event {
    Event {
        sequence_number: UNNUMBERED,
        enqueued_time: 0,
        partition_key: None,
        metadata: Some(Metadata {
            offset: String::new(),
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: Vec::new(),
        }),
        body: body.into(),
    }
}

/// An opening as on a first start, with this config.
pub fn opening(config: impl Serialize) -> Opening {
    Opening {
        partition: Partition {
            namespace: "localhost".into(),
            event_hub: "in".into(),
            consumer_group: "$default".into(),
            id: "0".into(),
        },
        reason: OpenReason::FirstStart,
        checkpoint: None,
        config: serde_json::to_string(&config).unwrap_or_else(|error| format!("not writable as JSON: {error}")),
    }
}

/// Grants a secret to the processors that this thread runs from now on.
///
/// ```
/// weir_guest::testing::grant_secret("api-token", "hunter2\n");
/// assert_eq!(weir_guest::secrets::text("api-token").unwrap(), "hunter2");
/// assert!(weir_guest::secrets::text("another").is_err());
/// ```
pub fn grant_secret(name: &str, value: impl AsRef<[u8]>) {
    stand_in::grant_secret(name, value.as_ref());
}

/// A processor under test.
#[derive(Debug)]
pub struct Harness<P> {
    processor: P,
    out: Outputs,
    opening: Opening,
    held: Held,
    next: i64,
    selected: Option<Vec<String>>,
    logs: Vec<Line>,
    metrics: Vec<Measurement>,
}

/// What a processor answered, and what it emitted with it. On a failure the host drops the outputs, and so does the harness.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The acknowledgement.
    pub ack: Ack,
    /// The outputs, in order.
    pub outputs: Vec<Output>,
}

/// A commit: the state, the request for a tick, and which event comes next.
#[derive(Clone, Debug)]
pub struct Saved {
    held: Held,
    next: i64,
}

/// A logged line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// How grave.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Fields by name.
    pub fields: Vec<(String, String)>,
}

/// A measurement, as the processor made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Of the series.
    pub name: String,
    /// By name, in the order that they were given in.
    pub labels: Vec<(String, String)>,
    /// What was measured.
    pub value: Measured,
}

/// What was measured, and as what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measured {
    /// Added to a counter.
    Counter(u64),
    /// Set as a gauge.
    Gauge(f64),
    /// Recorded in a histogram.
    Histogram(f64),
}

impl<P: Processor> Harness<P> {
    /// Opens the processor with this config, as [`opening`] has it.
    pub fn open(config: impl Serialize) -> Result<Self, Failure> {
        Self::open_with(&opening(config))
    }

    /// Opens the processor.
    pub fn open_with(opening: &Opening) -> Result<Self, Failure> {
        let next = opening.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence_number + 1);
        Self::begin(opening.clone(), Saved { held: Held::default(), next })
    }

    /// Opens the processor with this config, where [`save`](Self::save) was called: with the state as of then, before the event that came
    /// next then. The clock goes on from there as well.
    pub fn resume(config: impl Serialize, saved: &Saved) -> Result<Self, Failure> {
        Self::begin(Opening { reason: OpenReason::Restart, ..opening(config) }, saved.clone())
    }

    fn begin(opening: Opening, saved: Saved) -> Result<Self, Failure> {
        let Saved { mut held, next } = saved;
        let (processor, heard) = stand_in::during(&mut held, || processor::open::<P>(&opening));
        let (out, metrics) = (Outputs::default(), heard.metrics);
        Ok(Self {
            processor: processor?,
            out,
            opening,
            held,
            next,
            selected: heard.selected,
            logs: heard.logs,
            metrics,
        })
    }

    /// What the host would commit now.
    pub fn save(&self) -> Saved {
        Saved { held: self.held.clone(), next: self.next }
    }

    /// Stops the processor and starts it again, from where it is.
    pub fn restart(self) -> Result<Self, Failure> {
        let (opening, saved) = (Opening { reason: OpenReason::Restart, ..self.opening.clone() }, self.save());
        self.close(CloseReason::Shutdown);
        Self::begin(opening, saved)
    }

    /// Hands over a batch. Events that have no sequence number yet get the next ones; those that have one keep it, so a
    /// redelivery can be played by cloning. An answer that the host would refuse comes back as [`Failure::Fatal`].
    pub fn process(&mut self, events: impl IntoIterator<Item = Event>) -> Result<Answer, Failure> {
        let events: Vec<Event> = events.into_iter().map(|event| self.prepare(event)).collect();
        let numbers: Vec<i64> = events.iter().map(|event| event.sequence_number).collect();
        self.call(|processor, out| processor.process(events, out), |answer| breach(answer, &numbers))
    }

    /// Makes a tick now, whether or not it was asked for.
    pub fn tick(&mut self) -> Result<Answer, Failure> {
        let (now, asked) = (self.held.now, self.held.wake.take());
        let answer = self.call(|processor, out| processor.tick(now, out), breach_of_tick);
        if answer.is_err() {
            self.held.wake = asked;
        }
        answer
    }

    /// Lets time pass, with each tick at the time that it was asked for.
    pub fn advance(&mut self, by: Duration) -> Result<Vec<Answer>, Failure> {
        const MOST: usize = 100_000;
        let until = timers::later(self.held.now, by);
        let mut answers = Vec::new();
        while let Some(wake) = self.held.wake.filter(|wake| *wake <= until) {
            if answers.len() == MOST {
                return Err(Failure::Fatal(format!("{MOST} ticks came due: does each ask for the next one at once?")));
            }
            self.held.now = self.held.now.max(wake);
            answers.push(self.tick()?);
        }
        self.held.now = until;
        Ok(answers)
    }

    fn call(
        &mut self,
        call: impl FnOnce(&mut P, &mut Outputs) -> Result<Ack, Failure>,
        breach: impl FnOnce(&Answer) -> Option<String>,
    ) -> Result<Answer, Failure> {
        let before = self.held.clone();
        let (answer, heard) = stand_in::during(&mut self.held, || call(&mut self.processor, &mut self.out));
        self.logs.extend(heard.logs);
        let outputs = std::mem::take(self.out.list());
        let answer = answer.map(|ack| Answer { ack, outputs }).and_then(|answer| match breach(&answer) {
            None => Ok(answer),
            Some(what) => Err(Failure::Fatal(format!("the answer breaks the contract: {what}"))),
        });
        match answer {
            Ok(_) => self.metrics.extend(heard.metrics),
            Err(_) => self.held = before,
        }
        answer
    }

    /// Closes the processor. Returns all that it logged.
    pub fn close(mut self, reason: CloseReason) -> Vec<Line> {
        let ((), heard) = stand_in::during(&mut self.held, || self.processor.close(reason));
        self.logs.extend(heard.logs);
        self.logs
    }

    /// The processor itself.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    /// The state, by key.
    pub fn state(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.held.state
    }

    /// Refuses a state of more than this many bytes, as the host does: keys, values, and 64 for each key.
    pub fn limit_state(&mut self, bytes: usize) {
        self.held.limit = Some(bytes);
    }

    /// The time of the next tick, if one was asked for.
    pub fn wake(&self) -> Option<i64> {
        self.held.wake
    }

    /// The clock, in milliseconds; it begins at 0.
    pub fn now(&self) -> i64 {
        self.held.now
    }

    /// What was logged so far.
    pub fn logs(&self) -> &[Line] {
        &self.logs
    }

    /// What was measured so far, by calls whose answer stands.
    pub fn metrics(&self) -> &[Measurement] {
        &self.metrics
    }

    fn prepare(&mut self, mut event: Event) -> Event {
        if event.sequence_number == UNNUMBERED {
            event.sequence_number = self.next;
        }
        self.next = self.next.max(event.sequence_number + 1);
        if let Some(metadata) = &mut event.metadata {
            if metadata.offset.is_empty() {
                metadata.offset = event.sequence_number.to_string();
            }
            if let Some(selected) = &self.selected {
                mask(metadata, selected);
            }
        }
        // The host leaves out what says nothing.
        event.metadata = event.metadata.filter(|metadata| *metadata != nothing());
        event
    }
}
