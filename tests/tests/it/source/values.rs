//! Every AMQP type and body, as other clients may send them.

use bytes::Bytes;
use weir_amqp::message::{Body, MessageParts, OwnedProperties};
use weir_amqp::wire::{Described, Map, Symbol, Value as Amqp};
use weir_emulator::{Emulator, Incoming};
use weir_host::model::{Event, Property, StartPosition, Value};

use super::Make;
use crate::hub::{HUB, incoming, namespace, read};

async fn through(make: Make, emulator: &Emulator, messages: &[Incoming]) -> Vec<Event> {
    emulator.namespace().publish(HUB, 0, messages).unwrap();
    read(&*make(emulator, HUB, "$default"), StartPosition::Earliest, messages.len()).await
}

pub(super) async fn hands_over_every_type(make: Make) {
    let other = |bytes: &'static [u8]| Value::Other(Bytes::from_static(bytes));
    let described = Described { descriptor: Amqp::ULong(5), value: Amqp::Bool(false) };
    let cases = [
        (Amqp::Null, Value::Null),
        (Amqp::Bool(true), Value::Boolean(true)),
        (Amqp::UByte(200), Value::Unsigned(200)),
        (Amqp::UShort(60_000), Value::Unsigned(60_000)),
        (Amqp::UInt(4_000_000_000), Value::Unsigned(4_000_000_000)),
        (Amqp::ULong(u64::MAX), Value::Unsigned(u64::MAX)),
        (Amqp::Byte(-7), Value::Integer(-7)),
        (Amqp::Short(-700), Value::Integer(-700)),
        (Amqp::Int(-70_000), Value::Integer(-70_000)),
        (Amqp::Long(i64::MIN), Value::Integer(i64::MIN)),
        (Amqp::Float(1.5), Value::Double(1.5)),
        (Amqp::Double(2.25), Value::Double(2.25)),
        (Amqp::String("Zürich".into()), Value::Text("Zürich".into())),
        (Amqp::Symbol(Symbol::from("symbol")), Value::Text("symbol".into())),
        (Amqp::Binary(Bytes::from_static(&[0, 255])), Value::Binary(Bytes::from_static(&[0, 255]))),
        (Amqp::Timestamp(1_700_000_000_123), Value::Timestamp(1_700_000_000_123)),
        (Amqp::Timestamp(-1), Value::Timestamp(-1)),
        (Amqp::Uuid([9; 16]), Value::Uuid([9; 16])),
        (Amqp::Char('x'), other(&[0x73, 0, 0, 0, b'x'])),
        (Amqp::Decimal32([1, 2, 3, 4]), other(&[0x74, 1, 2, 3, 4])),
        (Amqp::Decimal64([1, 2, 3, 4, 5, 6, 7, 8]), other(&[0x84, 1, 2, 3, 4, 5, 6, 7, 8])),
        (Amqp::Described(Box::new(described)), other(&[0x00, 0x53, 5, 0x42])),
    ];
    let mut properties = Map::default();
    for (n, (value, _)) in cases.iter().enumerate() {
        properties.insert(format!("p{n}"), value.clone());
    }
    let ids = [
        (Amqp::String("text".into()), "text"),
        (Amqp::ULong(7), "7"),
        (Amqp::Uuid([7; 16]), "07070707-0707-0707-0707-070707070707"),
        (Amqp::Binary(Bytes::from_static(&[0, 0xaf])), "00af"),
    ];
    let messages = ids.iter().map(|(id, _)| {
        incoming(&MessageParts {
            properties: OwnedProperties {
                message_id: Some(id.clone()),
                correlation_id: Some(id.clone()),
                content_type: Some(Symbol::from("text/csv")),
                ..OwnedProperties::default()
            },
            application_properties: properties.clone(),
            ..MessageParts::data("body")
        })
    });
    let mut messages: Vec<_> = messages.collect();
    messages[0].key = Some("UA".into());

    let emulator = namespace(1).await;
    let events = through(make, &emulator, &messages).await;
    assert_eq!(events[0].partition_key.as_deref(), Some("UA"));
    assert_eq!(events[1].partition_key, None);
    for (event, (_, id)) in events.iter().zip(ids) {
        assert_eq!(event.message_id.as_deref(), Some(id));
        assert_eq!(event.correlation_id.as_deref(), Some(id));
        assert_eq!(event.content_type.as_deref(), Some("text/csv"));
        for (n, (_, value)) in cases.iter().enumerate() {
            assert_eq!(event.properties[n], Property { key: format!("p{n}").into(), value: value.clone() });
        }
    }
}

pub(super) async fn hands_over_every_body(make: Make) {
    let list = || vec![Amqp::Bool(true)];
    let cases = [
        (Body::Data(vec!["ab".into()]), Bytes::from_static(b"ab")),
        (Body::Data(vec!["ab".into(), "cd".into()]), Bytes::from_static(b"abcd")),
        (Body::Data(vec![Bytes::new()]), Bytes::new()),
        (Body::Value(Amqp::String("text".into())), Bytes::from_static(b"text")),
        (Body::Value(Amqp::Binary("raw".into())), Bytes::from_static(b"raw")),
        (Body::Value(Amqp::Bool(true)), Bytes::from_static(&[0x41])),
        (Body::Sequence(vec![list(), list()]), [0xc0, 2, 1, 0x41].repeat(2).into()),
    ];
    let messages: Vec<_> = cases
        .iter()
        .map(|(body, _)| incoming(&MessageParts { body: body.clone(), ..MessageParts::default() }))
        .collect();
    let emulator = namespace(1).await;
    for (event, (body, expected)) in through(make, &emulator, &messages).await.iter().zip(cases) {
        assert_eq!(event.body, expected, "{body:?}");
    }
}

pub(super) async fn hands_over_the_largest_bodies(make: Make) {
    let body = |n: u8| Bytes::from(vec![n; (1 << 20) - 1024]);
    let messages: Vec<_> = (0..20).map(|n| incoming(&MessageParts::data(body(n)))).collect();
    let emulator = namespace(1).await;
    for (n, event) in (0..).zip(through(make, &emulator, &messages).await) {
        assert!(event.body == body(n), "body {n} is not what was sent");
    }
}
