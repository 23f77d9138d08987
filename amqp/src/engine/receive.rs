//! Incoming transfers: counted, checked against window and credit, assembled if they come in pieces.

use bytes::{Bytes, BytesMut};

use super::connection::Connection;
use super::event::{Delivery, Event};
use super::ids::{LinkId, SessionId};
use super::link::State;
use crate::performative::{DeliveryState, DeliveryTag, Role, Transfer, condition};

/// A delivery of which some pieces have come.
#[derive(Debug)]
pub(crate) struct Incoming {
    delivery_id: u32,
    tag: DeliveryTag,
    message_format: u32,
    settled: bool,
    batchable: bool,
    state: Option<DeliveryState>,
    payload: BytesMut,
}

impl Connection {
    pub(crate) fn on_transfer(&mut self, id: SessionId, transfer: &Transfer, payload: Bytes) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.incoming_window == 0 {
            return self.session_error(id, condition::WINDOW_VIOLATION, "a transfer outside of the window".to_owned());
        }
        session.incoming_window -= 1;
        session.next_incoming_id = session.next_incoming_id.wrapping_add(1);
        let refill = session.incoming_window <= session.full_incoming_window / 2;
        match session.remote_handles.get(transfer.handle) {
            Some(link) => self.on_link_transfer(id, link, transfer, payload),
            None => {
                let text = format!("transfer on handle {}, which has no link", transfer.handle);
                return self.session_error(id, condition::UNATTACHED_HANDLE, text);
            }
        }
        if refill {
            self.send_session_flow(id);
        }
    }

    fn on_link_transfer(&mut self, session: SessionId, link: LinkId, transfer: &Transfer, payload: Bytes) {
        let Some(l) = self.links.get_mut(link) else { return };
        if l.state == State::DetachSent {
            return; // on its way before the peer saw our detach
        }
        if l.role != Role::Receiver {
            return self.link_error(link, condition::NOT_ALLOWED, "a transfer from the receiving end".to_owned());
        }
        if transfer.aborted {
            match l.incoming.take() {
                Some(_) => {}
                None => l.count(),
            }
            return self.top_up(link);
        }
        let max = l.max_incoming;
        let Some(mut incoming) = l.incoming.take() else {
            return self.first_piece(session, link, transfer, payload);
        };
        if transfer.delivery_id.is_some_and(|id| id != incoming.delivery_id) {
            let text = "a new delivery before the last one was complete".to_owned();
            return self.link_error(link, condition::INVALID_FIELD, text);
        }
        if incoming.payload.len() + payload.len() > max {
            return self.too_large(link, max);
        }
        incoming.payload.extend_from_slice(&payload);
        incoming.settled |= transfer.settled.unwrap_or(false);
        if transfer.state.is_some() {
            incoming.state.clone_from(&transfer.state);
        }
        if transfer.more {
            l.incoming = Some(incoming);
            return;
        }
        let Incoming { delivery_id, tag, message_format, settled, batchable, state, payload } = incoming;
        let payload = payload.freeze();
        self.deliver(Delivery { link, session, delivery_id, tag, message_format, settled, payload, state, batchable });
    }

    fn first_piece(&mut self, session: SessionId, link: LinkId, transfer: &Transfer, payload: Bytes) {
        let Some(l) = self.links.get_mut(link) else { return };
        if l.credit == 0 {
            let text = "a delivery without credit".to_owned();
            return self.link_error(link, condition::TRANSFER_LIMIT_EXCEEDED, text);
        }
        let max = l.max_incoming;
        if payload.len() > max {
            return self.too_large(link, max);
        }
        let Some(delivery_id) = transfer.delivery_id else {
            let text = "the first transfer of a delivery has no delivery-id".to_owned();
            return self.link_error(link, condition::INVALID_FIELD, text);
        };
        l.count();
        let tag = transfer.delivery_tag.unwrap_or_default();
        let message_format = transfer.message_format.unwrap_or(0);
        let settled = transfer.settled.unwrap_or(false);
        let (batchable, state) = (transfer.batchable, transfer.state.clone());
        if transfer.more {
            let mut pieces = BytesMut::with_capacity((payload.len() * 2).min(max));
            pieces.extend_from_slice(&payload);
            let payload = pieces;
            l.incoming = Some(Incoming { delivery_id, tag, message_format, settled, batchable, state, payload });
            return;
        }
        self.deliver(Delivery { link, session, delivery_id, tag, message_format, settled, payload, state, batchable });
    }

    fn too_large(&mut self, link: LinkId, max: usize) {
        let text = format!("the message is larger than the {max} bytes this link takes");
        self.link_error(link, condition::MESSAGE_SIZE_EXCEEDED, text);
    }

    fn deliver(&mut self, delivery: Delivery) {
        let link = delivery.link;
        self.events.push_back(Event::Delivery(delivery));
        self.top_up(link);
    }

    /// Keeps automatic credit up.
    fn top_up(&mut self, link: LinkId) {
        if let Some(l) = self.links.get_mut(link)
            && let Some(target) = l.auto_credit
            && l.credit <= target / 2
        {
            l.credit = target;
            self.send_link_flow(link, false);
        }
    }
}

impl super::link::Link {
    /// Counts a delivery that began.
    fn count(&mut self) {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.credit = self.credit.saturating_sub(1);
    }
}
