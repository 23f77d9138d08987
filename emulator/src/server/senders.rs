//! Clients that send: attach, transfers in, answers when they are safe.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use weir_amqp::engine::{Delivery, LinkId, SessionId};
use weir_amqp::message::BATCH_FORMAT;
use weir_amqp::performative::{AmqpError, Attach, DeliveryState, Role as End, condition};

use super::peer::{Due, Kind, Peer, Request, done};
use super::receivers::no_partition;
use super::{MAX_MESSAGE_BYTES, errors, ingest, limits};
use crate::faults::{Action, Moment, Role, Scope, Strike};
use crate::model::{Hub, Incoming, Partition};
use crate::store::{Batch, StoreError};

/// Transfers that a client may have under way on a link.
const CREDIT: u32 = 300;

/// Longest partition key, as in the service.
const MAX_KEY_CHARS: usize = 128;

/// A client that sends to a hub or to one of its partitions.
pub(super) struct Sender {
    hub: Arc<Hub>,
    partition: Option<Arc<Partition>>,
    pub(super) scope: Scope,
    /// Sequence number after the last event it sent.
    position: Arc<AtomicI64>,
}

/// A transfer that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    link: LinkId,
    session: SessionId,
    delivery: u32,
    settled: bool,
    /// What it costs while it waits for the journal.
    bytes: usize,
    strike: Option<Strike>,
}

impl Peer {
    pub(super) fn attach_sender(
        &mut self,
        request: Request,
        hub: &str,
        partition: Option<&str>,
        now: Instant,
    ) -> Result<(), AmqpError> {
        let hub = self.namespace.hub(hub).map_err(|why| errors::not_found(hub, why))?;
        let partition = match partition {
            Some(name) => Some(hub.partition(name).ok_or_else(|| no_partition(&hub, name))?),
            None => None,
        };
        let scope = Scope {
            hub: Some(hub.name.to_string()),
            partition: partition.as_ref().map(|partition| partition.id),
            group: None,
            role: Some(Role::Sender),
            connection: self.client.id,
        };
        let strike = self.strikes(Moment::Attach, &scope, now);
        if let Some(strike) = strike.filter(|strike| strike.action == Action::Busy || strike.action == Action::Refuse) {
            return Err(errors::of_strike(&strike));
        }
        let answer = Attach { max_message_size: Some(MAX_MESSAGE_BYTES), ..Attach::answer(&request.attach) };
        let position = Arc::new(AtomicI64::new(0));
        let sender = Sender { hub, partition, scope: scope.clone(), position: Arc::clone(&position) };
        self.accept(&request, answer, Kind::Sender(Box::new(sender)));
        self.client.attached(request.number, &request.attach.name, scope, position);
        done(self.engine.set_auto_credit(request.link, Some(CREDIT)));
        if let Some(strike) = strike {
            self.strike(strike, Some(request.link), now);
        }
        Ok(())
    }

    pub(super) fn on_delivery(&mut self, delivery: Delivery, now: Instant) {
        match self.links.get(&delivery.link).map(|link| &link.kind) {
            Some(Kind::Sender(_)) => self.take_in(&delivery, now),
            Some(Kind::Requests(service)) => {
                let service = *service;
                self.on_request(service, &delivery, now);
            }
            _ => {}
        }
    }

    fn take_in(&mut self, delivery: &Delivery, now: Instant) {
        let sent = Sent {
            link: delivery.link,
            session: delivery.session,
            delivery: delivery.delivery_id,
            settled: delivery.settled,
            bytes: delivery.payload.len(),
            strike: None,
        };
        if delivery.payload.len() as u64 > MAX_MESSAGE_BYTES {
            return self.detach(delivery.link, errors::too_large(MAX_MESSAGE_BYTES));
        }
        if let Err(error) = self.store(delivery, sent.clone(), now) {
            self.settle(&sent, DeliveryState::Rejected { error: Some(error) });
        }
    }

    fn store(&mut self, delivery: &Delivery, mut sent: Sent, now: Instant) -> Result<(), AmqpError> {
        let Some(Kind::Sender(sender)) = self.links.get(&delivery.link).map(|link| &link.kind) else { return Ok(()) };
        let bad = |error: ingest::BadMessage| AmqpError::new(condition::DECODE_ERROR, error.to_string());
        let (key, events) = if delivery.message_format == BATCH_FORMAT {
            let (key, events) = ingest::batch(&delivery.payload).map_err(bad)?;
            (key.or_else(|| events.first().and_then(|event| event.key.clone())), events)
        } else {
            let event = ingest::event(&delivery.payload).map_err(bad)?;
            (event.key.clone(), vec![event])
        };
        if key.as_ref().is_some_and(|key| key.chars().count() > MAX_KEY_CHARS) {
            return Err(errors::out_of_range(format_args!("a partition key has at most {MAX_KEY_CHARS} characters")));
        }
        let partition = match &sender.partition {
            Some(partition) => Arc::clone(partition),
            None => sender
                .hub
                .route(key.as_deref())
                .ok_or_else(|| errors::not_found(&sender.hub.name, "it has no partition"))?,
        };
        let scope = Scope { partition: Some(partition.id), ..sender.scope.clone() };
        sent.strike = self.strikes(Moment::Send, &scope, now);
        match sent.strike {
            Some(strike) if matches!(strike.action, Action::Busy | Action::Refuse) => {
                return Err(errors::of_strike(&strike));
            }
            Some(strike) if !matches!(strike.action, Action::Delay | Action::LoseAnswer) => {
                self.strike(strike, Some(delivery.link), now);
                return Ok(());
            }
            _ => {}
        }
        let bytes = limits::cost(sent.bytes) + events.len() * size_of::<Incoming>();
        sent.bytes = bytes;
        let number = self.namespace.next_id();
        self.sends_bytes += bytes;
        self.sends.insert(number, sent);
        let client = Arc::clone(&self.client);
        let done = Box::new(move |result| client.appended(number, result));
        self.parked = self.namespace.append(Batch { partition, events, bytes, done }).err();
        Ok(())
    }

    /// Tries again to hand over what the journal had no room for. Nothing else was taken from the client since: its
    /// events keep their order.
    pub(super) fn unpark(&mut self) {
        if let Some(batch) = self.parked.take() {
            self.parked = self.namespace.append(batch).err();
        }
    }

    /// A send is safe, or failed.
    pub(super) fn appended(&mut self, number: u64, result: Result<Range<i64>, StoreError>, now: Instant) {
        let Some(sent) = self.sends.remove(&number) else { return };
        self.sends_bytes -= sent.bytes;
        if let (Ok(range), Some(Kind::Sender(sender))) = (&result, self.links.get(&sent.link).map(|link| &link.kind)) {
            sender.position.store(range.end, Ordering::Relaxed);
        }
        let state = match result {
            Ok(_) => DeliveryState::Accepted,
            Err(error) => {
                tracing::error!(%error, "events were not taken in");
                DeliveryState::Rejected { error: Some(errors::store(&error)) }
            }
        };
        match sent.strike {
            Some(strike) if strike.action == Action::LoseAnswer => self.strike(strike, Some(sent.link), now),
            Some(strike) => self.later(now + strike.delay, Due::Settle(sent, state)),
            None => self.settle(&sent, state),
        }
    }

    pub(super) fn settle(&mut self, sent: &Sent, state: DeliveryState) {
        if !sent.settled {
            done(self.engine.disposition(sent.session, End::Receiver, sent.delivery, sent.delivery, true, Some(state)));
        }
    }
}
