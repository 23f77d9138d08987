//! Outgoing deliveries. The path of every event a server pushes: no allocation, no copy of the payload, one pass over the header.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::connection::Connection;
use super::error::{CommandError, SendError};
use super::ids::LinkId;
use super::link::{Link, State};
use super::output::Output;
use super::session::Session;
use crate::frame::FrameKind;
use crate::performative::{DeliveryTag, Role, SenderSettleMode};
use crate::wire::Writer;

/// How a delivery is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// The delivery's tag; none takes its id.
    pub tag: Option<DeliveryTag>,
    /// How the message is encoded: 0, or [`BATCH_FORMAT`](crate::message::BATCH_FORMAT) for a batch.
    pub message_format: u32,
    /// Whether it is settled with the sending. The link's sender settle mode overrules it unless that is mixed.
    pub settled: bool,
    /// The answer may wait for others.
    pub batchable: bool,
}

impl SendOptions {
    /// Settled when sent: at most once on this link.
    #[must_use]
    pub const fn settled() -> Self {
        Self { tag: None, message_format: 0, settled: true, batchable: false }
    }
}

/// A delivery that is sent in part.
#[derive(Debug)]
pub(crate) struct Unsent {
    slices: VecDeque<Bytes>,
    left: usize,
    /// The first frame's fields, until it is sent.
    first: Option<First>,
    settled: bool,
    batchable: bool,
}

#[derive(Debug, Clone, Copy)]
struct First {
    id: u32,
    tag: DeliveryTag,
    message_format: u32,
}

impl Connection {
    /// How many deliveries of one frame each `send` would take now: bounded by credit and by the session's window, and none while
    /// one is sent in part.
    #[must_use]
    pub fn sendable(&self, link: LinkId) -> u32 {
        let Some(l) = self.links.get(link) else { return 0 };
        if l.role != Role::Sender || l.state != State::Attached || l.unsent.is_some() || self.usable().is_err() {
            return 0;
        }
        self.sessions.get(l.session).map_or(0, |session| l.credit.min(session.remote_incoming_window))
    }

    /// Sends a delivery whose message is `payload`, in one or several slices; they are referred to, not copied, until they are written.
    /// One that is larger than a frame, or than the session's window, is split; the engine sends the rest by itself when the window
    /// opens. Returns the delivery's id.
    ///
    /// # Errors
    /// If there is no credit or no window now, or never.
    pub fn send(&mut self, link: LinkId, options: &SendOptions, payload: &[Bytes]) -> Result<u32, SendError> {
        self.usable()?;
        let l = self.links.get_mut(link).ok_or(CommandError::UnknownLink)?;
        if l.role != Role::Sender {
            return Err(CommandError::Role.into());
        }
        if l.state != State::Attached {
            return Err(CommandError::LinkState.into());
        }
        if l.credit == 0 {
            return Err(SendError::NoCredit);
        }
        let session = self.sessions.get_mut(l.session).ok_or(CommandError::UnknownSession)?;
        if l.unsent.is_some() || session.remote_incoming_window == 0 {
            return Err(SendError::WindowClosed);
        }
        let size: usize = payload.iter().map(Bytes::len).sum();
        if let Some(max) = l.remote_max_message_size
            && size as u64 > max
        {
            return Err(SendError::TooLarge { size, max });
        }
        let id = session.next_delivery_id;
        session.next_delivery_id = id.wrapping_add(1);
        l.delivery_count = l.delivery_count.wrapping_add(1);
        l.credit -= 1;
        let settled = match l.snd_settle_mode {
            SenderSettleMode::Settled => true,
            SenderSettleMode::Unsettled => false,
            SenderSettleMode::Mixed => options.settled,
        };
        let tag = options.tag.unwrap_or_else(|| id.into());
        let first = First { id, tag, message_format: options.message_format };
        let handle = l.local_handle.unwrap_or_default();
        let frame = Transfer { handle, first: Some(&first), settled, more: false, batchable: options.batchable };
        let start = frame.begin(&mut self.output, session);
        if frame.room(&mut self.output, start, self.peer.max_frame_size) >= size {
            self.output.end_frame(start, size);
            for slice in payload {
                self.output.payload(slice);
            }
            return Ok(id);
        }
        // Too large for one frame: take the header back and go the long way.
        self.output.headers().truncate(start);
        session.take_back();
        l.unsent = Some(Unsent {
            slices: payload.iter().filter(|slice| !slice.is_empty()).cloned().collect(),
            left: size,
            first: Some(first),
            settled,
            batchable: options.batchable,
        });
        self.continue_send(link);
        Ok(id)
    }

    /// Sends of a partial delivery what the window allows.
    pub(crate) fn continue_send(&mut self, link: LinkId) {
        let max_frame_size = self.peer.max_frame_size;
        let Some(l) = self.links.get_mut(link) else { return };
        let Link { unsent: Some(unsent), session, local_handle: Some(handle), .. } = l else { return };
        let Some(session) = self.sessions.get_mut(*session) else { return };
        while session.remote_incoming_window > 0 {
            let (settled, batchable) = (unsent.settled, unsent.batchable);
            let frame = Transfer { handle: *handle, first: unsent.first.as_ref(), settled, more: true, batchable };
            let start = frame.begin(&mut self.output, session);
            let room = frame.room(&mut self.output, start, max_frame_size);
            if room >= unsent.left {
                // It is the last one after all: the same header, with `more` false, has the same size.
                self.output.headers().truncate(start);
                session.take_back();
                let frame = Transfer { more: false, ..frame };
                let start = frame.begin(&mut self.output, session);
                self.output.end_frame(start, unsent.left);
                for slice in &unsent.slices {
                    self.output.payload(slice);
                }
                l.unsent = None;
                return;
            }
            self.output.end_frame(start, room);
            unsent.first = None;
            unsent.left -= room;
            let mut room = room;
            while room > 0 {
                let Some(slice) = unsent.slices.front_mut() else { break };
                let piece = slice.split_to(room.min(slice.len()));
                if !slice.has_remaining() {
                    unsent.slices.pop_front();
                }
                room -= piece.len();
                self.output.payload(&piece);
            }
        }
    }
}

impl Session {
    fn transfer_sent(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.remote_incoming_window -= 1;
    }

    fn take_back(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_sub(1);
        self.remote_incoming_window += 1;
    }
}

/// The transfer performative as this engine sends it: all fields, written in one go.
#[derive(Clone, Copy)]
struct Transfer<'a> {
    handle: u32,
    first: Option<&'a First>,
    settled: bool,
    more: bool,
    batchable: bool,
}

impl Transfer<'_> {
    /// Begins a frame, writes the performative, and counts the frame.
    fn begin(&self, output: &mut Output, session: &mut Session) -> usize {
        let start = output.begin_frame(FrameKind::Amqp, session.local_channel);
        self.write(output.headers());
        session.transfer_sent();
        start
    }

    /// What fits behind the performative. Peers take at least 512 bytes, and the header has less than 100.
    fn room(&self, output: &mut Output, start: usize, max_frame_size: usize) -> usize {
        max_frame_size.saturating_sub(output.headers().len() - start)
    }

    fn write(&self, buf: &mut BytesMut) {
        // Descriptor 0x14, list8; the size comes at the end, the count is that of all fields.
        buf.extend_from_slice(&[0x00, 0x53, 0x14, 0xc0, 0, 11]);
        let size_at = buf.len() - 2;
        let w = &mut Writer::new(buf);
        w.uint(self.handle);
        match self.first {
            Some(first) => {
                w.uint(first.id);
                w.binary(&first.tag);
                w.uint(first.message_format);
            }
            None => w.encoded(&[0x40; 3]),
        }
        w.boolean(self.settled);
        w.boolean(self.more);
        w.encoded(&[0x40, 0x40, 0x42, 0x42]); // rcv-settle-mode and state null; not resumed, not aborted
        w.boolean(self.batchable);
        let size = buf.len() - size_at - 1;
        buf[size_at] = u8::try_from(size).unwrap_or(u8::MAX); // at most 60
    }
}

const _: () = assert!(DeliveryTag::MAX == 32, "the header's size is one byte");
