//! A transfer's payload → the parts of each event that the log keeps.
//!
//! Only the outline is read: where the sections are, and the annotations. What a producer put into properties or a body
//! goes through byte for byte, whatever its type; it has been checked only to fit into its section.

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use weir_amqp::wire::{DecodeError, Descriptor, Reader, ValueRef};

use crate::model::{Incoming, SYSTEM_ANNOTATIONS};

/// Why a payload is no event.
#[derive(Clone, Debug, Error)]
pub(crate) enum BadMessage {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a message can't have this section 0x{0:02x}: it is unknown, or there already, or there is another body")]
    Section(u64),
    #[error("a message must have a body")]
    NoBody,
    #[error("a batch holds encoded messages in data sections and nothing else")]
    NotABatch,
}

const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// One message.
pub(crate) fn event(payload: &Bytes) -> Result<Incoming, BadMessage> {
    let mut reader = Reader::new(payload);
    let mut event = Incoming::default();
    // Where the sections before and after the message annotations begin and end.
    let (mut head_end, mut tail_start) = (0, 0);
    let (mut last, mut body) = (0, 0);
    while !reader.is_empty() {
        let section = section(&mut reader)?;
        if section < last {
            return self::event(&in_order(payload)?);
        }
        let is_body = (DATA..=VALUE).contains(&section);
        if (section == last && !matches!(section, DATA | SEQUENCE)) || (is_body && body != 0 && body != section) {
            return Err(BadMessage::Section(section));
        }
        if is_body {
            body = section;
        }
        if section == MESSAGE_ANNOTATIONS {
            annotations(&mut reader, &mut event)?;
        } else {
            reader.skip()?;
        }
        let at = payload.len() - reader.rest().len();
        if section <= MESSAGE_ANNOTATIONS {
            tail_start = at;
        }
        if section < MESSAGE_ANNOTATIONS {
            head_end = at;
        }
        last = section;
    }
    if body == 0 {
        return Err(BadMessage::NoBody);
    }
    event.head = payload.slice(..head_end);
    event.tail = payload.slice(tail_start..);
    Ok(event)
}

/// The same message with its sections in the order of the standard. The Python client writes delivery annotations last.
fn in_order(payload: &Bytes) -> Result<Bytes, BadMessage> {
    let mut reader = Reader::new(payload);
    let mut sections = Vec::new();
    while !reader.is_empty() {
        let start = reader.rest();
        let section = section(&mut reader)?;
        reader.skip()?;
        sections.push((section, &start[..start.len() - reader.rest().len()]));
    }
    sections.sort_by_key(|(section, _)| *section);
    Ok(sections.iter().flat_map(|(_, bytes)| *bytes).copied().collect())
}

/// A batch: a message whose data sections are messages. Returns its key, which events without one inherit.
pub(crate) fn batch(payload: &Bytes) -> Result<(Option<String>, Vec<Incoming>), BadMessage> {
    let mut reader = Reader::new(payload);
    let mut envelope = Incoming::default();
    let mut events = Vec::new();
    while !reader.is_empty() {
        match section(&mut reader)? {
            MESSAGE_ANNOTATIONS => annotations(&mut reader, &mut envelope)?,
            DATA => events.push(event(&payload.slice_ref(reader.binary()?))?),
            SEQUENCE | VALUE => return Err(BadMessage::NotABatch),
            _ => reader.skip()?,
        }
    }
    for event in &mut events {
        if event.key.is_none() {
            event.key.clone_from(&envelope.key);
        }
    }
    Ok((envelope.key, events))
}

fn section(reader: &mut Reader<'_>) -> Result<u64, BadMessage> {
    let code = match reader.descriptor()? {
        Descriptor::Code(code) => code,
        Descriptor::Symbol(name) => match name {
            "amqp:header:list" => HEADER,
            "amqp:delivery-annotations:map" => DELIVERY_ANNOTATIONS,
            "amqp:message-annotations:map" => MESSAGE_ANNOTATIONS,
            "amqp:properties:list" => 0x73,
            "amqp:application-properties:map" => 0x74,
            "amqp:data:binary" => DATA,
            "amqp:amqp-sequence:list" => SEQUENCE,
            "amqp:amqp-value:*" => VALUE,
            "amqp:footer:map" => FOOTER,
            _ => u64::MAX,
        },
        Descriptor::Other => u64::MAX,
    };
    if (HEADER..=FOOTER).contains(&code) { Ok(code) } else { Err(BadMessage::Section(code)) }
}

/// Takes the partition key, and the producer's own annotations as they are encoded.
fn annotations(reader: &mut Reader<'_>, event: &mut Incoming) -> Result<(), BadMessage> {
    let mut entries = reader.map()?.items;
    let mut own = BytesMut::new();
    while !entries.is_empty() {
        let pair = entries.rest();
        let key = ValueRef::read(&mut entries)?;
        let value = entries.raw()?;
        let pair = &pair[..pair.len() - entries.rest().len()];
        match key {
            ValueRef::Symbol(name) | ValueRef::Str(name) if SYSTEM_ANNOTATIONS.contains(&name) => {
                if name == "x-opt-partition-key" {
                    event.key = text(ValueRef::read(&mut value.reader())?);
                }
            }
            _ => {
                own.extend_from_slice(pair);
                event.annotation_items += 2;
            }
        }
    }
    event.annotations = own.freeze();
    Ok(())
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Str(text) | ValueRef::Symbol(text) => Some(text.to_owned()),
        ValueRef::Binary(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const PROPERTIES: &[u8] = &[0x00, 0x53, 0x73, 0x45];
    const BODY: &[u8] = &[0x00, 0x53, 0x75, 0xa0, 1, b'x'];
    const VALUE_BODY: &[u8] = &[0x00, 0x53, 0x77, 0x40];
    const HEADER_SECTION: &[u8] = &[0x00, 0x53, 0x70, 0x45];
    const DELIVERY: &[u8] = &[0x00, 0x53, 0x71, 0xc1, 1, 0];

    fn own(key: &str, value: &str) -> Vec<u8> {
        let mut map = vec![0xa3, key.len() as u8];
        map.extend_from_slice(key.as_bytes());
        map.extend_from_slice(&[0xa1, value.len() as u8]);
        map.extend_from_slice(value.as_bytes());
        let mut section = vec![0x00, 0x53, 0x72, 0xc1, map.len() as u8 + 1, 2];
        section.append(&mut map);
        section
    }

    fn message(sections: &[&[u8]]) -> Bytes {
        sections.concat().into()
    }

    #[test]
    fn what_stands_around_the_annotations_is_kept_as_it_is() {
        let event = event(&message(&[HEADER_SECTION, DELIVERY, &own("mine", "1"), PROPERTIES, BODY, BODY])).unwrap();
        assert_eq!(event.head, [HEADER_SECTION, DELIVERY].concat());
        assert_eq!(event.tail, [PROPERTIES, BODY, BODY].concat());
        assert_eq!((event.annotations.as_ref(), event.annotation_items), (&own("mine", "1")[6..], 2));
        assert_eq!(event.key, None);
    }

    #[test]
    fn the_key_is_taken_and_stale_system_annotations_go() {
        let keyed = event(&message(&[&own("x-opt-partition-key", "UA"), BODY])).unwrap();
        assert_eq!((keyed.key.as_deref(), keyed.annotation_items), (Some("UA"), 0));
        let forwarded = event(&message(&[&own("x-opt-offset", "7"), BODY])).unwrap();
        assert_eq!((forwarded.key, forwarded.annotation_items), (None, 0));
    }

    #[test]
    fn sections_out_of_order_are_put_right() {
        let event = event(&message(&[PROPERTIES, BODY, DELIVERY])).unwrap();
        assert_eq!(event.head, DELIVERY);
        assert_eq!(event.tail, [PROPERTIES, BODY].concat());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(matches!(event(&message(&[])), Err(BadMessage::NoBody)));
        assert!(matches!(event(&message(&[PROPERTIES])), Err(BadMessage::NoBody)));
        assert!(matches!(event(&message(&[BODY, VALUE_BODY])), Err(BadMessage::Section(VALUE))));
        assert!(matches!(event(&message(&[VALUE_BODY, VALUE_BODY])), Err(BadMessage::Section(VALUE))));
        assert!(matches!(event(&message(&[BODY, PROPERTIES, BODY, PROPERTIES])), Err(BadMessage::Section(0x73))));
        assert!(matches!(event(&message(&[&[0x00, 0x53, 0x79, 0x40], BODY])), Err(BadMessage::Section(0x79))));
        assert!(matches!(event(&Bytes::from_static(b"\x00\x53\x75\xa0\xff")), Err(BadMessage::Decode(_))));
    }

    #[test]
    fn events_of_a_batch_inherit_its_key() {
        let inner = message(&[BODY]);
        let mut data = vec![0x00, 0x53, 0x75, 0xa0, inner.len() as u8];
        data.extend_from_slice(&inner);
        let (key, events) = batch(&message(&[&own("x-opt-partition-key", "UA"), &data, &data])).unwrap();
        assert_eq!(key.as_deref(), Some("UA"));
        assert_eq!(events.iter().map(|event| event.key.as_deref()).collect::<Vec<_>>(), [Some("UA"), Some("UA")]);
        assert!(matches!(batch(&message(&[VALUE_BODY])), Err(BadMessage::NotABatch)));
        assert!(batch(&message(&[])).unwrap().1.is_empty());
    }
}
