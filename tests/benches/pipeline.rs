//! What a whole host costs beside the official SDK alone: CPU time per event of a host with the `identity` guest (claim, batches, the sandbox,
//! outputs to a sink that counts, checkpoints) against a bare consumer that reads the same events with the same SDK and settings.
//!
//! `cargo xtask bench pipeline`. The namespace runs in a process of its own, so that its time is not counted, and so does the bare
//! consumer, with the system's allocator as such a program has it; the host has the allocator of the `weir` command. What of the
//! difference is the allocator's shows the second consumer, which has it too. Rounds are interleaved, so that a noisy machine
//! disturbs all sides alike; medians are shown.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark stops where it can't measure")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Runtime;
use weir_amqp::message::MessageParts;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_host::azure::{Credential, Namespace, Timeouts};
use weir_host::guest::Processor;
use weir_host::host::{Host, ProcessorSpec};
use weir_host::model::{Output, Scope};
use weir_host::options::ProcessorOptions;
use weir_host::seams::{Sink, SinkError};
use weir_host::testing::MemoryStore;
use weir_host::wasm::{self, Engine, EngineOptions, ModuleSource};
use weir_tests::consumer::{self, measure};

/// That of the `weir` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HUB: &str = "events";
const PARTITIONS: u32 = 4;
const ROUNDS: usize = 7;
const EVENTS: usize = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(events) = arguments.iter().find_map(|argument| argument.strip_prefix("--serve=")) {
        return serve(events.parse().unwrap());
    }
    // `cargo test --benches` only wants to know that it builds and runs.
    let (rounds, events) =
        if arguments.iter().any(|argument| argument == "--bench") { (ROUNDS, EVENTS) } else { (1, 4_000) };
    let namespace = Served::start(events);
    let mut bare = Bare::start(&namespace.endpoint, events);
    let consumer = consumer::runtime("consumer");
    let stages = consumer::runtime("stages");
    let engine = Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap();
    let module = stages.block_on(engine.load(ModuleSource::File(weir_tests::guests::guest("identity")))).unwrap();
    let guest = module.processor(wasm::ProcessorOptions::new("identity")).unwrap();

    let (mut of_bare, mut of_same, mut of_host) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        of_bare.push(bare.round());
        of_same.push(measure(|| consumer.block_on(consumer::consume(&namespace.endpoint, HUB, PARTITIONS, events))));
        of_host.push(measure(|| run_host(&stages, &namespace.endpoint, events, &guest)));
    }
    println!("{events} events of 1 KiB from {PARTITIONS} partitions, median of {rounds} rounds\n");
    println!("{:<24}{:>14}{:>14}", "", "CPU per event", "events/s");
    let [bare, same, host] = [of_bare, of_same, of_host].map(|rounds| Figures::of(rounds, events));
    for (name, side) in [("bare SDK consumer", &bare), ("  with our allocator", &same), ("host with identity", &host)] {
        println!("{name:<24}{:>11.2} µs{:>14.0}", side.cpu, side.rate);
    }
    for (name, side) in [("host / bare", &bare), ("host / our allocator", &same)] {
        println!("{name:<24}{:>14.2}{:>14.2}", host.cpu / side.cpu, host.rate / side.rate);
    }
}

/// The namespace's process: fills a hub, says where it is, and serves until its standard input closes.
fn serve(events: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = EmulatorConfig {
            listen: "127.0.0.1:0".into(),
            hubs: vec![HubSpec { name: HUB.into(), partitions: PARTITIONS }],
            ..EmulatorConfig::default()
        };
        let emulator = Emulator::start(config).await.unwrap();
        let event = Incoming { tail: MessageParts::data(vec![b'x'; 1024]).encode(), ..Incoming::default() };
        let share = vec![event; events / PARTITIONS as usize];
        for partition in 0..PARTITIONS {
            for block in share.chunks(500) {
                emulator.namespace().publish(HUB, partition, block).unwrap();
            }
        }
        println!("{}", emulator.endpoint());
        let closed = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        closed.await.unwrap().unwrap();
    });
}

/// The consumer's process: does a round for each line that it is sent.
struct Bare {
    child: Child,
    rounds: BufReader<ChildStdout>,
}

impl Bare {
    fn start(endpoint: &str, events: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sdk-consumer"))
            .args([endpoint, HUB, &PARTITIONS.to_string(), &events.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let rounds = BufReader::new(child.stdout.take().unwrap());
        Self { child, rounds }
    }

    fn round(&mut self) -> (Duration, Duration) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
        let mut line = String::new();
        self.rounds.read_line(&mut line).unwrap();
        let mut figures = line.split_whitespace().map(|nanoseconds| Duration::from_nanos(nanoseconds.parse().unwrap()));
        (figures.next().unwrap(), figures.next().unwrap())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Served {
    child: Child,
    endpoint: String,
}

impl Served {
    fn start(events: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(format!("--serve={events}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        Self { child, endpoint: endpoint.trim().to_owned() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_host(runtime: &Runtime, endpoint: &str, events: usize, guest: &Arc<dyn Processor>) {
    let sink = Arc::new(Count::default());
    let azure = Namespace::new("localhost", Some(endpoint), Credential::None).unwrap();
    let spec = ProcessorSpec {
        name: "identity".into(),
        scope: Scope { namespace: "localhost".into(), event_hub: HUB.into(), consumer_group: "$default".into() },
        source: Arc::new(azure.source(HUB, "$default", Timeouts::default())),
        store: Arc::new(MemoryStore::new()),
        processor: Arc::clone(guest),
        outputs: BTreeMap::from([("default".to_owned(), Arc::clone(&sink) as Arc<dyn Sink>)]),
        dead_letter: None,
        options: ProcessorOptions::default(),
    };
    let host = Host::builder().until_caught_up(true).processor(spec).build().unwrap();
    let outcome = runtime.block_on(host.run(std::future::pending()));
    assert!(outcome.is_success(), "{outcome}");
    assert_eq!(sink.0.load(Ordering::Relaxed), events);
}

#[derive(Default)]
struct Count(AtomicUsize);

#[async_trait]
impl Sink for Count {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        self.0.fetch_add(outputs.len(), Ordering::Relaxed);
        Ok(())
    }

    fn max_output_bytes(&self) -> usize {
        1 << 20
    }
}

struct Figures {
    /// Microseconds.
    cpu: f64,
    /// Per second.
    rate: f64,
}

impl Figures {
    fn of(rounds: Vec<(Duration, Duration)>, events: usize) -> Self {
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        };
        let (cpu, wall): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
        Self { cpu: median(cpu) * 1e6 / events as f64, rate: events as f64 / median(wall) }
    }
}
