//! One block of a partition as it stands in a segment file.
//!
//! `checksum u32 | length u32 | first i64 | offset i64 | enqueued i64 | count u32 | ends u32 × count | data`, little
//! endian; the checksum (CRC-32) covers all that follows it, the length counts all that follows it.

use bytes::{Buf, Bytes};

use crate::model::Block;

const PREFIX: usize = 8;
const FIXED: usize = 8 + 8 + 8 + 4;

/// The record in front of the block's data; the data itself is written from where it is.
pub(super) fn head(block: &Block) -> Vec<u8> {
    let length = FIXED + 4 * block.ends.len() + block.data.len();
    let mut head = Vec::with_capacity(PREFIX + FIXED + 4 * block.ends.len());
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(&block.first.to_le_bytes());
    head.extend_from_slice(&block.offset.to_le_bytes());
    head.extend_from_slice(&block.enqueued_ms.to_le_bytes());
    head.extend_from_slice(&u32::try_from(block.ends.len()).unwrap_or(u32::MAX).to_le_bytes());
    for end in &block.ends {
        head.extend_from_slice(&end.to_le_bytes());
    }
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&head[4..]);
    checksum.update(&block.data);
    let checksum = checksum.finalize().to_le_bytes();
    head[..4].copy_from_slice(&checksum);
    head
}

/// Takes the next record off `rest`, which shares its memory with the block. The error says what is wrong with it.
pub(super) fn take(rest: &mut Bytes) -> Result<Block, &'static str> {
    if rest.len() < PREFIX {
        return Err("a record's first bytes are cut off");
    }
    let mut prefix = rest.slice(..PREFIX);
    let (checksum, length) = (prefix.get_u32_le(), prefix.get_u32_le() as usize);
    if length < FIXED {
        return Err("a record is too short");
    }
    if rest.len() - PREFIX < length {
        return Err("a record is cut off");
    }
    if crc32fast::hash(&rest[4..PREFIX + length]) != checksum {
        return Err("a record's checksum does not match");
    }
    let mut body = rest.slice(PREFIX..PREFIX + length);
    let (first, offset, enqueued_ms) = (body.get_i64_le(), body.get_i64_le(), body.get_i64_le());
    let count = body.get_u32_le() as usize;
    if body.len() / 4 < count {
        return Err("a record's index is cut off");
    }
    let ends: Box<[u32]> = (0..count).map(|_| body.get_u32_le()).collect();
    let rising = ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == body.len();
    if !rising || count == 0 {
        return Err("a record's index does not match its data");
    }
    rest.advance(PREFIX + length);
    Ok(Block { first, offset, enqueued_ms, ends, data: body })
}
