//! The connection: what it holds, how input becomes events, how it ends.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::config::{ClientSasl, ConnectionConfig, ServerSasl};
use super::error::CommandError;
use super::event::{CloseReason, Event, LinkInfo};
use super::handshake::Handshake;
use super::ids::{Index, LinkId, Numbers, SessionId, Table};
use super::link::Link;
use super::output::Output;
use super::session::Session;
use super::timers::Timers;
use crate::frame::{Frame, FrameKind, MIN_MAX_FRAME_SIZE, Splitter};
use crate::performative::{AmqpError, Close, Open, Performative, condition};
use crate::wire::Reader;

/// How far a connection has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// Before the peer's AMQP header.
    Handshake(Handshake),
    /// Its header came, its open did not.
    Opening,
    Open,
    /// We sent a close and wait for the peer's.
    Closing,
    Closed,
}

/// What the peer said in its open, as far as it limits us.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) max_frame_size: usize,
    pub(crate) channel_max: u16,
}

/// One AMQP connection. See [the module](super) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    pub(crate) config: ConnectionConfig,
    pub(crate) phase: Phase,
    pub(crate) open_sent: bool,
    pub(crate) peer: Peer,
    pub(crate) input: Splitter,
    eof: bool,
    pub(crate) output: Output,
    pub(crate) events: VecDeque<Event>,
    pub(crate) sessions: Table<Session>,
    pub(crate) links: Table<Link>,
    /// Sessions by our channel and by the peer's.
    pub(crate) local_channels: Numbers<SessionId>,
    pub(crate) remote_channels: Index<SessionId>,
    pub(crate) timers: Timers,
}

impl Connection {
    /// The server's end: waits for the client to speak.
    #[must_use]
    pub fn server(config: ConnectionConfig, sasl: ServerSasl, now: Instant) -> Self {
        Self::new(config, Handshake::server(sasl), now)
    }

    /// The client's end: headers, SASL and open go out by themselves.
    #[must_use]
    pub fn client(config: ConnectionConfig, sasl: ClientSasl, now: Instant) -> Self {
        let mut this = Self::new(config, Handshake::client(sasl), now);
        this.start_client();
        this
    }

    fn new(config: ConnectionConfig, handshake: Handshake, now: Instant) -> Self {
        Self {
            input: Splitter::new(config.max_frame_size),
            timers: Timers::new(&config, now),
            phase: Phase::Handshake(handshake),
            config,
            open_sent: false,
            peer: Peer { max_frame_size: MIN_MAX_FRAME_SIZE as usize, channel_max: u16::MAX },
            eof: false,
            output: Output::default(),
            events: VecDeque::new(),
            sessions: Table::new(),
            links: Table::new(),
            local_channels: Numbers::new(),
            remote_channels: Index::new(),
        }
    }

    /// Takes bytes that were read, in any chunking. Payloads will be slices of them. Take the events before feeding again: what is
    /// left over has to be copied.
    pub fn feed(&mut self, chunk: Bytes, now: Instant) {
        self.timers.received(now);
        if !matches!(self.phase, Phase::Closed) {
            self.input.feed(chunk);
        }
    }

    /// Says that the peer will send nothing more.
    pub fn feed_eof(&mut self) {
        self.eof = true;
    }

    /// The next thing that happened. Call it until there is none, after each `feed`, `feed_eof`, `on_deadline` and command.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if matches!(self.phase, Phase::Closed) {
                return None;
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) if self.eof => {
                    let reason =
                        if matches!(self.phase, Phase::Closing) { CloseReason::Local } else { CloseReason::Eof };
                    self.finish(reason);
                }
                Ok(false) => return None,
                Err(error) => self.violation(error),
            }
        }
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether something waits to be written.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.output.has_remaining()
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.remaining()
    }

    /// How many links there are: asked for, attached, or detached on one side only.
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Whether the connection is over: write what is left, then close the socket. Reading more is of no use.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// What is known of a link; none if it is gone.
    #[must_use]
    pub fn link(&self, link: LinkId) -> Option<LinkInfo> {
        self.links.get(link).map(Link::info)
    }

    /// Closes the connection. The peer's answer, or its absence, ends it.
    ///
    /// # Errors
    /// If it is closed or closing already.
    pub fn close(&mut self, error: Option<AmqpError>) -> Result<(), CommandError> {
        match self.phase {
            Phase::Closing | Phase::Closed => return Err(CommandError::Closed),
            Phase::Handshake(_) if !self.open_sent => self.finish(CloseReason::Local),
            _ => {
                self.send_close(error);
                self.timers.closing();
                self.phase = Phase::Closing;
            }
        }
        Ok(())
    }

    pub(crate) fn usable(&self) -> Result<(), CommandError> {
        match self.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Closed => Err(CommandError::Closed),
            Phase::Handshake(_) | Phase::Opening => Err(CommandError::NotOpen),
        }
    }

    /// Takes one unit of input, if it is there completely.
    fn step(&mut self) -> Result<bool, AmqpError> {
        if let Phase::Handshake(handshake) = &self.phase
            && handshake.wants_header()
        {
            return Ok(match self.input.header() {
                Some(header) => {
                    self.on_protocol_header(header);
                    true
                }
                None => false,
            });
        }
        let frame = self.input.frame().map_err(|e| AmqpError::new(condition::FRAMING_ERROR, e.to_string()))?;
        let Some(frame) = frame else { return Ok(false) };
        match (&self.phase, frame.kind) {
            (Phase::Handshake(_), FrameKind::Sasl) => self.on_sasl_frame(&frame)?,
            (Phase::Handshake(_), FrameKind::Amqp) | (_, FrameKind::Sasl) => {
                return Err(AmqpError::new(condition::FRAMING_ERROR, "a frame of the wrong layer"));
            }
            _ if frame.body.is_empty() => {} // a heartbeat
            _ => self.on_frame(frame)?,
        }
        Ok(true)
    }

    fn on_frame(&mut self, frame: Frame) -> Result<(), AmqpError> {
        let mut reader = Reader::new(&frame.body);
        let performative = Performative::decode(&mut reader)
            .map_err(|e| AmqpError::new(condition::DECODE_ERROR, format!("frame on channel {}: {e}", frame.channel)))?;
        let consumed = frame.body.len() - reader.rest().len();
        if matches!(self.phase, Phase::Closing) && !matches!(performative, Performative::Close(_)) {
            if let Performative::Open(open) = performative {
                self.accept_limits(&open);
            }
            return Ok(());
        }
        match performative {
            Performative::Open(open) => return self.on_open(open),
            Performative::Close(close) => {
                self.on_close(close);
                return Ok(());
            }
            _ if matches!(self.phase, Phase::Opening) => {
                return Err(AmqpError::new(condition::ILLEGAL_STATE, "the first frame has to be an open"));
            }
            Performative::Begin(begin) => return self.on_begin(frame.channel, begin),
            _ => {}
        }
        let Some(session) = self.remote_channels.get(u32::from(frame.channel)) else {
            let text = format!("no session on channel {}", frame.channel);
            return Err(AmqpError::new(condition::NOT_ALLOWED, text));
        };
        match performative {
            Performative::End(end) => self.on_end(session, end),
            // A session that we ended hears nothing but its end.
            _ if self.sessions.get(session).is_none_or(Session::is_ending) => {}
            Performative::Transfer(transfer) => {
                let mut payload = frame.body;
                payload.advance(consumed);
                self.on_transfer(session, &transfer, payload);
            }
            Performative::Flow(flow) => self.on_flow(session, *flow),
            Performative::Disposition(disposition) => self.on_disposition(session, disposition),
            Performative::Attach(attach) => return self.on_attach(session, attach),
            Performative::Detach(detach) => self.on_detach(session, detach),
            Performative::Open(_) | Performative::Begin(_) | Performative::Close(_) => {}
        }
        Ok(())
    }

    fn on_open(&mut self, open: Box<Open>) -> Result<(), AmqpError> {
        if !matches!(self.phase, Phase::Opening) {
            return Err(AmqpError::new(condition::ILLEGAL_STATE, "the connection is open already"));
        }
        self.accept_limits(&open);
        self.send_open();
        self.phase = Phase::Open;
        self.events.push_back(Event::Opened(open));
        Ok(())
    }

    fn accept_limits(&mut self, open: &Open) {
        let size = open.max_frame_size.min(self.config.max_frame_size).max(MIN_MAX_FRAME_SIZE);
        self.peer = Peer { max_frame_size: size as usize, channel_max: open.channel_max };
        self.timers.heartbeats(open.idle_time_out);
    }

    fn on_close(&mut self, close: Close) {
        let reason = if matches!(self.phase, Phase::Closing) {
            CloseReason::Local
        } else {
            self.send_close(None);
            CloseReason::Peer(close.error)
        };
        self.finish(reason);
    }

    /// Sends our open, once.
    pub(crate) fn send_open(&mut self) {
        if !self.open_sent {
            self.open_sent = true;
            let open = Performative::Open(Box::new(self.config.open()));
            self.send_frame(0, &open);
        }
    }

    fn send_close(&mut self, error: Option<AmqpError>) {
        self.send_open();
        self.send_frame(0, &Performative::Close(Close { error }));
    }

    pub(crate) fn send_frame(&mut self, channel: u16, performative: &Performative) {
        self.output.frame(FrameKind::Amqp, channel, |buf| performative.encode(buf));
    }

    /// The peer broke the protocol: say why and stop listening.
    fn violation(&mut self, error: AmqpError) {
        let in_handshake = matches!(self.phase, Phase::Handshake(_));
        if !in_handshake && !matches!(self.phase, Phase::Closing) {
            self.send_close(Some(error.clone()));
        }
        self.finish(CloseReason::Violation(error));
    }

    /// Ends the connection for this side.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.input.clear();
        self.events.push_back(Event::Closed(reason));
    }
}
