//! What happens on links, apart from transfers.

use super::composite::composite;
use super::{AmqpError, DeliveryState, ReceiverSettleMode, Role, SenderSettleMode, Source, Target};
use crate::wire::{Map, Symbol};

composite! {
    /// Attaches a link to a session.
    pub struct Attach = 0x12 "amqp:attach:list" {
        /// The link's name, unique between two containers for each direction.
        name: String,
        /// The number this end uses for it in the session.
        handle: u32,
        /// Which end of the link this is.
        role: Role,
        /// How the sender settles.
        snd_settle_mode: SenderSettleMode = SenderSettleMode::Mixed,
        /// How the receiver settles.
        rcv_settle_mode: ReceiverSettleMode = ReceiverSettleMode::First,
        /// Where messages come from; null in an answer that refuses.
        source: Option<Source>,
        /// Where messages go to; null in an answer that refuses.
        target: Option<Target>,
        /// Deliveries whose fate is open from an earlier life of the link.
        unsettled: Map,
        /// Whether that map is complete.
        incomplete_unsettled: bool = false,
        /// The sender's first delivery count. Mandatory for a sender.
        initial_delivery_count: Option<u32>,
        /// The largest message this end takes; none or 0 is no limit.
        max_message_size: Option<u64>,
        /// Extensions it can use.
        offered_capabilities: Vec<Symbol>,
        /// Extensions it would like.
        desired_capabilities: Vec<Symbol>,
        /// Anything else, such as an owner level.
        properties: Map,
    }
}

composite! {
    /// Moves the session's windows and, with a handle, a link's credit.
    pub struct Flow = 0x13 "amqp:flow:list" {
        /// The next transfer id this end expects; none before it saw the peer's begin.
        next_incoming_id: Option<u32>,
        /// How many transfer frames it takes from there.
        incoming_window: u32,
        /// The next transfer id it will send.
        next_outgoing_id: u32,
        /// How many it can send.
        outgoing_window: u32,
        /// The link, if the rest is about one.
        handle: Option<u32>,
        /// Where the sender's delivery count is, as this end knows it.
        delivery_count: Option<u32>,
        /// Deliveries the receiver takes from there.
        link_credit: Option<u32>,
        /// Deliveries the sender has waiting.
        available: Option<u32>,
        /// The sender is to use the credit up or give it back.
        drain: bool = false,
        /// Please answer with a flow.
        echo: bool = false,
        /// Anything else.
        properties: Map,
    }
}

composite! {
    /// Says what became of a range of deliveries.
    pub struct Disposition = 0x15 "amqp:disposition:list" {
        /// Which end of the link says it.
        role: Role,
        /// The first delivery id.
        first: u32,
        /// The last one; none if it is the first.
        last: Option<u32>,
        /// Whether this end has forgotten them.
        settled: bool = false,
        /// What became of them.
        state: Option<DeliveryState>,
        /// The answer may wait for others.
        batchable: bool = false,
    }
}

composite! {
    /// Detaches a link.
    pub struct Detach = 0x16 "amqp:detach:list" {
        /// The link.
        handle: u32,
        /// Whether the link ends for good, or may be resumed.
        closed: bool = false,
        /// Why, unless all is well.
        error: Option<AmqpError>,
    }
}

impl Attach {
    /// An attach with the standard's defaults. The engine fills in the handle.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            handle: 0,
            role,
            snd_settle_mode: SenderSettleMode::Mixed,
            rcv_settle_mode: ReceiverSettleMode::First,
            source: None,
            target: None,
            unsettled: Map::new(),
            incomplete_unsettled: false,
            initial_delivery_count: (role == Role::Sender).then_some(0),
            max_message_size: None,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::new(),
        }
    }

    /// A receiver for the messages of `address`.
    pub fn receiver(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self { source: Some(Source::new(address)), target: Some(Target::default()), ..Self::new(name, Role::Receiver) }
    }

    /// A sender of messages to `address`.
    pub fn sender(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self { source: Some(Source::default()), target: Some(Target::new(address)), ..Self::new(name, Role::Sender) }
    }

    /// The answer that takes `remote` as it is: other role, same name, source (with its filters), target and sender settle mode;
    /// receivers settle first, which is the mode everybody has.
    #[must_use]
    pub fn answer(remote: &Self) -> Self {
        Self {
            snd_settle_mode: remote.snd_settle_mode,
            source: remote.source.clone(),
            target: remote.target.clone(),
            ..Self::new(remote.name.clone(), remote.role.opposite())
        }
    }
}
