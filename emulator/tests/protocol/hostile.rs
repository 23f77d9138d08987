//! Bytes that no well-meaning client sends. Each ends at most its own connection, and the namespace goes on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_amqp::engine::{
    ClientSasl, CloseReason, Connection, ConnectionConfig, Event, Output, ServerSasl, SessionConfig,
};
use weir_amqp::frame::Splitter;
use weir_amqp::message::MessageParts;
use weir_amqp::performative::{Attach, DeliveryState};

use crate::client::{Client, EARLIEST, PATIENCE};
use crate::{fill, namespace};

/// A transfer on handle 0 whose frames together exceed every limit: unfinished frames of 32 KiB.
pub(crate) fn oversized_transfer() -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..40 {
        // handle, delivery-id, delivery-tag, message-format, settled, more
        let mut body = vec![0x00, 0x53, 0x14, 0xc0, 0, 6, 0x43, 0x43, 0xa0, 1, 1, 0x43, 0x42, 0x41];
        body[4] = u8::try_from(body.len() - 5).unwrap();
        if n == 0 {
            body.extend_from_slice(&[0x00, 0x53, 0x75, 0xb0, 0x7f, 0xff, 0xff, 0xff]);
        }
        body.resize(32 << 10, 0);
        bytes.extend_from_slice(&u32::try_from(body.len() + 8).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[2, 0, 0, 0]);
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// What a client says until its link is attached, recorded with the engine.
fn opening() -> Vec<u8> {
    let now = Instant::now();
    let mut client = Connection::client(ConnectionConfig::new("c"), ClientSasl::anonymous(), now);
    let mut server = Connection::server(ConnectionConfig::new("s"), ServerSasl::accept_all(["ANONYMOUS"]), now);
    let mut said = Vec::new();
    let mut begun = false;
    for _ in 0..10 {
        let bytes = drain(client.output());
        said.extend_from_slice(&bytes);
        server.feed(bytes, now);
        while server.next_event().is_some() {}
        let answer = drain(server.output());
        client.feed(answer, now);
        while let Some(event) = client.next_event() {
            if matches!(event, Event::Opened(_)) && !begun {
                begun = true;
                let session = client.begin(&SessionConfig::default()).unwrap();
                client.attach(session, crate::client::receiver(0, EARLIEST)).unwrap();
                client.attach(session, Attach::sender("s", "h")).unwrap();
                client.attach(session, Attach::sender("c", "$cbs")).unwrap();
            }
        }
    }
    said
}

fn drain(output: &mut Output) -> Bytes {
    output.copy_to_bytes(output.remaining())
}

/// Sends it all, hangs up, and waits for the server to do the same.
fn hang_up(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may have closed already.
    if stream.write_all(bytes).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the server holds on: {error}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_bytes_end_their_own_connection_only() {
    let emulator = namespace().await;
    fill(&emulator, 0, 100);
    let mut witness = Client::connect(emulator.address()).await;
    let address = emulator.address();
    tokio::task::spawn_blocking(move || {
        let mut random = SmallRng::seed_from_u64(5);
        let original = opening();
        for _ in 0..1500 {
            let mut bytes = original.clone();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..bytes.len());
                match random.random_range(0..4) {
                    0 => bytes[at] = random.random(),
                    1 => bytes[at] ^= 1 << random.random_range(0..8),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.random()),
                }
            }
            hang_up(address, &bytes);
        }
        hang_up(address, b"GET / HTTP/1.1\r\n\r\n");
        hang_up(address, &[0xff; 1000]);
    })
    .await
    .unwrap();
    let link = witness.receiver(0, EARLIEST, 1).await;
    witness.delivery(link).await;
    emulator.shutdown().await;
}

/// Flows that ask to be answered, while nobody reads: the client has to wait, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_waits_alone_and_loses_nothing() {
    const FLOWS: usize = 400_000;
    let emulator = namespace().await;
    let mut deaf = Client::connect(emulator.address()).await;
    deaf.wait(|event| matches!(event, Event::SessionBegun { .. }).then_some(())).await;
    let (mut answers, mut says) = deaf.into_stream().await.into_split();
    // A flow of ten fields: ids and windows, nothing of a link, no drain, echo.
    let flow = [
        &[0, 0, 0, 26, 2, 0, 0, 0, 0x00, 0x53, 0x13, 0xc0, 13, 10, 0x43, 0x52, 9, 0x43, 0x52, 9][..],
        &[0x40, 0x40, 0x40, 0x40, 0x42, 0x41],
    ]
    .concat();
    let flood = tokio::spawn(async move {
        for _ in 0..FLOWS / 1000 {
            says.write_all(&flow.repeat(1000)).await.unwrap();
        }
        says
    });

    let mut witness = Client::connect(emulator.address()).await;
    let reader = witness.receiver(1, EARLIEST, 100).await;
    let sender = witness.attach(Attach::sender("s", "h/Partitions/1")).await;
    for _ in 0..100 {
        let state = witness.send(sender, 0, MessageParts::data("x").encode()).await;
        assert_eq!(state, Some(DeliveryState::Accepted));
        witness.delivery(reader).await;
    }

    let mut frames = Splitter::new(64 << 10);
    let mut answered = 0;
    let listening = async {
        while answered < FLOWS {
            let mut buffer = BytesMut::with_capacity(64 << 10);
            assert_ne!(answers.read_buf(&mut buffer).await.unwrap(), 0, "{answered} answers, then the end");
            frames.feed(buffer.freeze());
            while let Some(frame) = frames.frame().unwrap() {
                assert!(frame.body.starts_with(&[0x00, 0x53, 0x13]), "a flow, not {frame:?}");
                answered += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("all answers in time");
    drop(flood.await.unwrap());
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_malformed_frame_closes_the_connection_with_a_reason() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    client.raw(&[0, 0, 0, 12, 2, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]).await;
    assert!(matches!(client.closed().await, CloseReason::Peer(Some(_))));
    emulator.shutdown().await;
}

#[tokio::test]
async fn a_payload_that_is_no_message_is_rejected() {
    let emulator = namespace().await;
    let mut client = Client::connect(emulator.address()).await;
    let link = client.attach(Attach::sender("s", "h")).await;
    for rubbish in [&b""[..], b"rubbish", &[0x00, 0x53, 0x75, 0xb0, 0xff, 0xff, 0xff, 0xff], &[0xc1; 2000]] {
        let state = client.send(link, 0, rubbish.into()).await;
        let Some(DeliveryState::Rejected { error: Some(error) }) = state else { panic!("{state:?}") };
        assert_eq!(error.condition, "amqp:decode-error");
    }
    let state = client.send(link, 0, MessageParts::data("x").encode()).await;
    assert_eq!(state, Some(DeliveryState::Accepted));
    emulator.shutdown().await;
}
