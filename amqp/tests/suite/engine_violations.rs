//! What a peer that breaks the rules loses: its link, its session or its connection, and it is told why.

use bytes::{BufMut, Bytes, BytesMut};
use weir_amqp::engine::{
    ClientSasl, CloseReason, Connection, ConnectionConfig, Event, LinkId, SessionConfig, SessionId,
};
use weir_amqp::frame::Splitter;
use weir_amqp::performative::{AmqpError, Attach, Begin, Close, Detach, Flow, Open, Performative, Transfer, condition};
use weir_amqp::wire::{Map, Reader, Symbol};

use crate::harness::{Pair, config, drain};

/// A server, and a peer that sends what it likes.
struct Rogue {
    pair: Pair,
}

fn frame(channel: u16, performative: &Performative, payload: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    performative.encode(&mut body);
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(8 + body.len() + payload.len()).unwrap());
    frame.put_u16(0x0200);
    frame.put_u16(channel);
    frame.extend_from_slice(&body);
    frame.extend_from_slice(payload);
    frame.freeze()
}

fn transfer(handle: u32, id: Option<u32>, more: bool) -> Transfer {
    Transfer {
        handle,
        delivery_id: id,
        delivery_tag: None,
        message_format: None,
        settled: None,
        more,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    }
}

fn begin() -> Performative {
    Performative::Begin(Box::new(Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window: 100,
        outgoing_window: 100,
        handle_max: 10,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: Map::new(),
    }))
}

impl Rogue {
    fn new() -> Self {
        let small = SessionConfig { incoming_window: 10, handle_max: 3, ..SessionConfig::default() };
        let server = ConnectionConfig { session: small, channel_max: 1, max_delivery_size: 1000, ..config("server") };
        let mut pair = Pair::with(config("client"), server, ClientSasl::none(), 100);
        pair.server.feed(Bytes::from_static(b"AMQP\0\x01\0\0"), pair.now);
        Self { pair }
    }

    fn open() -> Self {
        let mut this = Self::new();
        this.say(0, &Performative::Open(Box::new(Open::new("rogue"))));
        assert!(matches!(this.events().as_slice(), [Event::Opened(_)]));
        this.heard();
        this
    }

    /// With a session on channel 0, and a link on handle 0 with credit 2 on which the rogue sends.
    fn attached() -> (Self, SessionId, LinkId) {
        let mut this = Self::open();
        this.say(0, &begin());
        let session = match this.events().pop() {
            Some(Event::SessionBegun { session, .. }) => session,
            other => panic!("{other:?}"),
        };
        let link = this.attach(0);
        this.pair.server.set_credit(link, 2).unwrap();
        this.heard();
        (this, session, link)
    }

    fn attach(&mut self, handle: u32) -> LinkId {
        let attach = Attach { handle, ..Attach::sender(format!("s{handle}"), "hub") };
        self.say(0, &Performative::Attach(Box::new(attach)));
        match self.events().pop() {
            Some(Event::AttachRequested { link, attach, .. }) => {
                self.server().accept(link, Attach::answer(&attach)).unwrap();
                link
            }
            other => panic!("{other:?}"),
        }
    }

    fn server(&mut self) -> &mut Connection {
        &mut self.pair.server
    }

    fn say(&mut self, channel: u16, performative: &Performative) {
        self.say_with(channel, performative, &[]);
    }

    fn say_with(&mut self, channel: u16, performative: &Performative, payload: &[u8]) {
        self.pair.server.feed(frame(channel, performative, payload), self.pair.now);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.pair.server.next_event()).collect()
    }

    /// What the server answered.
    fn heard(&mut self) -> Vec<Performative> {
        let mut splitter = Splitter::new(u32::MAX);
        let mut bytes = drain(&mut self.pair.server);
        if bytes.starts_with(b"AMQP") {
            bytes = bytes.slice(8..);
        }
        splitter.feed(bytes);
        let frames = std::iter::from_fn(|| splitter.frame().unwrap());
        frames.map(|frame| Performative::decode(&mut Reader::new(&frame.body)).unwrap()).collect()
    }

    fn closed_with(&mut self, expected: &Symbol) {
        let events = self.events();
        let Some(Event::Closed(CloseReason::Violation(AmqpError { condition, .. }))) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!(condition, expected);
        assert!(self.pair.server.is_finished());
        let heard = self.heard();
        let Some(Performative::Close(Close { error: Some(error) })) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(&error.condition, expected);
    }

    fn session_ended_with(&mut self, expected: &Symbol) {
        self.events();
        let heard = self.heard();
        let Some(Performative::End(end)) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(&end.error.as_ref().unwrap().condition, expected);
        assert!(!self.pair.server.is_finished());
        // The connection lives: the peer answers and begins again.
        self.say(0, &Performative::End(weir_amqp::performative::End { error: None }));
        assert!(matches!(self.events().last(), Some(Event::SessionEnded { .. })));
        self.say(0, &begin());
        assert!(matches!(self.events().last(), Some(Event::SessionBegun { .. })));
    }

    fn detached_with(&mut self, expected: &Symbol) {
        self.events();
        let heard = self.heard();
        let detach = heard.iter().find_map(|p| match p {
            Performative::Detach(detach) => Some(detach.clone()),
            _ => None,
        });
        let detach = detach.unwrap_or_else(|| panic!("{heard:?}"));
        assert_eq!(&detach.error.as_ref().unwrap().condition, expected);
        // What is still on its way is passed over; the answer frees the handle.
        self.say_with(0, &Performative::Transfer(transfer(0, Some(90), false)), b"late");
        self.say(0, &Performative::Detach(Detach { handle: 0, closed: true, error: None }));
        assert!(matches!(self.events().as_slice(), [Event::Detached { .. }]));
        self.attach(0);
    }
}

#[test]
fn a_frame_larger_than_agreed_closes() {
    let mut rogue = Rogue::open();
    let now = rogue.pair.now;
    rogue.server().feed(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 2, 0, 0, 0]), now);
    rogue.closed_with(&condition::FRAMING_ERROR);
}

#[test]
fn bytes_that_are_no_frame_close() {
    for bytes in [
        &[0u8, 0, 0, 7, 2, 0, 0, 0][..],
        &[0, 0, 0, 8, 1, 0, 0, 0],
        &[0, 0, 0, 8, 3, 0, 0, 0],
        &[0, 0, 0, 8, 2, 9, 0, 0],
    ] {
        let mut rogue = Rogue::open();
        let now = rogue.pair.now;
        rogue.server().feed(Bytes::copy_from_slice(bytes), now);
        rogue.closed_with(&condition::FRAMING_ERROR);
    }
}

#[test]
fn a_frame_that_does_not_decode_closes() {
    let mut rogue = Rogue::open();
    let now = rogue.pair.now;
    rogue.server().feed(Bytes::from_static(&[0, 0, 0, 12, 2, 0, 0, 0, 0x00, 0x53, 0x14, 0xd0]), now);
    rogue.closed_with(&condition::DECODE_ERROR);
}

#[test]
fn an_extended_header_is_skipped() {
    let mut rogue = Rogue::open();
    let now = rogue.pair.now;
    rogue.server().feed(Bytes::from_static(&[0, 0, 0, 12, 3, 0, 0, 0, 1, 2, 3, 4]), now); // a heartbeat with one
    assert!(rogue.events().is_empty());
    assert!(!rogue.server().is_finished());
}

#[test]
fn the_first_frame_has_to_be_an_open() {
    let mut rogue = Rogue::new();
    rogue.say(0, &begin());
    let events = rogue.events();
    assert!(matches!(&events[..], [Event::Closed(CloseReason::Violation(_))]), "{events:?}");
    // An open has to come before our close.
    assert!(matches!(&rogue.heard()[..], [Performative::Open(_), Performative::Close(_)]));
}

#[test]
fn a_second_open_closes() {
    let mut rogue = Rogue::open();
    rogue.say(0, &Performative::Open(Box::new(Open::new("again"))));
    rogue.closed_with(&condition::ILLEGAL_STATE);
}

#[test]
fn channels_have_rules() {
    let mut rogue = Rogue::open();
    rogue.say(2, &begin());
    rogue.closed_with(&condition::NOT_ALLOWED);
    let mut rogue = Rogue::open();
    rogue.say(1, &begin());
    rogue.say(1, &begin());
    rogue.closed_with(&condition::NOT_ALLOWED);
    let mut rogue = Rogue::open();
    rogue.say(1, &Performative::Transfer(transfer(0, Some(0), false)));
    rogue.closed_with(&condition::NOT_ALLOWED);
}

#[test]
fn handles_have_rules() {
    let (mut rogue, _, _) = Rogue::attached();
    let attach = |handle| Performative::Attach(Box::new(Attach { handle, ..Attach::sender("other", "hub") }));
    rogue.say(0, &attach(0));
    rogue.session_ended_with(&condition::HANDLE_IN_USE);
    let (mut rogue, _, _) = Rogue::attached();
    rogue.say(0, &attach(4));
    rogue.closed_with(&condition::FRAMING_ERROR);
    for stray in [
        Performative::Transfer(transfer(1, Some(0), false)),
        Performative::Detach(Detach { handle: 1, closed: true, error: None }),
        Performative::Flow(Box::new(Flow { handle: Some(1), ..flow() })),
    ] {
        let (mut rogue, _, _) = Rogue::attached();
        rogue.say(0, &stray);
        rogue.session_ended_with(&condition::UNATTACHED_HANDLE);
    }
}

fn flow() -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        next_outgoing_id: 0,
        outgoing_window: 100,
        handle: None,
        delivery_count: None,
        link_credit: None,
        available: None,
        drain: false,
        echo: false,
        properties: Map::new(),
    }
}

#[test]
fn a_delivery_without_credit_detaches() {
    let (mut rogue, _, _) = Rogue::attached();
    for id in 0..3 {
        rogue.say_with(0, &Performative::Transfer(transfer(0, Some(id), false)), b"x");
    }
    rogue.detached_with(&condition::TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn a_delivery_too_large_detaches_in_one_piece_or_many() {
    let (mut rogue, _, _) = Rogue::attached();
    rogue.say_with(0, &Performative::Transfer(transfer(0, Some(0), false)), &[0; 1001]);
    rogue.detached_with(&condition::MESSAGE_SIZE_EXCEEDED);
    let (mut rogue, _, _) = Rogue::attached();
    for _ in 0..3 {
        rogue.say_with(0, &Performative::Transfer(transfer(0, Some(0), true)), &[0; 400]);
    }
    rogue.detached_with(&condition::MESSAGE_SIZE_EXCEEDED);
}

#[test]
fn a_delivery_inside_another_detaches() {
    let (mut rogue, _, _) = Rogue::attached();
    rogue.say_with(0, &Performative::Transfer(transfer(0, Some(0), true)), b"one");
    rogue.say_with(0, &Performative::Transfer(transfer(0, Some(1), false)), b"two");
    rogue.detached_with(&condition::INVALID_FIELD);
}

#[test]
fn a_first_piece_without_id_detaches() {
    let (mut rogue, _, _) = Rogue::attached();
    rogue.say_with(0, &Performative::Transfer(transfer(0, None, false)), b"one");
    rogue.detached_with(&condition::INVALID_FIELD);
}

#[test]
fn pieces_without_id_belong_to_the_delivery_that_began() {
    let (mut rogue, _, link) = Rogue::attached();
    let settled = |t: Transfer| Transfer { settled: Some(true), ..t };
    rogue.say_with(0, &Performative::Transfer(settled(transfer(0, Some(0), true))), b"one ");
    rogue.say_with(0, &Performative::Transfer(transfer(0, None, true)), b"two ");
    rogue.say_with(0, &Performative::Transfer(transfer(0, None, false)), b"three");
    let events = rogue.events();
    let [Event::Delivery(delivery)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((delivery.link, &delivery.payload[..], delivery.settled), (link, &b"one two three"[..], true));
}

#[test]
fn an_aborted_delivery_is_void_and_the_next_one_is_whole() {
    let (mut rogue, _, _) = Rogue::attached();
    rogue.say_with(0, &Performative::Transfer(transfer(0, Some(0), true)), b"one ");
    rogue.say(0, &Performative::Transfer(Transfer { aborted: true, ..transfer(0, None, false) }));
    rogue.say_with(0, &Performative::Transfer(transfer(0, Some(1), false)), b"next");
    let events = rogue.events();
    let [Event::Delivery(delivery)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((delivery.delivery_id, &delivery.payload[..]), (1, &b"next"[..]));
}

#[test]
fn the_session_window_is_refilled_at_half() {
    let (mut rogue, _, link) = Rogue::attached();
    rogue.server().set_credit(link, 1000).unwrap();
    rogue.heard();
    let mut flows = 0;
    for id in 0..50 {
        rogue.say_with(0, &Performative::Transfer(transfer(0, Some(id), false)), b"x");
        assert_eq!(rogue.events().len(), 1);
        for heard in rogue.heard() {
            let Performative::Flow(flow) = heard else { panic!("{heard:?}") };
            assert_eq!((flow.incoming_window, flow.next_incoming_id), (10, Some(id + 1)));
            flows += 1;
        }
    }
    assert_eq!(flows, 10);
}

#[test]
fn a_flow_with_echo_is_answered() {
    let (mut rogue, _, _) = Rogue::attached();
    rogue.say(0, &Performative::Flow(Box::new(Flow { echo: true, ..flow() })));
    rogue.events();
    assert!(matches!(&rogue.heard()[..], [Performative::Flow(flow)] if flow.handle.is_none() && !flow.echo));
    rogue.say(0, &Performative::Flow(Box::new(Flow { echo: true, handle: Some(0), ..flow() })));
    rogue.events();
    let heard = rogue.heard();
    let [Performative::Flow(flow)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((flow.handle, flow.link_credit, flow.delivery_count), (Some(0), Some(2), Some(0)));
}

#[test]
fn a_transfer_from_the_receiving_end_detaches() {
    let (mut rogue, _, _) = Rogue::attached();
    let attach = Attach { handle: 1, ..Attach::receiver("r", "hub") };
    rogue.say(0, &Performative::Attach(Box::new(attach)));
    let Some(Event::AttachRequested { link, attach, .. }) = rogue.events().pop() else { panic!() };
    rogue.server().accept(link, Attach::answer(&attach)).unwrap();
    rogue.heard();
    rogue.say(0, &Performative::Transfer(transfer(1, Some(0), false)));
    rogue.events();
    let heard = rogue.heard();
    assert!(
        matches!(&heard[..], [Performative::Detach(d)] if d.error.as_ref().unwrap().condition == condition::NOT_ALLOWED),
        "{heard:?}"
    );
}

#[test]
fn credit_and_counts_wrap_around() {
    let mut rogue = Rogue::open();
    rogue.say(0, &begin());
    rogue.events();
    // The sender's count starts just below the end of its range.
    let attach = Attach { initial_delivery_count: Some(u32::MAX - 1), ..Attach::sender("s", "hub") };
    rogue.say(0, &Performative::Attach(Box::new(attach)));
    let Some(Event::AttachRequested { link, attach, .. }) = rogue.events().pop() else { panic!() };
    rogue.server().accept(link, Attach::answer(&attach)).unwrap();
    rogue.server().set_auto_credit(link, Some(4)).unwrap();
    rogue.heard();
    for id in 0..20 {
        rogue.say_with(0, &Performative::Transfer(transfer(0, Some(u32::MAX.wrapping_add(id)), false)), b"x");
        assert!(matches!(&rogue.events()[..], [Event::Delivery(_)]));
    }
    assert_eq!(rogue.server().link(link).unwrap().delivery_count, 18);
    let counts: Vec<_> = rogue
        .heard()
        .into_iter()
        .filter_map(|p| match p {
            Performative::Flow(flow) => flow.delivery_count,
            _ => None,
        })
        .collect();
    assert!(counts.contains(&0) && counts.contains(&18), "{counts:?}");
}

#[test]
fn a_receiver_may_give_all_the_credit_there_is() {
    let (mut pair, client, server) = Pair::receiving(1000, 1);
    pair.client.set_credit(client, u32::MAX).unwrap();
    pair.pump();
    assert_eq!(pair.server.link(server).unwrap().credit, u32::MAX);
}
