//! Real flights through a sandboxed processor, end to end, on one machine: `cargo xtask demo`.
//!
//! A namespace that keeps its events in a directory; a producer on the official SDK; the host, embedded, with the example
//! processor `delays`; its outputs in a second hub, read back and compared with the CSV. Run again, it publishes another lot and
//! goes on from its checkpoints.

mod check;
mod flights;
mod process;
mod publish;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec};
use weir_host::azure::{Credential, Namespace};
use weir_host::local::DirectoryStore;
use weir_host::model::{PartitionId, PartitionInfo};
use weir_host::seams::CheckpointStore;
use weir_host::status::{HostSnapshot, PartitionSnapshot};

use show::{Progress, grouped, table};

const FLIGHTS: &str = "flights";
const LATE_FLIGHTS: &str = "late-flights";
const LATE_BY: i64 = 30;

/// Publishes 50,000 real flights to a local Event Hubs namespace and runs the `delays` processor over them.
///
/// The namespace, the checkpoints and what was rejected are kept in a directory. Run it again: it publishes another lot, resumes
/// from its checkpoints and processes only what is new.
#[derive(Parser)]
#[command(name = "cargo xtask demo")]
struct Arguments {
    /// Where the namespace and the checkpoints are kept; removing it starts afresh
    #[arg(long, default_value = ".weir/demo")]
    dir: PathBuf,
    /// Publish only the first N flights
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    flights: usize,
    /// The processor
    #[arg(long, default_value = "target/wasm32-wasip2/guest/delays.wasm", hide = true)]
    module: PathBuf,
}

/// One sentence for the person, whatever went wrong below.
#[derive(Debug)]
pub(crate) struct Error(String);

impl Error {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            if !text.contains(&cause.to_string()) {
                text = format!("{text}: {cause}");
            }
            source = cause.source();
        }
        Self(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(demo(Arguments::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Ends = BTreeMap<PartitionId, PartitionInfo>;
type Checkpoints = BTreeMap<PartitionId, i64>;

/// Says whether everything was processed and came out right.
async fn demo(arguments: Arguments) -> Result<bool, Error> {
    let directory = &arguments.dir;
    std::fs::create_dir_all(directory).map_err(|error| Error::new(format!("{}: {error}", directory.display())))?;
    // First, so that a broken module is said before anything is published.
    let module = Box::pin(process::load(directory, &arguments.module)).await?;
    println!("The processor is {} ({}).", arguments.module.display(), module.digest().get(..12).unwrap_or_default());
    let emulator = Emulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".into(),
        hubs: vec![
            HubSpec { name: FLIGHTS.into(), partitions: 4 },
            HubSpec { name: LATE_FLIGHTS.into(), partitions: 2 },
        ],
        data: Some(directory.join("namespace")),
        ..EmulatorConfig::default()
    })
    .await?;
    let endpoint = emulator.endpoint();
    let namespace = Namespace::new("localhost", Some(&endpoint), Credential::None)?;
    println!("A local Event Hubs namespace listens on {endpoint} and keeps its events in {}.", directory.display());

    let inputs_before = check::ends(&namespace, FLIGHTS).await?;
    let outputs_before = check::ends(&namespace, LATE_FLIGHTS).await?;
    let checkpoints = checkpoints(directory).await?;
    say_where_it_begins(&inputs_before, &checkpoints);
    let host = process::host(&process::Place { directory, module: &module, namespace: &namespace })?;

    let lot = flights::lot(arguments.flights, LATE_BY)?;
    println!(
        "Publishing {} events, keyed by destination, to the hub `{FLIGHTS}`: {} flights and {} that are no JSON, to be rejected.",
        grouped(lot.events.len()),
        grouped(lot.events.len() - lot.mangled),
        lot.mangled
    );
    let mut progress = Progress::new("publishing", lot.events.len() as u64);
    publish::publish(&endpoint, FLIGHTS, Arc::clone(&lot.events), |events| progress.to(events)).await?;
    progress.finish();

    let inputs = check::ends(&namespace, FLIGHTS).await?;
    let waiting: u64 = inputs.iter().map(|(id, info)| info.lag(checkpoints.get(id).copied())).sum();
    println!(
        "Running the processor `delays` over {} events; late flights go to the hub `{LATE_FLIGHTS}`.",
        grouped(waiting)
    );
    let mut progress = Progress::new("processing", waiting);
    let started = Instant::now();
    let (outcome, snapshot) =
        process::run(host, |snapshot| progress.to(sum(snapshot, PartitionSnapshot::finished))).await?;
    let took = started.elapsed();
    progress.finish();

    let reached = self::checkpoints(directory).await?;
    let read = sum(&snapshot, PartitionSnapshot::finished);
    let rejected = sum(&snapshot, |partition| partition.dead_lettered);
    println!("\n{}", summary(&snapshot, read, rejected, took.as_secs_f64()));
    println!("{}", positions(&inputs, &checkpoints, &reached));
    if !outcome.is_success() {
        eprintln!("error: {outcome}");
        return Ok(false);
    }
    let lag: u64 = inputs.iter().map(|(id, info)| info.lag(reached.get(id).copied())).sum();
    if lag > 0 {
        println!("Stopped with {} events to go. Run it again: it resumes from the checkpoints.", grouped(lag));
        return Ok(false);
    }
    let found = check::found(&namespace, &inputs_before, &outputs_before).await?;
    let right = say_whether_it_is_right(&lot, &found);
    println!("Rejected events and the reasons are in {}.", directory.join("rejected.ndjson").display());
    emulator.shutdown().await;
    Ok(right)
}

async fn checkpoints(directory: &std::path::Path) -> Result<Checkpoints, Error> {
    let store = DirectoryStore::read_only(&directory.join("checkpoints"), process::scope());
    let records = store.list().await?.partitions;
    let of = |record: weir_host::seams::PartitionRecord| {
        record.checkpoint.map(|checkpoint| (record.partition, checkpoint.position.sequence_number))
    };
    Ok(records.into_iter().filter_map(of).collect())
}

fn say_where_it_begins(inputs: &Ends, checkpoints: &Checkpoints) {
    let total: i64 = inputs.values().map(|info| info.last_enqueued_sequence_number + 1).sum();
    let backlog: u64 = inputs.iter().map(|(id, info)| info.lag(checkpoints.get(id).copied())).sum();
    if total == 0 {
        println!("It is empty: this is the first run.");
    } else if backlog == 0 {
        println!(
            "An earlier run left {} events, all processed: this run resumes from its checkpoints and reads only what is new.",
            grouped(total)
        );
    } else {
        println!(
            "An earlier run left {} events, {} of them not yet processed: this run resumes from its checkpoints.",
            grouped(total),
            grouped(backlog)
        );
    }
}

fn say_whether_it_is_right(lot: &flights::Lot, found: &check::Found) -> bool {
    let expected: usize = lot.late.values().sum();
    let came: usize = found.late.values().sum();
    if found.late != lot.late {
        println!(
            "WRONG: the CSV has {} flights more than {LATE_BY} minutes late, the hub `{LATE_FLIGHTS}` has {}, and they differ.",
            grouped(expected),
            grouped(came)
        );
        return false;
    }
    println!(
        "Checked: the {} late flights in the hub `{LATE_FLIGHTS}` are those that the CSV has, one by one ({} repeats).",
        grouped(came),
        found.repeats
    );
    true
}

fn sum(snapshot: &HostSnapshot, of: impl Fn(&PartitionSnapshot) -> u64) -> u64 {
    snapshot.processors.iter().flat_map(|processor| &processor.partitions).map(of).sum()
}

fn summary(snapshot: &HostSnapshot, read: u64, rejected: u64, seconds: f64) -> comfy_table::Table {
    let rate = read as f64 / seconds.max(f64::MIN_POSITIVE);
    let row = vec![
        "delays".to_owned(),
        grouped(read),
        grouped(sum(snapshot, |partition| partition.emitted)),
        grouped(rejected),
        format!("{seconds:.1} s"),
        grouped(rate as i64),
    ];
    table(&["processor", "events in", "events out", "rejected", "time", "events/s"], vec![row])
}

fn positions(inputs: &Ends, before: &Checkpoints, after: &Checkpoints) -> comfy_table::Table {
    let number = |number: Option<&i64>| number.map_or_else(|| "none".to_owned(), |number| grouped(*number));
    let rows = inputs.iter().map(|(id, info)| {
        vec![
            id.to_string(),
            number(before.get(id)),
            number(after.get(id)),
            grouped(info.last_enqueued_sequence_number),
            grouped(info.lag(after.get(id).copied())),
        ]
    });
    table(&["partition", "checkpoint before", "checkpoint now", "last enqueued", "lag"], rows.collect())
}
