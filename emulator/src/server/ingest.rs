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
    #[error("a message section 0x{0:02x} stands where the standard does not allow it")]
    Order(u64),
    #[error("a message must have a body")]
    NoBody,
    #[error("a batch holds encoded messages in data sections and nothing else")]
    NotABatch,
}

/// The message format of a batch.
pub(crate) const BATCH_FORMAT: u32 = 0x8001_3700;

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
        let repeats = matches!(section, DATA | SEQUENCE) && section == last;
        let bodies = (DATA..=VALUE).contains(&section);
        if !(HEADER..=FOOTER).contains(&section) || (section <= last && !repeats) || (bodies && body != 0 && !repeats) {
            return Err(BadMessage::Order(section));
        }
        if bodies {
            body = section;
        }
        if section == MESSAGE_ANNOTATIONS {
            annotations(&mut reader, &mut event)?;
        } else {
            reader.skip()?;
        }
        let at = payload.len() - reader.rest().len();
        match section {
            HEADER | DELIVERY_ANNOTATIONS => (head_end, tail_start) = (at, at),
            MESSAGE_ANNOTATIONS => tail_start = at,
            _ => {}
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
    match reader.descriptor()? {
        Descriptor::Code(code) => Ok(code),
        Descriptor::Symbol(name) => Ok(match name {
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
        }),
        Descriptor::Other => Err(BadMessage::Order(u64::MAX)),
    }
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
