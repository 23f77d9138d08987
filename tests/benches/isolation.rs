//! What isolation costs, in two parts.
//!
//! *Poison*: a whole host (claim, batches, sandbox, sinks, checkpoints) over a hub in memory, of whose events none, 0.1 % or 1 % break
//! the guest, so that their batches are halved until each stands alone. The policy is the default one but for one thing: an event that
//! is tried again is tried without a pause (`retry.backoff`), since a pause is chosen, not spent; how long the default pauses are for the
//! same events is shown in a run of its own. The circuit breaker is as by default, and never opens: poison is spread at random, and it takes
//! ten in a row. A run in which it did would fail here, and so would one that loses an event.
//!
//! *Instances*: a fresh instance for each batch (open, process, close) beside one that stays.
//!
//! `cargo xtask bench isolation`. Rounds are interleaved, so that a noisy machine disturbs all sides alike; a ratio is one of two runs of the
//! same round. Shown are medians, with the least and the most.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark stops where it can't measure")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::runtime::Runtime;
use weir_host::guest::{Batch, CloseReason, OpenReason, Opening, Processor};
use weir_host::host::{Host, ProcessorSpec};
use weir_host::model::{Output, Scope};
use weir_host::options::ProcessorOptions;
use weir_host::seams::{Sink, SinkError};
use weir_host::testing::{MemoryHub, MemorySink, MemoryStore, event};
use weir_host::wasm::{self, Engine, EngineOptions, Grants, ModuleSource};
use weir_tests::consumer::{self, measure};

/// That of the `weir` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
/// Events of a run, in batches as they are by default (500).
const EVENTS: usize = 20_000;
/// Events of the run with pauses.
const PAUSED: usize = 10_000;
const BODY: usize = 1024;
/// Where poison is: the same in every run of the benchmark.
const SEED: u64 = 20_260;

fn main() {
    // `cargo test --benches` only wants to know that it builds and runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, events, paused) = if is_bench { (ROUNDS, EVENTS, PAUSED) } else { (1, 1000, 0) };
    // Lines are made as the command makes them, and go nowhere.
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).with_writer(std::io::sink).init();
    let runtime = consumer::runtime("stages");
    let engine = Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap();
    poison(&runtime, &load(&runtime, &engine, "misbehave"), (rounds, events, paused));
    println!();
    instances(&runtime, &load(&runtime, &engine, "identity"), rounds, events);
}

fn load(runtime: &Runtime, engine: &Engine, guest: &str) -> Arc<dyn Processor> {
    let module = runtime.block_on(engine.load(ModuleSource::File(weir_tests::guests::guest(guest)))).unwrap();
    // `misbehave` can wait and compute for a time.
    let grants = Grants { clocks: true, random: true, ..Grants::default() };
    module.processor(wasm::ProcessorOptions { grants, ..wasm::ProcessorOptions::new(guest) }).unwrap()
}

fn scope() -> Scope {
    Scope { namespace: "localhost".into(), event_hub: "events".into(), consumer_group: "$default".into() }
}

fn poison(runtime: &Runtime, guest: &Arc<dyn Processor>, (rounds, events, paused): (usize, usize, usize)) {
    let hubs = [("none", 0), ("0.1 %", events / 1000), ("1 %", events / 100)]
        .map(|(name, poison)| (name, Fill::new(events, poison)));
    let mut options = ProcessorOptions::default();
    options.retry.backoff = Duration::ZERO;
    let mut runs: [Vec<Run>; 3] = Default::default();
    for _ in 0..rounds {
        for ((_, hub), runs) in hubs.iter().zip(&mut runs) {
            runs.push(hub.run(runtime, guest, &options));
        }
    }
    let [clean, ..] = &runs;
    println!(
        "{events} events of 1 KiB in one partition, batches of {}, guest `misbehave` (passes events on); \
         median of {rounds} rounds (least to most)\n",
        options.batch.events
    );
    println!(
        "{:<10}{:>12}{:>26}{:>26}{:>12}{:>30}",
        "poison", "events/s", "events/s to none", "CPU to none", "instances", "CPU for a poison event, µs"
    );
    for ((name, hub), runs) in hubs.iter().zip(&runs) {
        let rate = Spread::of(runs.iter().map(|run| events as f64 / run.wall));
        let rates = Spread::of(runs.iter().zip(clean).map(|(run, clean)| clean.wall / run.wall));
        let cpu = Spread::of(runs.iter().zip(clean).map(|(run, clean)| run.cpu / clean.cpu));
        print!("{name:<10}{:>12.0}{:>26}{:>26}", rate.median, rates.to_string(), cpu.to_string());
        if hub.poison > 0 {
            let count = hub.poison as f64;
            let broken = Spread::of(runs.iter().map(|run| run.traps as f64 / count));
            let each = Spread::of(runs.iter().zip(clean).map(|(run, clean)| (run.cpu - clean.cpu) * 1e6 / count));
            let each = format!("{:.0} ({:.0} to {:.0})", each.median, each.least, each.most);
            print!("{:>12.1}{each:>30}", broken.median);
        }
        println!();
    }
    if paused > 0 {
        let hub = Fill::new(paused, paused / 500);
        let [without, with] = [&options, &ProcessorOptions::default()].map(|options| hub.run(runtime, guest, options));
        println!(
            "\nWith the default pauses between attempts: {:.2} s more for a poison event, on average of {} (one run)",
            (with.wall - without.wall) / hub.poison as f64,
            hub.poison,
        );
    }
}

/// A hub of one partition, and how many of its events are poison.
struct Fill {
    hub: MemoryHub,
    events: usize,
    poison: usize,
}

/// What a run took, in seconds.
struct Run {
    wall: f64,
    cpu: f64,
    /// Instances that broke.
    traps: u64,
}

impl Fill {
    fn new(events: usize, poison: usize) -> Self {
        let hub = MemoryHub::new(1);
        let mut places = rand::seq::index::sample(&mut SmallRng::seed_from_u64(SEED), events, poison).into_vec();
        places.sort_unstable();
        for place in 0..events {
            hub.push("0", body(if places.binary_search(&place).is_ok() { "panic:" } else { "" }));
        }
        Self { hub, events, poison }
    }

    fn run(&self, runtime: &Runtime, guest: &Arc<dyn Processor>, options: &ProcessorOptions) -> Run {
        let (sink, letters) = (Arc::new(Count::default()), MemorySink::new());
        let spec = ProcessorSpec {
            name: "misbehave".into(),
            scope: scope(),
            source: Arc::new(self.hub.clone()),
            store: Arc::new(MemoryStore::new()),
            processor: Arc::clone(guest),
            outputs: BTreeMap::from([("default".to_owned(), Arc::clone(&sink) as Arc<dyn Sink>)]),
            dead_letter: Some(Arc::new(letters.clone())),
            options: options.clone(),
        };
        let host = Host::builder().until_caught_up(true).processor(spec).build().unwrap();
        let status = host.status();
        let mut outcome = None;
        let (cpu, wall) = measure(|| outcome = Some(runtime.block_on(host.run(std::future::pending()))));
        let outcome = outcome.unwrap();
        assert!(outcome.is_success(), "{outcome}");
        assert_eq!(sink.0.load(Ordering::Relaxed), self.events - self.poison, "every good event, once");
        assert_eq!(letters.ids().len(), self.poison, "every poison event, once");
        let traps = status.snapshot().processors[0].partitions[0].traps;
        Run { wall: wall.as_secs_f64(), cpu: cpu.as_secs_f64(), traps }
    }
}

fn body(beginning: &str) -> String {
    format!("{beginning:x<BODY$}")
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

fn instances(runtime: &Runtime, guest: &Arc<dyn Processor>, rounds: usize, events: usize) {
    println!("Instances of `identity`, {events} events of 1 KiB a round; median of {rounds} rounds (least to most)\n");
    println!(
        "{:<12}{:>16}{:>26}{:>26}{:>28}",
        "batch", "stays, events/s", "events/s, fresh to stays", "CPU, fresh to stays", "CPU for a fresh one, µs"
    );
    for count in [500, 100] {
        let batch = Batch::new((0..count).map(|n| event(n, body(""))).collect());
        let calls = events / batch.events().len();
        let mut stays = runtime.block_on(guest.open(opening())).unwrap();
        let (mut of_stays, mut of_fresh) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            of_stays.push(measure(|| {
                runtime.block_on(async {
                    for _ in 0..calls {
                        assert_eq!(stays.process(batch.clone()).await.unwrap().outputs.len(), batch.events().len());
                    }
                });
            }));
            of_fresh.push(measure(|| {
                runtime.block_on(async {
                    for _ in 0..calls {
                        let mut fresh = guest.open(opening()).await.unwrap();
                        assert_eq!(fresh.process(batch.clone()).await.unwrap().outputs.len(), batch.events().len());
                        fresh.close(CloseReason::Released).await;
                    }
                });
            }));
        }
        runtime.block_on(stays.close(CloseReason::Released));
        let pairs = || of_stays.iter().zip(&of_fresh);
        let rate = Spread::of(of_stays.iter().map(|(_, wall)| events as f64 / wall.as_secs_f64()));
        let rates = Spread::of(pairs().map(|(stays, fresh)| stays.1.as_secs_f64() / fresh.1.as_secs_f64()));
        let cpu = Spread::of(pairs().map(|(stays, fresh)| fresh.0.as_secs_f64() / stays.0.as_secs_f64()));
        let more = |stays: Duration, fresh: Duration| (fresh.as_secs_f64() - stays.as_secs_f64()) * 1e6 / calls as f64;
        let each = Spread::of(pairs().map(|(stays, fresh)| more(stays.0, fresh.0)));
        let each = format!("{:.0} ({:.0} to {:.0})", each.median, each.least, each.most);
        let (rates, cpu) = (rates.to_string(), cpu.to_string());
        println!("{:<12}{:>16.0}{rates:>26}{cpu:>26}{each:>28}", format!("{count} events"), rate.median);
    }
}

fn opening() -> Opening {
    Opening {
        scope: scope(),
        partition: "0".into(),
        reason: OpenReason::FirstStart,
        checkpoint: None,
        config: "{}".into(),
        state: weir_host::state::PartitionState::none(),
    }
}

/// What several rounds gave.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(rounds: impl Iterator<Item = f64>) -> Self {
        let mut rounds: Vec<f64> = rounds.collect();
        rounds.sort_by(f64::total_cmp);
        Self { least: rounds[0], median: rounds[rounds.len() / 2], most: rounds[rounds.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}
