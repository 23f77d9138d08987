//! The performatives (part 2 of the standard), SASL (part 5), and the composite types inside them (parts 2 and 3).
//!
//! All of them are written with *every* field, nulls included: there are clients that index fields by position. All of them are read
//! leniently where the standard allows it: missing trailing fields, every list form, numeric and symbolic descriptors.

pub(crate) mod composite;
pub mod condition;
mod connection;
mod delivery;
mod error;
mod field;
mod link;
mod modes;
mod sasl;
mod terminus;
mod transfer;

use bytes::BytesMut;

use crate::wire::{DecodeError, Reader, Writer};

pub(crate) use composite::{Composite, Fields, identify};
pub use connection::{Begin, Close, End, Open};
pub use delivery::{DeliveryState, Modified, Received};
pub use error::AmqpError;
pub(crate) use field::Field;
pub use link::{Attach, Detach, Disposition, Flow};
pub use modes::{ReceiverSettleMode, Role, SenderSettleMode};
pub use sasl::{SaslChallenge, SaslCode, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SaslResponse};
pub use terminus::{Source, Target};
pub use transfer::{DeliveryTag, TagTooLong, Transfer};

/// Any performative of an AMQP frame. The rare large ones are boxed, so that a transfer stays cheap to move.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
#[allow(clippy::large_enum_variant, reason = "the large variant is the transfer, which is the common one")]
pub enum Performative {
    Open(Box<Open>),
    Begin(Box<Begin>),
    Attach(Box<Attach>),
    Flow(Box<Flow>),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End(End),
    Close(Close),
}

impl Performative {
    /// Reads the performative at the start of a frame body and leaves the reader at the payload behind it.
    ///
    /// # Errors
    /// If it is none of the nine, or not valid.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = identify(reader, "a performative", |name| {
            Some(match name {
                Open::NAME => Open::CODE,
                Begin::NAME => Begin::CODE,
                Attach::NAME => Attach::CODE,
                Flow::NAME => Flow::CODE,
                Transfer::NAME => Transfer::CODE,
                Disposition::NAME => Disposition::CODE,
                Detach::NAME => Detach::CODE,
                End::NAME => End::CODE,
                Close::NAME => Close::CODE,
                _ => return None,
            })
        })?;
        Ok(match code {
            Transfer::CODE => Self::Transfer(Transfer::decode_fields(reader)?),
            Flow::CODE => Self::Flow(Box::new(Flow::decode_fields(reader)?)),
            Disposition::CODE => Self::Disposition(Disposition::decode_fields(reader)?),
            Open::CODE => Self::Open(Box::new(Open::decode_fields(reader)?)),
            Begin::CODE => Self::Begin(Box::new(Begin::decode_fields(reader)?)),
            Attach::CODE => Self::Attach(Box::new(Attach::decode_fields(reader)?)),
            Detach::CODE => Self::Detach(Detach::decode_fields(reader)?),
            End::CODE => Self::End(End::decode_fields(reader)?),
            Close::CODE => Self::Close(Close::decode_fields(reader)?),
            descriptor => return Err(DecodeError::UnknownDescriptor { expected: "a performative", descriptor }),
        })
    }

    /// Appends it to a buffer.
    pub fn encode(&self, buf: &mut BytesMut) {
        let w = &mut Writer::new(buf);
        match self {
            Self::Open(p) => p.write(w),
            Self::Begin(p) => p.write(w),
            Self::Attach(p) => p.write(w),
            Self::Flow(p) => p.write(w),
            Self::Transfer(p) => p.write(w),
            Self::Disposition(p) => p.write(w),
            Self::Detach(p) => p.write(w),
            Self::End(p) => p.write(w),
            Self::Close(p) => p.write(w),
        }
    }
}
