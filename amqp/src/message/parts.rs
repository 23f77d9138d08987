//! Messages from parts, and back into parts.

use bytes::{Bytes, BytesMut};

use super::{BodyKind, Message, OwnedProperties, Section};
use crate::performative::{Composite, composite::composite};
use crate::wire::{DecodeError, Map, Reader, Value, ValueRef, Writer};

composite! {
    /// The header section.
    #[derive(Default)]
    pub struct Header = 0x70 "amqp:header:list" {
        /// Whether the message survives a broker's restart.
        durable: bool = false,
        /// Higher first; the standard's default is 4.
        priority: Option<u8>,
        /// Milliseconds for which it is of use.
        ttl: Option<u32>,
        /// Nobody had it before.
        first_acquirer: bool = false,
        /// Failed attempts so far.
        delivery_count: u32 = 0,
    }
}

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// Data sections.
    Data(Vec<Bytes>),
    /// Sequences.
    Sequence(Vec<Vec<Value>>),
    /// One value.
    Value(Value),
}

/// A whole message, owned. Empty parts are left out of its encoding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MessageParts {
    /// Durability, priority, time to live.
    pub header: Option<Header>,
    /// For the next hop.
    pub delivery_annotations: Map,
    /// For brokers along the way.
    pub message_annotations: Map,
    /// The standard's properties.
    pub properties: OwnedProperties,
    /// The application's.
    pub application_properties: Map,
    /// The body.
    pub body: Body,
    /// Hashes, signatures.
    pub footer: Map,
}

impl MessageParts {
    /// A message with one data section.
    pub fn data(body: impl Into<Bytes>) -> Self {
        Self { body: Body::Data(vec![body.into()]), ..Self::default() }
    }

    /// A message with a value.
    pub fn value(body: impl Into<Value>) -> Self {
        Self { body: Body::Value(body.into()), ..Self::default() }
    }

    /// The encoded message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut buf = BytesMut::new();
        self.encode_to(&mut buf);
        buf.freeze()
    }

    /// Appends the encoded message.
    pub fn encode_to(&self, buf: &mut BytesMut) {
        let w = &mut Writer::new(buf);
        if let Some(header) = &self.header {
            header.write(w);
        }
        map_section(w, Section::DeliveryAnnotations, &self.delivery_annotations);
        map_section(w, Section::MessageAnnotations, &self.message_annotations);
        if !self.properties.is_empty() {
            self.properties.write(w);
        }
        map_section(w, Section::ApplicationProperties, &self.application_properties);
        match &self.body {
            Body::Empty => {}
            Body::Data(sections) => {
                for data in sections {
                    w.descriptor(Section::Data.code());
                    w.binary(data);
                }
            }
            Body::Sequence(sections) => {
                for items in sections {
                    w.descriptor(Section::Sequence.code());
                    let mark = w.begin_list();
                    for item in items {
                        item.encode(w);
                    }
                    w.end_list(mark, items.len());
                }
            }
            Body::Value(value) => {
                w.descriptor(Section::Value.code());
                value.encode(w);
            }
        }
        map_section(w, Section::Footer, &self.footer);
    }
}

fn map_section(w: &mut Writer<'_>, section: Section, map: &Map) {
    if !map.is_empty() {
        w.descriptor(section.code());
        map.encode(w);
    }
}

/// Appends a section of annotations with symbols as keys: what a broker writes in front of a message's [`tail`](Message::tail).
pub fn encode_annotations<'a>(
    buf: &mut BytesMut,
    section: Section,
    entries: impl IntoIterator<Item = (&'a str, ValueRef<'a>)>,
) {
    let w = &mut Writer::new(buf);
    w.descriptor(section.code());
    let mark = w.begin_map();
    let mut count = 0;
    for (key, value) in entries {
        w.symbol(key);
        w.value_ref(value);
        count += 2;
    }
    w.end_map(mark, count);
}

/// Appends what stands before the bytes of a data section, so that the bytes themselves need not be copied behind it.
pub fn encode_data_header(buf: &mut BytesMut, len: usize) {
    let w = &mut Writer::new(buf);
    w.descriptor(Section::Data.code());
    w.binary_header(len);
}

impl Message {
    /// Decodes everything.
    ///
    /// # Errors
    /// If a section is not valid.
    pub fn to_parts(&self) -> Result<MessageParts, DecodeError> {
        let map = |entries: Option<super::Entries<'_>>| entries.map_or(Ok(Map::new()), |e| e.to_map());
        let body = match self.body_kind() {
            BodyKind::Empty => Body::Empty,
            BodyKind::Data => Body::Data(self.data().collect::<Result<_, _>>()?),
            BodyKind::Sequence => Body::Sequence(
                self.body_sections()
                    .map(|section| match section?.to_value()? {
                        Value::List(items) => Ok(items),
                        _ => Err(DecodeError::Unexpected { expected: "a list", code: 0 }),
                    })
                    .collect::<Result<_, _>>()?,
            ),
            BodyKind::Value => Body::Value(match self.body_value()? {
                Some(value) => value.to_value()?,
                None => Value::Null,
            }),
        };
        Ok(MessageParts {
            header: self.header()?,
            delivery_annotations: map(self.delivery_annotations())?,
            message_annotations: map(self.message_annotations())?,
            properties: self.owned_properties()?,
            application_properties: map(self.application_properties())?,
            body,
            footer: map(self.footer())?,
        })
    }

    fn owned_properties(&self) -> Result<OwnedProperties, DecodeError> {
        match self.properties_encoded() {
            Some(bytes) => OwnedProperties::decode_fields(&mut Reader::new(bytes)),
            None => Ok(OwnedProperties::default()),
        }
    }
}
