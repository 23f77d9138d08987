//! A small client on the engine of weir-amqp, for tests that look at single frames' effects.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_amqp::engine::{
    ClientSasl, CloseReason, Connection, ConnectionConfig, Delivery, Event, LinkId, SendOptions, SessionConfig,
    SessionId,
};
use weir_amqp::performative::{AmqpError, Attach, DeliveryState};
use weir_amqp::wire::{Described, Map, Value};

/// No answer takes this long unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) engine: Connection,
    pub(crate) session: SessionId,
    stream: TcpStream,
    events: Vec<Event>,
}

impl Client {
    /// Connects, opens, begins a session.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let config = ConnectionConfig { hostname: Some("localhost".into()), ..ConnectionConfig::new("test") };
        let mut engine = Connection::client(config, ClientSasl::anonymous(), Instant::now());
        // Replaced below; there is no session before the open.
        let mut pending = Vec::new();
        let mut stream = stream;
        while !pending.iter().any(|event| matches!(event, Event::Opened(_))) {
            step(&mut stream, &mut engine, &mut pending).await;
        }
        let session = engine.begin(&SessionConfig::default()).unwrap();
        Self { engine, session, stream, events: Vec::new() }
    }

    /// Waits for an event that `pick` takes; other events are kept for later calls.
    pub(crate) async fn wait<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(at) = self.events.iter().position(|event| pick(event).is_some()) {
                    let event = self.events.remove(at);
                    return pick(&event);
                }
                assert!(
                    !self.engine.is_finished(),
                    "the connection ended while something else was expected: {:?}",
                    self.events
                );
                step(&mut self.stream, &mut self.engine, &mut self.events).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("nothing in time; there was {:?}", self.events)).unwrap()
    }

    pub(crate) async fn attach(&mut self, attach: Attach) -> LinkId {
        self.engine.attach(self.session, attach).unwrap()
    }

    /// Attaches a receiver of a partition and gives it credit.
    pub(crate) async fn receiver(&mut self, partition: u32, filter: &str, credit: u32) -> LinkId {
        let link = self.attach(receiver(partition, filter)).await;
        self.engine.set_credit(link, credit).unwrap();
        link
    }

    pub(crate) async fn delivery(&mut self, of: LinkId) -> Delivery {
        self.wait(|event| match event {
            Event::Delivery(delivery) if delivery.link == of => Some(delivery.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn detached(&mut self, of: LinkId) -> AmqpError {
        let error = self.wait(|event| match event {
            Event::Detached { link, error, .. } if *link == of => Some(error.clone()),
            _ => None,
        });
        error.await.expect("a reason")
    }

    /// Sends a message and waits for what became of it.
    pub(crate) async fn send(&mut self, link: LinkId, format: u32, message: Bytes) -> Option<DeliveryState> {
        if self.engine.sendable(link) == 0 {
            self.wait(|event| {
                matches!(event, Event::LinkFlow(flow) if flow.link == link && flow.credit > 0).then_some(())
            })
            .await;
        }
        let options = SendOptions { message_format: format, ..SendOptions::default() };
        let id = self.engine.send(link, &options, &[message]).unwrap();
        self.wait(|event| match event {
            Event::Disposition { first, last, state, .. } if (*first..=*last).contains(&id) => Some(state.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn closed(&mut self) -> CloseReason {
        self.wait(|event| match event {
            Event::Closed(reason) => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Whether nothing at all comes for a while: the only way to see that something does *not* happen.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(300), step(&mut self.stream, &mut self.engine, &mut self.events)).await.is_err()
    }

    /// The socket, for what no engine would say. All that the engine said is written.
    pub(crate) async fn into_stream(mut self) -> TcpStream {
        self.raw(&[]).await;
        self.stream
    }

    /// Sends bytes past the engine.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        while self.engine.has_output() {
            self.stream.write_all_buf(self.engine.output()).await.unwrap();
        }
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads until the server closes or resets; what the last read said.
    pub(crate) async fn end_of_stream(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        timeout(PATIENCE, async {
            while self.stream.read(&mut buffer).await? > 0 {}
            Ok(())
        })
        .await
        .expect("the end in time")
    }
}

/// Writes what waits, reads once.
async fn step(stream: &mut TcpStream, engine: &mut Connection, events: &mut Vec<Event>) {
    while engine.output().has_remaining() {
        stream.write_all_buf(engine.output()).await.unwrap();
    }
    let mut buffer = BytesMut::with_capacity(64 << 10);
    match stream.read_buf(&mut buffer).await {
        Ok(0) | Err(_) => engine.feed_eof(),
        Ok(_) => engine.feed(buffer.freeze(), Instant::now()),
    }
    while let Some(event) = engine.next_event() {
        events.push(event);
    }
}

/// An attach of a receiver of hub `h`.
pub(crate) fn receiver(partition: u32, filter: &str) -> Attach {
    let mut attach =
        Attach::receiver(format!("r-{partition}"), format!("h/ConsumerGroups/$default/Partitions/{partition}"));
    let selector = Described { descriptor: Value::ULong(0x0000_468c_0000_0004), value: Value::from(filter.to_owned()) };
    let source = attach.source.as_mut().unwrap();
    source.filter = Map::from([("apache.org:selector-filter:string", Value::Described(Box::new(selector)))]);
    attach
}

pub(crate) const EARLIEST: &str = "amqp.annotation.x-opt-offset > '-1'";
