//! The standard's properties (part 3.2.4), borrowed and owned.

use bytes::Bytes;

use crate::performative::{Fields, composite::composite};
use crate::wire::{DecodeError, Reader, Symbol, Value, ValueRef};

composite! {
    /// The properties section, owned.
    #[derive(Default)]
    pub struct OwnedProperties = 0x73 "amqp:properties:list" {
        /// The message's id: a ulong, UUID, binary or string.
        message_id: Option<Value>,
        /// Who sent it.
        user_id: Option<Bytes>,
        /// Where it goes.
        to: Option<String>,
        /// What it is about.
        subject: Option<String>,
        /// Where answers go.
        reply_to: Option<String>,
        /// The id of the message it answers, usually.
        correlation_id: Option<Value>,
        /// The MIME type of the body's data.
        content_type: Option<Symbol>,
        /// Its encoding, such as `gzip`.
        content_encoding: Option<Symbol>,
        /// When it is no longer of use.
        absolute_expiry_time: Option<Timestamp>,
        /// When it was made.
        creation_time: Option<Timestamp>,
        /// Its group.
        group_id: Option<String>,
        /// Its place in the group.
        group_sequence: Option<u32>,
        /// The group for answers.
        reply_to_group_id: Option<String>,
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl crate::performative::Field for Timestamp {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.timestamp().map(Self)
    }
    fn encode(&self, w: &mut crate::wire::Writer<'_>) {
        w.timestamp(self.0);
    }
}

/// The properties section, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is documented at its owned twin")]
pub struct Properties<'a> {
    pub message_id: Option<ValueRef<'a>>,
    pub user_id: Option<&'a [u8]>,
    pub to: Option<&'a str>,
    pub subject: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    pub correlation_id: Option<ValueRef<'a>>,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub absolute_expiry_time: Option<i64>,
    pub creation_time: Option<i64>,
    pub group_id: Option<&'a str>,
    pub group_sequence: Option<u32>,
    pub reply_to_group_id: Option<&'a str>,
}

impl<'a> Properties<'a> {
    /// Reads the list behind the section's descriptor.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(&mut Reader::new(bytes))?;
        let properties = Self {
            message_id: fields.next()?.map(ValueRef::read).transpose()?,
            user_id: fields.next()?.map(Reader::binary).transpose()?,
            to: fields.next()?.map(Reader::text).transpose()?,
            subject: fields.next()?.map(Reader::text).transpose()?,
            reply_to: fields.next()?.map(Reader::text).transpose()?,
            correlation_id: fields.next()?.map(ValueRef::read).transpose()?,
            content_type: fields.next()?.map(Reader::text).transpose()?,
            content_encoding: fields.next()?.map(Reader::text).transpose()?,
            absolute_expiry_time: fields.next()?.map(Reader::timestamp).transpose()?,
            creation_time: fields.next()?.map(Reader::timestamp).transpose()?,
            group_id: fields.next()?.map(Reader::text).transpose()?,
            group_sequence: fields.next()?.map(Reader::uint).transpose()?,
            reply_to_group_id: fields.next()?.map(Reader::text).transpose()?,
        };
        fields.finish()?;
        Ok(properties)
    }
}

impl OwnedProperties {
    /// Whether no property is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
