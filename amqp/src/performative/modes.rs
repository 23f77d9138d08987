use super::Field;
use crate::wire::{DecodeError, Reader, Writer};

/// Which end of a link something speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that sends transfers.
    Sender,
    /// The end that receives them.
    Receiver,
}

impl Role {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl Field for Role {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if reader.boolean()? { Self::Receiver } else { Self::Sender })
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.boolean(*self == Self::Receiver);
    }
}

/// Whether a sender waits for the receiver's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenderSettleMode {
    /// Every delivery stays unsettled until the receiver said what became of it.
    Unsettled,
    /// Every delivery is settled when it is sent.
    Settled,
    /// The sender decides for each delivery.
    #[default]
    Mixed,
}

impl Field for SenderSettleMode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.ubyte()? {
            0 => Ok(Self::Unsettled),
            1 => Ok(Self::Settled),
            2 => Ok(Self::Mixed),
            _ => Err(DecodeError::Range { what: "snd-settle-mode" }),
        }
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.ubyte(*self as u8);
    }
}

/// When a receiver settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReceiverSettleMode {
    /// At once, with its outcome.
    #[default]
    First,
    /// After the sender settled.
    Second,
}

impl Field for ReceiverSettleMode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.ubyte()? {
            0 => Ok(Self::First),
            1 => Ok(Self::Second),
            _ => Err(DecodeError::Range { what: "rcv-settle-mode" }),
        }
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.ubyte(*self as u8);
    }
}
