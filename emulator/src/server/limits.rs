//! What a client can make the namespace hold for it. Everything that grows with what a client says is bounded here.
//!
//! A client that does not read its answers, or sends faster than the journal takes it, has to wait: nothing more is
//! taken from it until there is room. TCP tells it so, nothing is lost, and no other connection notices. One that never
//! goes on ends by the idle timeout. Only what no waiting can bound (links, replies without credit) is refused.

use weir_amqp::performative::{AmqpError, Attach, condition};

use super::peer::{Due, Peer};

/// Output that may wait for the socket before no more events are pushed.
pub(super) const OUTPUT_BYTES: usize = 256 << 10;

/// Output behind which one receiver's turn ends, so that 256 large events don't pile up at once.
pub(super) const TURN_BYTES: usize = 1 << 20;

/// Output that may wait before nothing more is taken from the client. Well above what the pushing of events leaves (a
/// turn and one event), or a client that receives all it can would not be heard.
pub(super) const UNREAD_BYTES: usize = 4 << 20;

/// A client's sends that may wait for the journal before nothing more is taken from it. All clients together share the
/// journal's own bound; this one keeps a single client from filling it.
const SENDS_BYTES: usize = 8 << 20;

/// Answers that a delay fault may hold back before nothing more is taken from the client.
const HELD_BYTES: usize = 4 << 20;

/// Replies that may wait for credit; a client that asks on without giving any loses the link.
pub(super) const REPLIES_BYTES: usize = 1 << 20;

/// Links of a connection, those included whose detach the client never answered.
const MAX_LINKS: usize = 5000;

/// Longest name of a link or of an address to reply to; the clients' have less than 200 bytes.
const MAX_NAME_BYTES: usize = 1024;

/// What something of this size costs while it waits: the bookkeeping around it counts, or small things would be free.
pub(super) fn cost(bytes: usize) -> usize {
    bytes + 256
}

impl Peer {
    /// Whether the client has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.is_parked()
            || self.engine.output_bytes() >= UNREAD_BYTES
            || self.sends_bytes >= SENDS_BYTES
            || self.held_bytes >= HELD_BYTES
    }
}

impl Due {
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Push(_) | Self::Settle(..) => cost(0),
            Self::Reply(_, message) => cost(message.len()),
        }
    }
}

/// Why a connection with so many links ends at this attach. A refusal would not do: it costs as much as a link, for as
/// long as the client does not answer it.
pub(super) fn too_many_links(links: usize, attach: &Attach) -> Option<AmqpError> {
    let reply_to = attach.target.as_ref().and_then(|target| target.address.as_ref());
    let text = if links > MAX_LINKS {
        format!("a connection has at most {MAX_LINKS} links")
    } else if attach.name.len().max(reply_to.map_or(0, String::len)) > MAX_NAME_BYTES {
        format!("the name of a link, or its target's address, has more than {MAX_NAME_BYTES} bytes")
    } else {
        return None;
    };
    Some(AmqpError::new(condition::RESOURCE_LIMIT_EXCEEDED, text))
}

#[cfg(test)]
mod tests;
