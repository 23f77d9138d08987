//! Bytes and texts of many events or outputs in few allocations.
//!
//! What comes in one batch goes in one batch, mostly on another thread: an allocation for each body would be made here, freed
//! there, and cost more than the copy. Pieces share their block's memory, and the block is freed with its last piece. So nothing
//! that outlives its batch by long may keep a piece.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

/// Bytes of a block: some dozens of events of usual size, and little to keep for the one that is left.
const BLOCK: usize = 64 * 1024;

/// Where pieces are copied to.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    block: BytesMut,
}

impl Arena {
    /// With room for so many bytes, in a block of just that size.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { block: BytesMut::with_capacity(bytes) }
    }

    /// A copy of these bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(BLOCK.max(bytes.len()));
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }

    /// A copy of this text.
    pub(crate) fn text(&mut self, text: &str) -> ByteString {
        // What was text is text; if it were not, it would be copied once more.
        ByteString::try_from(self.bytes(text.as_bytes())).unwrap_or_else(|_| text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_was_put_in_and_share_blocks() {
        let mut arena = Arena::default();
        let (one, two) = (arena.text("eins"), arena.bytes(b"zwei"));
        assert_eq!((&*one, &*two), ("eins", b"zwei".as_slice()));
        let distance = two.as_ptr() as usize - one.as_bytes().as_ptr() as usize;
        assert_eq!(distance, 4, "one behind the other");
        let large = vec![7; BLOCK + 1];
        assert_eq!(arena.bytes(&large), large);
        assert_eq!((arena.bytes(b"").len(), &*arena.text("ä")), (0, "ä"));
        assert_eq!(&*two, b"zwei");
    }
}
