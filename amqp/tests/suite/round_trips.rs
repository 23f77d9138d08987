//! Every type comes back as it went, in each of its encodings.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use weir_amqp::performative::{
    Performative, SaslChallenge, SaslCode, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse,
};
use weir_amqp::wire::{Array, Map, Reader, Symbol, Value, ValueRef, Writer};

use crate::strategies;

fn encode(value: &Value) -> Bytes {
    let mut buf = BytesMut::new();
    value.encode(&mut Writer::new(&mut buf));
    buf.freeze()
}

fn decode(bytes: &[u8]) -> Value {
    let mut reader = Reader::new(bytes);
    let value = Value::decode(&mut reader).unwrap();
    reader.finish().unwrap();
    value
}

proptest! {
    #[test]
    fn values(value in strategies::value()) {
        let encoded = encode(&value);
        prop_assert_eq!(decode(&encoded), value.clone());
        // Skipping moves just as far, and the borrowed view says the same.
        let mut reader = Reader::new(&encoded);
        reader.skip().unwrap();
        reader.finish().unwrap();
        let borrowed = ValueRef::read(&mut Reader::new(&encoded)).unwrap();
        prop_assert_eq!(borrowed.to_value().unwrap(), value.clone());
        if let Some(primitive) = value.as_primitive() {
            prop_assert_eq!(borrowed, primitive);
        }
        // No prefix of it is a value.
        for len in 0..encoded.len() {
            let mut reader = Reader::new(&encoded[..len]);
            prop_assert!(Value::decode(&mut reader).is_err());
            prop_assert!(Reader::new(&encoded[..len]).skip().is_err());
        }
    }

    #[test]
    fn performatives(performative in strategies::performative(), payload in strategies::bytes()) {
        let mut buf = BytesMut::new();
        performative.encode(&mut buf);
        buf.extend_from_slice(&payload);
        let mut reader = Reader::new(&buf);
        prop_assert_eq!(Performative::decode(&mut reader).unwrap(), performative);
        prop_assert_eq!(reader.rest(), &payload[..]);
    }

    #[test]
    fn symbolic_and_full_width_descriptors_are_the_same(performative in strategies::performative()) {
        let mut buf = BytesMut::new();
        performative.encode(&mut buf);
        // All begin with 00 53 xx.
        let names = [
            "open", "begin", "attach", "flow", "transfer", "disposition", "detach", "end", "close",
        ];
        let name = format!("amqp:{}:list", names[usize::from(buf[2] - 0x10)]);
        let mut symbolic = vec![0x00, 0xa3, u8::try_from(name.len()).unwrap()];
        symbolic.extend_from_slice(name.as_bytes());
        symbolic.extend_from_slice(&buf[3..]);
        prop_assert_eq!(&Performative::decode(&mut Reader::new(&symbolic)).unwrap(), &performative);
        let mut wide = vec![0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, buf[2]];
        wide.extend_from_slice(&buf[3..]);
        prop_assert_eq!(Performative::decode(&mut Reader::new(&wide)).unwrap(), performative);
    }
}

#[test]
fn sasl_frames() {
    let secret = Bytes::from_static(b"\0user\0secret");
    for frame in [
        SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: vec!["PLAIN".into(), "EXTERNAL".into()] }),
        SaslFrame::Init(SaslInit { mechanism: "PLAIN".into(), initial_response: Some(secret.clone()), hostname: None }),
        SaslFrame::Challenge(SaslChallenge { challenge: secret.clone() }),
        SaslFrame::Response(SaslResponse { response: secret }),
        SaslFrame::Outcome(SaslOutcome { code: SaslCode::SysTemp, additional_data: None }),
    ] {
        let mut buf = BytesMut::new();
        frame.encode(&mut buf);
        assert_eq!(SaslFrame::decode(&mut Reader::new(&buf)).unwrap(), frame);
    }
}

#[test]
fn not_a_number_keeps_its_bits() {
    let bits = 0x7fc0_1234;
    let Value::Float(back) = decode(&encode(&Value::Float(f32::from_bits(bits)))) else { panic!() };
    assert_eq!(back.to_bits(), bits);
    let bits = 0x7ff8_0000_dead_beef;
    let Value::Double(back) = decode(&encode(&Value::Double(f64::from_bits(bits)))) else { panic!() };
    assert_eq!(back.to_bits(), bits);
}

/// The examples of the standard, and each wider form of what we write short.
#[test]
fn every_form_of_a_type_is_read() {
    let cases: &[(&[u8], Value)] = &[
        (&[0x56, 0x01], Value::Bool(true)),
        (&[0x56, 0x00], Value::Bool(false)),
        (&[0x43], Value::UInt(0)),
        (&[0x52, 7], Value::UInt(7)),
        (&[0x70, 0, 0, 0, 7], Value::UInt(7)),
        (&[0x44], Value::ULong(0)),
        (&[0x53, 7], Value::ULong(7)),
        (&[0x80, 0, 0, 0, 0, 0, 0, 0, 7], Value::ULong(7)),
        (&[0x54, 0xff], Value::Int(-1)),
        (&[0x71, 0xff, 0xff, 0xff, 0xff], Value::Int(-1)),
        (&[0x55, 0xff], Value::Long(-1)),
        (&[0xb0, 0, 0, 0, 1, 9], Value::Binary(Bytes::from_static(&[9]))),
        (&[0xb1, 0, 0, 0, 1, b'x'], "x".into()),
        (&[0xb3, 0, 0, 0, 1, b'x'], Value::Symbol("x".into())),
        (&[0x45], Value::List(Vec::new())),
        (&[0xc0, 1, 0], Value::List(Vec::new())),
        (&[0xd0, 0, 0, 0, 4, 0, 0, 0, 0], Value::List(Vec::new())),
        (&[0xd0, 0, 0, 0, 5, 0, 0, 0, 1, 0x40], Value::List(vec![Value::Null])),
        (&[0xc1, 1, 0], Value::Map(Map::new())),
        (&[0xd1, 0, 0, 0, 4, 0, 0, 0, 0], Value::Map(Map::new())),
        (&[0xe0, 4, 2, 0x50, 1, 2], array(vec![Value::UByte(1), Value::UByte(2)])),
        (&[0xf0, 0, 0, 0, 7, 0, 0, 0, 2, 0x50, 1, 2], array(vec![Value::UByte(1), Value::UByte(2)])),
        (&[0xe0, 2, 3, 0x41], array(vec![Value::Bool(true), Value::Bool(true), Value::Bool(true)])),
        (&[0xe0, 2, 0, 0xa3], array(Vec::new())),
    ];
    for (bytes, value) in cases {
        assert_eq!(&decode(bytes), value, "{bytes:02x?}");
    }
}

fn array(items: Vec<Value>) -> Value {
    Value::Array(Array::new(items).unwrap())
}

#[test]
fn arrays_are_of_one_type() {
    assert!(Array::new(vec![Value::Int(1), Value::Long(1)]).is_err());
    assert!(Array::new(vec![Value::Bool(true), Value::Bool(false)]).is_ok());
}

#[test]
fn missing_trailing_fields_have_their_defaults() {
    // open with a container id and nothing else, as list8
    let bytes = [0x00, 0x53, 0x10, 0xc0, 0x04, 0x01, 0xa1, 0x01, b'c'];
    let Performative::Open(open) = Performative::decode(&mut Reader::new(&bytes)).unwrap() else { panic!() };
    assert_eq!((open.container_id.as_str(), open.max_frame_size, open.channel_max), ("c", u32::MAX, u16::MAX));
    // close and end as list0
    for (code, _) in [(0x17, "end"), (0x18, "close")] {
        Performative::decode(&mut Reader::new(&[0x00, 0x53, code, 0x45])).unwrap();
    }
    // an open without one
    assert!(Performative::decode(&mut Reader::new(&[0x00, 0x53, 0x10, 0x45])).is_err());
    // fields we don't know are passed over
    let bytes = [0x00, 0x53, 0x18, 0xc0, 0x04, 0x03, 0x40, 0x41, 0x40];
    Performative::decode(&mut Reader::new(&bytes)).unwrap();
}

#[test]
fn a_single_symbol_stands_for_an_array_of_one() {
    let mut buf = BytesMut::new();
    Writer::new(&mut buf).symbol("PLAIN");
    assert_eq!(Reader::new(&buf).symbols().unwrap(), [Symbol::from_static("PLAIN")]);
}

/// There are clients that index fields by position.
#[test]
fn all_fields_are_written() {
    for (performative, fields) in [
        (Performative::Open(Box::new(weir_amqp::performative::Open::new("c"))), 10),
        (Performative::Attach(Box::new(weir_amqp::performative::Attach::receiver("n", "a"))), 14),
        (Performative::Close(weir_amqp::performative::Close { error: None }), 1),
    ] {
        let mut buf = BytesMut::new();
        performative.encode(&mut buf);
        assert_eq!(Reader::new(&buf[3..]).list().unwrap().count, fields);
    }
}
