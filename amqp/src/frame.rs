//! Complete frames out of a byte stream.
//!
//! A frame that lies within one chunk is a slice of it; only a frame that straddles chunks is copied together. Sizes are checked against
//! the limit before anything is kept.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// The bytes that open each layer: `AMQP`, protocol id, version 1.0.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolHeader(pub [u8; 8]);

impl ProtocolHeader {
    /// Plain AMQP 1.0.
    pub const AMQP: Self = Self(*b"AMQP\x00\x01\x00\x00");
    /// The SASL layer.
    pub const SASL: Self = Self(*b"AMQP\x03\x01\x00\x00");
}

/// What a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The connection.
    Amqp,
    /// The SASL layer.
    Sasl,
}

/// A complete frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it belongs to.
    pub kind: FrameKind,
    /// The sender's channel number; meaningless for SASL.
    pub channel: u16,
    /// Performative and payload. Empty for a heartbeat.
    pub body: Bytes,
}

/// Why bytes are no frame. None of these can be recovered from: the place of the next frame is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Larger than allowed.
    #[error("a frame of {size} bytes is larger than the {max} agreed on")]
    TooLarge {
        /// The size in the frame.
        size: u32,
        /// The limit.
        max: u32,
    },
    /// Smaller than a frame's own header, or with a data offset outside of it.
    #[error("a frame of {size} bytes with data offset {offset} is malformed")]
    Malformed {
        /// The size in the frame.
        size: u32,
        /// The offset in the frame, in words of 4 bytes.
        offset: u8,
    },
    /// Neither AMQP nor SASL.
    #[error("frame type {0:#x} is unknown")]
    Kind(u8),
}

/// Bytes of the fixed part of a frame.
pub(crate) const FRAME_HEADER: usize = 8;
/// No peer may ask for a smaller maximum.
pub(crate) const MIN_MAX_FRAME_SIZE: u32 = 512;
/// How much is reserved for a frame on its own word; beyond that, memory grows with the bytes that arrive.
const RESERVE: usize = 64 * 1024;

/// Takes chunks in, gives protocol headers and frames out.
#[derive(Debug)]
pub struct Splitter {
    chunk: Bytes,
    partial: BytesMut,
    max: u32,
}

impl Splitter {
    /// A splitter that refuses frames of more than `max_frame_size` bytes.
    #[must_use]
    pub fn new(max_frame_size: u32) -> Self {
        Self { chunk: Bytes::new(), partial: BytesMut::new(), max: max_frame_size.max(MIN_MAX_FRAME_SIZE) }
    }

    /// Adds bytes. Call it when the last ones are used up; otherwise both are copied together.
    pub fn feed(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut both = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            both.extend_from_slice(&self.chunk);
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
    }

    /// Forgets everything that was fed.
    pub fn clear(&mut self) {
        self.chunk = Bytes::new();
        self.partial = BytesMut::new();
    }

    /// The next eight bytes, when the peer is to announce a protocol.
    pub fn header(&mut self) -> Option<ProtocolHeader> {
        let bytes = self.unit(8, |_| Ok(8)).ok()??;
        let mut header = [0; 8];
        header.copy_from_slice(&bytes);
        Some(ProtocolHeader(header))
    }

    /// The next complete frame, if its bytes are there.
    ///
    /// # Errors
    /// If what comes is no frame. The splitter is of no use afterwards.
    pub fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let max = self.max;
        let size_of = |prefix: &[u8]| {
            let size = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
            match size {
                0..8 => Err(FrameError::Malformed { size, offset: 0 }),
                _ if size > max => Err(FrameError::TooLarge { size, max }),
                _ => Ok(size as usize),
            }
        };
        let Some(mut frame) = self.unit(4, size_of)? else { return Ok(None) };
        let [s0, s1, s2, s3, offset, kind, c0, c1] = frame.get_u64().to_be_bytes();
        let kind = match kind {
            0 => FrameKind::Amqp,
            1 => FrameKind::Sasl,
            other => return Err(FrameError::Kind(other)),
        };
        let malformed = FrameError::Malformed { size: u32::from_be_bytes([s0, s1, s2, s3]), offset };
        let extended = (usize::from(offset) * 4).checked_sub(FRAME_HEADER).ok_or(malformed)?;
        if extended > frame.len() {
            return Err(malformed);
        }
        frame.advance(extended);
        Ok(Some(Frame { kind, channel: u16::from_be_bytes([c0, c1]), body: frame }))
    }

    /// Takes one unit, whose size is known from its first `prefix` bytes.
    fn unit(
        &mut self,
        prefix: usize,
        size_of: impl Fn(&[u8]) -> Result<usize, FrameError>,
    ) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            let size = if self.chunk.len() < prefix { usize::MAX } else { size_of(&self.chunk)? };
            if self.chunk.len() >= size {
                return Ok(Some(self.chunk.split_to(size)));
            }
            self.fill(self.chunk.len());
            return Ok(None);
        }
        self.fill(prefix);
        if self.partial.len() < prefix {
            return Ok(None);
        }
        let size = size_of(&self.partial)?;
        self.partial.reserve(size.min(RESERVE).saturating_sub(self.partial.len()));
        self.fill(size);
        if self.partial.len() < size { Ok(None) } else { Ok(Some(self.partial.split().freeze())) }
    }

    /// Moves bytes of the chunk over until `partial` holds `len`, or no more are there.
    fn fill(&mut self, len: usize) {
        let missing = len.saturating_sub(self.partial.len()).min(self.chunk.len());
        if missing > 0 {
            self.partial.extend_from_slice(&self.chunk[..missing]);
            self.chunk.advance(missing);
        }
    }
}
