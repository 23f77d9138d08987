//! Links attach, are refused, flow and detach.

use weir_amqp::engine::{CommandError, Event, SessionConfig, Side};
use weir_amqp::performative::{
    AmqpError, Attach, DeliveryState, Modified, ReceiverSettleMode, Role, SenderSettleMode, Source, condition,
};
use weir_amqp::wire::{Described, Map, Symbol, Value};

use crate::harness::Pair;

/// An attach with a filter and properties, as Event Hubs clients send it.
fn with_filter() -> Attach {
    let filter = Described {
        descriptor: Value::ULong(0x0000_468c_0000_0004),
        value: "amqp.annotation.x-opt-offset > '-1'".into(),
    };
    let mut attach = Attach::receiver("receiver-1", "hub/ConsumerGroups/$default/Partitions/0");
    attach.source = Some(Source {
        filter: Map::from([(Symbol::from("apache.org:selector-filter:string"), filter)]),
        outcomes: vec![Symbol::from_static("amqp:accepted:list"), Symbol::from_static("amqp:released:list")],
        default_outcome: Some(DeliveryState::Modified(Modified {
            delivery_failed: true,
            undeliverable_here: false,
            message_annotations: Map::new(),
        })),
        ..Source::new("hub/ConsumerGroups/$default/Partitions/0")
    });
    attach.properties = Map::from([(Symbol::from_static("com.microsoft:epoch"), Value::Long(7))]);
    attach.rcv_settle_mode = ReceiverSettleMode::Second;
    attach.snd_settle_mode = SenderSettleMode::Settled;
    attach
}

#[test]
fn an_attach_arrives_as_it_was_sent_and_its_source_is_echoed() {
    let mut pair = Pair::open(3);
    let (session, at_server) = pair.session();
    let sent = with_filter();
    let link = pair.client.attach(session, sent.clone()).unwrap();
    pair.pump();
    let Event::AttachRequested { session, link: server, attach } = pair.at_server.remove(0) else { panic!() };
    assert_eq!(session, at_server);
    assert_eq!(*attach, sent);
    pair.server.accept(server, Attach::answer(&attach)).unwrap();
    pair.pump();
    let Event::Attached { link: answered, attach: answer } = pair.at_client.remove(0) else { panic!() };
    assert_eq!(answered, link);
    assert_eq!(answer.source, sent.source);
    assert_eq!(answer.role, Role::Sender);
    assert_eq!(answer.rcv_settle_mode, ReceiverSettleMode::First);
    assert_eq!(answer.snd_settle_mode, SenderSettleMode::Settled);
    assert_eq!(answer.initial_delivery_count, Some(0));
    assert!(pair.server.accept(server, Attach::answer(&attach)).is_err(), "answered already");
}

#[test]
fn a_refused_link_has_no_terminus_and_an_error() {
    let mut pair = Pair::open(9);
    let (session, _) = pair.session();
    let link = pair.client.attach(session, Attach::sender("s", "nowhere")).unwrap();
    pair.pump();
    let Event::AttachRequested { link: server, .. } = pair.at_server.remove(0) else { panic!() };
    let error = AmqpError::new(condition::NOT_FOUND, "no hub `nowhere`");
    pair.server.refuse(server, error.clone()).unwrap();
    pair.pump();
    let Event::Attached { attach, .. } = pair.at_client.remove(0) else { panic!() };
    assert!(attach.source.is_none() && attach.target.is_none());
    let detached = |link, by| Event::Detached { link, closed: true, error: Some(error.clone()), by };
    assert_eq!(pair.at_client, [detached(link, Side::Remote)]);
    assert_eq!(pair.at_server, [detached(server, Side::Local)]);
}

#[test]
fn links_detach_from_either_side_and_handles_are_used_again() {
    let mut pair = Pair::open(100);
    let (session, _) = pair.session();
    let mut stale = Vec::new();
    for round in 0..40 {
        let attach = if round % 3 == 0 { Attach::sender("x", "hub") } else { Attach::receiver("x", "hub") };
        let (client, server) = pair.link(session, attach);
        let error = (round % 4 < 2).then(|| AmqpError::new(condition::LINK_STOLEN, "taken over"));
        let by_server = round % 2 == 0;
        if by_server {
            pair.server.detach(server, true, error.clone()).unwrap();
        } else {
            pair.client.detach(client, true, error.clone()).unwrap();
        }
        pair.pump();
        let (c, s) = if by_server { (Side::Remote, Side::Local) } else { (Side::Local, Side::Remote) };
        let detached = |link, by| Event::Detached { link, closed: true, error: error.clone(), by };
        assert_eq!(pair.at_client.remove(0), detached(client, c));
        assert_eq!(pair.at_server.remove(0), detached(server, s));
        stale.push(client);
        assert_eq!(pair.client.link(client), None);
    }
    // No stale id hits a successor, although its slot has one.
    let (client, _) = pair.link(session, Attach::receiver("y", "hub"));
    for link in stale {
        assert_eq!(pair.client.set_credit(link, 10), Err(CommandError::UnknownLink));
    }
    pair.client.set_credit(client, 10).unwrap();
}

#[test]
fn both_may_detach_at_once() {
    let mut pair = Pair::open(100);
    let (session, _) = pair.session();
    let (client, server) = pair.link(session, Attach::receiver("x", "hub"));
    pair.client.detach(client, true, None).unwrap();
    pair.server.detach(server, true, None).unwrap();
    pair.pump();
    assert!(matches!(&pair.at_client[..], [Event::Detached { .. }]));
    assert!(matches!(&pair.at_server[..], [Event::Detached { .. }]));
    pair.at_client.clear();
    pair.at_server.clear();
    pair.link(session, Attach::receiver("x", "hub"));
}

#[test]
fn a_client_may_leave_before_it_is_answered() {
    let mut pair = Pair::open(100);
    let (session, _) = pair.session();
    let client = pair.client.attach(session, Attach::receiver("x", "hub")).unwrap();
    pair.client.set_credit(client, 5).unwrap();
    pair.client.detach(client, true, None).unwrap();
    pair.pump();
    let Event::AttachRequested { link: server, attach, .. } = pair.at_server.remove(0) else { panic!() };
    assert!(matches!(pair.at_server.remove(0), Event::Detached { link, .. } if link == server));
    assert_eq!(pair.server.accept(server, Attach::answer(&attach)), Err(CommandError::UnknownLink));
    pair.pump();
    assert!(matches!(&pair.at_client[..], [Event::Detached { link, .. }] if *link == client));
    pair.at_client.clear();
    pair.link(session, Attach::receiver("x", "hub"));
}

#[test]
fn the_end_of_a_session_detaches_its_links() {
    let mut pair = Pair::open(50);
    let (one, _) = pair.session();
    let (two, two_at_server) = pair.session();
    let (a, a_server) = pair.link(one, Attach::receiver("a", "hub"));
    let (b, b_server) = pair.link(two, Attach::receiver("b", "hub"));
    let pending = pair.client.attach(two, Attach::receiver("c", "hub")).unwrap();
    pair.pump();
    let Event::AttachRequested { link: pending_server, .. } = pair.at_server.remove(0) else { panic!() };
    pair.server.end(two_at_server, None).unwrap();
    pair.pump();
    let detached: Vec<_> = pair.at_client.iter().filter_map(gone).collect();
    assert_eq!(detached, [b, pending]);
    assert!(matches!(pair.at_client.last(), Some(Event::SessionEnded { session, .. }) if *session == two));
    let detached: Vec<_> = pair.at_server.iter().filter_map(gone).collect();
    assert_eq!(detached, [b_server, pending_server]);
    // The neighbour lives.
    assert!(pair.client.link(a).is_some() && pair.server.link(a_server).is_some());
}

fn gone(event: &Event) -> Option<weir_amqp::engine::LinkId> {
    match event {
        Event::Detached { link, .. } => Some(*link),
        _ => None,
    }
}

#[test]
fn sessions_and_links_can_be_begun_by_the_server() {
    let mut pair = Pair::open(20);
    let session = pair.server.begin(&SessionConfig::default()).unwrap();
    let link = pair.server.attach(session, Attach::sender("push", "hub")).unwrap();
    pair.pump();
    assert!(matches!(pair.at_client.remove(0), Event::SessionBegun { remote_initiated: true, .. }));
    let Event::AttachRequested { link: client, attach, .. } = pair.at_client.remove(0) else { panic!() };
    pair.client.accept(client, Attach::answer(&attach)).unwrap();
    pair.client.set_credit(client, 1).unwrap();
    pair.pump();
    assert!(pair.server.sendable(link) == 1);
}

#[test]
fn the_peers_handle_limit_is_kept() {
    let mut pair = Pair::open(1000);
    pair.server.close(None).unwrap();
    let server = weir_amqp::engine::ConnectionConfig {
        session: SessionConfig { handle_max: 1, ..SessionConfig::default() },
        ..crate::harness::config("server")
    };
    let mut pair = Pair::with(crate::harness::config("client"), server, weir_amqp::engine::ClientSasl::none(), 1000);
    pair.pump();
    pair.at_client.clear();
    pair.at_server.clear();
    let (session, _) = pair.session();
    pair.link(session, Attach::receiver("a", "hub"));
    pair.link(session, Attach::receiver("b", "hub"));
    assert_eq!(pair.client.attach(session, Attach::receiver("c", "hub")), Err(CommandError::NoHandle));
}

#[test]
fn drain_gives_credit_back() {
    let (mut pair, client, server) = Pair::receiving(30, 10);
    pair.client.drain(client).unwrap();
    pair.pump();
    let Event::LinkFlow(flow) = pair.at_server.remove(0) else { panic!() };
    assert!(flow.drain && flow.credit == 10);
    pair.server.drained(server).unwrap();
    pair.pump();
    let Event::LinkFlow(flow) = pair.at_client.remove(0) else { panic!() };
    assert_eq!(flow.credit, 0);
    assert_eq!(pair.client.link(client).unwrap().credit, 0);
    assert_eq!(pair.client.link(client).unwrap().delivery_count, 10);
    assert_eq!(pair.server.sendable(server), 0);
    // And on: credit counts from there.
    pair.client.set_credit(client, 3).unwrap();
    pair.pump();
    assert_eq!(pair.server.sendable(server), 3);
}

#[test]
fn credit_that_comes_before_the_answer_is_kept() {
    let mut pair = Pair::open(1000);
    let (session, _) = pair.session();
    let client = pair.client.attach(session, Attach::receiver("x", "hub")).unwrap();
    pair.client.set_credit(client, 7).unwrap();
    pair.pump();
    let Event::AttachRequested { link, attach, .. } = pair.at_server.remove(0) else { panic!() };
    pair.server.accept(link, Attach::answer(&attach)).unwrap();
    assert_eq!(pair.server.sendable(link), 0);
    pair.pump();
    let Event::LinkFlow(flow) = pair.at_server.remove(0) else { panic!() };
    assert_eq!((flow.link, flow.credit), (link, 7));
    assert_eq!(pair.server.sendable(link), 7);
}
