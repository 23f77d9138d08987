//! Letters in an event hub: read whole, once a command, since a hub has no place to ask for one of them.
//!
//! Every partition is read from its beginning up to the event that was its last when the command began. What is kept is bounded: the
//! processor's letters up to [`MOST_BYTES`], and nothing of other events.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::azure::{Namespace, Timeouts};
use crate::cli::reach::Address;
use crate::cli::{say, tail};
use crate::dead_letter::CAUSE_PROPERTY;
use crate::model::{Event, OUTPUT_ID_PROPERTY, Output, Value};
use crate::outputs::size;
use crate::seams::EventSource as _;

/// Letters that are kept in memory, in bytes: more end the command, before the machine does.
const MOST_BYTES: usize = 512 << 20;
/// How often a person hears that it goes on.
const PROGRESS: Duration = Duration::from_secs(5);
/// The group that every hub has.
const GROUP: &str = "$default";

/// A hub of dead letters.
pub(super) struct LetterHub {
    pub(super) namespace: Namespace,
    pub(super) address: Address,
    pub(super) name: String,
}

impl LetterHub {
    /// The letters that are `wanted`, in the order of the hub's partitions and of their events. Of those with one id the last counts: a
    /// repeat is no second letter. What is no letter is counted, said, and passed over. The error is a clause for a person.
    pub(super) async fn letters(&self, wanted: impl Fn(&Output) -> bool) -> Result<Vec<Output>, String> {
        self.address.reach().await?;
        let source = Arc::new(self.namespace.source(&self.name, GROUP, Timeouts::default()));
        let partitions = source.partitions().await.map_err(|error| error.to_string())?;
        let (events, mut read) = mpsc::channel(1024);
        let mut readers = JoinSet::new();
        for (index, partition) in partitions.into_iter().enumerate() {
            let (source, events) = (Arc::clone(&source), events.clone());
            readers.spawn(async move {
                let made = |event: Event| (index, event.sequence_number, letter(event));
                tail::follow(&*source, &partition, tail::From::Earliest, true, made, &events).await
            });
        }
        drop(events);
        let mut kept: HashMap<ByteString, (usize, i64, Output)> = HashMap::new();
        let (mut bytes, mut seen, mut foreign) = (0, 0_u64, 0_u64);
        let mut said = Instant::now();
        while let Some((index, number, letter)) = read.recv().await {
            seen += 1;
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                say(format_args!("reading {self}: {seen} events, {} letters so far", kept.len()));
            }
            let Some(letter) = letter else {
                foreign += 1;
                continue;
            };
            if !wanted(&letter) {
                continue;
            }
            bytes += size(&letter);
            if let Some((_, _, old)) = kept.insert(letter.id.clone(), (index, number, letter)) {
                bytes -= size(&old);
            }
            if bytes > MOST_BYTES {
                return Err(format!(
                    "the processor has more than {} MiB of them there, and this command holds them in memory; read them with `weir tail`",
                    MOST_BYTES >> 20
                ));
            }
        }
        while let Some(ended) = readers.join_next().await {
            ended
                .map_err(|error| format!("a reader ended unexpectedly: {error}"))?
                .map_err(|error| error.to_string())?;
        }
        if foreign > 0 {
            let (noun, verb) = if foreign == 1 { ("event", "is no letter") } else { ("events", "are no letters") };
            say(format_args!("{foreign} {noun} in {self} {verb}, and passed over"));
        }
        let mut kept: Vec<_> = kept.into_values().collect();
        kept.sort_unstable_by_key(|(index, number, _)| (*index, *number));
        Ok(kept.into_iter().map(|(_, _, letter)| letter).collect())
    }
}

impl fmt::Display for LetterHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event hub {}", self.name)
    }
}

/// The letter that was sent as this event; `None`: it is none.
fn letter(mut event: Event) -> Option<Output> {
    event.properties.iter().find(|property| property.key == CAUSE_PROPERTY)?;
    let at = event.properties.iter().position(|property| property.key == OUTPUT_ID_PROPERTY)?;
    let Value::Text(id) = event.properties.remove(at).value else { return None };
    Some(Output {
        partition_key: event.partition_key,
        content_type: event.content_type,
        // The sink gives an event without one the letter's id.
        message_id: event.message_id.filter(|message| *message != id),
        correlation_id: event.correlation_id,
        properties: event.properties,
        body: event.body,
        id,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::dead_letter::tests::letter_of;
    use crate::model::Property;
    use crate::testing::event;

    #[test]
    fn a_letter_is_told_from_other_events_and_comes_back_whole() {
        let sent = letter_of("flights", "delays", &event(9, "body"));
        let mut properties = sent.properties.clone();
        let foreign = Event { properties: properties.clone(), ..event(0, "body") };
        assert_eq!(letter(foreign), None, "nobody named it");
        properties.push(Property { key: OUTPUT_ID_PROPERTY.into(), value: Value::Text(sent.id.clone()) });
        let came = Event {
            partition_key: sent.partition_key.clone(),
            content_type: sent.content_type.clone(),
            message_id: Some(sent.id.clone()),
            properties,
            ..event(0, "body")
        };
        assert_eq!(letter(came), Some(sent));
        assert_eq!(letter(event(0, "body")), None);
    }
}
