//! How long the partitions of a fleet stand still: after a SIGKILL, and in planned moves. Real processes over Azurite and a local namespace.
//!
//! `cargo xtask bench fleet`, which starts Azurite. What counts are timers, not processors: shown are the longest silences of the
//! moved partitions' outputs, as multiples of the expiry, for a fast profile and for the defaults.
#![allow(missing_docs, reason = "a benchmark has no users")]

use std::time::{Duration, Instant};

use weir_tests::fleet::Fleet;
use weir_tests::fleet::history::Partition;

/// The fast profile of the tests, and the default; and how often each is done.
const PROFILES: [(Duration, usize); 2] = [(Duration::from_secs(4), 5), (Duration::from_secs(60), 2)];

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Ok(blobs) = std::env::var("WEIR_BLOBS") else {
        eprintln!("WEIR_BLOBS does not say where Azurite is; run this by `cargo xtask bench fleet`");
        std::process::exit(1);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    println!(
        "{:<34}{:>8}{:>26}{:>26}",
        "longest silence of a partition", "expiry", "median (× expiry)", "worst (× expiry)"
    );
    for (expiry, rounds) in PROFILES {
        runtime.block_on(measure(&blobs, expiry, rounds));
    }
}

async fn measure(blobs: &str, expiry: Duration, rounds: usize) {
    let mut fleet = Fleet::begin(blobs, expiry).await;
    fleet.start("a");
    fleet.start("b");
    fleet.shared_by(&["a", "b"]).await;
    fleet.catches_up().await;
    let (mut killed, mut stopped, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (moved, since) = (of(&fleet, "b").await, Instant::now());
        fleet.kill("b");
        fleet.shared_by(&["a"]).await;
        fleet.catches_up().await;
        killed.extend(fleet.longest_silence(&moved, since));

        let since = Instant::now();
        fleet.start("b");
        fleet.shared_by(&["a", "b"]).await;
        fleet.catches_up().await;
        joined.extend(fleet.longest_silence(&of(&fleet, "b").await, since));

        let (moved, since) = (of(&fleet, "b").await, Instant::now());
        fleet.stop("b").await;
        fleet.shared_by(&["a"]).await;
        fleet.catches_up().await;
        stopped.extend(fleet.longest_silence(&moved, since));

        fleet.start("b");
        fleet.shared_by(&["a", "b"]).await;
        fleet.catches_up().await;
    }
    fleet.end().await;
    show("takeover after SIGKILL", expiry, killed);
    show("planned: a host is stopped", expiry, stopped);
    show("planned: a host comes", expiry, joined);
}

async fn of(fleet: &Fleet, owner: &str) -> Vec<Partition> {
    let owners = fleet.owners().await;
    owners.into_iter().filter(|(_, found)| found == owner).map(|(partition, _)| partition).collect()
}

fn show(what: &str, expiry: Duration, mut silences: Vec<Duration>) {
    silences.sort();
    let figure = |silence: Duration| {
        format!("{:.2} s ({:.2})", silence.as_secs_f64(), silence.as_secs_f64() / expiry.as_secs_f64())
    };
    let (Some(worst), Some(median)) = (silences.last(), silences.get(silences.len() / 2)) else { return };
    println!("{what:<34}{:>8}{:>26}{:>26}", format!("{expiry:?}"), figure(*median), figure(*worst));
}
