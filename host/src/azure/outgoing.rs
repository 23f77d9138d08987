//! An [`Output`] as an AMQP message, and outputs as runs that may share a batch.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use azure_core_amqp::message::{AmqpApplicationProperties, AmqpMessageBody, AmqpMessageProperties};
use azure_core_amqp::{AmqpMessage, AmqpOrderedMap, AmqpSimpleValue, AmqpTimestamp};

use crate::model::{OUTPUT_ID_PROPERTY, Output, Value};

/// An output's message. The partition key isn't in it: the batch, or the single send, carries that.
pub(super) fn message(output: &Output) -> AmqpMessage {
    let named = (!output.id.is_empty()).then_some(&output.id);
    let mut properties: AmqpOrderedMap<String, AmqpSimpleValue> =
        output.properties.iter().map(|p| (p.key.to_string(), value(&p.value))).collect();
    if let Some(id) = named {
        // The id is the host's: what the guest wrote under its name would make repeats unrecognisable.
        properties.remove(&OUTPUT_ID_PROPERTY.to_owned());
        properties.insert(OUTPUT_ID_PROPERTY.into(), id.to_string().into());
    }
    AmqpMessage {
        body: AmqpMessageBody::Binary(vec![output.body.to_vec()]),
        application_properties: (!properties.is_empty()).then_some(AmqpApplicationProperties(properties)),
        properties: Some(AmqpMessageProperties {
            message_id: output.message_id.as_ref().or(named).map(|id| id.to_string().into()),
            correlation_id: output.correlation_id.as_ref().map(|id| id.to_string().into()),
            content_type: output.content_type.as_ref().map(|text| (&**text).into()),
            ..AmqpMessageProperties::default()
        }),
        ..AmqpMessage::default()
    }
}

fn value(value: &Value) -> AmqpSimpleValue {
    match value {
        Value::Null => AmqpSimpleValue::Null,
        Value::Boolean(v) => (*v).into(),
        Value::Integer(v) => (*v).into(),
        Value::Unsigned(v) => (*v).into(),
        Value::Double(v) => (*v).into(),
        Value::Text(v) => v.to_string().into(),
        Value::Binary(v) => AmqpSimpleValue::Binary(v.to_vec()),
        // The SDK passes the milliseconds on as unsigned and takes them back, so that times before 1970 are kept.
        Value::Timestamp(ms) => AmqpTimestamp(UNIX_EPOCH.checked_add(Duration::from_millis(ms.cast_unsigned()))).into(),
        Value::Uuid(v) => azure_core::Uuid::from_bytes(*v).into(),
        Value::Other(encoding) => other(encoding),
    }
}

/// A value in its AMQP encoding, which may come from a guest and is not to be decoded by `serde_amqp`: what has a fixed width is
/// read here; a described value goes as the binary of its encoding.
fn other(encoding: &[u8]) -> AmqpSimpleValue {
    let fixed = match encoding {
        [0x73, rest @ ..] => rest.try_into().ok().map(u32::from_be_bytes).and_then(char::from_u32).map(Into::into),
        [0x74, rest @ ..] => rest.try_into().ok().map(AmqpSimpleValue::Decimal32),
        [0x84, rest @ ..] => rest.try_into().ok().map(AmqpSimpleValue::Decimal64),
        [0x94, rest @ ..] => rest.try_into().ok().map(AmqpSimpleValue::Decimal128),
        _ => None,
    };
    fixed.unwrap_or_else(|| AmqpSimpleValue::Binary(encoding.to_vec()))
}

/// The outputs of each partition key, in their order; keys in the order of their first output.
pub(super) fn by_key(outputs: &[Output]) -> Vec<(Option<&str>, Vec<&Output>)> {
    let mut places: HashMap<Option<&str>, usize> = HashMap::new();
    let mut runs: Vec<(Option<&str>, Vec<&Output>)> = Vec::new();
    for output in outputs {
        let key = output.partition_key.as_deref();
        let place = *places.entry(key).or_insert_with(|| {
            runs.push((key, Vec::new()));
            runs.len() - 1
        });
        if let Some((_, run)) = runs.get_mut(place) {
            run.push(output);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use azure_messaging_eventhubs::models::ReceivedEventData;
    use bytes::Bytes;

    use super::super::convert;
    use super::*;
    use crate::arena::Arena;
    use crate::model::Property;

    fn output(id: &str, key: Option<&str>) -> Output {
        Output {
            id: id.into(),
            partition_key: key.map(Into::into),
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: Vec::new(),
            body: Bytes::from_static(b"body"),
        }
    }

    /// As it arrives at a reader.
    fn received(output: &Output) -> crate::model::Event {
        let mut message = message(output);
        message.add_message_annotation("x-opt-sequence-number".into(), 0_i64);
        message.add_message_annotation("x-opt-offset".into(), "0");
        message.add_message_annotation("x-opt-enqueued-time".into(), AmqpTimestamp(Some(UNIX_EPOCH)));
        convert::event(ReceivedEventData::from(message), &mut Arena::default()).unwrap()
    }

    #[test]
    fn the_id_is_a_property_and_stands_in_for_the_message_id() {
        let mut given = output("hub/0/7/0", None);
        given.properties = vec![Property { key: OUTPUT_ID_PROPERTY.into(), value: Value::Text("forged".into()) }];
        let event = received(&given);
        let id = Value::Text("hub/0/7/0".into());
        assert_eq!(event.properties, [Property { key: OUTPUT_ID_PROPERTY.into(), value: id }]);
        assert_eq!(event.message_id.as_deref(), Some("hub/0/7/0"));
        given.message_id = Some("own".into());
        assert_eq!(received(&given).message_id.as_deref(), Some("own"));
        let unnamed = received(&output("", None));
        assert_eq!((unnamed.properties.len(), unnamed.message_id), (0, None));
    }

    #[test]
    fn every_value_comes_back_as_it_went() {
        let mut given = output("", None);
        given.content_type = Some("application/json".into());
        given.correlation_id = Some("c".into());
        let values = [
            Value::Null,
            Value::Boolean(true),
            Value::Integer(i64::MIN),
            Value::Unsigned(u64::MAX),
            Value::Double(0.5),
            Value::Text("text".into()),
            Value::Binary(Bytes::from_static(&[0, 255])),
            Value::Timestamp(1_700_000_000_123),
            Value::Timestamp(-1),
            Value::Uuid([3; 16]),
            Value::Other(Bytes::from_static(&[0x73, 0, 0, 0, b'x'])),
            Value::Other(Bytes::from_static(&[0x74, 1, 2, 3, 4])),
            Value::Other(Bytes::from_static(&[0x84, 1, 2, 3, 4, 5, 6, 7, 8])),
        ];
        given.properties =
            values.iter().enumerate().map(|(n, v)| Property { key: n.to_string().into(), value: v.clone() }).collect();
        let event = received(&given);
        assert_eq!(event.properties, given.properties);
        assert_eq!(event.content_type.as_deref(), Some("application/json"));
        assert_eq!(event.correlation_id.as_deref(), Some("c"));
        assert_eq!(event.body, given.body);
    }

    #[test]
    fn what_has_no_simple_type_goes_as_binary() {
        let described = Bytes::from_static(&[0x00, 0x53, 5, 0x42]);
        assert_eq!(value(&Value::Other(described.clone())), AmqpSimpleValue::Binary(described.to_vec()));
        assert_eq!(other(&[0x74, 1]), AmqpSimpleValue::Binary(vec![0x74, 1]));
        assert_eq!(other(&[]), AmqpSimpleValue::Binary(Vec::new()));
    }

    #[test]
    fn keys_keep_their_order() {
        let outputs = [output("a0", Some("a")), output("b0", Some("b")), output("n0", None), output("a1", Some("a"))];
        let runs = by_key(&outputs);
        let ids: Vec<(Option<&str>, Vec<&str>)> =
            runs.iter().map(|(key, run)| (*key, run.iter().map(|o| &*o.id).collect())).collect();
        assert_eq!(ids, [(Some("a"), vec!["a0", "a1"]), (Some("b"), vec!["b0"]), (None, vec!["n0"])]);
    }
}
