//! What is read of a letter, and the event that it was.

use bytestring::ByteString;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::dead_letter::{
    ATTEMPTS_PROPERTY, CAUSE_PROPERTY, ORIGIN_ENQUEUED_TIME_PROPERTY, ORIGIN_PARTITION_PROPERTY,
    ORIGIN_PROCESSOR_PROPERTY, ORIGIN_SEQUENCE_NUMBER_PROPERTY, REASON_PROPERTY, REDRIVEN_FROM_PROPERTY, is_ours,
    property,
};
use crate::model::{Output, Property, Value};
use crate::outputs::size;

/// How a letter looks in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) partition: Option<String>,
    pub(super) sequence_number: Option<i64>,
    /// When the event was taken in by the hub that it came from.
    pub(super) enqueued_time: Option<String>,
    pub(super) cause: String,
    pub(super) attempts: Option<i64>,
    pub(super) processor: Option<String>,
    /// Its first line.
    pub(super) reason: String,
    pub(super) key: Option<String>,
    pub(super) body_bytes: usize,
}

impl Head {
    pub(super) fn of(letter: &Output) -> Self {
        let enqueued = match property(letter, ORIGIN_ENQUEUED_TIME_PROPERTY) {
            Some(Value::Timestamp(time)) => {
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(*time) * 1_000_000).ok()
            }
            _ => None,
        };
        Self {
            id: letter.id.to_string(),
            partition: text(letter, ORIGIN_PARTITION_PROPERTY),
            sequence_number: integer(letter, ORIGIN_SEQUENCE_NUMBER_PROPERTY),
            enqueued_time: enqueued.and_then(|time| time.format(&Rfc3339).ok()),
            cause: text(letter, CAUSE_PROPERTY).unwrap_or_default(),
            attempts: integer(letter, ATTEMPTS_PROPERTY),
            processor: text(letter, ORIGIN_PROCESSOR_PROPERTY),
            reason: text(letter, REASON_PROPERTY).unwrap_or_default().lines().next().unwrap_or_default().to_owned(),
            key: letter.partition_key.as_deref().map(str::to_owned),
            body_bytes: letter.body.len(),
        }
    }
}

pub(super) fn text(letter: &Output, key: &str) -> Option<String> {
    match property(letter, key) {
        Some(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    }
}

pub(super) fn integer(letter: &Output, key: &str) -> Option<i64> {
    match property(letter, key) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

/// The event as it came, with the letter's id beside its own properties where a hub that takes `limit` bytes has room for it.
pub(super) fn event(letter: Output, limit: usize) -> Output {
    let from = Property { key: ByteString::from_static(REDRIVEN_FROM_PROPERTY), value: Value::Text(letter.id.clone()) };
    // Without an id of ours, the sink adds no property of its own.
    let mut event = Output { id: ByteString::new(), ..letter };
    event.properties.retain(|property| !is_ours(&property.key) && property.key != REDRIVEN_FROM_PROPERTY);
    if size(&event) + from.key.len() + from.value.size() <= limit {
        event.properties.push(from);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::harmless;
    use crate::dead_letter::tests::letter_of;
    use crate::model::Event;
    use crate::testing::event as received;

    #[test]
    fn the_event_comes_back_as_it_was() {
        let own = Property { key: "unit".into(), value: Value::Text("min".into()) };
        let old = Property { key: REDRIVEN_FROM_PROPERTY.into(), value: Value::Text("flights/3/1/rejected".into()) };
        let came = Event {
            partition_key: Some("AA".into()),
            content_type: Some("text/plain".into()),
            message_id: Some("m".into()),
            correlation_id: Some("c".into()),
            properties: vec![own.clone(), old],
            ..received(9, "body")
        };
        let back = event(letter_of("flights", "delays", &came), usize::MAX);
        let from = Property { key: REDRIVEN_FROM_PROPERTY.into(), value: Value::Text("flights/3/9/rejected".into()) };
        assert_eq!(
            back,
            Output {
                id: "".into(),
                partition_key: came.partition_key.clone(),
                content_type: came.content_type.clone(),
                message_id: came.message_id.clone(),
                correlation_id: came.correlation_id.clone(),
                properties: vec![own.clone(), from],
                body: came.body.clone(),
            }
        );
        let tight = event(letter_of("flights", "delays", &came), 20);
        assert_eq!(tight.properties, [own], "what the event says matters more");
    }

    #[test]
    fn a_head_is_a_line() {
        let head = Head::of(&letter_of("flights", "delays", &received(9, "body")));
        assert_eq!((&*head.id, &*head.cause, &*head.reason), ("flights/3/9/rejected", "rejected", "not a flight"));
        assert_eq!(head.enqueued_time.as_deref(), Some("2023-11-14T22:13:20.009Z"));
        assert_eq!((head.attempts, head.body_bytes), (Some(1), 4));
        assert_eq!(harmless("a\u{1b}[2J\nb\r", &['\n']), "a\\u{1b}[2J\nb\\r");
    }
}
