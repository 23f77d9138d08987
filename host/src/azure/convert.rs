//! A received AMQP message as an [`Event`]: every value of every type arrives, none is guessed at.
//!
//! The SDK only lends its messages, so they are copied, many into one block (see [`Arena`]). A large body is not: the event keeps the SDK's message alive instead.

use std::time::{SystemTime, UNIX_EPOCH};

use azure_core_amqp::message::{AmqpAnnotationKey, AmqpMessageBody, AmqpMessageId};
use azure_core_amqp::{AmqpMessage, AmqpSimpleValue, AmqpTimestamp, AmqpValue};
use azure_messaging_eventhubs::models::ReceivedEventData;
use bytes::Bytes;
use bytestring::ByteString;

use crate::arena::Arena;
use crate::model::{Event, Offset, Property, Timestamp, Value};

/// From here on, keeping the SDK's message costs less than copying its body.
const LARGE_BODY: usize = 16 * 1024;

/// Why a message can't be an event: the service sets these on everything that it hands out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service sent an event without its {0}")]
pub(super) struct Incomplete(&'static str);

/// What the service and the producer wrote about the event.
#[derive(Default)]
struct Annotations {
    sequence_number: Option<i64>,
    offset: Option<Offset>,
    enqueued_time: Option<Timestamp>,
    partition_key: Option<ByteString>,
}

impl Annotations {
    fn read(message: &AmqpMessage, arena: &mut Arena) -> Self {
        let mut read = Self::default();
        for (key, value) in message.message_annotations.iter().flat_map(|a| a.0.iter()) {
            let AmqpAnnotationKey::Symbol(key) = key else { continue };
            match (key.0.as_str(), value) {
                ("x-opt-sequence-number", AmqpValue::Long(n)) => read.sequence_number = Some(*n),
                ("x-opt-offset", AmqpValue::String(text)) => read.offset = Some(arena.text(text)),
                ("x-opt-enqueued-time", AmqpValue::TimeStamp(time)) => read.enqueued_time = Some(millis(time)),
                ("x-opt-partition-key", AmqpValue::String(text)) => read.partition_key = Some(arena.text(text)),
                _ => {}
            }
        }
        read
    }
}

/// Converts what was received.
pub(super) fn event(received: ReceivedEventData, arena: &mut Arena) -> Result<Event, Incomplete> {
    let message = received.raw_amqp_message();
    let annotations = Annotations::read(message, arena);
    let properties = message.properties.as_ref();
    let mut event = Event {
        sequence_number: annotations.sequence_number.ok_or(Incomplete("sequence number"))?,
        offset: annotations.offset.ok_or(Incomplete("offset"))?,
        enqueued_time: annotations.enqueued_time.ok_or(Incomplete("enqueued time"))?,
        partition_key: annotations.partition_key,
        content_type: properties.and_then(|p| p.content_type.as_ref()).map(|t| arena.text(&t.0)),
        message_id: properties.and_then(|p| p.message_id.as_ref()).map(|i| id(i, arena)),
        correlation_id: properties.and_then(|p| p.correlation_id.as_ref()).map(|i| id(i, arena)),
        properties: application_properties(message, arena),
        body: Bytes::new(),
    };
    event.body = match &message.body {
        AmqpMessageBody::Binary(sections) => match sections.as_slice() {
            [one] if one.len() >= LARGE_BODY => Bytes::from_owner(Kept(received)),
            [one] => arena.bytes(one),
            many => many.concat().into(),
        },
        AmqpMessageBody::Value(AmqpValue::String(text)) => arena.bytes(text.as_bytes()),
        AmqpMessageBody::Value(AmqpValue::Binary(bytes)) => arena.bytes(bytes),
        AmqpMessageBody::Value(value) => encoding(value.clone()),
        AmqpMessageBody::Sequence(lists) => {
            lists.iter().flat_map(|list| encoding(AmqpValue::List(list.clone()))).collect()
        }
        AmqpMessageBody::Empty => Bytes::new(),
    };
    Ok(event)
}

/// A message whose only data section is somebody's body.
struct Kept(ReceivedEventData);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        match &self.0.raw_amqp_message().body {
            AmqpMessageBody::Binary(sections) => sections.first().map_or(&[], Vec::as_slice),
            _ => &[],
        }
    }
}

fn id(id: &AmqpMessageId, arena: &mut Arena) -> ByteString {
    match id {
        AmqpMessageId::String(text) => arena.text(text),
        AmqpMessageId::Uuid(uuid) => uuid.to_string().into(),
        AmqpMessageId::Ulong(number) => number.to_string().into(),
        AmqpMessageId::Binary(bytes) => bytes
            .iter()
            .flat_map(|b| [b >> 4, b & 15])
            .filter_map(|n| char::from_digit(n.into(), 16))
            .collect::<String>()
            .into(),
    }
}

fn application_properties(message: &AmqpMessage, arena: &mut Arena) -> Vec<Property> {
    let Some(properties) = &message.application_properties else { return Vec::new() };
    properties.0.iter().map(|(key, v)| Property { key: arena.text(key), value: value(v, arena) }).collect()
}

fn value(value: &AmqpSimpleValue, arena: &mut Arena) -> Value {
    use AmqpSimpleValue as V;
    match value {
        V::Null => Value::Null,
        V::Boolean(v) => Value::Boolean(*v),
        V::UByte(v) => Value::Unsigned((*v).into()),
        V::UShort(v) => Value::Unsigned((*v).into()),
        V::UInt(v) => Value::Unsigned((*v).into()),
        V::ULong(v) => Value::Unsigned(*v),
        V::Byte(v) => Value::Integer((*v).into()),
        V::Short(v) => Value::Integer((*v).into()),
        V::Int(v) => Value::Integer((*v).into()),
        V::Long(v) => Value::Integer(*v),
        V::Float(v) => Value::Double((*v).into()),
        V::Double(v) => Value::Double(*v),
        V::TimeStamp(v) => Value::Timestamp(millis(v)),
        V::Uuid(v) => Value::Uuid(*v.as_bytes()),
        V::String(v) => Value::Text(arena.text(v)),
        V::Symbol(v) => Value::Text(arena.text(&v.0)),
        V::Binary(v) => Value::Binary(arena.bytes(v)),
        V::Char(v) => Value::Other(encoding(AmqpValue::Char(*v))),
        V::Decimal32(v) => Value::Other(encoding(AmqpValue::Decimal32(*v))),
        V::Decimal64(v) => Value::Other(encoding(AmqpValue::Decimal64(*v))),
        V::Decimal128(v) => Value::Other(encoding(AmqpValue::Decimal128(*v))),
        V::Described(v) => Value::Other(encoding(AmqpValue::Described(v.clone()))),
    }
}

/// The SDK reads the milliseconds of an AMQP timestamp as unsigned, so times before 1970 come as a far future; taking the low
/// 64 bits back turns them into what was sent. It has no value for the year 1, which .NET writes for "not set".
#[allow(clippy::cast_possible_truncation, reason = "two's complement on purpose, see above")]
fn millis(time: &AmqpTimestamp) -> Timestamp {
    const YEAR_ONE: Timestamp = -62_135_596_800_000;
    time.0.and_then(|t: SystemTime| t.duration_since(UNIX_EPOCH).ok()).map_or(YEAR_ONE, |d| d.as_millis() as Timestamp)
}

/// A value's AMQP encoding: that of a message whose body it is, without the section's descriptor.
fn encoding(value: AmqpValue) -> Bytes {
    const SECTION: [u8; 3] = [0x00, 0x53, 0x77];
    let message = AmqpMessage { body: AmqpMessageBody::Value(value), ..AmqpMessage::default() };
    match AmqpMessage::serialize(&message) {
        Ok(bytes) if bytes.starts_with(&SECTION) => Bytes::from(bytes).slice(SECTION.len()..),
        other => {
            tracing::warn!(?other, "a value that was decoded can't be encoded again: it is handed on empty");
            Bytes::new()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use azure_core_amqp::message::AmqpMessageProperties;
    use azure_core_amqp::{AmqpDescribed, AmqpList, AmqpOrderedMap, AmqpSymbol};

    use super::*;

    fn at(ms: u64) -> AmqpTimestamp {
        AmqpTimestamp(Some(UNIX_EPOCH + Duration::from_millis(ms)))
    }

    fn message(body: impl Into<AmqpMessageBody>) -> AmqpMessage {
        let mut message = AmqpMessage { body: body.into(), ..AmqpMessage::default() };
        message.add_message_annotation("x-opt-sequence-number".into(), 42_i64);
        message.add_message_annotation("x-opt-offset".into(), AmqpValue::String("1:2:opaque".into()));
        message.add_message_annotation("x-opt-enqueued-time".into(), AmqpValue::TimeStamp(at(1_700_000_000_123)));
        message
    }

    fn converted(message: AmqpMessage) -> Event {
        event(ReceivedEventData::from(message), &mut Arena::default()).unwrap()
    }

    #[test]
    fn system_properties_and_ids_of_every_type() {
        let mut given = message(b"body".to_vec());
        given.add_message_annotation("x-opt-partition-key".into(), AmqpValue::String("UA".into()));
        given.properties = Some(AmqpMessageProperties {
            content_type: Some("text/csv".into()),
            message_id: Some(AmqpMessageId::Ulong(7)),
            correlation_id: Some(AmqpMessageId::Binary(vec![0x00, 0xAF])),
            ..Default::default()
        });
        let event = converted(given);
        assert_eq!(event.position(), crate::model::Position { sequence_number: 42, offset: "1:2:opaque".into() });
        assert_eq!(event.enqueued_time, 1_700_000_000_123);
        assert_eq!(event.partition_key.as_deref(), Some("UA"));
        assert_eq!(event.content_type.as_deref(), Some("text/csv"));
        assert_eq!(event.message_id.as_deref(), Some("7"));
        assert_eq!(event.correlation_id.as_deref(), Some("00af"));
        assert_eq!(event.body, "body");
        let uuid = azure_core::Uuid::from_bytes([7; 16]);
        assert_eq!(id(&AmqpMessageId::Uuid(uuid), &mut Arena::default()), "07070707-0707-0707-0707-070707070707");
    }

    #[test]
    fn bodies_of_every_section_small_and_large() {
        let large = vec![7_u8; LARGE_BODY + 1];
        assert_eq!(converted(message(large.clone())).body, large);
        assert_eq!(converted(message(vec![b"ab".to_vec(), b"cd".to_vec()])).body, "abcd");
        assert_eq!(converted(message(AmqpMessageBody::Empty)).body, "");
        assert_eq!(converted(message(AmqpMessageBody::Value("text".into()))).body, "text");
        assert_eq!(converted(message(AmqpMessageBody::Value(AmqpValue::Binary(vec![1, 2])))).body, vec![1, 2]);
        // A boolean true is one byte, a list of it four: 0xc0, size, count, element.
        assert_eq!(converted(message(AmqpMessageBody::Value(AmqpValue::Boolean(true)))).body, vec![0x41]);
        let list = || AmqpList(vec![AmqpValue::Boolean(true)]);
        let twice = AmqpMessageBody::Sequence(vec![list(), list()]);
        assert_eq!(converted(message(twice)).body, [0xc0, 2, 1, 0x41].repeat(2));
    }

    #[test]
    fn properties_of_every_type_in_their_order() {
        let uuid = azure_core::Uuid::from_bytes([9; 16]);
        let described = AmqpDescribed::new(5_u64, AmqpValue::Boolean(false));
        let cases: Vec<(AmqpSimpleValue, Value)> = vec![
            (AmqpSimpleValue::Null, Value::Null),
            (true.into(), Value::Boolean(true)),
            (200_u8.into(), Value::Unsigned(200)),
            (60_000_u16.into(), Value::Unsigned(60_000)),
            (4_000_000_000_u32.into(), Value::Unsigned(4_000_000_000)),
            (u64::MAX.into(), Value::Unsigned(u64::MAX)),
            ((-7_i8).into(), Value::Integer(-7)),
            ((-700_i16).into(), Value::Integer(-700)),
            ((-70_000_i32).into(), Value::Integer(-70_000)),
            (i64::MIN.into(), Value::Integer(i64::MIN)),
            (1.5_f32.into(), Value::Double(1.5)),
            (2.25_f64.into(), Value::Double(2.25)),
            ("text".into(), Value::Text("text".into())),
            (AmqpSymbol::from("symbol").into(), Value::Text("symbol".into())),
            (AmqpSimpleValue::Binary(vec![1]), Value::Binary(Bytes::from_static(&[1]))),
            (at(5).into(), Value::Timestamp(5)),
            (uuid.into(), Value::Uuid([9; 16])),
            ('x'.into(), Value::Other(Bytes::from_static(&[0x73, 0, 0, 0, b'x']))),
            (AmqpSimpleValue::Decimal32([1, 2, 3, 4]), Value::Other(Bytes::from_static(&[0x74, 1, 2, 3, 4]))),
            (AmqpSimpleValue::Described(Box::new(described)), Value::Other(Bytes::from_static(&[0x00, 0x53, 5, 0x42]))),
        ];
        let mut given = message(AmqpMessageBody::Empty);
        let mut properties = AmqpOrderedMap::new();
        for (n, (value, _)) in cases.iter().enumerate() {
            properties.insert(format!("p{n}"), value.clone());
        }
        given.application_properties = Some(azure_core_amqp::message::AmqpApplicationProperties(properties));
        let event = converted(given);
        for (n, (_, expected)) in cases.into_iter().enumerate() {
            assert_eq!(event.properties[n], Property { key: format!("p{n}").into(), value: expected });
        }
    }

    #[test]
    fn times_before_1970_and_unset_times_survive() {
        let before = AmqpTimestamp(UNIX_EPOCH.checked_add(Duration::from_millis((-5_i64).cast_unsigned())));
        assert_eq!(millis(&before), -5);
        assert_eq!(millis(&AmqpTimestamp(None)), -62_135_596_800_000);
    }

    #[test]
    fn an_event_without_position_is_refused() {
        let bare = AmqpMessage::default();
        assert_eq!(event(ReceivedEventData::from(bare), &mut Arena::default()), Err(Incomplete("sequence number")));
    }
}
