//! What an event of 1 KiB costs in the engine, without sockets: `cargo bench -p weir-amqp`. It measures and asserts nothing about time.
//! CPU time where the system tells it (Linux), so that a busy machine does not count.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use weir_amqp::engine::{
    ClientSasl, Connection, ConnectionConfig, Event, LinkId, SendOptions, ServerSasl, SessionConfig,
};
use weir_amqp::message::{Message, MessageParts, Section, encode_annotations};
use weir_amqp::performative::Attach;
use weir_amqp::wire::ValueRef;

const EVENTS: usize = 400_000;
const ROUNDS: usize = 7;
/// Events between two writes, and the size of a read.
const PER_WRITE: usize = 256;
const READ: usize = 64 * 1024;

fn main() {
    let (head, tail) = event();
    println!("{EVENTS} events of {} bytes, medians of {ROUNDS} runs", head.len() + tail.len());
    let wire = report("push: send, 2 slices, vectored output", || push(&head, &tail));
    report("take in: split, transfer, delivery event", || take_in(&wire, |_| {}));
    report("take in and parse: plus annotations, key, body", || take_in(&wire, parse));
}

/// CPU time of this thread, or the clock where it can't be had.
struct Stopwatch {
    cpu: Option<u64>,
    clock: Instant,
}

impl Stopwatch {
    fn start() -> Self {
        Self { cpu: cpu_nanos(), clock: Instant::now() }
    }

    fn elapsed(&self) -> Duration {
        match (self.cpu, cpu_nanos()) {
            (Some(start), Some(now)) => Duration::from_nanos(now - start),
            _ => self.clock.elapsed(),
        }
    }
}

/// The first field of `schedstat`: nanoseconds on a CPU.
fn cpu_nanos() -> Option<u64> {
    // Giving the CPU up brings the figure up to date.
    std::thread::yield_now();
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// Runs it several times and prints the median per event.
fn report<T>(what: &str, mut run: impl FnMut() -> (Duration, T)) -> T {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..ROUNDS {
        let (time, value) = run();
        times.push(time);
        last = Some(value);
    }
    times.sort();
    let nanos = times[ROUNDS / 2].as_nanos() as f64 / EVENTS as f64;
    println!("{what:<50} {:.3} µs per event, {:.2} M events/s", nanos / 1000.0, 1000.0 / nanos);
    match last {
        Some(value) => value,
        None => unreachable!("ROUNDS is positive"),
    }
}

/// An event as the namespace keeps it: annotations, and what the producer sent.
fn event() -> (Bytes, Bytes) {
    let mut head = BytesMut::new();
    encode_annotations(
        &mut head,
        Section::MessageAnnotations,
        [
            ("x-opt-sequence-number", ValueRef::Long(123_456_789)),
            ("x-opt-offset", ValueRef::Str("98765432100")),
            ("x-opt-enqueued-time", ValueRef::Timestamp(1_700_000_000_000)),
            ("x-opt-partition-key", ValueRef::Str("carrier-UA")),
        ],
    );
    (head.freeze(), MessageParts::data(vec![7; 1024]).encode())
}

/// A client and a server with a link from server to client.
fn link() -> (Connection, Connection, LinkId, LinkId) {
    let now = Instant::now();
    let mut client = Connection::client(ConnectionConfig::new("client"), ClientSasl::none(), now);
    let mut server = Connection::server(ConnectionConfig::new("server"), ServerSasl::accept_all([]), now);
    let (mut ours, mut theirs) = (None, None);
    for _ in 0..10 {
        server.feed(taken(&mut client), now);
        while let Some(event) = server.next_event() {
            if let Event::AttachRequested { link, attach, .. } = event {
                theirs = server.accept(link, Attach::answer(&attach)).ok().map(|()| link);
            }
        }
        client.feed(taken(&mut server), now);
        while let Some(event) = client.next_event() {
            if let Event::Opened(_) = event {
                let window = SessionConfig { incoming_window: u32::MAX, ..SessionConfig::default() };
                ours = client.begin(&window).and_then(|s| client.attach(s, Attach::receiver("in", "hub"))).ok();
                if let Some(link) = ours {
                    let _ = client.set_credit(link, u32::MAX);
                }
            }
        }
    }
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => (client, server, ours, theirs),
        _ => unreachable!("the link is attached after ten exchanges"),
    }
}

fn taken(connection: &mut Connection) -> Bytes {
    let output = connection.output();
    output.copy_to_bytes(output.remaining())
}

/// Sends all events; the "socket" takes everything from the slices that are offered. Then once more, to keep the bytes.
fn push(head: &Bytes, tail: &Bytes) -> (Duration, Vec<Bytes>) {
    let (_, mut server, _, link) = link();
    let payload = [head.clone(), tail.clone()];
    let start = Stopwatch::start();
    let mut sent = 0;
    while sent < EVENTS {
        for _ in 0..PER_WRITE.min(EVENTS - sent) {
            assert!(server.send(link, &SendOptions::settled(), &payload).is_ok(), "credit and window are endless");
            sent += 1;
        }
        let output = server.output();
        while output.has_remaining() {
            let mut slices = [std::io::IoSlice::new(&[]); 512];
            let n = output.chunks_vectored(&mut slices);
            let bytes: usize = black_box(&slices[..n]).iter().map(|slice| slice.len()).sum();
            output.advance(bytes);
        }
    }
    let time = start.elapsed();
    let mut wire = Vec::new();
    let (_, mut server, _, link) = self::link();
    for _ in 0..EVENTS / PER_WRITE {
        for _ in 0..PER_WRITE {
            assert!(server.send(link, &SendOptions::settled(), &payload).is_ok(), "credit and window are endless");
        }
        wire.push(taken(&mut server));
    }
    (time, wire)
}

/// Feeds the bytes in reads of 64 KiB, each copied into a buffer of its own as from a socket, outside of the measured time.
fn take_in(wire: &[Bytes], mut with: impl FnMut(&Bytes)) -> (Duration, usize) {
    let (mut client, _, _, _) = link();
    let now = Instant::now();
    let mut seen = 0;
    let mut time = Duration::ZERO;
    for written in wire.chunks(16) {
        let written: Vec<u8> = written.concat();
        let reads: Vec<Bytes> = written.chunks(READ).map(Bytes::copy_from_slice).collect();
        let start = Stopwatch::start();
        for read in reads {
            client.feed(read, now);
            while let Some(event) = client.next_event() {
                if let Event::Delivery(delivery) = event {
                    with(&delivery.payload);
                    seen += 1;
                }
            }
        }
        time += start.elapsed();
    }
    assert_eq!(seen, EVENTS / PER_WRITE * PER_WRITE, "every event arrives");
    (time, seen)
}

/// What a consumer looks at.
fn parse(payload: &Bytes) {
    let Ok(message) = Message::parse(payload.clone()) else { unreachable!("our own message") };
    for (key, value) in message.message_annotations().into_iter().flatten().flatten() {
        match key.as_str() {
            Some("x-opt-sequence-number" | "x-opt-enqueued-time") => {
                black_box(value.as_i64());
            }
            _ => {
                black_box(value.as_str());
            }
        }
    }
    drop(black_box(message.data().next()));
}
