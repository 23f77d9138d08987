//! Connections open, idle, and close.

use std::time::Duration;

use bytes::Bytes;
use weir_amqp::engine::{
    ClientSasl, CloseReason, Connection, ConnectionConfig, Event, ServerSasl, SessionConfig, Side,
};
use weir_amqp::performative::{AmqpError, SaslCode, condition};

use crate::harness::{MECHANISMS, Pair, config, drain};

#[test]
fn both_ends_open_in_any_chunking() {
    for chunk in [1, 2, 3, 7, 8, 9, 64, 10_000] {
        for sasl in [ClientSasl::none(), ClientSasl::anonymous(), ClientSasl::cbs(), ClientSasl::plain("u", "p")] {
            let mut pair = Pair::with(config("client"), config("server"), sasl, chunk);
            pair.pump();
            let [Event::Opened(at_client)] = &pair.at_client[..] else { panic!("{:?}", pair.at_client) };
            let [Event::Opened(at_server)] = &pair.at_server[..] else { panic!("{:?}", pair.at_server) };
            assert_eq!(at_client.container_id, "server");
            assert_eq!(at_server.container_id, "client");
            assert_eq!(at_server.hostname.as_deref(), Some("localhost"));
        }
    }
}

#[test]
fn a_server_that_asks_can_refuse() {
    let mut pair = Pair::with(config("client"), config("server"), ClientSasl::plain("user", "secret"), 5);
    pair.server = Connection::server(config("server"), ServerSasl::ask(MECHANISMS), pair.now);
    pair.pump();
    let Some(Event::SaslInit { mechanism, response, .. }) = pair.at_server.pop() else { panic!() };
    assert_eq!(mechanism, "PLAIN");
    assert_eq!(response, Bytes::from_static(b"\0user\0secret"));
    pair.server.sasl_challenge(Bytes::from_static(b"sure?")).unwrap();
    pair.pump();
    assert_eq!(pair.at_server.pop(), Some(Event::SaslResponse(Bytes::new())));
    pair.server.sasl_outcome(SaslCode::Auth).unwrap();
    pair.pump();
    assert_eq!(pair.at_client, [Event::Closed(CloseReason::SaslRefused(SaslCode::Auth))]);
    assert_eq!(pair.at_server, [Event::Closed(CloseReason::SaslRefused(SaslCode::Auth))]);
    assert!(pair.client.is_finished() && pair.server.is_finished());
}

#[test]
fn a_server_that_asks_takes_nobody_without_sasl() {
    let mut pair = Pair::with(config("client"), config("server"), ClientSasl::none(), 100);
    pair.server = Connection::server(config("server"), ServerSasl::ask(MECHANISMS), pair.now);
    pair.pump();
    assert_eq!(pair.at_server, [Event::Closed(CloseReason::Protocol(*b"AMQP\0\x01\0\0"))]);
    assert_eq!(pair.at_client, [Event::Closed(CloseReason::Protocol(*b"AMQP\x03\x01\0\0"))]);
}

#[test]
fn a_client_leaves_when_the_server_has_nothing_it_can_do() {
    let mut pair = Pair::with(config("client"), config("server"), ClientSasl::plain("u", "p"), 100);
    pair.server = Connection::server(config("server"), ServerSasl::accept_all(["EXTERNAL"]), pair.now);
    pair.pump();
    assert!(matches!(&pair.at_client[..], [Event::Closed(CloseReason::SaslMechanisms(m))] if m[0] == "EXTERNAL"));
}

#[test]
fn another_protocol_is_told_ours() {
    let mut pair = Pair::new(100);
    pair.server.feed(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), pair.now);
    assert_eq!(pair.server.next_event(), Some(Event::Closed(CloseReason::Protocol(*b"GET / HT"))));
    assert_eq!(pair.server.next_event(), None);
    assert_eq!(drain(&mut pair.server), Bytes::from_static(b"AMQP\x03\x01\0\0"));
}

#[test]
fn close_is_answered_and_its_error_arrives() {
    let mut pair = Pair::open(10);
    let error = AmqpError::new(condition::CONNECTION_FORCED, "maintenance");
    pair.server.close(Some(error.clone())).unwrap();
    assert!(pair.server.close(None).is_err());
    assert!(pair.server.begin(&SessionConfig::default()).is_err());
    pair.pump();
    assert_eq!(pair.at_client, [Event::Closed(CloseReason::Peer(Some(error)))]);
    assert_eq!(pair.at_server, [Event::Closed(CloseReason::Local)]);
    assert!(pair.client.is_finished() && pair.server.is_finished());
}

#[test]
fn both_may_close_at_once() {
    let mut pair = Pair::open(10);
    pair.server.close(None).unwrap();
    pair.client.close(None).unwrap();
    pair.pump();
    assert_eq!(pair.at_client, [Event::Closed(CloseReason::Local)]);
    assert_eq!(pair.at_server, [Event::Closed(CloseReason::Local)]);
}

#[test]
fn a_close_without_answer_ends_in_time() {
    let mut pair = Pair::open(10);
    pair.now += Duration::from_secs(30); // the engine last saw the clock long ago
    pair.client.close(None).unwrap();
    drop(drain(&mut pair.client));
    let at = pair.client.next_deadline().unwrap();
    assert!(at <= pair.now);
    pair.client.on_deadline(pair.now);
    assert_eq!(pair.client.next_event(), None);
    let deadline = pair.client.next_deadline().unwrap();
    assert_eq!(deadline, pair.now + Duration::from_secs(5));
    pair.client.on_deadline(deadline);
    assert_eq!(pair.client.next_event(), Some(Event::Closed(CloseReason::Local)));
    assert_eq!(pair.client.next_deadline(), None);
}

#[test]
fn the_end_of_the_stream_is_an_event() {
    let mut pair = Pair::open(10);
    pair.server.feed_eof();
    assert_eq!(pair.server.next_event(), Some(Event::Closed(CloseReason::Eof)));
    assert_eq!(pair.server.next_event(), None);
}

#[test]
fn what_came_before_the_end_of_the_stream_counts() {
    let mut pair = Pair::open(10);
    pair.client.begin(&SessionConfig::default()).unwrap();
    pair.server.feed(drain(&mut pair.client), pair.now);
    pair.server.feed_eof();
    assert!(matches!(pair.server.next_event(), Some(Event::SessionBegun { .. })));
    assert_eq!(pair.server.next_event(), Some(Event::Closed(CloseReason::Eof)));
}

fn idle(client: Option<u64>, server: Option<u64>) -> Pair {
    let with = |name, seconds: Option<u64>| ConnectionConfig {
        idle_timeout: seconds.map(Duration::from_secs),
        ..config(name)
    };
    let mut pair = Pair::with(with("client", client), with("server", server), ClientSasl::anonymous(), 1000);
    pair.pump();
    pair.at_client.clear();
    pair.at_server.clear();
    pair
}

#[test]
fn heartbeats_keep_a_silent_connection() {
    for (client, server) in [(Some(10), Some(10)), (Some(1), Some(60)), (None, Some(2)), (Some(3), None)] {
        let mut pair = idle(client, server);
        pair.pass(Duration::from_secs(3600));
        assert!(pair.at_client.is_empty() && pair.at_server.is_empty(), "{:?}", pair.at_client);
    }
}

#[test]
fn heartbeats_come_at_half_the_peers_time() {
    let mut pair = idle(None, Some(10));
    let start = pair.now;
    let at = pair.client.next_deadline().unwrap();
    assert_eq!(at - start, Duration::from_secs(5));
    pair.client.on_deadline(at);
    assert_eq!(drain(&mut pair.client), Bytes::from_static(&[0, 0, 0, 8, 2, 0, 0, 0]));
    assert_eq!(pair.client.next_deadline(), Some(at + Duration::from_secs(5)));
}

#[test]
fn heartbeats_do_not_pile_up_behind_a_blocked_writer() {
    let mut pair = idle(None, Some(10));
    for _ in 0..100 {
        let at = pair.client.next_deadline().unwrap();
        pair.client.on_deadline(at);
    }
    assert_eq!(drain(&mut pair.client).len(), 8);
}

#[test]
fn a_silent_peer_is_given_up_at_twice_the_time() {
    let mut pair = idle(None, Some(10));
    let start = pair.now;
    let at = pair.server.next_deadline().unwrap();
    assert_eq!(at - start, Duration::from_secs(20));
    pair.server.on_deadline(at);
    assert_eq!(pair.server.next_event(), Some(Event::Closed(CloseReason::IdleTimeout)));
    assert!(pair.server.is_finished());
    // The client hears why, should it still listen.
    pair.client.feed(drain(&mut pair.server), at);
    let Some(Event::Closed(CloseReason::Peer(Some(error)))) = pair.client.next_event() else { panic!() };
    assert_eq!(error.condition, condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn a_peer_that_never_speaks_is_given_up_too() {
    let mut pair = Pair::new(10);
    let at = pair.server.next_deadline().unwrap();
    pair.server.on_deadline(at);
    assert_eq!(pair.server.next_event(), Some(Event::Closed(CloseReason::IdleTimeout)));
}

#[test]
fn sessions_end_from_either_side_and_channels_are_used_again() {
    let mut pair = Pair::open(11);
    for round in 0..50 {
        let (client, server) = pair.session();
        let error = AmqpError::new(condition::INTERNAL_ERROR, "injected");
        let by_server = round % 2 == 0;
        if by_server {
            pair.server.end(server, Some(error.clone())).unwrap();
            assert!(pair.server.end(server, None).is_err());
        } else {
            pair.client.end(client, Some(error.clone())).unwrap();
        }
        pair.pump();
        let (c, s) = if by_server { (Side::Remote, Side::Local) } else { (Side::Local, Side::Remote) };
        let error = Some(error);
        assert_eq!(pair.at_client.remove(0), Event::SessionEnded { session: client, error: error.clone(), by: c });
        assert_eq!(pair.at_server.remove(0), Event::SessionEnded { session: server, error, by: s });
        assert!(pair.client.end(client, None).is_err(), "the id is stale");
    }
}

#[test]
fn the_peers_channel_limit_is_kept() {
    let server = ConnectionConfig { channel_max: 2, ..config("server") };
    let mut pair = Pair::with(config("client"), server, ClientSasl::none(), 1000);
    pair.pump();
    for _ in 0..3 {
        pair.client.begin(&SessionConfig::default()).unwrap();
    }
    assert!(pair.client.begin(&SessionConfig::default()).is_err());
    pair.pump();
    assert_eq!(pair.at_server.iter().filter(|e| matches!(e, Event::SessionBegun { .. })).count(), 3);
}
