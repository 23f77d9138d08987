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

/// A client's sends that may wait for the journal before nothing more is taken from it.
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
        self.engine.output_bytes() >= UNREAD_BYTES || self.sends_bytes >= SENDS_BYTES || self.held_bytes >= HELD_BYTES
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
    use weir_amqp::engine::{ClientSasl, Connection, ConnectionConfig, Event, SessionConfig, SessionId};
    use weir_amqp::message::MessageParts;
    use weir_amqp::performative::{Detach, Flow, Performative, Role, Transfer};
    use weir_amqp::wire::Map;

    use super::*;
    use crate::connections::Client;
    use crate::faults::{Fault, Moment};
    use crate::model::{Groups, Retention};
    use crate::namespace::Namespace;

    /// A client and the namespace's side of its connection, joined by hand.
    struct Pair {
        peer: Peer,
        client: Connection,
        session: SessionId,
        events: Vec<Event>,
        now: Instant,
    }

    impl Pair {
        fn new() -> Self {
            let now = Instant::now();
            let namespace = Arc::new(Namespace::in_memory(Retention::default()));
            namespace.create_hub("h", 1024, Groups::Any).unwrap();
            let peer = Peer::new(namespace, Arc::new(Client::new(1, ([127, 0, 0, 1], 1).into())), now);
            let mut client = Connection::client(ConnectionConfig::new("deaf"), ClientSasl::anonymous(), now);
            let mut peer = peer;
            let mut events = Vec::new();
            join(&mut client, &mut peer, &mut events, now);
            let session = client.begin(&SessionConfig::default()).unwrap();
            let mut pair = Self { peer, client, session, events, now };
            pair.join();
            pair
        }

        fn attach(&mut self, attach: Attach) {
            self.client.attach(self.session, attach).unwrap();
            self.join();
        }

        /// Both ends hear all that there is.
        fn join(&mut self) {
            join(&mut self.client, &mut self.peer, &mut self.events, self.now);
        }

        /// Says this again and again, without reading, until the namespace listens no more; how often it was said.
        fn flood(&mut self, frames: &[u8]) -> usize {
            const ENOUGH: usize = 128 << 20;
            let repeat = (64 << 10) / frames.len() + 1;
            let chunk = Bytes::from(frames.repeat(repeat));
            let mut said = 0;
            while self.peer.wants_input() && said * frames.len() < ENOUGH {
                self.peer.feed(chunk.clone(), self.now);
                self.peer.turn(self.now);
                said += repeat;
            }
            assert!(!self.peer.wants_input(), "{} bytes were taken in", said * frames.len());
            let waiting = self.peer.output().remaining();
            assert!(waiting < UNREAD_BYTES + (64 << 10), "{waiting} bytes wait");
            said
        }

        /// Reads all that waits, as bytes; what was left over goes on meanwhile.
        fn listen(&mut self) -> usize {
            let mut read = 0;
            while self.peer.has_output() {
                let output = self.peer.output();
                let some = output.remaining().min(100_000);
                output.advance(some);
                read += some;
                self.peer.turn(self.now);
            }
            assert!(self.peer.wants_input(), "it listens again");
            read
        }
    }

    fn join(client: &mut Connection, peer: &mut Peer, events: &mut Vec<Event>, now: Instant) {
        loop {
            events.extend(std::iter::from_fn(|| client.next_event()));
            peer.turn(now);
            if !client.has_output() && !peer.has_output() {
                return;
            }
            let (said, heard) = (client.output().remaining(), peer.output().remaining());
            peer.feed(client.output().copy_to_bytes(said), now);
            client.feed(peer.output().copy_to_bytes(heard), now);
        }
    }

    fn frame(performative: &Performative, payload: &[u8]) -> Vec<u8> {
        let mut body = BytesMut::new();
        performative.encode(&mut body);
        body.put_slice(payload);
        let mut frame = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(&[2, 0, 0, 0]);
        frame.extend_from_slice(&body);
        frame
    }

    fn flow(handle: Option<u32>) -> Vec<u8> {
        let flow = Flow {
            next_incoming_id: Some(0),
            incoming_window: 5000,
            next_outgoing_id: 0,
            outgoing_window: 5000,
            handle,
            delivery_count: handle.map(|_| 0),
            link_credit: handle.map(|_| 10),
            available: None,
            drain: false,
            echo: true,
            properties: Map::new(),
        };
        frame(&Performative::Flow(Box::new(flow)), &[])
    }

    fn transfer(handle: u32, payload: &[u8]) -> Vec<u8> {
        let transfer = Transfer {
            handle,
            delivery_id: Some(0),
            delivery_tag: Some(0.into()),
            message_format: Some(0),
            settled: Some(false),
            more: false,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        };
        frame(&Performative::Transfer(transfer), payload)
    }

    fn request(hub: &str) -> Bytes {
        let asked = [("operation", "READ"), ("type", "com.microsoft:eventhub"), ("name", hub)];
        MessageParts { application_properties: asked.into_iter().collect(), ..MessageParts::value("") }.encode()
    }

    fn reader(handle: u32) -> Attach {
        Attach { handle, ..Attach::receiver(format!("r{handle}"), "h/ConsumerGroups/$default/Partitions/0") }
    }

    #[test]
    fn who_asks_for_flows_without_reading_them_waits_and_gets_each() {
        let mut pair = Pair::new();
        let said = pair.flood(&flow(None));
        let answers = pair.listen();
        assert_eq!(answers % said, 0, "all are alike: {answers} bytes answer {said} flows");
    }

    #[test]
    fn a_receiver_waits_for_its_turn_once_however_many_flows_name_it() {
        let mut pair = Pair::new();
        pair.attach(reader(0));
        pair.flood(&flow(Some(0)));
        assert!(pair.peer.pushable.len() <= 1, "{} turns wait", pair.peer.pushable.len());
    }

    #[test]
    fn links_that_come_and_go_unheard_leave_nothing_behind() {
        let mut pair = Pair::new();
        let gone = Performative::Detach(Detach { handle: 7, closed: true, error: None });
        let come = Performative::Attach(Box::new(reader(7)));
        pair.flood(&[frame(&come, &[]), flow(Some(7)), frame(&gone, &[])].concat());
        assert!(pair.peer.pushable.len() <= 1 && pair.peer.links.len() <= 1);
        pair.listen();
        let nowhere = Performative::Attach(Box::new(Attach { handle: 7, ..Attach::receiver("x", "nowhere") }));
        pair.flood(&[frame(&nowhere, &[]), frame(&gone, &[])].concat());
        pair.listen();
        assert_eq!((pair.peer.links.len(), pair.peer.pushable.len()), (0, 0));
    }

    #[test]
    fn answers_to_requests_and_tokens_wait_for_who_asked() {
        let mut pair = Pair::new();
        let mut replies = Attach::receiver("in", "$management");
        replies.target.as_mut().unwrap().address = Some("me".into());
        pair.attach(replies);
        pair.attach(Attach::sender("out", "$management"));
        pair.attach(Attach::sender("tokens", "$cbs"));
        // Nobody reads the answers to these; what is answered is the transfer itself.
        pair.flood(&transfer(2, &request("h")));
        pair.listen();
        // These have an address to go to, which gives no credit.
        let mut asking = Pair::new();
        let mut replies = Attach::receiver("in", "$management");
        replies.target.as_mut().unwrap().address = Some("me".into());
        asking.attach(replies);
        asking.attach(Attach::sender("out", "$management"));
        asking.flood(&transfer(1, &request("h")));
        assert!(asking.peer.replies_bytes <= REPLIES_BYTES + (16 << 10), "{} bytes wait", asking.peer.replies_bytes);
        assert_eq!(asking.peer.links.len(), 1, "who gives no credit loses the link");
    }

    #[test]
    fn answers_that_a_fault_delays_are_bounded() {
        let mut pair = Pair::new();
        pair.attach(Attach::sender("s", "h/Partitions/0"));
        pair.peer.namespace.inject(&Fault::delay(Moment::Send, std::time::Duration::from_secs(3600)));
        pair.flood(&transfer(0, &MessageParts::data("x").encode()));
        // What one read holds comes on top.
        assert!(pair.peer.held_bytes < 2 * HELD_BYTES, "{} bytes are held back", pair.peer.held_bytes);
    }

    #[test]
    fn links_are_counted_and_their_names_are_not_novels() {
        let mut pair = Pair::new();
        for n in 0..=MAX_LINKS {
            pair.client.attach(pair.session, Attach::sender(n.to_string(), "h")).unwrap();
        }
        pair.join();
        assert!(pair.events.iter().any(|event| matches!(event, Event::Closed(_))), "one link more ends it");
        let mut pair = Pair::new();
        pair.attach(Attach::sender("n".repeat(MAX_NAME_BYTES), "h"));
        assert_eq!(pair.peer.links.len(), 1);
        pair.attach(Attach { role: Role::Sender, ..Attach::sender("n".repeat(MAX_NAME_BYTES + 1), "h") });
        assert!(pair.events.iter().any(|event| matches!(event, Event::Closed(_))));
    }
}
