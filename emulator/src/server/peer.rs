//! A connected client: its engine, its links, and what happens to them. No socket and no clock in here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_amqp::engine::{Connection, ConnectionConfig, Event, LinkId, Output, ServerSasl, SessionId};
use weir_amqp::performative::{AmqpError, Attach, DeliveryState, Role as End, condition};
use weir_amqp::wire::Symbol;

use super::address::Node;
use super::receivers::Receiver;
use super::requests::{Reply, Service};
use super::senders::{Sender, Sent};
use super::{MAX_MESSAGE_BYTES, errors, limits};
use crate::connections::{Client, Command};
use crate::faults::{Action, Moment, Scope, Strike, Target};
use crate::model::Wake;
use crate::namespace::Namespace;
use crate::store::Batch;

/// How long a client may take to read what is left for it after the end.
const FLUSH: Duration = Duration::from_secs(2);

/// The service's value; clients answer with frames at half of it.
const IDLE: Duration = Duration::from_secs(120);

pub(super) struct Peer {
    pub(super) namespace: Arc<Namespace>,
    pub(super) client: Arc<Client>,
    pub(super) wake: Arc<dyn Wake>,
    pub(super) engine: Connection,
    pub(super) links: HashMap<LinkId, Link>,
    /// Receivers with something to push, in turn, each once.
    pub(super) pushable: VecDeque<LinkId>,
    /// Sends that wait for the journal, by number.
    pub(super) sends: HashMap<u64, Sent>,
    pub(super) sends_bytes: usize,
    /// A send that the journal has no room for. Nothing more is taken from the client before it is handed over.
    pub(super) parked: Option<Batch>,
    /// Replies that wait for credit, on all links.
    pub(super) replies_bytes: usize,
    timers: BTreeMap<(Instant, u64), Due>,
    /// What the timers hold back.
    pub(super) held_bytes: usize,
    stall: Option<(u64, Option<Instant>)>,
    reset: bool,
    finished: Option<Instant>,
}

/// A link of the client, from its answer to its end.
pub(super) struct Link {
    /// Its number in the namespace.
    pub(super) number: u64,
    pub(super) session: SessionId,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Receiver(Box<Receiver>),
    Sender(Box<Sender>),
    /// The client sends requests.
    Requests(Service),
    /// The client receives replies.
    Replies(Reply),
}

/// What a delay fault holds back.
pub(super) enum Due {
    /// A receiver goes on.
    Push(LinkId),
    /// A send is answered.
    Settle(Sent, DeliveryState),
    /// A request is answered.
    Reply(LinkId, Bytes),
}

impl Peer {
    pub(super) fn new(namespace: Arc<Namespace>, client: Arc<Client>, now: Instant) -> Self {
        let mut config = ConnectionConfig::new("weir-emulator");
        config.idle_timeout = Some(IDLE);
        // What is assembled from several frames; a link's own limit refuses larger messages.
        config.max_delivery_size = MAX_MESSAGE_BYTES as usize;
        config.properties.insert(Symbol::from_static("product"), "weir-emulator");
        config.properties.insert(Symbol::from_static("version"), env!("CARGO_PKG_VERSION"));
        let sasl = ServerSasl::accept_all(["MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"]);
        let wake: Arc<dyn Wake> = Arc::clone(&client) as _;
        Self {
            namespace,
            client,
            wake,
            engine: Connection::server(config, sasl, now),
            links: HashMap::new(),
            pushable: VecDeque::new(),
            sends: HashMap::new(),
            sends_bytes: 0,
            parked: None,
            replies_bytes: 0,
            timers: BTreeMap::new(),
            held_bytes: 0,
            stall: None,
            reset: false,
            finished: None,
        }
    }

    pub(super) fn feed(&mut self, chunk: Bytes, now: Instant) {
        self.engine.feed(chunk, now);
    }

    pub(super) fn feed_eof(&mut self) {
        self.engine.feed_eof();
    }

    pub(super) fn output(&mut self) -> &mut Output {
        self.engine.output()
    }

    pub(super) fn has_output(&self) -> bool {
        self.engine.has_output() && self.stall.is_none()
    }

    pub(super) fn wants_input(&self) -> bool {
        !self.engine.is_finished() && self.stall.is_none() && !self.is_full()
    }

    /// Whether the client waits for room in the journal's queue.
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether the socket can go.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.is_some_and(|since| !self.engine.has_output() || since.elapsed() >= FLUSH)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = self.timers.first_key_value().map(|((at, _), _)| *at);
        match self.stall {
            Some((_, until)) => until,
            None => {
                [self.engine.next_deadline(), due, self.finished.map(|since| since + FLUSH)].into_iter().flatten().min()
            }
        }
    }

    /// Does all there is to do now: what came in, what became of sends, what is due, what can be pushed.
    pub(super) fn turn(&mut self, now: Instant) {
        self.take_mail(now);
        match self.stall {
            Some((_, until)) if until.is_none_or(|until| now < until) => return,
            _ => self.stall = None,
        }
        self.unpark();
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.on_deadline(now);
        }
        self.react(now);
        // Sends in memory are done by now.
        self.take_mail(now);
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let due = entry.remove();
            self.held_bytes -= due.cost();
            match due {
                Due::Push(link) => self.push_soon(link),
                Due::Settle(sent, state) => self.settle(&sent, state),
                Due::Reply(link, message) => self.reply(link, message),
            }
        }
        self.push_events(now);
        self.react(now);
        if self.engine.is_finished() {
            self.finished.get_or_insert(now);
        }
    }

    /// Takes what came in, up to where the client has to wait. What is left over has its turn when there is room again;
    /// nothing is read on top of it.
    fn react(&mut self, now: Instant) {
        while (self.engine.is_finished() || !self.is_full())
            && let Some(event) = self.engine.next_event()
        {
            self.on_event(event, now);
        }
    }

    fn take_mail(&mut self, now: Instant) {
        let mail = self.client.take_mail();
        for number in mail.ready {
            self.has_arrived(number);
        }
        for (send, result) in mail.appended {
            self.appended(send, result, now);
        }
        for command in mail.commands {
            match command {
                Command::Evict { link, by } => {
                    if let Some(id) = self.by_number(link) {
                        self.detach(id, errors::stolen(by));
                    }
                }
                Command::Strike { strike, target } => self.strike_all(strike, &target, now),
                Command::Lift(id) => {
                    self.stall = self.stall.filter(|(fault, _)| id.is_some_and(|id| id != *fault));
                }
                Command::Close => {
                    self.stall = None;
                    let text = "the namespace is shutting down";
                    self.close(AmqpError::new(condition::CONNECTION_FORCED, text));
                    // Nobody waits for the client's answer.
                    self.finished.get_or_insert(now);
                }
            }
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Opened(open) => self.client.opened(&open.container_id),
            Event::AttachRequested { session, link, attach } => self.attach(session, link, *attach, now),
            Event::LinkFlow(flow) => self.on_flow(&flow),
            Event::Delivery(delivery) => self.on_delivery(delivery, now),
            Event::Detached { link, .. } => self.forget(link),
            Event::Closed(reason) => {
                tracing::debug!(connection = self.client.id, ?reason, "closed");
                self.forget_all();
            }
            // Events are pushed settled, or their fate is the client's: there is nothing to redeliver.
            Event::Disposition { .. } => {}
            _ => {}
        }
    }

    fn attach(&mut self, session: SessionId, link: LinkId, attach: Attach, now: Instant) {
        if let Some(error) = limits::too_many_links(self.engine.link_count(), &attach) {
            return self.close(error);
        }
        let request = Request { session, link, number: self.namespace.next_id(), attach };
        let node = request.address().and_then(Node::parse);
        let outcome = match (request.attach.role, node) {
            (End::Receiver, Some(Node::Egress { hub, group, partition })) => {
                self.attach_receiver(request, &hub, &group, &partition, now)
            }
            (End::Sender, Some(Node::Ingress { hub, partition })) => {
                self.attach_sender(request, &hub, partition.as_deref(), now)
            }
            (_, Some(Node::Cbs)) => self.attach_service(request, Service::Cbs),
            (_, Some(Node::Management)) => self.attach_service(request, Service::Management),
            _ => Err(errors::not_found(
                request.address().unwrap_or_default(),
                "events are sent to <hub> or <hub>/Partitions/<n>, and received from \
                 <hub>/ConsumerGroups/<group>/Partitions/<n>",
            )),
        };
        if let Err(error) = outcome {
            tracing::debug!(connection = self.client.id, %error, "link refused");
            done(self.engine.refuse(link, error));
        }
    }

    /// Accepts a link.
    pub(super) fn accept(&mut self, request: &Request, answer: Attach, kind: Kind) {
        if self.engine.accept(request.link, answer).is_ok() {
            self.links.insert(request.link, Link { number: request.number, session: request.session, kind });
        }
    }

    pub(super) fn by_number(&self, number: u64) -> Option<LinkId> {
        self.links.iter().find(|(_, link)| link.number == number).map(|(id, _)| *id)
    }

    /// Ends a link with an error.
    pub(super) fn detach(&mut self, link: LinkId, error: AmqpError) {
        self.forget(link);
        done(self.engine.detach(link, true, Some(error)));
    }

    fn close(&mut self, error: AmqpError) {
        self.forget_all();
        done(self.engine.close(Some(error)));
    }

    /// The link is no more: nobody waits for events, owns a partition or is listed on its behalf.
    fn forget(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        self.client.detached(link.number);
        match link.kind {
            Kind::Receiver(receiver) => {
                if receiver.queued {
                    self.pushable.retain(|queued| *queued != id);
                }
                receiver.partition.stop_waiting(&self.wake, link.number);
                receiver.partition.with_readers(|readers| readers.leave(self.client.id, link.number));
            }
            Kind::Replies(reply) => self.replies_bytes -= reply.waiting_bytes(),
            Kind::Sender(_) | Kind::Requests(_) => {}
        }
    }

    fn forget_all(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.forget(link));
        self.parked = None;
        self.timers.clear();
        self.held_bytes = 0;
    }

    pub(super) fn later(&mut self, at: Instant, due: Due) {
        self.held_bytes += due.cost();
        self.timers.insert((at, self.namespace.next_id()), due);
    }

    /// Whether a fault strikes at this moment.
    pub(super) fn strikes(&self, at: Moment, scope: &Scope, now: Instant) -> Option<Strike> {
        self.namespace.faults().strike(at, scope, now)
    }

    /// A fault strikes a link, or through it its session or connection.
    pub(super) fn strike(&mut self, strike: Strike, link: Option<LinkId>, now: Instant) {
        let error = errors::of_strike(&strike);
        match (strike.action, link) {
            (Action::Reset, _) => self.reset = true,
            (Action::Stall, _) => self.stall = Some((strike.id, strike.lasting.map(|time| now + time))),
            (Action::Close, _) => self.close(error),
            (Action::EndSession, Some(link)) => {
                if let Some(session) = self.links.get(&link).map(|link| link.session) {
                    done(self.engine.end(session, Some(error)));
                }
            }
            (Action::Delay, _) | (_, None) => {}
            (_, Some(link)) => self.detach(link, error),
        }
    }

    fn strike_all(&mut self, strike: Strike, target: &Target, now: Instant) {
        if matches!(strike.action, Action::Reset | Action::Stall | Action::Close) {
            return self.strike(strike, None, now);
        }
        let hit = |link: &Link| link.kind.scope().is_some_and(|scope| target.matches(scope));
        let links: Vec<LinkId> = self.links.iter().filter(|(_, link)| hit(link)).map(|(id, _)| *id).collect();
        links.into_iter().for_each(|link| self.strike(strike, Some(link), now));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.forget_all();
        self.namespace.leave(self.client.id);
    }
}

impl Kind {
    fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Receiver(receiver) => Some(&receiver.scope),
            Self::Sender(sender) => Some(&sender.scope),
            Self::Requests(_) | Self::Replies(_) => None,
        }
    }
}

/// A link that the client asks for.
pub(super) struct Request {
    pub(super) session: SessionId,
    pub(super) link: LinkId,
    pub(super) number: u64,
    pub(super) attach: Attach,
}

impl Request {
    /// What the client wants to be attached to: a receiver names a source, a sender a target.
    fn address(&self) -> Option<&str> {
        match self.attach.role {
            End::Receiver => self.attach.source.as_ref()?.address.as_deref(),
            End::Sender => self.attach.target.as_ref()?.address.as_deref(),
        }
    }
}

/// A command to the engine fails only if the client was faster: the link, session or connection is gone.
pub(super) fn done<T, E: std::fmt::Display>(result: Result<T, E>) {
    if let Err(error) = result {
        tracing::trace!(%error, "too late");
    }
}
