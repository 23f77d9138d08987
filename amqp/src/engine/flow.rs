//! Credit and windows, in both directions.

use super::connection::Connection;
use super::error::CommandError;
use super::event::{Delivery, Event, LinkFlow};
use super::ids::{LinkId, SessionId};
use super::link::{Link, State};
use super::session::Session;
use crate::performative::{DeliveryState, Disposition, Flow, Performative, Role, condition};
use crate::wire::Map;

impl Session {
    /// The session's part of a flow. Says the full window: what a flow promises, the engine keeps.
    pub(crate) fn flow(&mut self) -> Flow {
        self.incoming_window = self.full_incoming_window;
        Flow {
            next_incoming_id: self.is_mapped().then_some(self.next_incoming_id),
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: self.outgoing_window,
            handle: None,
            delivery_count: None,
            link_credit: None,
            available: None,
            drain: false,
            echo: false,
            properties: Map::new(),
        }
    }
}

impl Connection {
    /// Sets the credit of a receiving link: how many deliveries the peer may send from now on. Replaces what was left.
    ///
    /// # Errors
    /// If the link is gone or sends.
    pub fn set_credit(&mut self, link: LinkId, credit: u32) -> Result<(), CommandError> {
        self.receiving(link)?.credit = credit;
        self.send_link_flow(link, false);
        Ok(())
    }

    /// Keeps the credit of a receiving link topped up to `target`, at half; none stops it and leaves what was given.
    ///
    /// # Errors
    /// If the link is gone or sends.
    pub fn set_auto_credit(&mut self, link: LinkId, target: Option<u32>) -> Result<(), CommandError> {
        self.receiving(link)?.auto_credit = target;
        match target {
            Some(credit) => self.set_credit(link, credit),
            None => Ok(()),
        }
    }

    /// Asks the sender to use the credit up or to give it back. The end shows as a [`LinkFlow`] without credit.
    ///
    /// # Errors
    /// If the link is gone or sends.
    pub fn drain(&mut self, link: LinkId) -> Result<(), CommandError> {
        self.receiving(link)?.drain = true;
        self.send_link_flow(link, false);
        Ok(())
    }

    /// Answers a drain: nothing more is waiting, the rest of the credit goes back.
    ///
    /// # Errors
    /// If the link is gone or receives.
    pub fn drained(&mut self, link: LinkId) -> Result<(), CommandError> {
        self.usable()?;
        let l = self.links.get_mut(link).ok_or(CommandError::UnknownLink)?;
        if l.role != Role::Sender {
            return Err(CommandError::Role);
        }
        l.delivery_count = l.delivery_count.wrapping_add(l.credit);
        l.credit = 0;
        self.send_link_flow(link, false);
        if let Some(l) = self.links.get_mut(link) {
            l.drain = false;
        }
        Ok(())
    }

    /// Says what became of deliveries `first..=last` of a session: as `Receiver` of those received, as `Sender` of those sent.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn disposition(
        &mut self,
        session: SessionId,
        role: Role,
        first: u32,
        last: u32,
        settled: bool,
        state: Option<DeliveryState>,
    ) -> Result<(), CommandError> {
        self.usable()?;
        let s = self.sessions.get(session).filter(|s| s.is_mapped()).ok_or(CommandError::UnknownSession)?;
        let channel = s.local_channel;
        let disposition = Disposition { role, first, last: Some(last), settled, state, batchable: false };
        self.send_frame(channel, &Performative::Disposition(disposition));
        Ok(())
    }

    /// Settles one received delivery. Does nothing if it came settled.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn settle(&mut self, delivery: &Delivery, state: DeliveryState) -> Result<(), CommandError> {
        if delivery.settled {
            return Ok(());
        }
        let id = delivery.delivery_id;
        self.disposition(delivery.session, Role::Receiver, id, id, true, Some(state))
    }

    fn receiving(&mut self, link: LinkId) -> Result<&mut Link, CommandError> {
        self.usable()?;
        let l = self.links.get_mut(link).ok_or(CommandError::UnknownLink)?;
        match (l.role, l.state) {
            (Role::Sender, _) => Err(CommandError::Role),
            (_, State::DetachSent | State::AttachReceived) => Err(CommandError::LinkState),
            _ => Ok(l),
        }
    }

    /// Sends the state of an attached link, with the session's.
    pub(crate) fn send_link_flow(&mut self, link: LinkId, echo: bool) {
        let Some(l) = self.links.get(link).filter(|l| l.state == State::Attached) else { return };
        let Some(session) = self.sessions.get_mut(l.session) else { return };
        let flow = Flow {
            handle: l.local_handle,
            delivery_count: Some(l.delivery_count),
            link_credit: Some(l.credit),
            drain: l.drain,
            available: (l.role == Role::Sender).then_some(u32::from(l.unsent.is_some())),
            echo,
            ..session.flow()
        };
        let channel = session.local_channel;
        self.send_frame(channel, &Performative::Flow(Box::new(flow)));
    }

    pub(crate) fn send_session_flow(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id).filter(|s| s.is_mapped()) else { return };
        let flow = session.flow();
        let channel = session.local_channel;
        self.send_frame(channel, &Performative::Flow(Box::new(flow)));
    }

    pub(crate) fn on_flow(&mut self, id: SessionId, flow: Flow) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let was_closed = session.remote_incoming_window == 0;
        // What the peer takes counts from what it has seen; what is on its way to it is off. Without an id it has seen nothing.
        let in_flight = session.next_outgoing_id.wrapping_sub(flow.next_incoming_id.unwrap_or(0));
        session.remote_incoming_window = flow.incoming_window.saturating_sub(in_flight);
        session.next_incoming_id = flow.next_outgoing_id;
        let opened = was_closed && session.remote_incoming_window > 0;
        let link = match flow.handle {
            None => None,
            Some(handle) => match session.remote_handles.get(handle) {
                Some(link) => Some(link),
                None => {
                    let text = format!("flow for handle {handle}, which has no link");
                    return self.session_error(id, condition::UNATTACHED_HANDLE, text);
                }
            },
        };
        if let Some(link) = link {
            self.on_link_flow(link, &flow);
        }
        if opened {
            self.window_opened(id, link);
        }
        if flow.echo {
            match link {
                Some(link) => self.send_link_flow(link, false),
                None => self.send_session_flow(id),
            }
        }
    }

    fn on_link_flow(&mut self, link: LinkId, flow: &Flow) {
        let Some(l) = self.links.get_mut(link).filter(|l| l.state != State::DetachSent) else { return };
        match l.role {
            Role::Sender => {
                // Credit is absolute: the receiver's count plus its credit, less what was sent since.
                // Counts wrap; credit does not, and "as much as you like" is sent as its maximum.
                let since = l.delivery_count.wrapping_sub(flow.delivery_count.unwrap_or(0));
                l.credit = flow.link_credit.unwrap_or(0).saturating_sub(since);
                l.drain = flow.drain;
            }
            Role::Receiver => {
                let Some(count) = flow.delivery_count else { return };
                let used = count.wrapping_sub(l.delivery_count);
                if used <= l.credit {
                    l.credit -= used;
                    l.delivery_count = count;
                }
                l.drain = l.drain && l.credit > 0;
            }
        }
        if matches!(l.state, State::Attached) {
            let (credit, drain) = (l.credit, flow.drain);
            let (available, properties) = (flow.available, flow.properties.clone());
            self.events.push_back(Event::LinkFlow(LinkFlow { link, credit, drain, available, properties }));
        }
    }

    /// The session's window opened: finish what is half-sent, then tell the links that may go on.
    fn window_opened(&mut self, id: SessionId, told: Option<LinkId>) {
        let Some(session) = self.sessions.get(id) else { return };
        let links: Vec<LinkId> = session.local_handles.ids().collect();
        for link in &links {
            self.continue_send(*link);
        }
        for link in links {
            if Some(link) != told && self.sendable(link) > 0 {
                self.push_flow(link);
            }
        }
    }

    pub(crate) fn push_flow(&mut self, link: LinkId) {
        if let Some(l) = self.links.get(link) {
            let (credit, drain) = (l.credit, l.drain);
            let flow = LinkFlow { link, credit, drain, available: None, properties: Map::new() };
            self.events.push_back(Event::LinkFlow(flow));
        }
    }

    pub(crate) fn on_disposition(&mut self, session: SessionId, disposition: Disposition) {
        let Disposition { role, first, last, settled, state, .. } = disposition;
        let last = last.unwrap_or(first);
        self.events.push_back(Event::Disposition { session, role, first, last, settled, state });
    }
}
