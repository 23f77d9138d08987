//! Deliveries: whole and in pieces, within credit and windows.

use bytes::Bytes;
use proptest::prelude::*;
use weir_amqp::engine::{ClientSasl, ConnectionConfig, Event, SendError, SendOptions, SessionConfig};
use weir_amqp::performative::{Attach, DeliveryState, DeliveryTag, Role, SenderSettleMode};

use crate::harness::{Pair, config};

fn body(n: usize, len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from((i * 7 + n) % 251).unwrap()).collect::<Vec<_>>().into()
}

#[test]
fn deliveries_arrive_whole_in_any_chunking_and_slicing() {
    for chunk in [1, 7, 100, 1 << 20] {
        for len in [0, 1, 255, 256, 1000, 65_000, 65_536, 300_000] {
            let (mut pair, client, server) = Pair::receiving(chunk, 10);
            let whole = body(3, len);
            let slices = [whole.slice(..len / 3), whole.slice(len / 3..len / 2), whole.slice(len / 2..)];
            let tag = DeliveryTag::new(b"tag").unwrap();
            let options = SendOptions { tag: Some(tag), message_format: 0x8001_3700, settled: false, batchable: true };
            let id = pair.server.send(server, &options, &slices).unwrap();
            pair.pump();
            let deliveries = pair.client_deliveries();
            let [delivery] = &deliveries[..] else { panic!("{} deliveries", deliveries.len()) };
            assert_eq!(delivery.payload, whole);
            assert_eq!((delivery.link, delivery.delivery_id, delivery.tag), (client, id, tag));
            assert_eq!((delivery.message_format, delivery.settled), (0x8001_3700, false));
            assert!(delivery.batchable);
        }
    }
}

#[test]
fn credit_is_never_exceeded_and_the_rest_waits() {
    let (mut pair, client, server) = Pair::receiving(1000, 5);
    let send = |pair: &mut Pair, n| pair.server.send(server, &SendOptions::settled(), &[body(n, 100)]);
    for n in 0..5 {
        assert_eq!(pair.server.sendable(server), 5 - u32::try_from(n).unwrap());
        send(&mut pair, n).unwrap();
    }
    assert_eq!(send(&mut pair, 5), Err(SendError::NoCredit));
    pair.pump();
    assert_eq!(pair.client_deliveries().len(), 5);
    assert_eq!(pair.client.link(client).unwrap().credit, 0);
    pair.client.set_credit(client, 2).unwrap();
    pair.pump();
    assert!(matches!(pair.at_server.remove(0), Event::LinkFlow(flow) if flow.credit == 2));
    send(&mut pair, 5).unwrap();
    // Credit is absolute: 2 granted while one of them is on its way leaves 2 in total, not 3.
    pair.client.set_credit(client, 2).unwrap();
    pair.pump();
    assert_eq!(pair.server.sendable(server), 1);
}

#[test]
fn automatic_credit_never_starves_a_sender() {
    let (mut pair, client, server) = Pair::sending(1000, 10);
    let mut sent = 0;
    let mut received = Vec::new();
    while sent < 1000 {
        while sent < 1000 && pair.client.sendable(client) > 0 {
            pair.client.send(client, &SendOptions::default(), &[body(sent, 50)]).unwrap();
            sent += 1;
        }
        pair.pump();
        let got = pair.server_deliveries();
        assert!(!got.is_empty());
        received.extend(got);
    }
    assert!(received.iter().enumerate().all(|(n, d)| d.payload == body(n, 50) && d.link == server));
}

/// A pair in which the client's session takes few frames at a time.
fn narrow(window: u32) -> (Pair, weir_amqp::engine::LinkId, weir_amqp::engine::LinkId) {
    let small = |name| ConnectionConfig { max_frame_size: 512, ..config(name) };
    let mut pair = Pair::with(small("client"), small("server"), ClientSasl::none(), 300);
    pair.pump();
    let session = pair.client.begin(&SessionConfig { incoming_window: window, ..SessionConfig::default() }).unwrap();
    pair.pump();
    pair.at_client.clear();
    pair.at_server.clear();
    let (client, server) = pair.link(session, Attach::receiver("in", "hub"));
    pair.client.set_credit(client, 1000).unwrap();
    pair.pump();
    pair.at_server.clear();
    (pair, client, server)
}

#[test]
fn a_delivery_larger_than_the_session_window_arrives() {
    for window in [1, 2, 3, 10, 100] {
        let (mut pair, _, server) = narrow(window);
        let whole = body(1, 20_000);
        pair.server.send(server, &SendOptions::settled(), std::slice::from_ref(&whole)).unwrap();
        let waits = pair.server.link(server).unwrap().unsent;
        assert_eq!(waits, window < 45, "with a window of {window}");
        if waits {
            let error = pair.server.send(server, &SendOptions::settled(), &[body(2, 1)]).unwrap_err();
            assert_eq!(error, SendError::WindowClosed);
        }
        pair.pump();
        let deliveries = pair.client_deliveries();
        assert_eq!(deliveries.len(), 1);
        assert_eq!(deliveries[0].payload, whole);
        assert!(deliveries[0].settled);
    }
}

#[test]
fn an_opened_window_is_told_to_the_links_that_wait() {
    let (mut pair, _, server) = narrow(4);
    let mut sent = 0;
    let mut received = Vec::new();
    for _ in 0..200 {
        while pair.server.sendable(server) > 0 && sent < 300 {
            pair.server.send(server, &SendOptions::settled(), &[body(sent, 20)]).unwrap();
            sent += 1;
        }
        if sent == 300 {
            break;
        }
        assert_eq!(pair.server.send(server, &SendOptions::settled(), &[body(0, 1)]), Err(SendError::WindowClosed));
        pair.pump();
        assert!(pair.at_server.iter().any(|e| matches!(e, Event::LinkFlow(flow) if flow.link == server)));
        pair.at_server.clear();
        received.extend(pair.client_deliveries());
    }
    pair.pump();
    received.extend(pair.client_deliveries());
    assert_eq!(received.len(), 300);
    assert!(received.iter().enumerate().all(|(n, d)| d.payload == body(n, 20)));
}

#[test]
fn a_small_delivery_is_a_slice_of_what_was_fed() {
    let (mut pair, _, server) = Pair::receiving(1 << 20, 10);
    pair.server.send(server, &SendOptions::settled(), &[body(0, 1024)]).unwrap();
    let wire = crate::harness::drain(&mut pair.server);
    pair.client.feed(wire.clone(), pair.now);
    let Some(Event::Delivery(delivery)) = pair.client.next_event() else { panic!() };
    let range = wire.as_ptr_range();
    assert!(range.contains(&delivery.payload.as_ptr()), "copied");
}

#[test]
fn a_large_payload_is_written_from_where_it_lies() {
    use bytes::Buf;
    let (mut pair, _, server) = Pair::receiving(1 << 20, 10);
    let payload = body(0, 1024);
    pair.server.send(server, &SendOptions::settled(), &[Bytes::from_static(b"head"), payload.clone()]).unwrap();
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let output = pair.server.output();
    let n = output.chunks_vectored(&mut slices);
    assert_eq!(n, 2, "header and head in one slice, the payload in its own");
    assert_eq!(slices[1].as_ptr(), payload.as_ptr());
}

#[test]
fn dispositions_are_ranged_and_arrive() {
    let (mut pair, client, server) = Pair::sending(1000, 100);
    let first = pair.client.send(client, &SendOptions::default(), &[body(0, 10)]).unwrap();
    for n in 1..10 {
        pair.client.send(client, &SendOptions::default(), &[body(n, 10)]).unwrap();
    }
    pair.pump();
    let deliveries = pair.server_deliveries();
    assert!(deliveries.iter().all(|d| !d.settled && d.link == server));
    let (a, b) = (&deliveries[0], &deliveries[8]);
    pair.server
        .disposition(a.session, Role::Receiver, a.delivery_id, b.delivery_id, true, Some(DeliveryState::Accepted))
        .unwrap();
    pair.server.settle(&deliveries[9], DeliveryState::Released).unwrap();
    pair.pump();
    let told: Vec<_> = pair
        .at_client
        .iter()
        .map(|event| match event {
            Event::Disposition { role: Role::Receiver, first, last, settled: true, state: Some(state), .. } => {
                (*first, *last, state.clone())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(first, first + 8, DeliveryState::Accepted), (first + 9, first + 9, DeliveryState::Released)]);
}

#[test]
fn the_links_mode_overrules_how_a_delivery_is_settled() {
    for (mode, asked, got) in [
        (SenderSettleMode::Settled, false, true),
        (SenderSettleMode::Unsettled, true, false),
        (SenderSettleMode::Mixed, true, true),
        (SenderSettleMode::Mixed, false, false),
    ] {
        let mut pair = Pair::open(1000);
        let (session, _) = pair.session();
        let mut attach = Attach::receiver("in", "hub");
        attach.snd_settle_mode = mode;
        let (client, server) = pair.link(session, attach);
        pair.client.set_credit(client, 1).unwrap();
        pair.pump();
        let options = SendOptions { settled: asked, ..SendOptions::default() };
        pair.server.send(server, &options, &[body(0, 1)]).unwrap();
        pair.pump();
        assert_eq!(pair.client_deliveries()[0].settled, got);
    }
}

#[test]
fn the_peers_message_size_is_kept() {
    let mut pair = Pair::open(1000);
    let (session, _) = pair.session();
    let attach = Attach { max_message_size: Some(100), ..Attach::receiver("in", "hub") };
    let (client, server) = pair.link(session, attach);
    pair.client.set_credit(client, 1).unwrap();
    pair.pump();
    let error = pair.server.send(server, &SendOptions::settled(), &[body(0, 101)]).unwrap_err();
    assert_eq!(error, SendError::TooLarge { size: 101, max: 100 });
    pair.server.send(server, &SendOptions::settled(), &[body(0, 100)]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two links share a session with a narrow window; whatever is sent arrives, in order on each link, in any chunking.
    #[test]
    fn nothing_is_lost_or_reordered(
        window in 1u32..20,
        chunk in 1usize..2000,
        sizes in prop::collection::vec((any::<bool>(), 0usize..3000), 1..40),
    ) {
        let (mut pair, first, one) = narrow(window);
        pair.chunk = chunk;
        let session = pair.client.link(first).unwrap().session;
        let (client, two) = pair.link(session, Attach::receiver("two", "hub"));
        pair.client.set_credit(client, 1000).unwrap();
        pair.pump();
        let mut received = Vec::new();
        for (n, (which, size)) in sizes.iter().enumerate() {
            let link = if *which { one } else { two };
            for attempt in 0.. {
                match pair.server.send(link, &SendOptions::settled(), &[body(n, *size)]) {
                    Ok(_) => break,
                    Err(error) => prop_assert!(error == SendError::WindowClosed && attempt < 100, "{error}"),
                }
                pair.pump();
                received.extend(pair.client_deliveries());
            }
        }
        pair.pump();
        received.extend(pair.client_deliveries());
        prop_assert_eq!(received.len(), sizes.len());
        for which in [true, false] {
            let expected: Vec<_> = sizes.iter().enumerate().filter(|(_, s)| s.0 == which).map(|(n, s)| body(n, s.1)).collect();
            let got: Vec<_> = received.iter().filter(|d| (d.link == client) != which).map(|d| d.payload.clone()).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
