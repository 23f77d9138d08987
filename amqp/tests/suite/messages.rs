//! Messages: parts round trip, slices don't copy, sections have an order.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use weir_amqp::message::{
    BATCH_FORMAT, BatchBuilder, Body, BodyKind, Header, Message, MessageParts, OwnedProperties, Section, Timestamp,
    encode_annotations,
};
use weir_amqp::wire::{DecodeError, Map, Symbol, Value, ValueRef};

use crate::strategies;

fn properties() -> impl Strategy<Value = OwnedProperties> {
    let ids = (prop::option::of(id()), prop::option::of(id()), prop::option::of(strategies::bytes()));
    let texts = prop::collection::vec(prop::option::of(".{0,12}"), 5);
    let symbols = (prop::option::of(strategies::symbol()), prop::option::of(strategies::symbol()));
    let times = (any::<Option<i64>>(), any::<Option<i64>>(), any::<Option<u32>>());
    (ids, texts, symbols, times).prop_map(|(ids, texts, symbols, times)| OwnedProperties {
        message_id: ids.0,
        correlation_id: ids.1,
        user_id: ids.2,
        to: texts[0].clone(),
        subject: texts[1].clone(),
        reply_to: texts[2].clone(),
        group_id: texts[3].clone(),
        reply_to_group_id: texts[4].clone(),
        content_type: symbols.0,
        content_encoding: symbols.1,
        absolute_expiry_time: times.0.map(Timestamp),
        creation_time: times.1.map(Timestamp),
        group_sequence: times.2,
    })
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::ULong),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        strategies::bytes().prop_map(Value::Binary),
        ".{0,10}".prop_map(Value::String),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Empty),
        prop::collection::vec(strategies::bytes(), 1..4).prop_map(Body::Data),
        prop::collection::vec(prop::collection::vec(strategies::value(), 0..4), 1..3).prop_map(Body::Sequence),
        strategies::value().prop_map(Body::Value),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    (any::<bool>(), any::<Option<u8>>(), any::<Option<u32>>(), any::<bool>(), any::<u32>()).prop_map(
        |(durable, priority, ttl, first_acquirer, delivery_count)| Header {
            durable,
            priority,
            ttl,
            first_acquirer,
            delivery_count,
        },
    )
}

fn parts() -> impl Strategy<Value = MessageParts> {
    let maps = (strategies::map(), strategies::map(), strategies::map(), strategies::map());
    (prop::option::of(header()), maps, properties(), body()).prop_map(|(header, maps, properties, body)| MessageParts {
        header,
        delivery_annotations: maps.0,
        message_annotations: maps.1,
        properties,
        application_properties: maps.2,
        body,
        footer: maps.3,
    })
}

proptest! {
    #[test]
    fn parts_round_trip(parts in parts()) {
        let message = Message::parse(parts.encode()).unwrap();
        prop_assert_eq!(message.to_parts().unwrap(), parts.clone());
        // The borrowed view of the properties says the same as the owned one.
        if let Some(p) = message.properties().unwrap() {
            prop_assert_eq!(p.to, parts.properties.to.as_deref());
            prop_assert_eq!(p.group_sequence, parts.properties.group_sequence);
            prop_assert_eq!(p.creation_time, parts.properties.creation_time.map(|t| t.0));
            prop_assert_eq!(p.message_id, parts.properties.message_id.as_ref().and_then(Value::as_primitive));
            prop_assert_eq!(p.content_type, parts.properties.content_type.as_deref());
        }
        // The tail behind other annotations is the same message with those.
        let mut spliced = BytesMut::new();
        encode_annotations(&mut spliced, Section::MessageAnnotations, [("x-opt-sequence-number", ValueRef::Long(9))]);
        spliced.extend_from_slice(&message.tail());
        let annotated = Message::parse(spliced.freeze()).unwrap().to_parts().unwrap();
        let expected = MessageParts {
            header: None,
            delivery_annotations: Map::new(),
            message_annotations: Map::from([(Symbol::from_static("x-opt-sequence-number"), 9i64)]),
            ..parts
        };
        prop_assert_eq!(annotated, expected);
    }

    #[test]
    fn batches_round_trip(messages in prop::collection::vec(parts(), 0..8)) {
        let mut batch = BatchBuilder::new(Bytes::new(), 1 << 20);
        for message in &messages {
            prop_assert!(batch.add(&[message.encode()]));
        }
        prop_assert_eq!(batch.len(), messages.len());
        let size = batch.size();
        let encoded: Bytes = batch.finish().concat().into();
        prop_assert_eq!(encoded.len(), size);
        let envelope = Message::parse(encoded).unwrap();
        let back: Vec<_> =
            envelope.batch().map(|m| Message::parse(m.unwrap()).unwrap().to_parts().unwrap()).collect();
        prop_assert_eq!(back, messages);
    }
}

#[test]
fn a_batch_has_a_size() {
    assert_eq!(BATCH_FORMAT, 2_147_563_264);
    let mut envelope = BytesMut::new();
    encode_annotations(&mut envelope, Section::MessageAnnotations, [("x-opt-partition-key", ValueRef::Str("k"))]);
    let mut batch = BatchBuilder::new(envelope.freeze(), 1000);
    let message = MessageParts::data(vec![7; 100]).encode();
    let mut added = 0;
    while batch.add(std::slice::from_ref(&message)) {
        added += 1;
    }
    assert!(added >= 8 && batch.size() <= 1000, "{added} in {}", batch.size());
    let envelope = Message::parse(batch.finish().concat().into()).unwrap();
    let key = envelope.message_annotations().unwrap().get("x-opt-partition-key").unwrap();
    assert_eq!(key, Some(ValueRef::Str("k")));
    assert_eq!(envelope.batch().count(), added);
}

#[test]
fn data_is_not_copied() {
    let encoded = MessageParts::data(vec![1; 1000]).encode();
    let message = Message::parse(encoded.clone()).unwrap();
    let data = message.data().next().unwrap().unwrap();
    assert_eq!(data.len(), 1000);
    assert!(encoded.as_ptr_range().contains(&data.as_ptr()));
    assert_eq!(message.tail().as_ptr(), encoded.as_ptr());
}

#[test]
fn sections_have_an_order() {
    let data = [0x00, 0x53, 0x75, 0xa0, 1, 9];
    let value = [0x00, 0x53, 0x77, 0x41];
    let annotations = [0x00, 0x53, 0x72, 0xc1, 1, 0];
    let unknown = [0x00, 0x53, 0x7f, 0xc1, 1, 0];
    let parse = |sections: &[&[u8]]| Message::parse(sections.concat().into());
    assert_eq!(parse(&[&annotations, &data, &data]).unwrap().data().count(), 2);
    for wrong in [&[&data[..], &annotations][..], &[&annotations, &annotations], &[&value, &value], &[&data, &value]] {
        assert!(matches!(parse(wrong), Err(DecodeError::SectionOrder { .. })));
    }
    // An unknown section is skipped wherever it stands.
    let message = parse(&[&unknown, &annotations, &unknown, &data, &unknown, &data]).unwrap();
    assert_eq!(message.body_kind(), BodyKind::Data);
    assert_eq!(message.data().map(Result::unwrap).collect::<Vec<_>>(), [&[9][..], &[9]]);
    assert!(message.message_annotations().is_some());
}

#[test]
fn symbolic_sections_and_null_maps_are_read() {
    let mut bytes = vec![0x00, 0xa3, 28];
    bytes.extend_from_slice(b"amqp:message-annotations:map");
    bytes.push(0x40);
    bytes.extend_from_slice(&[0x00, 0x53, 0x77, 0x40]);
    let message = Message::parse(bytes.into()).unwrap();
    assert_eq!(message.message_annotations().unwrap().count(), 0);
    assert_eq!(message.body_value().unwrap(), Some(ValueRef::Null));
}

#[test]
fn a_broken_section_is_its_readers_error_only() {
    // application properties that say 4 entries and have one byte; then a body
    let bytes = [0x00, 0x53, 0x74, 0xc1, 2, 8, 0x40, 0x00, 0x53, 0x75, 0xa0, 1, 9];
    let message = Message::parse(Bytes::copy_from_slice(&bytes)).unwrap();
    assert_eq!(message.data().next().unwrap().unwrap(), Bytes::from_static(&[9]));
    let entries: Vec<_> = message.application_properties().unwrap().collect();
    assert!(matches!(entries[..], [Err(_)]), "{entries:?}");
    assert!(message.application_properties().unwrap().get("x").is_err());
    assert!(message.to_parts().is_err());
}
