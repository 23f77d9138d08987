//! Where a letter lies in a directory or a container, and how it reads there: the same in both.
//!
//! `HUB@NAMESPACE/PARTITION/PROCESSOR/SEQUENCE.json`, made of what the letter says of its origin and of nothing else: a letter that is written again
//! replaces itself, and processors that share a hub, or a place, don't meet. The content is the shape of [`crate::ndjson`] over several
//! lines, so that a person can read it and `weir send` could.

use std::io;

use serde::Deserialize;

use super::{
    ORIGIN_EVENT_HUB_PROPERTY, ORIGIN_NAMESPACE_PROPERTY, ORIGIN_PARTITION_PROPERTY, ORIGIN_PROCESSOR_PROPERTY,
    ORIGIN_SEQUENCE_NUMBER_PROPERTY, property,
};
use crate::local::segment;
use crate::model::{Output, SequenceNumber, Value};
use crate::ndjson;

const SUFFIX: &str = ".json";

/// Where one letter lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folder: String,
    partition: String,
    processor: String,
    file: String,
}

impl Place {
    /// Of a letter. What says nothing of its origin (an output that is no dead letter) lies by its id.
    pub fn of(letter: &Output) -> Self {
        let text = |key| match property(letter, key) {
            Some(Value::Text(text)) => Some(&**text),
            _ => None,
        };
        let number = match property(letter, ORIGIN_SEQUENCE_NUMBER_PROPERTY) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        };
        let origin = text(ORIGIN_EVENT_HUB_PROPERTY).zip(text(ORIGIN_PARTITION_PROPERTY)).zip(number);
        match origin.zip(text(ORIGIN_PROCESSOR_PROPERTY)) {
            Some((((hub, partition), number), processor)) => Self {
                folder: Self::folder(text(ORIGIN_NAMESPACE_PROPERTY).unwrap_or_default(), hub),
                partition: segment(partition),
                processor: exactly(processor),
                file: number.to_string(),
            },
            None => Self {
                folder: "+other".into(),
                partition: "+".into(),
                processor: "+".into(),
                file: blake3::hash(letter.id.as_bytes()).to_hex().to_string(),
            },
        }
    }

    /// Where the letters of a hub's partitions lie.
    pub(crate) fn folder(namespace: &str, event_hub: &str) -> String {
        // No segment has an `@` of its own.
        format!("{}@{}", segment(event_hub), segment(namespace))
    }

    /// The place that a path names, from the root on; `None`: there can't be a letter there.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        let place = Self { folder: next()?, partition: next()?, processor: next()?, file: next()? };
        let file = place.file.strip_suffix(SUFFIX)?.to_owned();
        (parts.next().is_none() && !file.starts_with('.')).then_some(Self { file, ..place })
    }

    /// From the root on.
    pub fn path(&self) -> String {
        let Self { folder, partition, processor, file } = self;
        format!("{folder}/{partition}/{processor}/{file}{SUFFIX}")
    }

    /// Whether it is of this processor of this hub.
    pub(crate) fn is_of(&self, (namespace, event_hub): (&str, &str), processor: &str) -> bool {
        self.folder == Self::folder(namespace, event_hub) && self.processor == exactly(processor)
    }

    /// Whether it is of this partition.
    pub fn is_in(&self, partition: &str) -> bool {
        self.partition == segment(partition)
    }

    /// The event's sequence number.
    pub fn number(&self) -> Option<SequenceNumber> {
        self.file.parse().ok()
    }

    /// Puts letters in the order of their events.
    pub(crate) fn order(&self) -> (usize, String, SequenceNumber) {
        (self.partition.len(), self.partition.clone(), self.number().unwrap_or(SequenceNumber::MAX))
    }
}

/// A segment that keeps apart what differs in its case only, which segments don't.
fn exactly(name: &str) -> String {
    let plain = segment(name);
    if name.to_lowercase() == name {
        return plain;
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    format!("{plain}+{}", digest.get(..8).unwrap_or(&digest))
}

/// The letter as it is stored.
pub(crate) fn write(letter: &Output) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(letter.body.len() + 2048);
    ndjson::write_pretty_output(&mut text, letter)?;
    Ok(text)
}

/// Reads a stored letter back, or a line of a file of letters. The error is a clause for a person.
pub fn read(text: &[u8]) -> Result<Output, String> {
    #[derive(Deserialize)]
    struct Named {
        id: Option<String>,
    }
    let record = ndjson::parse(text).map_err(|error| error.to_string())?;
    let named: Named = serde_json::from_slice(text).map_err(|error| format!("its \"id\" is not a text: {error}"))?;
    Ok(Output {
        id: named.id.ok_or("it has no \"id\"")?.into(),
        partition_key: record.key,
        content_type: record.content_type,
        message_id: record.message_id,
        correlation_id: record.correlation_id,
        properties: record.properties,
        body: record.body,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::tests::letter_of;
    use super::*;
    use crate::testing::event;

    #[test]
    fn a_letter_lies_where_its_origin_says_and_is_found_there() {
        let place = Place::of(&letter_of("Flights", "delays", &event(11, "second")));
        assert_eq!(place.path(), "flights@n/3/delays/11.json");
        assert_eq!(Place::parse(&place.path()), Some(place.clone()));
        assert!(
            place.is_of(("N", "FLIGHTS"), "delays") && !place.is_of(("n", "flights"), "copies") && place.is_in("3")
        );
        assert!(!place.is_of(("other", "flights"), "delays"), "a hub of that name in another namespace");
        assert_eq!(place.number(), Some(11));
        for strange in ["flights/3/delays/.11.json.1.tmp", "flights/3/11.json", "flights/3/delays/x/11.json", "", "a"] {
            assert_eq!(Place::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn no_two_processors_meet_and_no_name_leads_out() {
        let path = |hub, processor| Place::of(&letter_of(hub, processor, &event(1, ""))).path();
        let names = ["delays", "Delays", "DELAYS", "delays.v2", "delays/v2", "..", ""];
        let mut paths: Vec<_> = names.map(|name| path("flights", name)).into();
        assert!(paths.iter().all(|path| path.split('/').count() == 4 && !path.contains("..")), "{paths:?}");
        paths.sort_by_key(|path| path.to_lowercase());
        paths.dedup_by_key(|path| path.to_lowercase());
        assert_eq!(paths.len(), names.len(), "{paths:?}");
    }

    #[test]
    fn what_is_no_letter_lies_by_its_id() {
        let of =
            |id: &str| Place::of(&Output { id: id.into(), properties: vec![], ..letter_of("h", "p", &event(1, "")) });
        assert_ne!(of("a"), of("b"));
        assert_eq!(Place::parse(&of("a").path()), Some(of("a")));
    }

    #[test]
    fn what_is_stored_is_readable_and_read_back_whole() {
        for body in ["{\"b\": 1.10}", "plain", "{\n\"a\": 1}", "\u{0}"] {
            let letter = letter_of("flights", "delays", &event(7, body));
            let text = write(&letter).unwrap();
            assert!(text.split(|byte| *byte == b'\n').count() > 10, "a key a line");
            assert_eq!(read(&text), Ok(letter));
        }
        let bytes = letter_of("flights", "delays", &event(7, vec![0xff, 0]));
        assert_eq!(read(&write(&bytes).unwrap()), Ok(bytes));
        assert!(read(b"{\"body\":1}").unwrap_err().contains("no \"id\""));
        assert!(read(b"{").is_err());
    }
}
