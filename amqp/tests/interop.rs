//! Our engine against one that is not ours, in both directions, over an in-memory pipe: fe2o3-amqp's client against our
//! server (`their_client_and_our_server`), and our client against fe2o3-amqp's acceptor (`our_client_and_their_acceptor`).
//!
//! rhea and qpid-proton, in `tests/clients/`, add two more engines to the first direction only: they drive the namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fe2o3_amqp::acceptor::{ConnectionAcceptor, LinkAcceptor, LinkEndpoint, SaslAnonymousMechanism, SessionAcceptor};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{Body, Data, Message as TheirMessage, Outcome, Source};
use fe2o3_amqp::types::primitives::{Binary, Value as TheirValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weir_amqp::engine::{
    ClientSasl, CloseReason, Connection, ConnectionConfig, Event, LinkId, SendOptions, ServerSasl, SessionConfig,
};
use weir_amqp::message::{Message, MessageParts};
use weir_amqp::performative::{AmqpError, Attach, DeliveryState, Role, condition};

/// What reacts to events.
trait Handler {
    fn on_event(&mut self, connection: &mut Connection, event: Event);
    fn after_events(&mut self, _connection: &mut Connection) {}
}

/// Drives a connection over a stream until it is over: what a user of the crate writes around it.
async fn drive(
    connection: &mut Connection,
    stream: impl AsyncRead + AsyncWrite,
    handler: &mut impl Handler,
) -> CloseReason {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let mut reason = None;
    loop {
        while let Some(event) = connection.next_event() {
            if let Event::Closed(why) = &event {
                reason = Some(why.clone());
            }
            handler.on_event(connection, event);
        }
        handler.after_events(connection);
        let (finished, writes, deadline) =
            (connection.is_finished(), connection.has_output(), connection.next_deadline());
        if finished && !writes {
            // The pipe's other end may be gone already; there is nothing left to lose.
            let _ = writer.shutdown().await;
            return reason.unwrap();
        }
        buffer.reserve(64 * 1024);
        let timer =
            tokio::time::sleep_until(deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600)).into());
        tokio::select! {
            read = reader.read_buf(&mut buffer), if !finished => match read.unwrap() {
                0 => connection.feed_eof(),
                _ => connection.feed(buffer.split().freeze(), Instant::now()),
            },
            written = writer.write_buf(connection.output()), if writes => drop(written.unwrap()),
            () = timer => connection.on_deadline(Instant::now()),
        }
    }
}

/// A queue behind our server: what arrives at `q` leaves from `q`.
#[derive(Default)]
struct Broker {
    queue: VecDeque<Bytes>,
    consumers: Vec<LinkId>,
    filters: Vec<weir_amqp::wire::Map>,
    settled: u32,
    errors: Vec<AmqpError>,
}

impl Handler for Broker {
    fn on_event(&mut self, connection: &mut Connection, event: Event) {
        match event {
            Event::AttachRequested { link, attach, .. } => {
                let address = match attach.role {
                    Role::Sender => attach.target.as_ref().and_then(|t| t.address.clone()),
                    Role::Receiver => attach.source.as_ref().and_then(|s| s.address.clone()),
                };
                if address.as_deref() != Some("q") {
                    let error = AmqpError::new(condition::NOT_FOUND, format!("no node {address:?}"));
                    return connection.refuse(link, error).unwrap();
                }
                connection.accept(link, Attach::answer(&attach)).unwrap();
                match attach.role {
                    Role::Sender => connection.set_auto_credit(link, Some(50)).unwrap(),
                    Role::Receiver => {
                        self.filters.push(attach.source.unwrap().filter);
                        self.consumers.push(link);
                    }
                }
            }
            Event::Delivery(delivery) => {
                connection.settle(&delivery, DeliveryState::Accepted).unwrap();
                self.queue.push_back(delivery.payload);
            }
            Event::Disposition { first, last, settled: true, state: Some(DeliveryState::Accepted), .. } => {
                self.settled += last - first + 1;
            }
            Event::Detached { link, error, .. } => {
                self.consumers.retain(|consumer| *consumer != link);
                self.errors.extend(error);
            }
            _ => {}
        }
    }

    fn after_events(&mut self, connection: &mut Connection) {
        for consumer in &self.consumers {
            while connection.sendable(*consumer) > 0 {
                let Some(payload) = self.queue.pop_front() else { return };
                connection.send(*consumer, &SendOptions::default(), &[payload]).unwrap();
            }
        }
    }
}

fn body(n: usize) -> Vec<u8> {
    let len = if n % 10 == 9 { 300_000 } else { n * 13 };
    (0..len).map(|i| u8::try_from((i + n) % 256).unwrap()).collect()
}

const MESSAGES: usize = 120;

#[tokio::test]
async fn their_client_and_our_server() {
    for profile in [
        None,
        Some(SaslProfile::Anonymous),
        Some(SaslProfile::Plain { username: "u".to_owned(), password: "p".to_owned() }),
    ] {
        let (theirs, ours) = tokio::io::duplex(20_000);
        let server = tokio::spawn(async move {
            let sasl = ServerSasl::accept_all(["ANONYMOUS", "PLAIN"]);
            let mut connection = Connection::server(ConnectionConfig::new("weir"), sasl, Instant::now());
            let mut broker = Broker::default();
            let reason = drive(&mut connection, ours, &mut broker).await;
            (reason, broker)
        });
        tokio::time::timeout(Duration::from_secs(30), their_client(profile, theirs)).await.unwrap();
        let (reason, broker) = server.await.unwrap();
        assert_eq!(reason, CloseReason::Peer(None));
        assert_eq!(broker.settled, u32::try_from(MESSAGES).unwrap());
        assert!(broker.errors.iter().any(|e| e.condition == condition::NOT_FOUND), "{:?}", broker.errors);
        let filter = broker.filters[0].get("apache.org:selector-filter:string").unwrap().undescribed();
        assert_eq!(filter.as_str(), Some("x > 1"));
    }
}

async fn their_client(profile: Option<SaslProfile>, stream: tokio::io::DuplexStream) {
    let builder = fe2o3_amqp::Connection::builder().container_id("theirs").hostname("localhost");
    let builder = match profile {
        Some(profile) => builder.sasl_profile(profile),
        None => builder,
    };
    let mut connection = builder.open_with_stream(stream).await.unwrap();
    let mut session = fe2o3_amqp::Session::begin(&mut connection).await.unwrap();
    let refused = fe2o3_amqp::Sender::attach(&mut session, "bad", "nowhere").await;
    assert!(refused.is_err());
    let mut sender = fe2o3_amqp::Sender::attach(&mut session, "out", "q").await.unwrap();
    let source = Source::builder()
        .address("q")
        .add_to_filter_using_legacy_format("apache.org:selector-filter:string", "x > 1".to_owned())
        .build();
    let mut receiver = fe2o3_amqp::Receiver::builder().name("in").source(source).attach(&mut session).await.unwrap();
    let sending = async {
        for n in 0..MESSAGES {
            let message = TheirMessage::builder().data(Binary::from(body(n))).build();
            let outcome: Outcome = sender.send(message).await.unwrap();
            assert!(matches!(outcome, Outcome::Accepted(_)));
        }
    };
    let receiving = async {
        for n in 0..MESSAGES {
            let delivery = receiver.recv::<Body<TheirValue>>().await.unwrap();
            receiver.accept(&delivery).await.unwrap();
            let Body::Data(data) = delivery.into_body() else { panic!("no data") };
            assert_eq!(data.into_iter().next().unwrap().0.as_ref(), body(n));
        }
    };
    tokio::join!(sending, receiving);
    sender.close().await.unwrap();
    receiver.close().await.unwrap();
    session.end().await.unwrap();
    connection.close().await.unwrap();
}

/// Our client: sends all, receives all, detaches, ends, closes.
#[derive(Default)]
struct Client {
    sender: Option<LinkId>,
    sent: usize,
    accepted: u32,
    received: Vec<Bytes>,
}

impl Handler for Client {
    fn on_event(&mut self, connection: &mut Connection, event: Event) {
        match event {
            Event::Opened(_) => {
                connection.begin(&SessionConfig::default()).unwrap();
            }
            // Attaching along with the begin is allowed, but their acceptor does not expect it.
            Event::SessionBegun { session, .. } => {
                self.sender = Some(connection.attach(session, Attach::sender("out", "q")).unwrap());
                let receiver = connection.attach(session, Attach::receiver("in", "q")).unwrap();
                connection.set_auto_credit(receiver, Some(20)).unwrap();
            }
            Event::Delivery(delivery) => {
                connection.settle(&delivery, DeliveryState::Accepted).unwrap();
                let message = Message::parse(delivery.payload).unwrap();
                self.received.push(message.data().next().unwrap().unwrap());
            }
            Event::Disposition { first, last, state: Some(DeliveryState::Accepted), .. } => {
                self.accepted += last - first + 1;
            }
            Event::Detached { error, .. } => assert_eq!(error, None),
            _ => {}
        }
    }

    fn after_events(&mut self, connection: &mut Connection) {
        let Some(sender) = self.sender else { return };
        while self.sent < MESSAGES && connection.sendable(sender) > 0 {
            let payload = MessageParts::data(body(self.sent)).encode();
            connection.send(sender, &SendOptions::default(), &[payload]).unwrap();
            self.sent += 1;
        }
        if self.received.len() == MESSAGES && self.accepted as usize == MESSAGES {
            self.sender = None;
            let session = connection.link(sender).unwrap().session;
            connection.detach(sender, true, None).unwrap();
            connection.end(session, None).unwrap();
            connection.close(None).unwrap();
        }
    }
}

#[tokio::test]
async fn our_client_and_their_acceptor() {
    let (theirs, ours) = tokio::io::duplex(20_000);
    let acceptor = tokio::spawn(their_acceptor(theirs));
    let mut connection = Connection::client(ConnectionConfig::new("weir"), ClientSasl::anonymous(), Instant::now());
    let mut client = Client::default();
    let driven = drive(&mut connection, ours, &mut client);
    let reason = tokio::time::timeout(Duration::from_secs(30), driven).await.unwrap();
    assert_eq!(reason, CloseReason::Local);
    assert_eq!(client.received.len(), MESSAGES);
    assert!(client.received.iter().enumerate().all(|(n, data)| data[..] == body(n)));
    acceptor.await.unwrap();
}

/// Echoes data from the link it receives on to the one it sends on.
async fn their_acceptor(stream: tokio::io::DuplexStream) {
    let acceptor =
        ConnectionAcceptor::builder().container_id("theirs").sasl_acceptor(SaslAnonymousMechanism {}).build();
    let mut connection = acceptor.accept(stream).await.unwrap();
    let mut session = SessionAcceptor::new().accept(&mut connection).await.unwrap();
    let links = LinkAcceptor::new();
    let (mut sender, mut receiver) = (None, None);
    while sender.is_none() || receiver.is_none() {
        match links.accept(&mut session).await.unwrap() {
            LinkEndpoint::Sender(link) => sender = Some(link),
            LinkEndpoint::Receiver(link) => receiver = Some(link),
        }
    }
    let (mut sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
    for _ in 0..MESSAGES {
        let delivery = receiver.recv::<Body<TheirValue>>().await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        let Body::Data(data) = delivery.into_body() else { panic!("no data") };
        let data: Data = data.into_iter().next().unwrap();
        let outcome = sender.send(TheirMessage::builder().data(data.0).build()).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted(_)));
    }
    // The peer ends the session and closes.
    let _ = session.on_end().await;
    let _ = connection.on_close().await;
}
