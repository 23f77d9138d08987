//! What state costs, in two parts.
//!
//! *Calls*: a real guest (`ledger`) that reads or writes none, one or ten keys for each event of 1 KiB, in batches of 500; what one read and
//! one write take follows from the differences.
//!
//! *Commits*: how many bytes a commit of a state of 10 KiB, 1 MiB and 10 MiB writes, of which 1 % changes between commits, and how long it
//! takes to make them. (What the store then takes depends on the store.)
//!
//! `cargo xtask bench state`. Rounds are interleaved; shown are medians, with the least and the most.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark stops where it can't measure")]

use weir_host::guest::{Batch, OpenReason, Opening};
use weir_host::model::{Position, Scope};
use weir_host::state::PartitionState;
use weir_host::testing::event;
use weir_host::wasm::{Engine, EngineOptions, ModuleSource, ProcessorOptions};
use weir_tests::consumer::{self, measure};

/// That of the `weir` command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 11;
const BATCHES: i64 = 40;
const BATCH: usize = 500;
/// Bytes of a value.
const VALUE: usize = 100;

fn main() {
    // `cargo test --benches` only wants to know that it builds and runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, batches, commits) = if is_bench { (ROUNDS, BATCHES, 300) } else { (1, 2, 3) };
    calls(rounds, batches);
    println!();
    for bytes in [10 << 10, 1 << 20, 10 << 20] {
        commit(bytes, commits);
    }
}

fn at(sequence_number: i64) -> Position {
    Position { sequence_number, offset: sequence_number.to_string().into() }
}

fn calls(rounds: usize, batches: i64) {
    let runtime = consumer::runtime("bench");
    let engine = Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap();
    let source = ModuleSource::File(weir_tests::guests::guest("ledger"));
    let module = runtime.block_on(engine.load(source)).unwrap();
    let processor = module.processor(ProcessorOptions::new("ledger")).unwrap();
    let kinds = [("nothing", 0, 0), ("1 read", 1, 0), ("10 reads", 10, 0), ("1 write", 0, 1), ("10 writes", 0, 10)];
    let mut guests: Vec<_> = kinds
        .iter()
        .map(|(_, reads, writes)| {
            let state = PartitionState::new(64 << 20, None);
            let opening = Opening {
                scope: Scope { namespace: "n".into(), event_hub: "h".into(), consumer_group: "g".into() },
                partition: "0".into(),
                reason: OpenReason::FirstStart,
                checkpoint: None,
                config: serde_json::json!({ "work": true, "reads": reads, "writes": writes }).to_string().into(),
                state: state.clone(),
            };
            (state, runtime.block_on(processor.open(opening)).unwrap(), 0_i64)
        })
        .collect();
    let body: bytes::Bytes = vec![b'x'; 1024].into();
    let mut times: Vec<Vec<f64>> = vec![vec![]; kinds.len()];
    for _ in 0..rounds {
        for ((state, guest, next), times) in guests.iter_mut().zip(&mut times) {
            let (cpu, _) = measure(|| {
                runtime.block_on(async {
                    for _ in 0..batches {
                        let last = *next + BATCH as i64;
                        let batch = Batch::new((*next..last).map(|n| event(n, body.clone())).collect());
                        *next = last;
                        state.begin();
                        guest.process(batch).await.unwrap();
                        state.keep(Some(&at(last - 1)));
                        state.accept(state.version(), last - 1);
                        let pending = state.pending().unwrap().unwrap();
                        state.stored(pending.version);
                    }
                });
            });
            times.push(cpu.as_secs_f64() * 1e9 / (batches * BATCH as i64) as f64);
        }
    }
    println!(
        "{BATCH} events of 1 KiB a batch, values of {VALUE} bytes, a commit a batch; median of {rounds} rounds (least to most)\n"
    );
    println!("{:<12}{:>26}{:>26}{:>26}", "an event", "CPU, ns", "to nothing", "a call, ns");
    let nothing = times[0].clone();
    for ((name, reads, writes), times) in kinds.iter().zip(&times) {
        let ratios = times.iter().zip(&nothing).map(|(time, nothing)| time / nothing).collect();
        print!("{name:<12}{:>26}{:>26}", spread(times.clone(), 0), spread(ratios, 2));
        if reads + writes > 0 {
            let each = times.iter().zip(&nothing).map(|(time, nothing)| (time - nothing) / f64::from(reads + writes));
            print!("{:>26}", spread(each.collect(), 0));
        }
        println!();
    }
}

fn commit(bytes: usize, commits: i64) {
    let keys = bytes / (VALUE + 8);
    let changes = (keys / 100).max(1);
    let state = PartitionState::new(64 << 20, None);
    let write = |key: usize, number: i64| state.set(&format!("k{key:07}"), format!("{number:>VALUE$}").into()).unwrap();
    state.begin();
    (0..keys).for_each(|key| write(key, 0));
    let (mut written, mut most, mut times) = (0, 0, vec![]);
    for number in 0..=commits {
        if number > 0 {
            state.begin();
            (0..changes).for_each(|n| write((number as usize * changes * 7 + n * 13) % keys, number));
        }
        state.keep(Some(&at(number)));
        state.accept(state.version(), number);
        let mut made = None;
        let (cpu, _) = measure(|| made = state.pending().unwrap());
        let pending = made.unwrap();
        // Segments that are not in the store yet, and the tail.
        let segments = pending.image.segments.iter().filter(|segment| segment.bytes.is_some());
        let size = segments.map(|segment| segment.len).sum::<usize>() + pending.image.tail.len();
        state.stored(pending.version);
        // The first one writes everything.
        if number > 0 {
            written += size;
            most = most.max(size);
            times.push(cpu.as_secs_f64() * 1e6);
        }
    }
    println!(
        "{:>9} KiB in {keys} keys, {changes} change: {:>9.1} KiB a commit on average, {:>9.1} at most; {} µs CPU, {:.0} on average",
        bytes >> 10,
        written as f64 / commits as f64 / 1024.0,
        most as f64 / 1024.0,
        spread(times.clone(), 0),
        times.iter().sum::<f64>() / times.len() as f64
    );
}

/// Median, least and most.
fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}
