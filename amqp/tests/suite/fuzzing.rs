//! The fuzz bodies over seeded mutations of real traffic: what the stable toolchain can do of fuzzing. `amqp/fuzz` goes deeper.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use weir_amqp::engine::SendOptions;
use weir_amqp::message::{BatchBuilder, MessageParts};
use weir_amqp::performative::{Attach, DeliveryState, Role};
use weir_amqp::testing;
use weir_amqp::wire::{Map, Writer};

use crate::harness::{Pair, drain};

/// A xorshift generator: the same inputs on every run and machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap()
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() % n.max(1)
    }
}

/// Bytes that decoders stumble over: sizes, counts, constructors.
const NASTY: [u8; 16] = [0, 1, 2, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x45, 0x53, 0xc0, 0xd0, 0xd1, 0xe0, 0xf0, 0xb0];

fn mutate(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            _ if bytes.is_empty() => bytes.push(0),
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = NASTY[random.below(NASTY.len())],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + random.below(8)).min(bytes.len()))),
            4 => bytes.insert(at, NASTY[random.below(NASTY.len())]),
            5 => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = random.below(other.len());
                bytes.splice(at..at, other[from..].iter().copied().take(random.below(60)).collect::<Vec<_>>());
            }
        }
    }
    bytes
}

fn run(name: &str, seeds: &[Vec<u8>], rounds: usize, body: fn(&[u8])) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        body(seed);
    }
    // For `cargo xtask fuzz`, which begins with these.
    if let Some(folder) = std::env::var_os("WEIR_FUZZ_SEEDS") {
        let folder = std::path::Path::new(&folder).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), seed).unwrap();
        }
    }
    for round in 0..rounds {
        let (seed, other) = (random.below(seeds.len()), random.below(seeds.len()));
        let input = mutate(&seeds[seed], &seeds[other], &mut random);
        LARGEST.with(|largest| largest.set(0));
        body(&input);
        // Buffers of the engine and its test have fixed sizes beside those that follow the input.
        let limit = 256 * input.len() + 300_000;
        let largest = LARGEST.with(Cell::get);
        assert!(largest <= limit, "{name}, round {round}: {largest} bytes at once for {} of input", input.len());
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut message = MessageParts::data(&b"some body"[..]);
    message.message_annotations = Map::from([("x-opt-sequence-number", 12i64), ("x-opt-enqueued-time", 99i64)]);
    message.application_properties = Map::from([("number", 7u32), ("other", 1u32)]);
    message.properties.message_id = Some("id".into());
    message.properties.group_id = Some("key".to_owned());
    all.push(message.encode());
    let mut batch = BatchBuilder::new(Bytes::new(), 10_000);
    for _ in 0..3 {
        assert!(batch.add(&[message.encode()]));
    }
    all.push(batch.finish().concat().into());
    all.push(MessageParts::value(vec![1u8.into(), "two".into(), Map::from([("three", 3i64)]).into()]).encode());
    all.into_iter().map(|m| m.to_vec()).collect()
}

/// What a client and a server say to each other, by side.
fn traffic() -> [Vec<u8>; 2] {
    let mut pair = Pair::new(100_000);
    let mut said = [Vec::new(), Vec::new()];
    let exchange = |pair: &mut Pair, said: &mut [Vec<u8>; 2]| {
        for _ in 0..10 {
            let (up, down) = (drain(&mut pair.client), drain(&mut pair.server));
            said[0].extend_from_slice(&up);
            said[1].extend_from_slice(&down);
            pair.server.feed(up, pair.now);
            pair.client.feed(down, pair.now);
            pair.pump_events();
        }
    };
    exchange(&mut pair, &mut said);
    let session = pair.client.begin(&weir_amqp::engine::SessionConfig::default()).unwrap();
    let sender = pair.client.attach(session, Attach::sender("out", "q")).unwrap();
    let receiver = pair.client.attach(session, Attach::receiver("in", "q")).unwrap();
    pair.client.set_credit(receiver, 5).unwrap();
    exchange(&mut pair, &mut said);
    let mut at_server = Vec::new();
    for event in std::mem::take(&mut pair.at_server) {
        if let weir_amqp::engine::Event::AttachRequested { link, attach, .. } = event {
            pair.server.accept(link, Attach::answer(&attach)).unwrap();
            at_server.push((link, attach.role));
        }
    }
    exchange(&mut pair, &mut said);
    for (link, role) in at_server {
        if role == Role::Sender {
            pair.server.set_credit(link, 10).unwrap();
        } else {
            pair.server.send(link, &SendOptions::default(), &[messages().remove(0).into()]).unwrap();
        }
    }
    exchange(&mut pair, &mut said);
    for message in messages() {
        pair.client.send(sender, &SendOptions::default(), &[message.into()]).unwrap();
    }
    pair.client.send(sender, &SendOptions::default(), &[vec![0; 5000].into()]).unwrap();
    exchange(&mut pair, &mut said);
    for delivery in pair.server_deliveries() {
        pair.server.settle(&delivery, DeliveryState::Accepted).unwrap();
    }
    exchange(&mut pair, &mut said);
    pair.client.detach(sender, true, None).unwrap();
    pair.client.end(session, None).unwrap();
    pair.client.close(None).unwrap();
    exchange(&mut pair, &mut said);
    said
}

#[test]
fn values_of_any_bytes() {
    let mut seeds = messages();
    for value in [
        weir_amqp::wire::Value::from(vec![1i64.into(), "x".into()]),
        weir_amqp::wire::Array::new(vec![1i32.into(), 2i32.into()]).unwrap().into(),
        Map::from([("a", 1u8)]).into(),
    ] {
        let mut buf = BytesMut::new();
        value.encode(&mut Writer::new(&mut buf));
        seeds.push(buf.to_vec());
    }
    run("value", &seeds, 60_000, testing::value);
}

#[test]
fn messages_of_any_bytes() {
    run("message", &messages(), 40_000, testing::message);
}

#[test]
fn frames_of_any_bytes() {
    let seeds: Vec<_> = traffic().into_iter().map(|said| [&[50], &said[16..]].concat()).collect();
    run("frames", &seeds, 20_000, testing::frames);
}

#[test]
fn peers_that_say_anything() {
    let [client, server] = traffic();
    let mut seeds = Vec::new();
    for script in [[0; 7], [1; 7], [0, 9, 200, 1, 1, 1, 0]] {
        for chunking in 0..4 {
            seeds.push([&[7 | chunking << 4][..], &script, &client].concat());
            // A client without SASL: the server's words behind its SASL part.
            let amqp = server.windows(8).position(|w| w == b"AMQP\0\x01\0\0").unwrap();
            seeds.push([&[15 | chunking << 4][..], &script, &server[amqp..]].concat());
        }
    }
    run("connection", &seeds, 6_000, testing::connection);
}

/// Notes the largest single allocation of each thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "an allocator can't be written without; it hands everything on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: the caller's contract is handed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is handed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn note(size: usize) {
    // The thread's value is gone while the thread ends.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;
