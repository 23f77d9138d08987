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

/// A processor under test.
#[derive(Debug)]
pub struct Harness<P> {
    processor: P,
    out: Outputs,
    next: i64,
    selected: Option<Vec<String>>,
    logs: Vec<Line>,
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

impl<P: Processor> Harness<P> {
    /// Opens the processor with this config, as [`opening`] has it.
    pub fn open(config: impl Serialize) -> Result<Self, Failure> {
        Self::open_with(&opening(config))
    }

    /// Opens the processor.
    pub fn open_with(opening: &Opening) -> Result<Self, Failure> {
        let (processor, heard) = stand_in::during(|| processor::open::<P>(opening));
        let next = opening.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence_number + 1);
        Ok(Self { processor: processor?, out: Outputs::default(), next, selected: heard.selected, logs: heard.logs })
    }

    /// Hands over a batch. Events that have no sequence number yet get the next ones; those that have one keep it, so a
    /// redelivery can be played by cloning. An answer that the host would refuse comes back as [`Failure::Fatal`].
    pub fn process(&mut self, events: impl IntoIterator<Item = Event>) -> Result<Answer, Failure> {
        let events: Vec<Event> = events.into_iter().map(|event| self.prepare(event)).collect();
        let (count, last) = (events.len(), self.next - 1);
        let (answer, heard) = stand_in::during(|| self.processor.process(events, &mut self.out));
        self.logs.extend(heard.logs);
        let outputs = std::mem::take(self.out.list());
        let answer = Answer { ack: answer?, outputs };
        match breach(&answer, count, last) {
            None => Ok(answer),
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
        if self.selected.as_ref().is_some_and(Vec::is_empty) {
            event.metadata = None;
        }
        event
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
fn breach(answer: &Answer, count: usize, last: i64) -> Option<String> {
    let outside = |index: u32| usize::try_from(index).is_ok_and(|index| index >= count);
    if let Progress::Through(sequence_number) = answer.ack.progress
        && sequence_number > last
    {
        return Some(format!("finished through {sequence_number}, but the last event handed over is {last}"));
    }
    if let Some(rejection) = answer.ack.rejected.iter().find(|rejection| outside(rejection.index)) {
        return Some(format!("rejects index {} of a batch of {count}", rejection.index));
    }
    if let Some(redelivery) = answer.ack.redeliver.as_ref().filter(|redelivery| outside(redelivery.index)) {
        return Some(format!("asks for index {} of a batch of {count} again", redelivery.index));
    }
    answer.outputs.iter().find_map(|output| match output.origin {
        Some(Origin::Event(index)) if outside(index) => {
            Some(format!("an output comes from index {index} of a batch of {count}"))
        }
        _ => None,
    })
}
