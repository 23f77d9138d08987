//! Where the sections are.

use std::ops::Range;

use bytes::Bytes;

use super::{Entries, Header, Properties};
use crate::performative::Composite;
use crate::wire::{DecodeError, Descriptor, Reader, ValueRef};

/// The sections of a message by their descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Section {
    /// Durability, priority, time to live.
    Header = 0x70,
    /// For the next hop.
    DeliveryAnnotations = 0x71,
    /// For brokers along the way.
    MessageAnnotations = 0x72,
    /// The standard's properties.
    Properties = 0x73,
    /// The application's.
    ApplicationProperties = 0x74,
    /// A body of bytes; may repeat.
    Data = 0x75,
    /// A body of lists; may repeat.
    Sequence = 0x76,
    /// A body of one value.
    Value = 0x77,
    /// Hashes, signatures.
    Footer = 0x78,
}

impl Section {
    /// The numeric descriptor.
    #[must_use]
    pub const fn code(self) -> u64 {
        self as u64
    }

    fn identify(descriptor: Descriptor<'_>) -> Option<Self> {
        Some(match descriptor {
            Descriptor::Code(0x70) | Descriptor::Symbol("amqp:header:list") => Self::Header,
            Descriptor::Code(0x71) | Descriptor::Symbol("amqp:delivery-annotations:map") => Self::DeliveryAnnotations,
            Descriptor::Code(0x72) | Descriptor::Symbol("amqp:message-annotations:map") => Self::MessageAnnotations,
            Descriptor::Code(0x73) | Descriptor::Symbol("amqp:properties:list") => Self::Properties,
            Descriptor::Code(0x74) | Descriptor::Symbol("amqp:application-properties:map") => {
                Self::ApplicationProperties
            }
            Descriptor::Code(0x75) | Descriptor::Symbol("amqp:data:binary") => Self::Data,
            Descriptor::Code(0x76) | Descriptor::Symbol("amqp:amqp-sequence:list") => Self::Sequence,
            Descriptor::Code(0x77) | Descriptor::Symbol("amqp:amqp-value:*") => Self::Value,
            Descriptor::Code(0x78) | Descriptor::Symbol("amqp:footer:map") => Self::Footer,
            _ => return None,
        })
    }

    fn is_body(self) -> bool {
        matches!(self, Self::Data | Self::Sequence | Self::Value)
    }
}

/// What the body of a message consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none. The standard asks for one; producers leave it out all the same.
    Empty,
    /// One or several data sections.
    Data,
    /// One or several sequences.
    Sequence,
    /// One value.
    Value,
}

/// Ranges are those of a section's value, behind its descriptor.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// An encoded message and where its sections are.
#[derive(Debug, Clone)]
pub struct Message {
    raw: Bytes,
    header: Option<Span>,
    delivery_annotations: Option<Span>,
    message_annotations: Option<Span>,
    properties: Option<Span>,
    application_properties: Option<Span>,
    footer: Option<Span>,
    body_kind: BodyKind,
    /// From the first body section's descriptor to the end of the last one.
    body: Span,
    /// Where the first section behind the annotations begins.
    tail: u32,
}

impl Message {
    /// Finds the sections. They have to come in the standard's order; those of an unknown kind are skipped.
    ///
    /// # Errors
    /// If the outline is broken. What is inside sections is not looked at.
    pub fn parse(raw: Bytes) -> Result<Self, DecodeError> {
        // Positions are kept in 32 bits; a frame, and so a delivery, is smaller.
        let len = u32::try_from(raw.len()).map_err(|_| DecodeError::Range { what: "a message's size" })?;
        let mut message = Self {
            raw: Bytes::new(),
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            properties: None,
            application_properties: None,
            footer: None,
            body_kind: BodyKind::Empty,
            body: Span::default(),
            tail: len,
        };
        let mut reader = Reader::new(&raw);
        let position = |reader: &Reader<'_>| len - u32::try_from(reader.rest().len()).unwrap_or(len);
        let mut last = 0;
        while !reader.is_empty() {
            let begin = position(&reader);
            let section = Section::identify(reader.descriptor()?);
            let start = position(&reader);
            reader.skip()?;
            let Some(section) = section else { continue };
            let repeats = section.code() == last && matches!(section, Section::Data | Section::Sequence);
            let mixes = section.is_body() && message.body_kind != BodyKind::Empty;
            if !repeats && (section.code() <= last || mixes) {
                return Err(DecodeError::SectionOrder { section: section.code() });
            }
            last = section.code();
            let span = Span { start, end: position(&reader) };
            if section.code() >= Section::Properties.code() {
                message.tail = message.tail.min(begin);
            }
            match section {
                Section::Header => message.header = Some(span),
                Section::DeliveryAnnotations => message.delivery_annotations = Some(span),
                Section::MessageAnnotations => message.message_annotations = Some(span),
                Section::Properties => message.properties = Some(span),
                Section::ApplicationProperties => message.application_properties = Some(span),
                Section::Footer => message.footer = Some(span),
                Section::Data | Section::Sequence | Section::Value => {
                    if !repeats {
                        message.body.start = begin;
                    }
                    message.body.end = span.end;
                    message.body_kind = match section {
                        Section::Data => BodyKind::Data,
                        Section::Sequence => BodyKind::Sequence,
                        _ => BodyKind::Value,
                    };
                }
            }
        }
        message.raw = raw;
        Ok(message)
    }

    /// The encoded message.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.raw
    }

    fn bytes(&self, span: Span) -> &[u8] {
        &self.raw[span.range()]
    }

    fn entries(&self, span: Option<Span>) -> Option<Entries<'_>> {
        span.map(|span| Entries::new(self.bytes(span)))
    }

    /// The header.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn header(&self) -> Result<Option<Header>, DecodeError> {
        self.header.map(|span| Header::decode_fields(&mut Reader::new(self.bytes(span)))).transpose()
    }

    /// The annotations for this hop.
    #[must_use]
    pub fn delivery_annotations(&self) -> Option<Entries<'_>> {
        self.entries(self.delivery_annotations)
    }

    /// The annotations that brokers add: on Event Hubs, sequence number, offset, enqueued time and partition key.
    #[must_use]
    pub fn message_annotations(&self) -> Option<Entries<'_>> {
        self.entries(self.message_annotations)
    }

    /// The standard's properties.
    ///
    /// # Errors
    /// If they are not valid.
    pub fn properties(&self) -> Result<Option<Properties<'_>>, DecodeError> {
        self.properties.map(|span| Properties::decode(self.bytes(span))).transpose()
    }

    pub(crate) fn properties_encoded(&self) -> Option<&[u8]> {
        self.properties.map(|span| self.bytes(span))
    }

    /// The application's properties.
    #[must_use]
    pub fn application_properties(&self) -> Option<Entries<'_>> {
        self.entries(self.application_properties)
    }

    /// What follows the body.
    #[must_use]
    pub fn footer(&self) -> Option<Entries<'_>> {
        self.entries(self.footer)
    }

    /// What the body consists of.
    #[must_use]
    pub fn body_kind(&self) -> BodyKind {
        self.body_kind
    }

    /// The values of the body's sections in order: a binary for each data section, a list for each sequence, or the value.
    pub fn body_sections(&self) -> impl Iterator<Item = Result<ValueRef<'_>, DecodeError>> {
        let mut reader = Reader::new(self.bytes(self.body));
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed || reader.is_empty() {
                return None;
            }
            let value = next_body_section(&mut reader);
            failed = value.is_err();
            value.transpose()
        })
    }

    /// The bytes of each data section, as slices of the message. A section that holds no binary is an error.
    pub fn data(&self) -> impl Iterator<Item = Result<Bytes, DecodeError>> {
        let is_data = self.body_kind == BodyKind::Data;
        self.body_sections().filter(move |_| is_data).map(|section| match section? {
            ValueRef::Binary(bytes) => Ok(self.raw.slice_ref(bytes)),
            _ => Err(DecodeError::Unexpected { expected: "a binary", code: 0 }),
        })
    }

    /// The value of a value body.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn body_value(&self) -> Result<Option<ValueRef<'_>>, DecodeError> {
        if self.body_kind == BodyKind::Value { self.body_sections().next().transpose() } else { Ok(None) }
    }

    /// Everything from the properties on, as it came: what a broker passes through behind annotations of its own.
    #[must_use]
    pub fn tail(&self) -> Bytes {
        self.raw.slice(self.tail as usize..)
    }
}

/// The next known section's value; sections of an unknown kind are passed over.
fn next_body_section<'a>(reader: &mut Reader<'a>) -> Result<Option<ValueRef<'a>>, DecodeError> {
    while !reader.is_empty() {
        if Section::identify(reader.descriptor()?).is_some() {
            return ValueRef::read(reader).map(Some);
        }
        reader.skip()?;
    }
    Ok(None)
}
