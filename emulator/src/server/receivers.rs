//! Clients that receive: attach, credit, pushing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use weir_amqp::engine::{LinkFlow, LinkId, SendError, SendOptions};
use weir_amqp::performative::{AmqpError, Attach, SenderSettleMode, condition};
use weir_amqp::wire::Value;

use super::limits::{OUTPUT_BYTES, TURN_BYTES};
use super::peer::{Due, Kind, Peer, Request, done};
use super::{errors, metric};
use crate::faults::{Action, Moment, Role, Scope, Strike};
use crate::model::{Hub, Partition, ReaderRefused, Run, StartPosition, now_ms};

/// Events that a receiver gets before the next one has its turn: what fits one write.
const TURN: usize = 256;

/// The owner level, in the attach's properties.
const EPOCH: &str = "com.microsoft:epoch";

/// The filters with which clients state the start position, by name or by the name of the described value.
const SELECTOR: &str = "apache.org:selector-filter:string";

/// A client that receives from a partition.
pub(super) struct Receiver {
    pub(super) partition: Arc<Partition>,
    pub(super) scope: Scope,
    /// Sequence number of the next event to push.
    position: Arc<AtomicI64>,
    settled: bool,
    /// The client wants to know with each event where the partition ends.
    metric: bool,
    /// The partition will tell when there are events.
    waiting: bool,
    /// The client wants its credit back when nothing is left to push.
    drain: bool,
    /// It is among those with something to push.
    pub(super) queued: bool,
    hold: Hold,
}

/// Where a delay fault has a receiver.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    None,
    /// Nothing is pushed before this time.
    Until(Instant),
}

impl Peer {
    pub(super) fn attach_receiver(
        &mut self,
        request: Request,
        hub: &str,
        group: &str,
        partition: &str,
        now: Instant,
    ) -> Result<(), AmqpError> {
        let hub = self.namespace.hub(hub).map_err(|why| errors::not_found(hub, why))?;
        if !hub.groups.has(group) {
            return Err(errors::not_found(
                group,
                format_args!("the event hub {:?} has no such consumer group", hub.name),
            ));
        }
        let partition = hub.partition(partition).ok_or_else(|| no_partition(&hub, partition))?;
        let start = start_position(&request.attach)?;
        let level = owner_level(&request.attach)?;
        let scope = Scope {
            hub: Some(hub.name.to_string()),
            partition: Some(partition.id),
            group: Some(group.to_owned()),
            role: Some(Role::Receiver),
            connection: self.client.id,
        };
        let strike = self.strikes(Moment::Attach, &scope, now);
        if let Some(strike) = strike.filter(|strike| strike.action == Action::Busy || strike.action == Action::Refuse) {
            return Err(errors::of_strike(&strike));
        }

        let joined = partition.with_readers(|readers| readers.join(group, self.client.id, request.number, level));
        let mut refusal = None;
        match joined {
            Ok(evicted) => {
                for eviction in evicted {
                    let by = format!(
                        "a receiver with owner level {} took partition {} of {} in consumer group {group}",
                        level.unwrap_or_default(),
                        partition.id,
                        hub.name
                    );
                    self.namespace.evict(eviction.connection, eviction.link, &by);
                }
            }
            // As in the service: attached, then closed with the reason, which the clients read better than a refusal.
            Err(why @ ReaderRefused::Owned { .. }) => refusal = Some(errors::refused(&why)),
            Err(why) => return Err(errors::refused(&why)),
        }

        let position = Arc::new(AtomicI64::new(partition.resolve(&start, now_ms())));
        let settled = request.attach.snd_settle_mode != SenderSettleMode::Unsettled;
        let metric = metric::is_asked(&request.attach);
        let answer = Attach {
            max_message_size: Some(super::MAX_MESSAGE_BYTES),
            offered_capabilities: metric::offered(metric),
            ..Attach::answer(&request.attach)
        };
        let receiver = Receiver {
            partition,
            scope: scope.clone(),
            position: Arc::clone(&position),
            settled,
            metric,
            waiting: false,
            drain: false,
            queued: false,
            hold: Hold::None,
        };
        self.accept(&request, answer, Kind::Receiver(Box::new(receiver)));
        self.client.attached(request.number, &request.attach.name, scope, position);
        if let Some(error) = refusal {
            self.detach(request.link, error);
        } else if let Some(strike) = strike {
            self.strike(strike, Some(request.link), now);
        }
        Ok(())
    }

    pub(super) fn on_flow(&mut self, flow: &LinkFlow) {
        match self.links.get_mut(&flow.link).map(|link| &mut link.kind) {
            Some(Kind::Receiver(receiver)) => {
                receiver.drain = flow.drain;
                self.push_soon(flow.link);
            }
            Some(Kind::Replies(_)) => self.send_replies(flow.link),
            _ => {}
        }
    }

    /// The partition has events for a receiver that waited.
    pub(super) fn has_arrived(&mut self, number: u64) {
        let Some(id) = self.by_number(number) else { return };
        if let Some(Kind::Receiver(receiver)) = self.links.get_mut(&id).map(|link| &mut link.kind) {
            receiver.waiting = false;
            self.push_soon(id);
        }
    }

    /// Lets the receiver have its turn, unless it waits for one already: flows come as often as the client likes.
    pub(super) fn push_soon(&mut self, id: LinkId) {
        if let Some(Kind::Receiver(receiver)) = self.links.get_mut(&id).map(|link| &mut link.kind)
            && !std::mem::replace(&mut receiver.queued, true)
        {
            self.pushable.push_back(id);
        }
    }

    /// Pushes events to the receivers in turn, until all wait for events or credit, or enough waits for the socket.
    pub(super) fn push_events(&mut self, now: Instant) {
        let mut runs = Vec::new();
        while self.engine.output_bytes() < OUTPUT_BYTES {
            let Some(link) = self.pushable.pop_front() else { return };
            if self.push_turn(link, &mut runs, now) {
                self.push_soon(link);
            }
            runs.clear();
        }
    }

    /// One receiver's turn; whether it wants another.
    fn push_turn(&mut self, id: LinkId, runs: &mut Vec<Run>, now: Instant) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let number = link.number;
        let Kind::Receiver(receiver) = &mut link.kind else { return false };
        receiver.queued = false;
        if matches!(receiver.hold, Hold::Until(until) if now < until) {
            return false;
        }
        let room = TURN.min(self.engine.sendable(id) as usize);
        if room == 0 {
            // A flow brings it back.
            return false;
        }
        let from = receiver.position.load(Ordering::Relaxed);
        let found = if receiver.waiting {
            receiver.partition.read(from, room, runs)
        } else {
            receiver.partition.read_or_wait(from, room, runs, &self.wake, number)
        };
        if found == 0 {
            receiver.waiting = true;
            if std::mem::take(&mut receiver.drain) {
                done(self.engine.drained(id));
            }
            return false;
        }
        let released = std::mem::replace(&mut receiver.hold, Hold::None) != Hold::None;
        if released || !self.namespace.faults().any() {
            return match push(&mut self.engine, id, receiver, runs) {
                Ok(()) => true,
                Err(error) => self.push_failed(id, error),
            };
        }
        self.push_counted(id, runs, now)
    }

    /// With faults about, events go one by one, so that each is counted exactly when it goes.
    fn push_counted(&mut self, id: LinkId, runs: &[Run], now: Instant) -> bool {
        for run in runs {
            for index in run.from..run.to {
                let Some(Kind::Receiver(receiver)) = self.links.get_mut(&id).map(|link| &mut link.kind) else {
                    return false;
                };
                if self.engine.sendable(id) == 0 {
                    return false;
                }
                if self.engine.output_bytes() >= TURN_BYTES {
                    return true;
                }
                let (passed, strike) = self.namespace.faults().strike_within(Moment::Delivery, &receiver.scope, 1, now);
                if let Some(Strike { action: Action::Delay, delay, .. }) = strike {
                    receiver.hold = Hold::Until(now + delay);
                    self.later(now + delay, Due::Push(id));
                    return false;
                }
                if passed > 0 {
                    let one = Run { block: Arc::clone(&run.block), from: index, to: index + 1 };
                    if let Err(error) = push(&mut self.engine, id, receiver, &[one]) {
                        return self.push_failed(id, error);
                    }
                }
                if let Some(strike) = strike {
                    self.strike(strike, Some(id), now);
                    return false;
                }
            }
        }
        true
    }

    fn push_failed(&mut self, id: LinkId, error: SendError) -> bool {
        if let SendError::TooLarge { max, .. } = error {
            self.detach(id, errors::too_large(max));
        }
        // Otherwise a flow brings it back.
        false
    }
}

fn push(
    engine: &mut weir_amqp::engine::Connection,
    link: LinkId,
    receiver: &Receiver,
    runs: &[Run],
) -> Result<(), SendError> {
    let options = SendOptions { settled: receiver.settled, ..SendOptions::default() };
    let metric = receiver.metric.then(|| {
        let now = now_ms();
        metric::section(&receiver.partition.state(now), now)
    });
    for run in runs {
        for index in run.from..run.to {
            if engine.output_bytes() >= TURN_BYTES {
                return Ok(());
            }
            let event = run.block.event_bytes(index);
            match &metric {
                None => engine.send(link, &options, &[event])?,
                Some(section) => engine.send(link, &options, &metric::with_section(&event, section))?,
            };
            receiver.position.store(run.block.first.saturating_add_unsigned(index as u64 + 1), Ordering::Relaxed);
        }
    }
    Ok(())
}

pub(super) fn no_partition(hub: &Hub, name: &str) -> AmqpError {
    let (name, count) = (name.chars().take(100).collect::<String>(), hub.partition_count());
    errors::out_of_range(format_args!(
        "the event hub {:?} has no partition {name:?}: its partitions are \"0\" to \"{}\"",
        hub.name,
        count.saturating_sub(1)
    ))
}

/// Without a filter a receiver begins at the oldest event, as in the service.
fn start_position(attach: &Attach) -> Result<StartPosition, AmqpError> {
    let Some(source) = &attach.source else { return Ok(StartPosition::Earliest) };
    let Some(filter) = source.filter.get(SELECTOR).or_else(|| source.filter.iter().map(|(_, value)| value).next())
    else {
        return Ok(StartPosition::Earliest);
    };
    let text = match filter {
        Value::Described(described) => described.value.as_str(),
        other => other.as_str(),
    };
    let invalid = |text: String| AmqpError::new(condition::INVALID_FIELD, text);
    let text = text.ok_or_else(|| invalid("the receiver's filter is not a string".into()))?;
    StartPosition::parse(text).map_err(|error| invalid(error.to_string()))
}

fn owner_level(attach: &Attach) -> Result<Option<i64>, AmqpError> {
    match attach.properties.get(EPOCH) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| {
            AmqpError::new(condition::INVALID_FIELD, format!("the property {EPOCH} is not a whole number"))
        }),
    }
}
