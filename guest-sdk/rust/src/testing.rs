//! Unit tests for guests, on any machine, without a host and without WebAssembly.
//!
//! A [`Harness`] does to a processor what the host does: opens it with a config, hands over batches with rising sequence
//! numbers and only the selected fields, checks that answers keep the contract, and collects what was emitted and logged.

pub(crate) mod stand_in;

use serde::Serialize;

use crate::log::Level;
use crate::{
    Ack, CloseReason, Event, Failure, Metadata, OpenReason, Opening, Origin, Output, Outputs, Partition, Processor,
    Progress, processor,
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
        let (processor, heard) = stand_in::during(|| processor::open::<P>(opening));
        let next = opening.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence_number + 1);
        let (out, metrics) = (Outputs::default(), heard.metrics);
        Ok(Self { processor: processor?, out, next, selected: heard.selected, logs: heard.logs, metrics })
    }

    /// Hands over a batch. Events that have no sequence number yet get the next ones; those that have one keep it, so a
    /// redelivery can be played by cloning. An answer that the host would refuse comes back as [`Failure::Fatal`].
    pub fn process(&mut self, events: impl IntoIterator<Item = Event>) -> Result<Answer, Failure> {
        let events: Vec<Event> = events.into_iter().map(|event| self.prepare(event)).collect();
        let numbers: Vec<i64> = events.iter().map(|event| event.sequence_number).collect();
        let (answer, heard) = stand_in::during(|| self.processor.process(events, &mut self.out));
        self.logs.extend(heard.logs);
        let outputs = std::mem::take(self.out.list());
        let answer = Answer { ack: answer?, outputs };
        match breach(&answer, &numbers) {
            None => {
                self.metrics.extend(heard.metrics);
                Ok(answer)
            }
            Some(what) => Err(Failure::Fatal(format!("the answer breaks the contract: {what}"))),
        }
    }

    /// Closes the processor. Returns all that it logged.
    pub fn close(mut self, reason: CloseReason) -> Vec<Line> {
        let ((), heard) = stand_in::during(|| self.processor.close(reason));
        self.logs.extend(heard.logs);
        self.logs
    }

    /// The processor itself.
    pub fn processor(&self) -> &P {
        &self.processor
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

fn nothing() -> Metadata {
    Metadata {
        offset: String::new(),
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
    }
}

/// Leaves out what the processor didn't select.
fn mask(metadata: &mut Metadata, selected: &[String]) {
    let wants = |name: &str| selected.iter().any(|selected| selected == name);
    if !wants("offset") {
        metadata.offset.clear();
    }
    for (name, field) in [
        ("content-type", &mut metadata.content_type),
        ("message-id", &mut metadata.message_id),
        ("correlation-id", &mut metadata.correlation_id),
    ] {
        if !wants(name) {
            *field = None;
        }
    }
    if !wants("properties") {
        metadata.properties.retain(|property| {
            selected.iter().any(|name| name.strip_prefix("property:").is_some_and(|key| key == property.key))
        });
    }
}

/// What the host would refuse, if anything.
fn breach(answer: &Answer, numbers: &[i64]) -> Option<String> {
    let count = numbers.len();
    let beyond = |index: u32, end: usize| usize::try_from(index).is_ok_and(|index| index >= end);
    let Ack { progress, rejected, redeliver } = &answer.ack;
    if let Some(redelivery) = redeliver.as_ref().filter(|redelivery| beyond(redelivery.index, count)) {
        return Some(format!("asks for index {} of a batch of {count} again", redelivery.index));
    }
    // What stands of the batch: the events before the redelivery.
    let standing = redeliver.as_ref().and_then(|redelivery| usize::try_from(redelivery.index).ok()).unwrap_or(count);
    if rejected.len() > count {
        return Some(format!("rejects {} events of a batch of {count}", rejected.len()));
    }
    if let Some(rejection) = rejected.iter().find(|rejection| beyond(rejection.index, standing)) {
        let index = rejection.index;
        return Some(match beyond(index, count) {
            true => format!("rejects index {index} of a batch of {count}"),
            false => format!("rejects index {index}, and asks for everything from index {standing} again"),
        });
    }
    if let Progress::Through(through) = progress {
        match numbers.get(standing) {
            Some(again) if through >= again => {
                return Some(format!("finished through {through}, but asks for {again} and what follows again"));
            }
            None if numbers.last().is_none_or(|last| through > last) => {
                let last = numbers.last().copied().unwrap_or(-1);
                return Some(format!("finished through {through}, but the last event handed over is {last}"));
            }
            _ => {}
        }
    }
    answer.outputs.iter().find_map(|output| match output.origin {
        Some(Origin::Event(index)) if beyond(index, count) => {
            Some(format!("an output comes from index {index} of a batch of {count}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_the_host_would_refuse_is_a_breach() {
        let breach = |ack| breach(&Answer { ack, outputs: Vec::new() }, &[10, 11, 12]);
        for sound in [
            Ack::all(),
            Ack::through(12),
            Ack::through(10).redeliver(1, "again"),
            Ack::all().reject(0, "bad").redeliver(1, "again"),
            Ack::all().reject(0, "bad").reject(1, "bad").reject(2, "bad"),
        ] {
            assert_eq!(breach(sound.clone()), None, "{sound:?}");
        }
        for (ack, why) in [
            (Ack::through(13), "finished through 13, but the last event handed over is 12"),
            (Ack::all().redeliver(3, "again"), "asks for index 3 of a batch of 3 again"),
            (Ack::all().reject(3, "bad"), "rejects index 3 of a batch of 3"),
            (Ack::through(11).redeliver(1, "again"), "finished through 11, but asks for 11 and what follows again"),
            (Ack::through(12).redeliver(1, "again"), "finished through 12, but asks for 11 and what follows again"),
            (
                Ack::all().reject(1, "bad").redeliver(1, "again"),
                "rejects index 1, and asks for everything from index 1 again",
            ),
            (
                Ack::all().reject(0, "bad").reject(0, "bad").reject(0, "bad").reject(0, "bad"),
                "rejects 4 events of a batch of 3",
            ),
        ] {
            assert_eq!(breach(ack).as_deref(), Some(why));
        }
    }
}
