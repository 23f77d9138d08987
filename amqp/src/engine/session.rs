//! Sessions: channels, windows, begin and end.

use super::config::SessionConfig;
use super::connection::Connection;
use super::error::CommandError;
use super::event::{Event, Side};
use super::ids::{Index, LinkId, Numbers, SessionId};
use crate::performative::{AmqpError, Begin, End, Performative, condition};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeginSent,
    Mapped,
    /// We ended it; the peer's end is awaited.
    EndSent,
}

#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    pub(crate) local_channel: u16,
    remote_channel: Option<u16>,
    handle_max: u32,
    pub(crate) remote_handle_max: u32,
    /// Transfer id of our next transfer frame.
    pub(crate) next_outgoing_id: u32,
    /// Delivery id of our next delivery.
    pub(crate) next_delivery_id: u32,
    /// Transfer frames the peer still takes.
    pub(crate) remote_incoming_window: u32,
    pub(crate) outgoing_window: u32,
    pub(crate) next_incoming_id: u32,
    /// Transfer frames we still take, and how many after a refill.
    pub(crate) incoming_window: u32,
    pub(crate) full_incoming_window: u32,
    pub(crate) local_handles: Numbers<LinkId>,
    pub(crate) remote_handles: Index<LinkId>,
    /// Why we ended it.
    ended_with: Option<AmqpError>,
}

impl Session {
    fn new(state: State, config: &SessionConfig) -> Self {
        let window = config.incoming_window.max(1);
        Self {
            state,
            local_channel: 0,
            remote_channel: None,
            handle_max: config.handle_max,
            remote_handle_max: u32::MAX,
            next_outgoing_id: 0,
            next_delivery_id: 0,
            remote_incoming_window: 0,
            outgoing_window: config.outgoing_window.max(1),
            next_incoming_id: 0,
            incoming_window: window,
            full_incoming_window: window,
            local_handles: Numbers::new(),
            remote_handles: Index::new(),
            ended_with: None,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state == State::EndSent
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.state == State::Mapped
    }

    pub(crate) fn handle_max(&self) -> u32 {
        self.handle_max
    }

    fn answer(&mut self, remote_channel: u16, begin: &Begin) {
        self.remote_channel = Some(remote_channel);
        self.remote_handle_max = begin.handle_max;
        self.next_incoming_id = begin.next_outgoing_id;
        self.remote_incoming_window = begin.incoming_window;
    }

    fn begin(&self, config: &SessionConfig) -> Begin {
        Begin {
            remote_channel: self.remote_channel,
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: self.incoming_window,
            outgoing_window: self.outgoing_window,
            handle_max: self.handle_max,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: config.properties.clone(),
        }
    }
}

impl Connection {
    /// Begins a session. Links may be attached at once; nothing can be sent before the peer's answer.
    ///
    /// # Errors
    /// If the connection is not open, or the peer takes no more sessions.
    pub fn begin(&mut self, config: &SessionConfig) -> Result<SessionId, CommandError> {
        self.usable()?;
        let id: SessionId = self.sessions.insert(Session::new(State::BeginSent, config));
        self.map(id, config).ok_or(CommandError::NoChannel)
    }

    /// Gives a new session its channel and sends its begin; forgets it if no channel is free.
    fn map(&mut self, id: SessionId, config: &SessionConfig) -> Option<SessionId> {
        let max = self.peer.channel_max.min(self.config.channel_max);
        let channel = self.local_channels.allocate(u32::from(max), id).and_then(|c| u16::try_from(c).ok());
        let (Some(channel), Some(session)) = (channel, self.sessions.get_mut(id)) else {
            self.sessions.remove(id);
            return None;
        };
        session.local_channel = channel;
        let begin = Performative::Begin(Box::new(session.begin(config)));
        self.send_frame(channel, &begin);
        Some(id)
    }

    pub(crate) fn on_begin(&mut self, channel: u16, begin: Box<Begin>) -> Result<(), AmqpError> {
        if channel > self.config.channel_max {
            let text = format!("channel {channel} is above the maximum of {}", self.config.channel_max);
            return Err(AmqpError::new(condition::NOT_ALLOWED, text));
        }
        if self.remote_channels.get(u32::from(channel)).is_some() {
            let text = format!("channel {channel} has a session already");
            return Err(AmqpError::new(condition::NOT_ALLOWED, text));
        }
        let (id, remote_initiated) = match begin.remote_channel {
            Some(ours) => (self.answered(ours, channel, &begin)?, false),
            None => {
                let config = self.config.session.clone();
                let mut session = Session::new(State::Mapped, &config);
                session.answer(channel, &begin);
                let id = self.sessions.insert(session);
                let Some(id) = self.map(id, &config) else {
                    return Err(AmqpError::new(condition::NOT_ALLOWED, "no channel is left to answer on"));
                };
                (id, true)
            }
        };
        self.remote_channels.insert(u32::from(channel), id);
        if self.sessions.get(id).is_some_and(Session::is_mapped) {
            self.events.push_back(Event::SessionBegun { session: id, begin, remote_initiated });
        }
        Ok(())
    }

    /// The peer's begin answers one of ours.
    fn answered(&mut self, ours: u16, channel: u16, begin: &Begin) -> Result<SessionId, AmqpError> {
        let stray = || AmqpError::new(condition::NOT_ALLOWED, format!("no begin was sent on channel {ours}"));
        let id = self.local_channels.get(u32::from(ours)).ok_or_else(stray)?;
        let session = self.sessions.get_mut(id).filter(|s| s.remote_channel.is_none()).ok_or_else(stray)?;
        session.answer(channel, begin);
        if session.state == State::BeginSent {
            session.state = State::Mapped;
        }
        Ok(id)
    }

    /// Ends a session and with it its links, at once. `SessionEnded` follows when the peer has answered.
    ///
    /// # Errors
    /// If the session has ended or is ending.
    pub fn end(&mut self, session: SessionId, error: Option<AmqpError>) -> Result<(), CommandError> {
        if matches!(self.phase, super::connection::Phase::Closing | super::connection::Phase::Closed) {
            return Err(CommandError::Closed);
        }
        let s = self.sessions.get_mut(session).filter(|s| !s.is_ending()).ok_or(CommandError::UnknownSession)?;
        s.state = State::EndSent;
        s.ended_with.clone_from(&error);
        let channel = s.local_channel;
        self.send_frame(channel, &Performative::End(End { error: error.clone() }));
        self.drop_links(session, &error, Side::Local);
        Ok(())
    }

    /// The peer broke a rule of the session: end it.
    pub(crate) fn session_error(&mut self, session: SessionId, condition: crate::wire::Symbol, text: String) {
        // A session that is ending already has its error.
        let _ = self.end(session, Some(AmqpError::new(condition, text)));
    }

    pub(crate) fn on_end(&mut self, id: SessionId, end: End) {
        let Some(session) = self.sessions.get(id) else { return };
        let (local, remote) = (session.local_channel, session.remote_channel);
        let (error, by) = if session.is_ending() {
            (session.ended_with.clone(), Side::Local)
        } else {
            self.send_frame(local, &Performative::End(End { error: None }));
            self.drop_links(id, &end.error, Side::Remote);
            (end.error, Side::Remote)
        };
        self.sessions.remove(id);
        self.local_channels.release(u32::from(local));
        if let Some(remote) = remote {
            self.remote_channels.remove(u32::from(remote));
        }
        self.events.push_back(Event::SessionEnded { session: id, error, by });
    }

    /// Forgets the links of a session that is over.
    fn drop_links(&mut self, id: SessionId, error: &Option<AmqpError>, by: Side) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let mut links: Vec<LinkId> = session.local_handles.ids().collect();
        for link in session.remote_handles.ids() {
            if !links.contains(&link) {
                links.push(link);
            }
        }
        session.local_handles = Numbers::new();
        session.remote_handles = Index::new();
        for link in links {
            if let Some(removed) = self.links.remove::<LinkId>(link) {
                let (error, by) = removed.detach_reason(error, by);
                self.events.push_back(Event::Detached { link, closed: true, error, by });
            }
        }
    }
}
