//! The performative on the path of every event.

use std::fmt;
use std::ops::Deref;

use thiserror::Error;

use super::composite::composite;
use super::{DeliveryState, ReceiverSettleMode};

composite! {
    /// Carries a delivery, or a piece of one, as the payload behind it.
    pub struct Transfer = 0x14 "amqp:transfer:list" {
        /// The link.
        handle: u32,
        /// The delivery's id in the session. May be missing after the first piece.
        delivery_id: Option<u32>,
        /// The delivery's tag on the link. May be missing after the first piece.
        delivery_tag: Option<DeliveryTag>,
        /// How the message is encoded. May be missing after the first piece.
        message_format: Option<u32>,
        /// Whether the sender has forgotten it already. May be missing after the first piece.
        settled: Option<bool>,
        /// Whether more pieces follow.
        more: bool = false,
        /// How the receiver settles this one.
        rcv_settle_mode: Option<ReceiverSettleMode>,
        /// The delivery's state at the sender.
        state: Option<DeliveryState>,
        /// Whether the delivery goes on from an earlier life of the link.
        resume: bool = false,
        /// The sender gives the delivery up; what came of it is void.
        aborted: bool = false,
        /// The answer may wait for others.
        batchable: bool = false,
    }
}

/// A delivery tag: up to 32 bytes, kept inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryTag {
    len: u8,
    bytes: [u8; Self::MAX],
}

/// The standard limits a delivery tag to 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a delivery tag has at most 32 bytes")]
pub struct TagTooLong;

impl DeliveryTag {
    /// The longest tag, in bytes.
    pub const MAX: usize = 32;

    /// A tag of these bytes.
    ///
    /// # Errors
    /// If there are more than 32.
    #[inline]
    pub fn new(tag: &[u8]) -> Result<Self, TagTooLong> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..tag.len()).ok_or(TagTooLong)?.copy_from_slice(tag);
        Ok(Self { len: u8::try_from(tag.len()).map_err(|_| TagTooLong)?, bytes })
    }
}

impl From<u32> for DeliveryTag {
    fn from(n: u32) -> Self {
        let mut bytes = [0; Self::MAX];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Self { len: 4, bytes }
    }
}

impl Default for DeliveryTag {
    fn default() -> Self {
        Self { len: 0, bytes: [0; Self::MAX] }
    }
}

impl Deref for DeliveryTag {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", &**self)
    }
}
