//! What waits to be written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frame::{FRAME_HEADER, FrameKind, ProtocolHeader};

/// Payload slices up to this size are copied behind the frame header: that is cheaper than a slice of their own in a `writev`.
const COPY_BELOW: usize = 256;

/// Bytes that wait for the socket: frame headers from one shared buffer, payloads as the slices they were given as.
///
/// It is a [`Buf`] whose `chunks_vectored` offers many slices at once, so `tokio::io::AsyncWriteExt::write_buf` turns it into one
/// `writev` and advances it. Frames are whole only over the entire sequence; a writer may stop anywhere.
#[derive(Debug, Default)]
pub struct Output {
    headers: BytesMut,
    pieces: VecDeque<Piece>,
    remaining: usize,
}

#[derive(Debug)]
enum Piece {
    /// This many bytes of `headers`, from where the piece before ended.
    Headers(usize),
    Payload(Bytes),
}

impl Output {
    pub(crate) fn protocol_header(&mut self, header: ProtocolHeader) {
        self.headers.extend_from_slice(&header.0);
        self.add_headers(header.0.len());
    }

    /// Writes a frame without payload.
    pub(crate) fn frame(&mut self, kind: FrameKind, channel: u16, body: impl FnOnce(&mut BytesMut)) {
        let start = self.begin_frame(kind, channel);
        body(&mut self.headers);
        self.end_frame(start, 0);
    }

    /// Begins a frame and hands the position to [`end_frame`](Self::end_frame).
    #[inline]
    pub(crate) fn begin_frame(&mut self, kind: FrameKind, channel: u16) -> usize {
        let start = self.headers.len();
        let kind = match kind {
            FrameKind::Amqp => 0u64,
            FrameKind::Sasl => 1,
        };
        // size (patched later), data offset of 2 words, type, channel
        self.headers.put_u64(2 << 24 | kind << 16 | u64::from(channel));
        start
    }

    /// The buffer that a frame begun is written to.
    #[inline]
    pub(crate) fn headers(&mut self) -> &mut BytesMut {
        &mut self.headers
    }

    /// Patches the size of a frame that `payload` bytes follow.
    #[inline]
    pub(crate) fn end_frame(&mut self, start: usize, payload: usize) {
        let written = self.headers.len() - start;
        debug_assert!(written >= FRAME_HEADER);
        let size = u32::try_from(written + payload).unwrap_or(u32::MAX);
        self.headers[start..start + 4].copy_from_slice(&size.to_be_bytes());
        self.add_headers(written);
    }

    /// Adds a slice of the payload of the frame ended last.
    #[inline]
    pub(crate) fn payload(&mut self, bytes: &Bytes) {
        if bytes.is_empty() {
            return; // an empty piece would look like the end
        }
        if bytes.len() < COPY_BELOW {
            self.headers.extend_from_slice(bytes);
            self.add_headers(bytes.len());
        } else {
            self.remaining += bytes.len();
            self.pieces.push_back(Piece::Payload(bytes.clone()));
        }
    }

    #[inline]
    fn add_headers(&mut self, len: usize) {
        self.remaining += len;
        match self.pieces.back_mut() {
            Some(Piece::Headers(last)) => *last += len,
            _ => self.pieces.push_back(Piece::Headers(len)),
        }
    }

    /// The slices that wait, in order.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        self.pieces.iter().map(move |piece| match piece {
            Piece::Headers(len) => {
                let slice = &self.headers[at..at + len];
                at += len;
                slice
            }
            Piece::Payload(bytes) => bytes,
        })
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.slices().next().unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, slice) in dst.iter_mut().zip(self.slices()) {
            *slot = IoSlice::new(slice);
            filled += 1;
        }
        filled
    }

    /// Takes `n` bytes off. More than there are take all.
    fn advance(&mut self, n: usize) {
        let mut n = n.min(self.remaining);
        self.remaining -= n;
        while n > 0 {
            let Some(piece) = self.pieces.front_mut() else { return };
            let len = match piece {
                Piece::Headers(len) => *len,
                Piece::Payload(bytes) => bytes.len(),
            };
            let taken = len.min(n);
            match piece {
                Piece::Headers(len) => {
                    *len -= taken;
                    self.headers.advance(taken);
                }
                Piece::Payload(bytes) => bytes.advance(taken),
            }
            if taken == len {
                self.pieces.pop_front();
            }
            n -= taken;
        }
    }
}
