//! Fuzz bodies, shared by the fuzz targets and by a test on the stable toolchain. Not part of the API.
//!
//! Each takes any bytes. A panic, an overflow of the stack or an allocation out of proportion is the finding.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use crate::engine::{ClientSasl, Connection, ConnectionConfig, Event, SendOptions, ServerSasl, SessionConfig};
use crate::frame::{FrameKind, Splitter};
use crate::message::Message;
use crate::performative::{Attach, DeliveryState, Performative, SaslFrame};
use crate::wire::{Reader, Value, ValueRef, Writer};

/// Any bytes as a value: the three views agree, and what decodes comes back after a round trip.
pub fn value(input: &[u8]) {
    let mut tree = Reader::new(input);
    let decoded = Value::decode(&mut tree);
    let mut outline = Reader::new(input);
    let skipped = outline.skip();
    let borrowed = ValueRef::read(&mut Reader::new(input));
    let Ok(value) = decoded else { return };
    assert!(skipped.is_ok(), "decoded, but not skipped");
    assert_eq!(tree.rest(), outline.rest(), "decoding and skipping end at different places");
    assert!(borrowed.is_ok_and(|borrowed| borrowed.to_value().is_ok()), "decoded, but not borrowed");
    let mut first = BytesMut::new();
    value.encode(&mut Writer::new(&mut first));
    let mut again = BytesMut::new();
    // What was read has room for what is written, apart from arrays of nothing, which are written wider.
    if let Ok(back) = Value::decode(&mut Reader::new(&first)) {
        back.encode(&mut Writer::new(&mut again));
        assert_eq!(first, again, "a round trip changes the value");
    }
}

/// Any bytes as frames.
pub fn frames(input: &[u8]) {
    let mut splitter = Splitter::new(64 * 1024);
    // The first byte says how the rest is cut up.
    let Some((chunk, rest)) = input.split_first() else { return };
    for piece in rest.chunks(usize::from(*chunk) + 1) {
        splitter.feed(Bytes::copy_from_slice(piece));
        loop {
            match splitter.frame() {
                Ok(Some(frame)) => {
                    let mut reader = Reader::new(&frame.body);
                    match frame.kind {
                        FrameKind::Amqp => {
                            if let Ok(performative) = Performative::decode(&mut reader) {
                                reencode(&performative);
                            }
                        }
                        FrameKind::Sasl => drop(SaslFrame::decode(&mut reader)),
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// What was decoded is written, read, and written the same again.
fn reencode(performative: &Performative) {
    let mut first = BytesMut::new();
    performative.encode(&mut first);
    if let Ok(back) = Performative::decode(&mut Reader::new(&first)) {
        let mut again = BytesMut::new();
        back.encode(&mut again);
        assert_eq!(first, again, "a round trip changes the performative");
    }
}

/// Any bytes as a message: every accessor is called.
pub fn message(input: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(input)) else { return };
    drop((message.header(), message.properties()));
    let sections = [
        message.delivery_annotations(),
        message.message_annotations(),
        message.application_properties(),
        message.footer(),
    ];
    for entries in sections.into_iter().flatten() {
        let _ = entries.get("x-opt-sequence-number");
        for (key, value) in entries.flatten() {
            drop((key.to_value(), value.to_value()));
        }
    }
    for inner in message.batch().flatten() {
        if let Ok(inner) = Message::parse(inner) {
            drop(inner.to_parts());
        }
    }
    let body = message.body_sections().count();
    assert!(body <= input.len(), "more sections than bytes");
    if let Ok(parts) = message.to_parts() {
        let again = Message::parse(parts.encode());
        assert!(again.is_ok(), "a message of our own does not parse");
    }
    assert!(message.tail().len() <= input.len());
}

/// Any bytes as what a peer sends to a server, or to a client, that takes part in everything: it accepts links, gives credit, sends,
/// settles. The first byte chooses the role and the chunking, the next ones the commands in between.
pub fn connection(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else { return };
    let Some((script, rest)) = input.split_at_checked(usize::from(*choice & 7)) else { return };
    let now = Instant::now();
    let config = ConnectionConfig {
        max_frame_size: 4096,
        channel_max: 3,
        max_delivery_size: 10_000,
        session: SessionConfig { incoming_window: 20, handle_max: 7, ..SessionConfig::default() },
        ..ConnectionConfig::new("fuzz")
    };
    let mut connection = if choice & 8 == 0 {
        Connection::server(config, ServerSasl::accept_all(["ANONYMOUS"]), now)
    } else {
        Connection::client(config, ClientSasl::none(), now)
    };
    let chunk = [1, 7, 64, 100_000][usize::from(choice >> 4 & 3)];
    let mut closed = 0;
    for (n, piece) in rest.chunks(chunk).enumerate() {
        connection.feed(Bytes::copy_from_slice(piece), now + Duration::from_millis(n as u64));
        while let Some(event) = connection.next_event() {
            closed += usize::from(matches!(event, Event::Closed(_)));
            react(&mut connection, event, script);
        }
        check_output(&mut connection);
        connection.on_deadline(now + Duration::from_secs(n as u64));
    }
    connection.feed_eof();
    while let Some(event) = connection.next_event() {
        closed += usize::from(matches!(event, Event::Closed(_)));
    }
    assert_eq!(closed, 1, "a connection is closed once");
    assert!(connection.is_finished());
}

/// Commands may be refused, which is of no interest here.
fn react(connection: &mut Connection, event: Event, script: &[u8]) {
    let choice = |n: usize| script.get(n).copied().unwrap_or(0);
    match event {
        Event::AttachRequested { link, attach, .. } => {
            if choice(0) & 1 == 0 {
                let _ = connection.accept(link, Attach::answer(&attach));
                let _ = connection.set_auto_credit(link, Some(u32::from(choice(1))));
            } else {
                let error = crate::performative::AmqpError::new(crate::performative::condition::NOT_FOUND, "no");
                let _ = connection.refuse(link, error);
            }
        }
        Event::LinkFlow(flow) => {
            if flow.drain {
                let _ = connection.drained(flow.link);
            }
            for _ in 0..connection.sendable(flow.link).min(5) {
                let payload = Bytes::from(vec![0; usize::from(choice(2)) * 64]);
                let _ = connection.send(flow.link, &SendOptions::default(), &[payload]);
            }
        }
        Event::Delivery(delivery) => {
            let _ = connection.settle(&delivery, DeliveryState::Accepted);
            if choice(3) & 1 == 1 {
                let _ = connection.detach(delivery.link, true, None);
            }
        }
        Event::SessionBegun { session, .. } if choice(4) & 1 == 1 => {
            let _ = connection.attach(session, Attach::receiver("r", "q"));
        }
        Event::Opened(_) => {
            let _ = connection.begin(&SessionConfig::default());
        }
        Event::Disposition { session, .. } if choice(5) & 1 == 1 => {
            let _ = connection.end(session, None);
        }
        _ => {}
    }
}

/// What the engine writes is a sequence of frames that decode.
fn check_output(connection: &mut Connection) {
    let output = connection.output();
    let mut bytes = output.copy_to_bytes(output.remaining());
    while bytes.starts_with(b"AMQP") {
        bytes.advance(8);
    }
    let mut splitter = Splitter::new(u32::MAX);
    splitter.feed(bytes);
    while let Ok(Some(frame)) = splitter.frame() {
        let is_performative = frame.kind == FrameKind::Amqp && !frame.body.is_empty();
        assert!(!is_performative || Performative::decode(&mut Reader::new(&frame.body)).is_ok(), "wrote nonsense");
    }
}
