//! Bytes made to break decoders: none may panic, overflow the stack, or allocate more than its size justifies.

use weir_amqp::performative::Performative;
use weir_amqp::wire::{DecodeError, MAX_DEPTH, Reader, Value};

fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    Value::decode(&mut Reader::new(bytes))
}

#[test]
fn counts_are_not_trusted() {
    // A list, a map and an array that claim 4 billion elements.
    for code in [0xd0, 0xd1, 0xf0] {
        let bytes = [code, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xfe, 0x40, 0x40, 0x40, 0x40];
        assert!(decode(&bytes).is_err(), "{code:#x}");
    }
    // An array of 4 billion elements of no width at all is consistent, and refused.
    for element in [0x40, 0x41, 0x43, 0x44, 0x45] {
        let bytes = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, element];
        assert_eq!(decode(&bytes), Err(DecodeError::TooManyElements { bytes: 10 }), "{element:#x}");
        assert_eq!(Reader::new(&bytes).skip(), Ok(()), "and skipped at no cost");
    }
    // Of symbols as well.
    let bytes = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xa3];
    assert!(Reader::new(&bytes).symbols().is_err());
}

#[test]
fn what_follows_a_value_buys_it_no_elements() {
    // 160 nulls in four bytes: too many by themselves, and so with anything behind them.
    let alone = vec![0xe0, 2, 160, 0x40];
    let followed = [&alone[..], &[0x40; 500]].concat();
    for bytes in [&alone, &followed] {
        assert_eq!(decode(bytes), Err(DecodeError::TooManyElements { bytes: 4 }));
    }
}

#[test]
fn described_arrays_do_not_multiply_their_descriptor() {
    // A long descriptor for 60,000 elements without width.
    let mut array = vec![0x00, 0xb1, 0, 0, 0x40, 0];
    array.extend(std::iter::repeat_n(b'x', 0x4000));
    array.push(0x40);
    let mut bytes = vec![0xf0];
    bytes.extend_from_slice(&u32::try_from(array.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(&60_000u32.to_be_bytes());
    bytes.extend_from_slice(&array);
    assert!(matches!(decode(&bytes), Err(DecodeError::TooManyElements { .. })));
}

/// `levels` lists, each in the one before.
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x40];
    for _ in 0..levels {
        let mut outer = vec![0xd0];
        outer.extend_from_slice(&u32::try_from(bytes.len() + 4).unwrap().to_be_bytes());
        outer.extend_from_slice(&1u32.to_be_bytes());
        outer.append(&mut bytes);
        bytes = outer;
    }
    bytes
}

#[test]
fn nesting_is_limited() {
    assert!(decode(&nested(usize::from(MAX_DEPTH))).is_ok());
    assert_eq!(decode(&nested(usize::from(MAX_DEPTH) + 1)), Err(DecodeError::TooDeep));
    assert_eq!(decode(&nested(5000)), Err(DecodeError::TooDeep));
    assert!(Reader::new(&nested(5000)).skip().is_ok(), "an outline has no depth");
}

#[test]
fn stacked_descriptors_are_limited() {
    let mut bytes = vec![0x00; 1 << 20];
    assert!(decode(&bytes).is_err());
    assert!(Reader::new(&bytes).skip().is_err());
    assert!(Performative::decode(&mut Reader::new(&bytes)).is_err());
    bytes.extend(vec![0x40; (1 << 20) + 1]);
    assert_eq!(decode(&bytes), Err(DecodeError::TooDeep));
    assert!(Reader::new(&bytes).skip().is_ok());
    // In the constructor of an array
    let mut array = vec![0xf0, 0, 16, 0, 0, 0, 0, 0, 1];
    array.extend([0x00, 0x40].repeat(1 << 19));
    assert!(decode(&array).is_err());
}

#[test]
fn sizes_are_checked_against_what_is_there() {
    for code in [0xa0, 0xa1, 0xa3, 0xc0, 0xc1, 0xe0] {
        assert!(decode(&[code, 255, 1, 2]).is_err());
    }
    for code in [0xb0, 0xb1, 0xb3, 0xd0, 0xd1, 0xf0] {
        assert!(decode(&[code, 255, 255, 255, 255, 1, 2]).is_err());
    }
    // An inner value that reaches beyond its list
    assert!(decode(&[0xc0, 3, 1, 0xa0, 200, 0, 0, 0, 0]).is_err());
    // A list whose content is longer than its elements
    assert_eq!(decode(&[0xc0, 3, 1, 0x40, 0x40]), Err(DecodeError::Count { what: "list" }));
    // A map with an odd count
    assert_eq!(decode(&[0xc1, 2, 1, 0x40]), Err(DecodeError::Count { what: "map" }));
}

#[test]
fn text_and_ranges_are_checked() {
    assert_eq!(decode(&[0xa1, 1, 0xff]), Err(DecodeError::Text { what: "string" }));
    assert_eq!(decode(&[0xa3, 2, 0xc3, 0xa4]), Err(DecodeError::Text { what: "symbol" }));
    assert_eq!(decode(&[0x73, 0, 0, 0xd8, 0]), Err(DecodeError::Text { what: "char" }));
    assert_eq!(decode(&[0x56, 2]), Err(DecodeError::Range { what: "a boolean" }));
    assert_eq!(decode(&[0x10]), Err(DecodeError::UnknownCode { code: 0x10 }));
    assert_eq!(decode(&[0x4f]), Err(DecodeError::UnknownCode { code: 0x4f }));
}

/// A message section of a million one-byte elements stays within the budget of owned trees, and can still be passed through.
#[test]
fn a_tree_has_a_limit_and_bytes_have_not() {
    let n = 1u32 << 20;
    let mut bytes = vec![0xd0];
    bytes.extend_from_slice(&(n + 4).to_be_bytes());
    bytes.extend_from_slice(&n.to_be_bytes());
    bytes.extend(std::iter::repeat_n(0x40, n as usize));
    assert!(matches!(decode(&bytes), Err(DecodeError::TooManyElements { .. })));
    assert!(Reader::new(&bytes).skip().is_ok());
}
