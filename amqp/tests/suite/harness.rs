//! Two engines and the bytes between them, under a virtual clock.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use weir_amqp::engine::{
    ClientSasl, Connection, ConnectionConfig, Delivery, Event, LinkId, ServerSasl, SessionConfig, SessionId,
};
use weir_amqp::performative::{Attach, Role};

pub(crate) struct Pair {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) at_client: Vec<Event>,
    pub(crate) at_server: Vec<Event>,
    pub(crate) now: Instant,
    /// Bytes are fed in pieces of this size.
    pub(crate) chunk: usize,
}

pub(crate) fn config(name: &str) -> ConnectionConfig {
    ConnectionConfig { hostname: Some("localhost".to_owned()), ..ConnectionConfig::new(name) }
}

pub(crate) const MECHANISMS: [&str; 4] = ["MSSBCBS", "ANONYMOUS", "PLAIN", "EXTERNAL"];

impl Pair {
    pub(crate) fn new(chunk: usize) -> Self {
        Self::with(config("client"), config("server"), ClientSasl::anonymous(), chunk)
    }

    pub(crate) fn with(client: ConnectionConfig, server: ConnectionConfig, sasl: ClientSasl, chunk: usize) -> Self {
        let now = Instant::now();
        Self {
            client: Connection::client(client, sasl, now),
            server: Connection::server(server, ServerSasl::accept_all(MECHANISMS), now),
            at_client: Vec::new(),
            at_server: Vec::new(),
            now,
            chunk,
        }
    }

    /// An open connection.
    pub(crate) fn open(chunk: usize) -> Self {
        let mut pair = Self::new(chunk);
        pair.pump();
        assert!(matches!(pair.at_client.remove(0), Event::Opened(_)));
        assert!(matches!(pair.at_server.remove(0), Event::Opened(_)));
        pair
    }

    /// Moves bytes to and fro until both are silent.
    pub(crate) fn pump(&mut self) {
        loop {
            self.collect();
            let up = drain(&mut self.client);
            let down = drain(&mut self.server);
            if up.is_empty() && down.is_empty() {
                return;
            }
            for piece in pieces(&up, self.chunk) {
                self.server.feed(piece, self.now);
                self.collect();
            }
            for piece in pieces(&down, self.chunk) {
                self.client.feed(piece, self.now);
                self.collect();
            }
        }
    }

    pub(crate) fn pump_events(&mut self) {
        self.collect();
    }

    fn collect(&mut self) {
        self.at_client.extend(std::iter::from_fn(|| self.client.next_event()));
        self.at_server.extend(std::iter::from_fn(|| self.server.next_event()));
    }

    /// Lets time pass to the next deadline of either end, until `until`.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.pump();
            let next = [self.client.next_deadline(), self.server.next_deadline()].into_iter().flatten().min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            self.client.on_deadline(self.now);
            self.server.on_deadline(self.now);
        }
        self.now = end;
    }

    /// A session begun by the client: its ids at both ends.
    pub(crate) fn session(&mut self) -> (SessionId, SessionId) {
        let client = self.client.begin(&SessionConfig::default()).unwrap();
        self.pump();
        match (self.at_client.remove(0), self.at_server.remove(0)) {
            (
                Event::SessionBegun { session, remote_initiated: false, .. },
                Event::SessionBegun { session: server, remote_initiated: true, .. },
            ) if session == client => (client, server),
            other => panic!("not begun: {other:?}"),
        }
    }

    /// A link attached by the client and accepted: its ids at both ends.
    pub(crate) fn link(&mut self, session: SessionId, attach: Attach) -> (LinkId, LinkId) {
        self.link_with(session, attach, |answer| answer)
    }

    pub(crate) fn link_with(
        &mut self,
        session: SessionId,
        attach: Attach,
        change: impl FnOnce(Attach) -> Attach,
    ) -> (LinkId, LinkId) {
        let client = self.client.attach(session, attach).unwrap();
        self.pump();
        let Event::AttachRequested { link: server, attach, .. } = self.at_server.remove(0) else {
            panic!("no attach arrived")
        };
        self.server.accept(server, change(Attach::answer(&attach))).unwrap();
        self.pump();
        assert!(matches!(self.at_client.remove(0), Event::Attached { link, .. } if link == client));
        (client, server)
    }

    /// A connection, a session and a link on which the server sends and the client gave `credit`.
    pub(crate) fn receiving(chunk: usize, credit: u32) -> (Self, LinkId, LinkId) {
        let mut pair = Self::open(chunk);
        let (session, _) = pair.session();
        let (client, server) = pair.link(session, Attach::receiver("in", "hub"));
        pair.client.set_credit(client, credit).unwrap();
        pair.pump();
        assert!(matches!(&pair.at_server[..], [Event::LinkFlow(flow)] if flow.credit == credit));
        pair.at_server.clear();
        (pair, client, server)
    }

    /// A connection, a session and a link on which the client sends and the server gives `credit` by itself.
    pub(crate) fn sending(chunk: usize, credit: u32) -> (Self, LinkId, LinkId) {
        let mut pair = Self::open(chunk);
        let (session, _) = pair.session();
        let (client, server) = pair.link(session, Attach::sender("out", "hub"));
        assert_eq!(pair.server.link(server).unwrap().role, Role::Receiver);
        pair.server.set_auto_credit(server, Some(credit)).unwrap();
        pair.pump();
        pair.at_client.clear();
        (pair, client, server)
    }

    /// Takes the deliveries out of what came to the client.
    pub(crate) fn client_deliveries(&mut self) -> Vec<Delivery> {
        deliveries(&mut self.at_client)
    }

    pub(crate) fn server_deliveries(&mut self) -> Vec<Delivery> {
        deliveries(&mut self.at_server)
    }
}

fn deliveries(events: &mut Vec<Event>) -> Vec<Delivery> {
    let (deliveries, others) =
        std::mem::take(events).into_iter().partition::<Vec<_>, _>(|event| matches!(event, Event::Delivery(_)));
    *events = others;
    deliveries
        .into_iter()
        .map(|event| match event {
            Event::Delivery(delivery) => delivery,
            _ => unreachable!(),
        })
        .collect()
}

/// Everything an end wants to write, by way of its vectored slices in small steps.
pub(crate) fn drain(connection: &mut Connection) -> Bytes {
    let output = connection.output();
    let mut all = Vec::new();
    while output.has_remaining() {
        let mut slices = [std::io::IoSlice::new(&[]); 3];
        let n = output.chunks_vectored(&mut slices);
        assert!(n > 0);
        let mut taken = 0;
        for slice in &slices[..n] {
            assert!(!slice.is_empty(), "an empty slice would end a write");
            all.extend_from_slice(slice);
            taken += slice.len();
        }
        // Stop in the middle of the last slice, as a socket does.
        let back = slices[n - 1].len() / 2;
        all.truncate(all.len() - back);
        output.advance(taken - back);
    }
    all.into()
}

fn pieces(bytes: &Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    (0..bytes.len()).step_by(size).map(move |at| bytes.slice(at..bytes.len().min(at + size)))
}
