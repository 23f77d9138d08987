//! The two nodes that answer requests: `$cbs` takes tokens, `$management` tells of hubs and partitions.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use weir_amqp::engine::{Delivery, LinkId, SendOptions};
use weir_amqp::message::{Message, MessageParts, OwnedProperties};
use weir_amqp::performative::{AmqpError, Attach, DeliveryState, Role as End, condition};
use weir_amqp::wire::{Array, DecodeError, Map, Value};

use super::errors;
use super::limits::{REPLIES_BYTES, cost};
use super::peer::{Due, Kind, Peer, Request, done};
use super::receivers::no_partition;
use crate::faults::{Action, Moment, Scope};
use crate::model::now_ms;

/// Requests that a client may have under way on a link.
const CREDIT: u32 = 100;

/// The service's zero, year 1 of our calendar: the enqueued time of a partition that never had an event.
const YEAR_1_MS: i64 = -62_135_596_800_000;

/// A node that answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// `$cbs`.
    Cbs,
    /// `$management`.
    Management,
}

/// The link on which a client receives replies.
pub(super) struct Reply {
    service: Service,
    address: Option<String>,
    waiting: VecDeque<Bytes>,
}

impl Reply {
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|message| cost(message.len())).sum()
    }
}

/// What an answer says.
struct Answer {
    status: i32,
    description: String,
    condition: Option<&'static str>,
    body: Map,
}

impl Answer {
    fn new(status: i32, description: impl Into<String>) -> Self {
        Self { status, description: description.into(), condition: None, body: Map::new() }
    }

    fn refused(status: i32, error: &AmqpError) -> Self {
        let condition = match status {
            401 => "amqp:unauthorized-access",
            404 => "amqp:not-found",
            503 => "com.microsoft:server-busy",
            _ => "com.microsoft:argument-error",
        };
        Self { condition: Some(condition), ..Self::new(status, error.description.clone().unwrap_or_default()) }
    }
}

impl Peer {
    pub(super) fn attach_service(&mut self, request: Request, service: Service) -> Result<(), AmqpError> {
        let answer = Attach { max_message_size: Some(super::MAX_MESSAGE_BYTES), ..Attach::answer(&request.attach) };
        match request.attach.role {
            End::Sender => {
                self.accept(&request, answer, Kind::Requests(service));
                done(self.engine.set_auto_credit(request.link, Some(CREDIT)));
            }
            End::Receiver => {
                let address = request.attach.target.as_ref().and_then(|target| target.address.clone());
                self.accept(&request, answer, Kind::Replies(Reply { service, address, waiting: VecDeque::new() }));
            }
        }
        Ok(())
    }

    pub(super) fn on_request(&mut self, service: Service, delivery: &Delivery, now: Instant) {
        let asked = match Asked::read(&delivery.payload) {
            Ok(asked) => asked,
            Err(error) => {
                let error = AmqpError::new(condition::DECODE_ERROR, error.to_string());
                return self.answer_delivery(delivery, DeliveryState::Rejected { error: Some(error) });
            }
        };
        self.answer_delivery(delivery, DeliveryState::Accepted);
        let (moment, hub) = match service {
            Service::Cbs => (Moment::Token, asked.text("name").and_then(hub_of_audience)),
            Service::Management => (Moment::Properties, asked.text("name").map(str::to_owned)),
        };
        let partition = asked.text("partition").and_then(|id| id.parse().ok());
        let scope = Scope { hub, partition, connection: self.client.id, ..Scope::default() };
        let strike = self.strikes(moment, &scope, now);
        if let Some(strike) = strike
            && !matches!(strike.action, Action::Busy | Action::Refuse | Action::Delay)
        {
            return self.strike(strike, Some(delivery.link), now);
        }
        let Some(link) = self.reply_link(service, asked.reply_to.as_deref()) else {
            tracing::debug!(connection = self.client.id, ?service, reply_to = ?asked.reply_to, "nobody reads the answer");
            return;
        };
        let answer = match strike {
            Some(strike) if strike.action == Action::Busy => Answer::refused(503, &errors::of_strike(&strike)),
            Some(strike) if strike.action == Action::Refuse => Answer::refused(401, &errors::of_strike(&strike)),
            _ => match service {
                // Any token will do: this namespace guards nothing.
                Service::Cbs => Answer::new(202, "Accepted"),
                Service::Management => self.properties(&asked),
            },
        };
        let message = answer.encode(&asked);
        match strike {
            Some(strike) => self.later(now + strike.delay, Due::Reply(link, message)),
            None => self.reply(link, message),
        }
    }

    fn answer_delivery(&mut self, delivery: &Delivery, state: DeliveryState) {
        let id = delivery.delivery_id;
        if !delivery.settled {
            done(self.engine.disposition(delivery.session, End::Receiver, id, id, true, Some(state)));
        }
    }

    /// The link whose target is the reply address; without one (the Python client's `$cbs`), the node's only or last link.
    fn reply_link(&self, service: Service, reply_to: Option<&str>) -> Option<LinkId> {
        let of_service = |(id, link): (&LinkId, &super::peer::Link)| match &link.kind {
            Kind::Replies(reply) if reply.service == service => {
                let named = reply_to.is_some() && reply.address.as_deref() == reply_to;
                Some((named, link.number, *id))
            }
            _ => None,
        };
        self.links.iter().filter_map(of_service).max_by_key(|(named, number, _)| (*named, *number)).map(|(_, _, id)| id)
    }

    pub(super) fn reply(&mut self, link: LinkId, message: Bytes) {
        let Some(Kind::Replies(reply)) = self.links.get_mut(&link).map(|link| &mut link.kind) else { return };
        if self.replies_bytes >= REPLIES_BYTES {
            let text = format!("more than {REPLIES_BYTES} bytes of replies wait for credit on this connection");
            return self.detach(link, AmqpError::new(condition::RESOURCE_LIMIT_EXCEEDED, text));
        }
        self.replies_bytes += cost(message.len());
        reply.waiting.push_back(message);
        self.send_replies(link);
    }

    /// Sends replies while there is credit.
    pub(super) fn send_replies(&mut self, link: LinkId) {
        let Some(Kind::Replies(reply)) = self.links.get_mut(&link).map(|link| &mut link.kind) else { return };
        while self.engine.sendable(link) > 0
            && let Some(message) = reply.waiting.pop_front()
        {
            self.replies_bytes -= cost(message.len());
            done(self.engine.send(link, &SendOptions::settled(), &[message]));
        }
    }

    fn properties(&self, asked: &Asked) -> Answer {
        if asked.text("operation").is_none_or(|operation| !operation.eq_ignore_ascii_case("READ")) {
            return Answer::refused(400, &errors::out_of_range("the only operation is READ"));
        }
        let Some(name) = asked.text("name") else {
            return Answer::refused(400, &errors::out_of_range("the request names no event hub"));
        };
        let hub = match self.namespace.hub(name) {
            Ok(hub) => hub,
            Err(why) => return Answer::refused(404, &errors::not_found(name, why)),
        };
        let kind = asked.text("type").unwrap_or_default();
        let mut body = Map::new();
        body.insert("name", hub.name.to_string());
        body.insert("type", kind.to_owned());
        match kind {
            "com.microsoft:eventhub" => {
                let partitions = hub.partitions();
                let ids = partitions.iter().map(|partition| Value::from(partition.id.to_string())).collect();
                body.insert("created_at", Value::Timestamp(hub.created_ms));
                body.insert("partition_count", i32::try_from(partitions.len()).unwrap_or(i32::MAX));
                body.insert("partition_ids", Array::new(ids).map_or(Value::Null, Value::Array));
            }
            "com.microsoft:partition" => {
                // The Rust SDK sends a string, others may send a number.
                let id = asked.partition();
                let Some(partition) = id.as_deref().and_then(|id| hub.partition(id)) else {
                    return Answer::refused(404, &no_partition(&hub, id.as_deref().unwrap_or_default()));
                };
                let state = partition.state(now_ms());
                body.insert("partition", partition.id.to_string());
                body.insert("begin_sequence_number", state.begin);
                body.insert("last_enqueued_sequence_number", state.last);
                body.insert("last_enqueued_sequence_number_epoch", 0_i64);
                body.insert("begin_sequence_number_epoch", 0_i64);
                body.insert("last_enqueued_offset", state.last_offset.to_string());
                let time = state.last_enqueued_ms.unwrap_or(YEAR_1_MS);
                body.insert("last_enqueued_time_utc", Value::Timestamp(time));
                body.insert("is_partition_empty", state.is_empty());
            }
            _ => return Answer::refused(400, &errors::out_of_range(format_args!("nothing is known of type {kind:?}"))),
        }
        Answer { body, ..Answer::new(200, "OK") }
    }
}

/// The hub in a token's audience, such as `amqp://host/hub/Partitions/0`.
fn hub_of_audience(audience: &str) -> Option<String> {
    let path = audience.split_once("://").map_or(audience, |(_, rest)| rest);
    path.split('/').nth(1).filter(|hub| !hub.is_empty()).map(str::to_owned)
}

/// A request.
struct Asked {
    message_id: Option<Value>,
    reply_to: Option<String>,
    properties: Map,
}

impl Asked {
    fn read(payload: &Bytes) -> Result<Self, DecodeError> {
        let message = Message::parse(payload.clone())?;
        let properties = message.properties()?.unwrap_or_default();
        Ok(Self {
            message_id: properties.message_id.map(|id| id.to_value()).transpose()?,
            reply_to: properties.reply_to.map(str::to_owned),
            properties: message
                .application_properties()
                .map(|entries| entries.to_map())
                .transpose()?
                .unwrap_or_default(),
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.properties.get(key).and_then(Value::as_str)
    }

    fn partition(&self) -> Option<String> {
        let value = self.properties.get("partition")?;
        value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|id| id.to_string()))
    }
}

impl Answer {
    /// The message: correlation id, status under both spellings that clients look for, and the body as a value.
    fn encode(self, asked: &Asked) -> Bytes {
        let mut properties = Map::new();
        properties.insert("status-code", self.status);
        properties.insert("status-description", self.description.clone());
        properties.insert("statusCode", self.status);
        properties.insert("statusDescription", self.description);
        if let Some(condition) = self.condition {
            properties.insert("error-condition", Value::Symbol(condition.into()));
            properties.insert("errorCondition", Value::Symbol(condition.into()));
        }
        MessageParts {
            properties: OwnedProperties { correlation_id: asked.message_id.clone(), ..Default::default() },
            application_properties: properties,
            ..MessageParts::value(Value::Map(self.body))
        }
        .encode()
    }
}
