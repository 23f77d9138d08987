//! Letters in an event hub: read whole, once a command, since a hub has no place to ask for one of them.
//!
//! Every partition is read from its beginning up to the event that was its last when the command began. What is kept is bounded: the
//! processor's letters up to [`MOST_BYTES`], and nothing of other events.
//!
//! Events can't be taken out of a hub. A letter that is done with is *settled* by a further event that names it, and the time at which its last
//! copy came: a letter that comes again after that (its event was sent back, and failed once more) counts again. Both times are the
//! hub's own, so no other clock matters, nor in which partition the two lie.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;

use crate::azure::{HubSink, Namespace, SinkOptions, Timeouts};
use crate::cli::reach::Address;
use crate::cli::{outgoing, say, tail};
use crate::dead_letter::{
    ORIGIN_EVENT_HUB_PROPERTY, ORIGIN_NAMESPACE_PROPERTY, ORIGIN_PROCESSOR_PROPERTY, SETTLED_PROPERTY,
    SETTLED_THROUGH_PROPERTY, is_letter, property,
};
use crate::model::{Event, OUTPUT_ID_PROPERTY, Output, Property, Timestamp, Value};
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
    namespace: Namespace,
    address: Address,
    name: String,
    /// Made for the first letter that is settled.
    sink: OnceCell<HubSink>,
}

/// A letter, and when it came.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub(super) letter: Output,
    at: Timestamp,
}

impl LetterHub {
    pub(super) fn new(namespace: Namespace, address: Address, name: String) -> Self {
        Self { namespace, address, name, sink: OnceCell::new() }
    }

    /// The letters that are `wanted` and not settled, in the order of the hub's partitions and of their events. Of those with one id the last
    /// counts: a repeat is no second letter. What is no letter is counted, said, and passed over. The error is a clause for a person.
    pub(super) async fn letters(&self, wanted: impl Fn(&Output) -> bool) -> Result<Vec<Came>, String> {
        self.address.reach().await?;
        let source = Arc::new(self.namespace.source(&self.name, GROUP, Timeouts::default()));
        let partitions = source.partitions().await.map_err(|error| error.to_string())?;
        let (events, mut read) = mpsc::channel(1024);
        let mut readers = JoinSet::new();
        for (index, partition) in partitions.into_iter().enumerate() {
            let (source, events) = (Arc::clone(&source), events.clone());
            readers.spawn(async move {
                let made = |event: Event| (index, event.sequence_number, Found::of(event));
                tail::follow(&*source, &partition, tail::From::Earliest, true, made, &events).await
            });
        }
        drop(events);
        let mut kept: HashMap<ByteString, (usize, i64, Came)> = HashMap::new();
        let mut settled: HashMap<ByteString, Timestamp> = HashMap::new();
        let (mut bytes, mut seen, mut foreign) = (0, 0_u64, 0_u64);
        let mut said = Instant::now();
        while let Some((index, number, found)) = read.recv().await {
            seen += 1;
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                say(format_args!("reading {self}: {seen} events, {} letters so far", kept.len()));
            }
            match found {
                Found::Foreign => foreign += 1,
                Found::Settled { id, through, whose } if wanted(&whose) => {
                    bytes += id.len();
                    let known = settled.entry(id).or_insert(through);
                    *known = through.max(*known);
                }
                Found::Letter(came) if wanted(&came.letter) => {
                    let known = kept.get(&came.letter.id).map(|(_, _, old)| (old.at, size(&old.letter)));
                    if known.is_none_or(|(at, _)| at <= came.at) {
                        bytes = bytes + size(&came.letter) - known.map_or(0, |(_, bytes)| bytes);
                        kept.insert(came.letter.id.clone(), (index, number, came));
                    }
                }
                Found::Letter(_) | Found::Settled { .. } => {}
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
        let open = |(_, _, came): &(_, _, Came)| settled.get(&came.letter.id).is_none_or(|through| *through < came.at);
        let mut kept: Vec<_> = kept.into_values().filter(open).collect();
        kept.sort_unstable_by_key(|(index, number, _)| (*index, *number));
        Ok(kept.into_iter().map(|(_, _, letter)| letter).collect())
    }

    /// Says in the hub that this letter is done with, over passing errors: saying it twice changes nothing. The error is a clause for a
    /// person.
    pub(super) async fn settle(&self, came: &Came, how: &str) -> Result<(), String> {
        let sink = async { self.namespace.sink(&self.name, SinkOptions::default()) };
        let sink = self.sink.get_or_init(|| sink).await;
        let now = OffsetDateTime::now_utc();
        outgoing::deliver(sink, &[tombstone(came, how, now)]).await.map_err(|error| error.to_string())
    }
}

impl fmt::Display for LetterHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event hub {}", self.name)
    }
}

/// The event that settles a letter. It is nobody's letter, and says so to a person who meets it.
fn tombstone(Came { letter, at }: &Came, how: &str, now: OffsetDateTime) -> Output {
    let text = |key, value: &str| Property { key: ByteString::from_static(key), value: Value::Text(value.into()) };
    let mut properties = vec![
        text(SETTLED_PROPERTY, &letter.id),
        Property { key: ByteString::from_static(SETTLED_THROUGH_PROPERTY), value: Value::Timestamp(*at) },
    ];
    // Whose letter it was.
    let whose = [ORIGIN_PROCESSOR_PROPERTY, ORIGIN_EVENT_HUB_PROPERTY, ORIGIN_NAMESPACE_PROPERTY];
    properties.extend(letter.properties.iter().filter(|property| whose.contains(&&*property.key)).cloned());
    // A year that has no such form is no reason to leave the letter open.
    let when = now.truncate_to_second().format(&Rfc3339).map(|now| format!(" at {now}")).unwrap_or_default();
    let body =
        format!("The dead letter {} was {how} by `weir dead-letters`{when}; it doesn't count any more.", letter.id);
    Output {
        id: settling(&letter.id).into(),
        partition_key: letter.partition_key.clone(),
        content_type: Some("text/plain; charset=utf-8".into()),
        message_id: None,
        correlation_id: None,
        properties,
        body: body.into(),
    }
}

/// The id of what settles the letter with this id.
fn settling(letter: &str) -> String {
    format!("{letter}/settled")
}

/// What an event of the hub is, as its id tells: properties may be those of the event that a letter was made of.
#[derive(Debug)]
enum Found {
    Letter(Came),
    Settled {
        id: ByteString,
        through: Timestamp,
        /// Its properties say whose letter it was.
        whose: Box<Output>,
    },
    Foreign,
}

impl Found {
    fn of(event: Event) -> Self {
        let at = event.enqueued_time;
        let Some(found) = output(event) else { return Self::Foreign };
        let settled = (property(&found, SETTLED_PROPERTY), property(&found, SETTLED_THROUGH_PROPERTY));
        match settled {
            _ if is_letter(&found.id) => Self::Letter(Came { letter: found, at }),
            (Some(Value::Text(id)), Some(Value::Timestamp(through))) if is_letter(id) && *found.id == settling(id) => {
                Self::Settled { id: id.clone(), through: *through, whose: Box::new(found) }
            }
            _ => Self::Foreign,
        }
    }
}

/// The output that was sent as this event; `None`: no host sent it.
fn output(mut event: Event) -> Option<Output> {
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

    /// The event as which the hub has an output.
    fn sent(output: &Output, at: Timestamp) -> Event {
        let mut properties = output.properties.clone();
        properties.push(Property { key: OUTPUT_ID_PROPERTY.into(), value: Value::Text(output.id.clone()) });
        Event {
            enqueued_time: at,
            partition_key: output.partition_key.clone(),
            content_type: output.content_type.clone(),
            message_id: Some(output.message_id.clone().unwrap_or_else(|| output.id.clone())),
            correlation_id: output.correlation_id.clone(),
            properties,
            body: output.body.clone(),
            ..event(0, "")
        }
    }

    #[test]
    fn a_letter_is_told_from_other_events_and_comes_back_whole() {
        let letter = letter_of("flights", "delays", &event(9, "body"));
        let Found::Letter(came) = Found::of(sent(&letter, 7)) else { panic!("a letter") };
        assert_eq!((&came.letter, came.at), (&letter, 7));
        let nameless = Event { properties: letter.properties.clone(), ..event(0, "body") };
        assert!(matches!(Found::of(nameless), Found::Foreign));
        assert!(matches!(Found::of(event(0, "body")), Found::Foreign));
    }

    #[test]
    fn what_an_event_says_of_itself_makes_it_neither_a_letter_nor_a_tombstone() {
        let came = Came { letter: letter_of("flights", "delays", &event(9, "body")), at: 7 };
        let settled = tombstone(&came, "discarded", OffsetDateTime::UNIX_EPOCH);
        // An event that says that another letter is settled, and was rejected: its letter keeps what it says.
        let forged = Event { properties: settled.properties.clone(), ..event(10, "body") };
        let letter = letter_of("flights", "delays", &forged);
        assert!(matches!(Found::of(sent(&letter, 8)), Found::Letter(came) if came.letter == letter));
        // What a module sends to the same hub has the properties that the module chose, and an id that it didn't.
        let mut named = settled.properties.clone();
        named[0].value = Value::Text("flights/3/key/9".into());
        for id in ["flights/3/11/0", "flights/3/key/9/rejected", "flights/3/key/rejected", "flights/3/key/9/settled"] {
            for properties in [&letter.properties, &settled.properties, &named] {
                let output = Output { id: id.into(), properties: properties.clone(), ..letter.clone() };
                assert!(matches!(Found::of(sent(&output, 8)), Found::Foreign), "{id}");
            }
        }
        // A letter that had no room for its cause is one all the same.
        let bare = Output { properties: vec![], ..letter };
        assert!(matches!(Found::of(sent(&bare, 8)), Found::Letter(_)));
    }

    #[test]
    fn a_tombstone_says_which_letter_and_up_to_when() {
        let came = Came { letter: letter_of("flights", "delays", &event(9, "body")), at: 7 };
        let Found::Settled { id, through, whose } =
            Found::of(sent(&tombstone(&came, "discarded", OffsetDateTime::UNIX_EPOCH), 8))
        else {
            panic!("a tombstone")
        };
        assert_eq!((id, through), (came.letter.id.clone(), 7));
        for key in [ORIGIN_PROCESSOR_PROPERTY, ORIGIN_EVENT_HUB_PROPERTY, ORIGIN_NAMESPACE_PROPERTY] {
            assert!(property(&whose, key).is_some(), "{key}");
            assert_eq!(property(&whose, key), property(&came.letter, key));
        }
        let body = String::from_utf8(whose.body.to_vec()).unwrap();
        assert_eq!(
            body,
            "The dead letter flights/3/9/rejected was discarded by `weir dead-letters` at 1970-01-01T00:00:00Z; it doesn't count any more."
        );
    }
}
