//! Whatever a producer puts into a message comes out byte for byte.

use bytes::Bytes;
use weir_amqp::message::{BATCH_FORMAT, Body, Message, MessageParts, OwnedProperties, Timestamp};
use weir_amqp::performative::{Attach, DeliveryState};
use weir_amqp::wire::{Array, Described, Map, Value};

use crate::client::{Client, EARLIEST};
use crate::namespace;

fn every_type() -> Vec<Value> {
    let nested = Map::from([("k", Value::List(vec![Value::Null, Value::from(1_u8)]))]);
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Bool(false),
        Value::UByte(255),
        Value::UShort(65_535),
        Value::UInt(0),
        Value::UInt(7),
        Value::UInt(u32::MAX),
        Value::ULong(0),
        Value::ULong(u64::MAX),
        Value::Byte(-128),
        Value::Short(-32_768),
        Value::Int(-1),
        Value::Int(i32::MIN),
        Value::Long(-1),
        Value::Long(i64::MIN),
        Value::Float(1.5),
        Value::Double(f64::NAN),
        Value::Decimal32([1; 4]),
        Value::Decimal64([2; 8]),
        Value::Decimal128([3; 16]),
        Value::Char('字'),
        Value::Timestamp(-1),
        Value::Uuid([9; 16]),
        Value::Binary(Bytes::from(vec![0; 300])),
        Value::from("text"),
        Value::from("Ω".repeat(200)),
        Value::Symbol("symbol".into()),
        Value::List(vec![Value::from("in a list"), Value::Map(nested.clone())]),
        Value::Map(nested),
        Value::Array(Array::new(vec![Value::Int(1), Value::Int(2)]).unwrap()),
        Value::Described(Box::new(Described { descriptor: Value::ULong(99), value: Value::from("described") })),
    ]
}

fn messages() -> Vec<MessageParts> {
    let values = every_type();
    let named: Map = values.iter().enumerate().map(|(n, value)| (format!("p{n}"), value.clone())).collect();
    let properties = OwnedProperties {
        message_id: Some(Value::Uuid([1; 16])),
        user_id: Some(Bytes::from_static(b"user")),
        to: Some("to".into()),
        subject: Some("subject".into()),
        reply_to: Some("reply".into()),
        correlation_id: Some(Value::ULong(7)),
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        absolute_expiry_time: Some(Timestamp(1)),
        creation_time: Some(Timestamp(2)),
        group_id: Some("group".into()),
        group_sequence: Some(3),
        reply_to_group_id: Some("reply group".into()),
    };
    let full = |body| MessageParts {
        properties: properties.clone(),
        application_properties: named.clone(),
        footer: Map::from([("f", 1_i64)]),
        body,
        ..MessageParts::default()
    };
    let mut messages = vec![
        full(Body::Data(vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from(vec![1; 100_000])])),
        full(Body::Sequence(vec![values.clone(), vec![]])),
        full(Body::Value(Value::Map(named.clone()))),
    ];
    messages.extend(values.into_iter().map(MessageParts::value));
    messages
}

#[tokio::test]
async fn every_body_property_and_value_comes_out_as_it_went_in() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let sender = client.attach(Attach::sender("s", "h/Partitions/0")).await;
    let sent: Vec<Bytes> = messages().iter().map(MessageParts::encode).collect();
    for message in &sent {
        assert_eq!(client.send(sender, 0, message.clone()).await, Some(DeliveryState::Accepted));
    }
    let receiver = client.receiver(0, EARLIEST, 1000).await;
    for (sequence, message) in sent.iter().enumerate() {
        let delivery = client.delivery(receiver).await;
        let received = Message::parse(delivery.payload).unwrap();
        assert_eq!(received.tail(), message, "message {sequence}");
        let annotations = received.message_annotations().unwrap().to_map().unwrap();
        assert_eq!(annotations.get("x-opt-sequence-number"), Some(&Value::Long(sequence as i64)));
        assert!(matches!(annotations.get("x-opt-offset"), Some(Value::String(_))));
        assert!(matches!(annotations.get("x-opt-enqueued-time"), Some(Value::Timestamp(_))));
        assert_eq!(annotations.len(), 3);
    }
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_batch_comes_out_as_its_events_with_their_annotations() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let inner = |own: &str| MessageParts {
        message_annotations: Map::from([(Value::Symbol("mine".into()), Value::from(own.to_owned()))]),
        delivery_annotations: Map::from([(Value::Symbol("hop".into()), Value::from(1_i64))]),
        ..MessageParts::data("x")
    };
    let batch = MessageParts {
        // "7" belongs to partition 1 of 2.
        message_annotations: Map::from([(Value::Symbol("x-opt-partition-key".into()), Value::from("7"))]),
        body: Body::Data(vec![inner("a").encode(), inner("b").encode()]),
        ..MessageParts::default()
    };
    let sender = client.attach(Attach::sender("s", "h")).await;
    assert_eq!(client.send(sender, BATCH_FORMAT, batch.encode()).await, Some(DeliveryState::Accepted));
    let receiver = client.receiver(1, EARLIEST, 10).await;
    for own in ["a", "b"] {
        let received = Message::parse(client.delivery(receiver).await.payload).unwrap();
        let annotations = received.message_annotations().unwrap().to_map().unwrap();
        assert_eq!(annotations.get("mine"), Some(&Value::from(own.to_owned())));
        assert_eq!(annotations.get("x-opt-partition-key"), Some(&Value::from("7")));
        let hop = received.delivery_annotations().unwrap().to_map().unwrap();
        assert_eq!(hop.get("hop"), Some(&Value::from(1_i64)));
    }
    emulator.shutdown().await;
}
