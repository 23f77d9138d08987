use bytes::Bytes;

use super::{LinkId, SessionId};
use crate::performative::{
    AmqpError, Attach, Begin, DeliveryState, DeliveryTag, Open, Role, SaslCode, SenderSettleMode,
};
use crate::wire::{Map, Symbol};

/// What the peer did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client wants to authenticate: answer with `sasl_outcome` or `sasl_challenge`. Only without `accept_all`.
    SaslInit {
        /// The mechanism it chose.
        mechanism: Symbol,
        /// Its first response. Often a secret.
        response: Bytes,
        /// Whom it wants to talk to.
        hostname: Option<String>,
    },
    /// The client's answer to a challenge.
    SaslResponse(Bytes),
    /// The peer's open. Ours was sent before, or in answer.
    Opened(Box<Open>),
    /// A session is up: begun by the peer and accepted, or begun by us and answered.
    SessionBegun {
        /// The session.
        session: SessionId,
        /// The peer's begin.
        begin: Box<Begin>,
        /// Whether the peer began it.
        remote_initiated: bool,
    },
    /// A session is over, after a `Detached` for each of its links.
    SessionEnded {
        /// The session. The id is no longer valid.
        session: SessionId,
        /// What the peer, or we, gave as the reason.
        error: Option<AmqpError>,
        /// Who began to end it.
        by: Side,
    },
    /// The peer wants a link: answer with `accept` or `refuse`, now or later.
    AttachRequested {
        /// Its session.
        session: SessionId,
        /// The link.
        link: LinkId,
        /// The peer's attach.
        attach: Box<Attach>,
    },
    /// The answer to our attach. Without a source and target of its own the peer refuses, and `Detached` follows.
    Attached {
        /// The link.
        link: LinkId,
        /// The peer's attach.
        attach: Box<Attach>,
    },
    /// On a sending link: sending may be possible now, because of credit or because the session's window opened. On a receiving
    /// link: what the sender says of itself, such as the end of a drain.
    LinkFlow(LinkFlow),
    /// A complete delivery.
    Delivery(Delivery),
    /// The peer says what became of deliveries.
    Disposition {
        /// The session.
        session: SessionId,
        /// The peer's role: `Receiver` speaks of what we sent.
        role: Role,
        /// First delivery id.
        first: u32,
        /// Last delivery id, inclusive. Ids wrap around.
        last: u32,
        /// Whether the peer has forgotten them.
        settled: bool,
        /// What became of them.
        state: Option<DeliveryState>,
    },
    /// A link is over.
    Detached {
        /// The link. The id is no longer valid.
        link: LinkId,
        /// Whether it ended for good.
        closed: bool,
        /// The reason, of whoever began.
        error: Option<AmqpError>,
        /// Who began to detach.
        by: Side,
    },
    /// The connection is over. The last event.
    Closed(CloseReason),
}

/// Who began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This end.
    Local,
    /// The peer.
    Remote,
}

/// The state of a link after a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkFlow {
    /// The link.
    pub link: LinkId,
    /// Deliveries that may still be sent on it.
    pub credit: u32,
    /// On a sending link: the peer asks to use the credit up, or to give it back with `drained`.
    pub drain: bool,
    /// Deliveries the sender has waiting, if it said so.
    pub available: Option<u32>,
    /// Anything else.
    pub properties: Map,
}

/// A delivery that arrived completely.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The link.
    pub link: LinkId,
    /// Its session.
    pub session: SessionId,
    /// The delivery's id in the session.
    pub delivery_id: u32,
    /// The sender's tag.
    pub tag: DeliveryTag,
    /// How the message is encoded: 0, or [`BATCH_FORMAT`](crate::message::BATCH_FORMAT) for a batch.
    pub message_format: u32,
    /// Whether the sender has forgotten it already. Otherwise it waits for a disposition.
    pub settled: bool,
    /// The encoded message. A slice of what was fed, unless it came in several frames.
    pub payload: Bytes,
    /// The state at the sender.
    pub state: Option<DeliveryState>,
    /// The answer may wait for others.
    pub batchable: bool,
}

/// What is known of a link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkInfo {
    /// Its session.
    pub session: SessionId,
    /// Its name.
    pub name: String,
    /// Our end of it.
    pub role: Role,
    /// Deliveries that may still be sent on it, by whichever end sends.
    pub credit: u32,
    /// Deliveries so far.
    pub delivery_count: u32,
    /// How the sender settles.
    pub snd_settle_mode: SenderSettleMode,
    /// The largest message the peer takes.
    pub remote_max_message_size: Option<u64>,
    /// Whether a delivery is sent in part and waits for the session's window.
    pub unsent: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq)]
pub enum CloseReason {
    /// The peer closed.
    Peer(Option<AmqpError>),
    /// We closed and the peer confirmed, or did not within the time.
    Local,
    /// The peer broke the protocol and was told so.
    Violation(AmqpError),
    /// The peer speaks another protocol or version; its first eight bytes.
    Protocol([u8; 8]),
    /// The peer sent nothing for too long.
    IdleTimeout,
    /// The byte stream ended without a close.
    Eof,
    /// SASL ended without success.
    SaslRefused(SaslCode),
    /// The server offers none of what the client can do.
    SaslMechanisms(Vec<Symbol>),
}
