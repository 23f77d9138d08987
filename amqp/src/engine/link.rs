//! Links: attach, accept, refuse, detach.

use super::connection::Connection;
use super::error::CommandError;
use super::event::{Event, LinkInfo, Side};
use super::ids::{LinkId, SessionId};
use super::receive::Incoming;
use super::send::Unsent;
use crate::performative::{AmqpError, Attach, Detach, Performative, Role, SenderSettleMode, condition};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Ours, not answered.
    AttachSent,
    /// The peer's, not answered.
    AttachReceived,
    Attached,
    /// We detached; the peer's detach is awaited.
    DetachSent,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: SessionId,
    name: String,
    /// Our end.
    pub(crate) role: Role,
    pub(crate) state: State,
    pub(crate) local_handle: Option<u32>,
    remote_handle: Option<u32>,
    pub(crate) snd_settle_mode: SenderSettleMode,
    pub(crate) delivery_count: u32,
    pub(crate) credit: u32,
    pub(crate) drain: bool,
    /// The engine keeps the credit topped up to this.
    pub(crate) auto_credit: Option<u32>,
    /// The largest delivery we assemble.
    pub(crate) max_incoming: usize,
    pub(crate) remote_max_message_size: Option<u64>,
    pub(crate) incoming: Option<Incoming>,
    pub(crate) unsent: Option<Unsent>,
    /// Why we detached.
    detached_with: Option<AmqpError>,
}

impl Link {
    fn new(session: SessionId, name: String, role: Role, state: State, max_incoming: usize) -> Self {
        Self {
            session,
            name,
            role,
            state,
            local_handle: None,
            remote_handle: None,
            snd_settle_mode: SenderSettleMode::Mixed,
            delivery_count: 0,
            credit: 0,
            drain: false,
            auto_credit: None,
            max_incoming,
            remote_max_message_size: None,
            incoming: None,
            unsent: None,
            detached_with: None,
        }
    }

    pub(crate) fn info(&self) -> LinkInfo {
        LinkInfo {
            session: self.session,
            name: self.name.clone(),
            role: self.role,
            credit: self.credit,
            delivery_count: self.delivery_count,
            snd_settle_mode: self.snd_settle_mode,
            remote_max_message_size: self.remote_max_message_size,
            unsent: self.unsent.is_some(),
        }
    }

    /// Whose detach it was: ours if we sent one, else what ended it now.
    pub(crate) fn detach_reason(self, error: &Option<AmqpError>, by: Side) -> (Option<AmqpError>, Side) {
        if self.state == State::DetachSent { (self.detached_with, Side::Local) } else { (error.clone(), by) }
    }

    /// Takes over what the peer's attach says.
    fn take(&mut self, attach: &Attach) {
        self.remote_handle = Some(attach.handle);
        self.remote_max_message_size = attach.max_message_size.filter(|size| *size > 0);
        if self.role == Role::Receiver {
            self.delivery_count = attach.initial_delivery_count.unwrap_or(0);
            self.snd_settle_mode = attach.snd_settle_mode;
        }
    }

    /// Takes over what our own attach says.
    fn give(&mut self, attach: &Attach) {
        if let Some(max) = attach.max_message_size.filter(|size| *size > 0) {
            self.max_incoming = usize::try_from(max).unwrap_or(usize::MAX);
        }
        if self.role == Role::Sender {
            self.snd_settle_mode = attach.snd_settle_mode;
        }
    }
}

impl Connection {
    /// Attaches a link. `Attached` follows; credit may be given before.
    ///
    /// # Errors
    /// If the session has ended, or the peer takes no more links in it.
    pub fn attach(&mut self, session: SessionId, attach: Attach) -> Result<LinkId, CommandError> {
        self.usable()?;
        self.sessions.get(session).filter(|s| !s.is_ending()).ok_or(CommandError::UnknownSession)?;
        let max = self.config.max_delivery_size;
        let link = Link::new(session, attach.name.clone(), attach.role, State::AttachSent, max);
        let id = self.links.insert(link);
        self.send_attach(id, attach).inspect_err(|_| {
            self.links.remove(id);
        })?;
        Ok(id)
    }

    /// Accepts a link that the peer wants, with our attach. Start from [`Attach::answer`]; name, role, handle and first delivery
    /// count are filled in.
    ///
    /// # Errors
    /// If the link is gone or answered already.
    pub fn accept(&mut self, link: LinkId, attach: Attach) -> Result<(), CommandError> {
        self.usable()?;
        self.requested(link)?;
        self.send_attach(link, attach)?;
        if let Some(l) = self.links.get_mut(link) {
            l.state = State::Attached;
            if l.role == Role::Sender && l.credit > 0 {
                self.push_flow(link); // credit that came before the answer
            }
        }
        Ok(())
    }

    /// Refuses a link that the peer wants: an attach without source and target, then a detach with the error.
    ///
    /// # Errors
    /// If the link is gone or answered already.
    pub fn refuse(&mut self, link: LinkId, error: AmqpError) -> Result<(), CommandError> {
        self.usable()?;
        let l = self.requested(link)?;
        let attach = Attach::new(l.name.clone(), l.role);
        self.send_attach(link, attach)?;
        self.send_detach(link, true, Some(error));
        Ok(())
    }

    /// Detaches a link. `Detached` follows when the peer has answered.
    ///
    /// # Errors
    /// If the link is gone, detaching, or waits for our answer (refuse it instead).
    pub fn detach(&mut self, link: LinkId, closed: bool, error: Option<AmqpError>) -> Result<(), CommandError> {
        self.usable()?;
        match self.links.get(link).ok_or(CommandError::UnknownLink)?.state {
            State::Attached | State::AttachSent => self.send_detach(link, closed, error),
            State::AttachReceived | State::DetachSent => return Err(CommandError::LinkState),
        }
        Ok(())
    }

    /// The peer broke a rule of the link: detach it.
    pub(crate) fn link_error(&mut self, link: LinkId, condition: crate::wire::Symbol, text: String) {
        let error = AmqpError::new(condition, text);
        // A link that is detaching already has its error.
        if self.detach(link, true, Some(error.clone())) == Err(CommandError::LinkState) {
            let _ = self.refuse(link, error);
        }
    }

    fn requested(&self, link: LinkId) -> Result<&Link, CommandError> {
        let l = self.links.get(link).ok_or(CommandError::UnknownLink)?;
        if l.state == State::AttachReceived { Ok(l) } else { Err(CommandError::LinkState) }
    }

    /// Gives the link a handle and sends our attach.
    fn send_attach(&mut self, link: LinkId, mut attach: Attach) -> Result<(), CommandError> {
        let l = self.links.get_mut(link).ok_or(CommandError::UnknownLink)?;
        let session = self.sessions.get_mut(l.session).ok_or(CommandError::UnknownSession)?;
        let handle = session.local_handles.allocate(session.remote_handle_max, link).ok_or(CommandError::NoHandle)?;
        attach.name.clone_from(&l.name);
        attach.handle = handle;
        attach.role = l.role;
        attach.initial_delivery_count = (l.role == Role::Sender).then_some(l.delivery_count);
        l.local_handle = Some(handle);
        l.give(&attach);
        let channel = session.local_channel;
        self.send_frame(channel, &Performative::Attach(Box::new(attach)));
        Ok(())
    }

    fn send_detach(&mut self, link: LinkId, closed: bool, error: Option<AmqpError>) {
        let Some(l) = self.links.get_mut(link) else { return };
        let (Some(handle), Some(session)) = (l.local_handle, self.sessions.get(l.session)) else { return };
        l.state = State::DetachSent;
        l.detached_with.clone_from(&error);
        l.unsent = None;
        l.incoming = None;
        let channel = session.local_channel;
        self.send_frame(channel, &Performative::Detach(Detach { handle, closed, error }));
    }

    pub(crate) fn on_attach(&mut self, id: SessionId, attach: Box<Attach>) -> Result<(), AmqpError> {
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        if attach.handle > session.handle_max() {
            let text = format!("handle {} is above the maximum of {}", attach.handle, session.handle_max());
            return Err(AmqpError::new(condition::FRAMING_ERROR, text));
        }
        if session.remote_handles.get(attach.handle).is_some() {
            let text = format!("handle {} has a link already", attach.handle);
            self.session_error(id, condition::HANDLE_IN_USE, text);
            return Ok(());
        }
        let ours = session.local_handles.ids().find(|link| {
            self.links
                .get(*link)
                .is_some_and(|l| l.remote_handle.is_none() && l.name == attach.name && l.role == attach.role.opposite())
        });
        let max = self.config.max_delivery_size;
        let link = ours.unwrap_or_else(|| {
            let role = attach.role.opposite();
            self.links.insert(Link::new(id, attach.name.clone(), role, State::AttachReceived, max))
        });
        if let Some(session) = self.sessions.get_mut(id) {
            session.remote_handles.insert(attach.handle, link);
        }
        let Some(l) = self.links.get_mut(link) else { return Ok(()) };
        l.take(&attach);
        match l.state {
            State::AttachSent => {
                l.state = State::Attached;
                let credit_waits = l.role == Role::Receiver && l.credit > 0;
                self.events.push_back(Event::Attached { link, attach });
                if credit_waits {
                    self.send_link_flow(link, false);
                }
            }
            State::AttachReceived => self.events.push_back(Event::AttachRequested { session: id, link, attach }),
            State::Attached | State::DetachSent => {} // detached before it was answered
        }
        Ok(())
    }

    pub(crate) fn on_detach(&mut self, id: SessionId, detach: Detach) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(link) = session.remote_handles.get(detach.handle) else {
            let text = format!("no link has handle {}", detach.handle);
            return self.session_error(id, condition::UNATTACHED_HANDLE, text);
        };
        let Some(l) = self.links.get(link) else { return };
        if l.state == State::AttachReceived {
            // It left before our answer; an attach has to come before our detach.
            let attach = Attach::new(l.name.clone(), l.role);
            if self.send_attach(link, attach).is_err() {
                // Without a handle of ours there is nothing to detach.
                return self.forget(link, &detach, Side::Remote);
            }
        }
        let Some(l) = self.links.get(link) else { return };
        if l.state == State::DetachSent {
            return self.forget(link, &detach, Side::Local);
        }
        if let (Some(handle), Some(session)) = (l.local_handle, self.sessions.get(id)) {
            let answer = Detach { handle, closed: detach.closed, error: None };
            let channel = session.local_channel;
            self.send_frame(channel, &Performative::Detach(answer));
        }
        self.forget(link, &detach, Side::Remote);
    }

    fn forget(&mut self, link: LinkId, detach: &Detach, by: Side) {
        let Some(l) = self.links.remove(link) else { return };
        if let Some(session) = self.sessions.get_mut(l.session) {
            if let Some(handle) = l.local_handle {
                session.local_handles.release(handle);
            }
            if let Some(handle) = l.remote_handle {
                session.remote_handles.remove(handle);
            }
        }
        // The peer's reason counts even if both detached at once.
        let error = detach.error.clone().or(l.detached_with);
        self.events.push_back(Event::Detached { link, closed: detach.closed, error, by });
    }
}
