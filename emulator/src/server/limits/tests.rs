//! A client that says much and hears nothing, against one end of its connection.
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
use crate::store::Batch;

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
        Self::of(Namespace::in_memory(Retention::default()))
    }

    fn of(namespace: Namespace) -> Self {
        let now = Instant::now();
        let namespace = Arc::new(namespace);
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

#[test]
fn senders_wait_for_the_journal_and_keep_their_order() {
    const EVENTS: u8 = 50;
    let directory = tempfile::tempdir().unwrap();
    // Room for one batch.
    let mut pair = Pair::of(Namespace::journalled(directory.path(), Retention::default(), 1).unwrap());
    pair.attach(Attach::sender("s", "h/Partitions/0"));
    // The journal is busy with something else.
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let elsewhere = pair.peer.namespace.hub("h").unwrap().partition("1").unwrap();
    let busy = Batch {
        partition: elsewhere,
        events: Vec::new(),
        bytes: 1,
        done: Box::new(move |_| assert!(gone.recv().is_err())),
    };
    assert!(pair.peer.namespace.append(busy).is_ok());
    let bodies: Vec<Bytes> = (0..EVENTS).map(|n| MessageParts::data(vec![n]).encode()).collect();
    let sends: Vec<u8> = bodies.iter().flat_map(|body| transfer(0, body)).collect();
    pair.peer.feed(sends.into(), pair.now);
    pair.peer.turn(pair.now);
    assert!(pair.peer.is_parked() && !pair.peer.wants_input());
    assert_eq!(pair.peer.sends.len(), 1, "the others were not even looked at");
    drop(go);
    let partition = pair.peer.namespace.hub("h").unwrap().partition("0").unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    while !pair.peer.sends.is_empty() || pair.peer.is_full() {
        assert!(Instant::now() < deadline, "{:?}", partition.state(0));
        pair.peer.turn(pair.now);
        std::thread::yield_now();
    }
    let mut runs = Vec::new();
    partition.read(0, usize::MAX >> 1, &mut runs);
    let kept: Vec<u8> =
        runs.iter().flat_map(|run| (run.from..run.to).map(|i| *run.block.event_bytes(i).last().unwrap())).collect();
    assert_eq!(kept, (0..EVENTS).collect::<Vec<_>>());
}
