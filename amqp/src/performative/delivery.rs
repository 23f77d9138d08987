//! Delivery states and outcomes (part 3.4 of the standard).

use super::composite::composite;
use super::{AmqpError, Composite};
use crate::wire::{DecodeError, Described, Descriptor, Map, Reader, Value, Writer};

composite! {
    /// How far a receiver got with a delivery that it has not finished.
    pub struct Received = 0x23 "amqp:received:list" {
        /// The section.
        section_number: u32,
        /// The byte inside of it.
        section_offset: u64,
    }
}

composite! {
    /// The fields of the rejected outcome.
    struct RejectedFields = 0x25 "amqp:rejected:list" {
        /// Why.
        error: Option<AmqpError>,
    }
}

composite! {
    /// Not processed; to be changed as said before it is delivered again.
    pub struct Modified = 0x27 "amqp:modified:list" {
        /// Count it as a failed delivery.
        delivery_failed: bool = false,
        /// Don't deliver it here again.
        undeliverable_here: bool = false,
        /// To be merged into the message annotations.
        message_annotations: Map,
    }
}

const ACCEPTED: (u64, &str) = (0x24, "amqp:accepted:list");
const RELEASED: (u64, &str) = (0x26, "amqp:released:list");

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryState {
    /// Not finished yet.
    Received(Received),
    /// Processed.
    Accepted,
    /// Not valid.
    Rejected {
        /// Why.
        error: Option<AmqpError>,
    },
    /// Not processed; deliver it again, to anybody.
    Released,
    /// Not processed; deliver it again, changed.
    Modified(Modified),
    /// A state of an extension, such as a transaction's.
    Other(Box<Described>),
}

impl DeliveryState {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut inner = reader.descend()?;
        let code = match inner.descriptor()? {
            Descriptor::Code(code) => code,
            Descriptor::Symbol(name) => match name {
                Received::NAME => Received::CODE,
                RejectedFields::NAME => RejectedFields::CODE,
                Modified::NAME => Modified::CODE,
                _ if name == ACCEPTED.1 => ACCEPTED.0,
                _ if name == RELEASED.1 => RELEASED.0,
                _ => 0,
            },
            Descriptor::Other => 0,
        };
        let state = match code {
            0x24 => no_fields(&mut inner, Self::Accepted)?,
            0x26 => no_fields(&mut inner, Self::Released)?,
            Received::CODE => Self::Received(Received::decode_fields(&mut inner)?),
            RejectedFields::CODE => Self::Rejected { error: RejectedFields::decode_fields(&mut inner)?.error },
            Modified::CODE => Self::Modified(Modified::decode_fields(&mut inner)?),
            _ => {
                return match Value::decode(reader)? {
                    Value::Described(other) => Ok(Self::Other(other)),
                    _ => Err(DecodeError::Unexpected { expected: "a delivery state", code: 0 }),
                };
            }
        };
        reader.take(reader.rest().len() - inner.rest().len())?;
        Ok(state)
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Accepted => empty(w, ACCEPTED.0),
            Self::Released => empty(w, RELEASED.0),
            Self::Received(state) => state.write(w),
            Self::Rejected { error } => RejectedFields { error: error.clone() }.write(w),
            Self::Modified(state) => state.write(w),
            Self::Other(other) => {
                w.described();
                other.descriptor.encode(w);
                other.value.encode(w);
            }
        }
    }
}

fn no_fields(reader: &mut Reader<'_>, state: DeliveryState) -> Result<DeliveryState, DecodeError> {
    reader.list()?;
    Ok(state)
}

fn empty(w: &mut Writer<'_>, code: u64) {
    w.descriptor(code);
    let mark = w.begin_list();
    w.end_list(mark, 0);
}
