//! Turns what a guest emitted and rejected into outputs for named sinks, each with its deterministic id. Pure.
//!
//! With a redelivery, outputs of events that come again are left out (they come with the event); an output without an
//! origin, or with a key, always stands, since nothing tells that it would come again. An output without an origin
//! belongs to the last event that stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytestring::ByteString;

use crate::arena::Arena;
use crate::dead_letter::{DeadLetterCause, Letters, Why};
use crate::guest::{GuestOutput, Origin, Rejection};
use crate::model::{Event, Output, PartitionId, Scope, SequenceNumber};
use crate::seams::Sink;

/// The output that a guest means when it names none.
pub const DEFAULT_OUTPUT: &str = "default";

/// A processor's sinks under their names.
#[derive(Clone)]
pub(crate) struct Sinks {
    sinks: Arc<Vec<(String, Arc<dyn Sink>)>>,
    dead_letter: Option<usize>,
}

impl Sinks {
    pub(crate) fn new(outputs: &BTreeMap<String, Arc<dyn Sink>>, dead_letter: Option<&Arc<dyn Sink>>) -> Self {
        let mut sinks: Vec<_> = outputs.iter().map(|(name, sink)| (name.clone(), Arc::clone(sink))).collect();
        let place = dead_letter.map(|sink| {
            sinks.push(("dead-letter".into(), Arc::clone(sink)));
            sinks.len() - 1
        });
        Self { sinks: Arc::new(sinks), dead_letter: place }
    }

    pub(crate) fn get(&self, index: usize) -> Option<(&str, &Arc<dyn Sink>)> {
        self.sinks.get(index).map(|(name, sink)| (name.as_str(), sink))
    }

    pub(crate) fn is_dead_letter(&self, index: usize) -> bool {
        self.dead_letter == Some(index)
    }

    fn find(&self, target: &str) -> Option<usize> {
        self.sinks.iter().enumerate().position(|(i, (name, _))| name == target && !self.is_dead_letter(i))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self
            .sinks
            .iter()
            .enumerate()
            .filter(|(i, _)| !self.is_dead_letter(*i))
            .map(|(_, (n, _))| n.as_str())
            .collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}

/// Outputs per sink (by index in [`Sinks`]), each in order.
pub(crate) type Routes = Vec<(usize, Vec<Output>)>;

/// Why an answer's outputs can't be taken.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    /// The answer breaks the contract.
    Invalid(String),
    /// An event was rejected, and there is no dead-letter sink.
    NoDeadLetter { sequence_number: SequenceNumber, reason: String },
}

/// Resolves a partition's outputs.
pub(crate) struct Resolver {
    letters: Letters,
    event_hub: String,
    partition: PartitionId,
    sinks: Sinks,
}

impl Resolver {
    pub(crate) fn new(letters: Letters, scope: &Scope, partition: &PartitionId, sinks: Sinks) -> Self {
        Self { letters, event_hub: scope.event_hub.clone(), partition: partition.clone(), sinks }
    }

    /// Resolves what came of a batch, of which the first `standing` events stand. `attempts`: how often it was handed over.
    pub(crate) fn resolve(
        &self,
        batch: &[Event],
        standing: usize,
        outputs: Vec<GuestOutput>,
        rejected: &[Rejection],
        attempts: u32,
    ) -> Result<Routes, Refused> {
        let mut routes = Routes::new();
        let expected = outputs.len();
        let mut counts = if outputs.is_empty() { Vec::new() } else { vec![0u32; batch.len()] };
        let last = if standing == 0 { batch.len() } else { standing }.saturating_sub(1);
        let mut ids = Ids::new(&self.event_hub, &self.partition, outputs.len());
        for output in outputs {
            let id = match &output.origin {
                Some(Origin::Key(key)) => ids.make(["key/", key]),
                Some(Origin::Event(index)) if *index as usize >= batch.len() => {
                    let len = batch.len();
                    return Err(Refused::Invalid(format!(
                        "an output's origin is index {index}, but the batch has {len} events"
                    )));
                }
                Some(Origin::Event(index)) if *index as usize >= standing => continue,
                Some(Origin::Event(index)) => ids.of_event(batch, &mut counts, *index as usize),
                None if batch.is_empty() => {
                    return Err(Refused::Invalid(
                        "an output of a tick has no key as its origin, and there is no event".into(),
                    ));
                }
                None => ids.of_event(batch, &mut counts, last),
            };
            let target = output.target.as_deref().unwrap_or(DEFAULT_OUTPUT);
            let Some(sink) = self.sinks.find(target) else {
                let known = self.sinks.names();
                return Err(Refused::Invalid(format!(
                    "output {id} goes to `{target}`, which is not configured (outputs: {known})"
                )));
            };
            let output = Output {
                id,
                partition_key: output.partition_key,
                content_type: output.content_type,
                message_id: output.message_id,
                correlation_id: output.correlation_id,
                properties: output.properties,
                body: output.body,
            };
            self.check_size(sink, target, &output)?;
            push(&mut routes, sink, output, expected);
        }
        // Each event once, whatever the guest says twice.
        let mut seen = if rejected.is_empty() { Vec::new() } else { vec![false; batch.len()] };
        for rejection in rejected {
            let Some(event) = batch.get(rejection.index as usize) else { continue };
            let Some(sink) = self.sinks.dead_letter else {
                let reason = rejection.reason.clone();
                return Err(Refused::NoDeadLetter { sequence_number: event.sequence_number, reason });
            };
            if let Some(seen) = seen.get_mut(rejection.index as usize).filter(|seen| !**seen) {
                *seen = true;
                let (cause, reason) = (DeadLetterCause::Rejected, &*rejection.reason);
                let why = Why { cause, reason, attempts, stderr: "", backtrace: "" };
                push(&mut routes, sink, self.letters.write(event, &why, self.limit(sink)), rejected.len());
            }
        }
        Ok(routes)
    }

    /// Whether there is a place for dead letters.
    pub(crate) fn has_dead_letter(&self) -> bool {
        self.sinks.dead_letter.is_some()
    }

    /// An event as a dead letter; `None`: there is no place for it.
    pub(crate) fn dead_letter(&self, event: &Event, why: &Why<'_>) -> Option<Routes> {
        let sink = self.sinks.dead_letter?;
        Some(vec![(sink, vec![self.letters.write(event, why, self.limit(sink))])])
    }

    fn limit(&self, sink: usize) -> usize {
        self.sinks.get(sink).map_or(usize::MAX, |(_, sink)| sink.max_output_bytes())
    }

    fn check_size(&self, sink: usize, target: &str, output: &Output) -> Result<(), Refused> {
        let (size, limit) = (size(output), self.limit(sink));
        if size > limit {
            return Err(Refused::Invalid(format!(
                "output {} has {size} bytes of body, properties and ids; `{target}` takes {limit}",
                output.id
            )));
        }
        Ok(())
    }
}

/// Makes the ids of a batch, which share their memory as they share their beginning.
pub(crate) struct Ids {
    arena: Arena,
    /// `hub/partition/`, and behind it whatever is being written.
    text: String,
    prefix: usize,
}

impl Ids {
    pub(crate) fn new(event_hub: &str, partition: &PartitionId, count: usize) -> Self {
        /// What follows on the prefix: mostly a sequence number and a count.
        const REST: usize = 24;
        let mut text = String::with_capacity(event_hub.len() + 64);
        text.extend([event_hub, "/", partition.as_str(), "/"]);
        let prefix = text.len();
        Self { arena: Arena::with_capacity((prefix + REST).saturating_mul(count)), text, prefix }
    }

    pub(crate) fn make<const N: usize>(&mut self, rest: [&str; N]) -> ByteString {
        self.text.truncate(self.prefix);
        self.text.extend(rest);
        self.arena.text(&self.text)
    }

    /// The id of the next output of the event at this index.
    fn of_event(&mut self, batch: &[Event], counts: &mut [u32], index: usize) -> ByteString {
        let number = batch.get(index).map_or(-1, |e| e.sequence_number);
        let mut n = 0;
        if let Some(count) = counts.get_mut(index) {
            n = *count;
            *count += 1;
        }
        self.make([itoa::Buffer::new().format(number), "/", itoa::Buffer::new().format(n)])
    }
}

/// Adds an output of the so many that are expected at most.
fn push(routes: &mut Routes, sink: usize, output: Output, expected: usize) {
    match routes.iter_mut().find(|(s, _)| *s == sink) {
        Some((_, outputs)) => outputs.push(output),
        None => {
            let mut outputs = Vec::with_capacity(expected);
            outputs.push(output);
            routes.push((sink, outputs));
        }
    }
}

/// What outputs weigh: what counts for the sinks' limits, and what each costs besides.
pub(crate) fn bytes(routes: &Routes) -> usize {
    routes.iter().flat_map(|(_, outputs)| outputs).map(|output| size(output) + size_of::<Output>()).sum()
}

/// Bytes that count for a sink's limit.
pub(crate) fn size(output: &Output) -> usize {
    let texts = [&output.partition_key, &output.content_type, &output.message_id, &output.correlation_id];
    let texts = texts.into_iter().flatten().map(|text| text.len()).sum::<usize>();
    let properties = output.properties.iter().map(|p| p.key.len() + p.value.size()).sum::<usize>();
    output.body.len() + output.id.len() + texts + properties
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;

    use super::*;
    use crate::testing::{MemorySink, event};

    fn resolver(dead_letter: bool) -> Resolver {
        let sink = || Arc::new(MemorySink::new()) as Arc<dyn Sink>;
        let outputs = BTreeMap::from([("default".to_owned(), sink()), ("late".to_owned(), sink())]);
        let dead_letter = dead_letter.then(sink);
        let scope = Scope { namespace: "n".into(), event_hub: "hub".into(), consumer_group: "g".into() };
        let partition = PartitionId::from("3");
        let letters = Letters::new(&scope, &partition, "delays", None);
        Resolver::new(letters, &scope, &partition, Sinks::new(&outputs, dead_letter.as_ref()))
    }

    fn emitted(origin: Option<Origin>, target: Option<&str>) -> GuestOutput {
        GuestOutput {
            origin,
            target: target.map(Into::into),
            partition_key: None,
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: Vec::new(),
            body: Bytes::from_static(b"x"),
        }
    }

    fn ids(routes: &Routes) -> Vec<&str> {
        routes.iter().flat_map(|(_, outputs)| outputs.iter().map(|o| &*o.id)).collect()
    }

    #[test]
    fn ids_hang_on_the_event_and_its_own_count() {
        let batch = [event(10, ""), event(11, "")];
        let all = vec![
            emitted(Some(Origin::Event(0)), None),
            emitted(Some(Origin::Event(1)), Some("late")),
            emitted(Some(Origin::Event(0)), None),
            emitted(Some(Origin::Key("12:00".into())), None),
            emitted(None, None),
        ];
        let routes = resolver(true).resolve(&batch, 2, all.clone(), &[], 1).unwrap();
        assert_eq!(ids(&routes), ["hub/3/10/0", "hub/3/10/1", "hub/3/key/12:00", "hub/3/11/1", "hub/3/11/0"]);
        let partly = resolver(true).resolve(&batch, 1, all.clone(), &[], 1).unwrap();
        assert_eq!(ids(&partly), ["hub/3/10/0", "hub/3/10/1", "hub/3/key/12:00", "hub/3/10/2"], "event 11 comes again");
        let later =
            resolver(true).resolve(&batch[1..], 1, vec![emitted(Some(Origin::Event(0)), None)], &[], 1).unwrap();
        assert_eq!(ids(&later), ["hub/3/11/0"], "the id doesn't depend on how the batch was cut");
    }

    #[test]
    fn answers_that_name_what_isnt_there_are_refused() {
        let batch = [event(10, "")];
        for (output, why) in [
            (emitted(None, Some("nowhere")), "outputs: default, late"),
            (emitted(None, Some("dead-letter")), "not configured"),
            (emitted(Some(Origin::Event(1)), None), "index 1"),
            (GuestOutput { body: Bytes::from(vec![0; (1 << 20) + 1]), ..emitted(None, None) }, "takes 1048576"),
        ] {
            let Err(Refused::Invalid(text)) = resolver(true).resolve(&batch, 1, vec![output], &[], 1) else {
                panic!("{why}")
            };
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn a_rejected_event_becomes_one_dead_letter() {
        let batch = [event(10, "first"), event(11, "second")];
        let twice =
            [Rejection { index: 1, reason: "not a flight".into() }, Rejection { index: 1, reason: "again".into() }];
        let routes = resolver(true).resolve(&batch, 2, Vec::new(), &twice, 1).unwrap();
        assert_eq!(ids(&routes), ["hub/3/11/rejected"]);
        let refused = resolver(false).resolve(&batch, 2, Vec::new(), &twice, 1).unwrap_err();
        assert_eq!(refused, Refused::NoDeadLetter { sequence_number: 11, reason: "not a flight".into() });
    }
}
