//! The pipeline as stories: whole hosts over the in-memory hub, store and sinks, with guests in plain Rust, in virtual
//! time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod budget;
mod ends;
mod exclusive;
mod fleet;
mod flow;
mod guests;
mod links;
mod names;
mod poison;
mod random;
mod sinks;
mod state;
mod stores;
mod ticks;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::batch::BatchLimits;
use crate::checkpoint::Cadence;
use crate::guest::{Ack, Answer, Batch, Failure, GuestOutput, Origin, Progress, TrapCause, TrapReport};
use crate::host::{Host, HostBuilder, Outcome, PartitionEnd, ProcessorSpec};
use crate::model::Scope;
use crate::options::ProcessorOptions;
use crate::seams::{CheckpointStore, EventSource, Sink};
use crate::status::{PartitionSnapshot, Status};
use crate::testing::{MemoryHub, MemorySink, MemoryStore};
use guests::TestGuest;

/// A hub, a store and sinks, and a processor over them that can be run again and again.
struct World {
    hub: MemoryHub,
    store: MemoryStore,
    out: MemorySink,
    dead: MemorySink,
    options: ProcessorOptions,
}

impl World {
    fn new(partitions: usize) -> Self {
        let options = ProcessorOptions {
            batch: BatchLimits { events: 10, bytes: 1 << 20, linger: Duration::from_millis(5) },
            checkpoint: Cadence { interval: Duration::from_secs(1), events: 1_000 },
            ..ProcessorOptions::default()
        };
        let (hub, store) = (MemoryHub::new(partitions), MemoryStore::new());
        Self { hub, store, out: MemorySink::new(), dead: MemorySink::new(), options }
    }

    /// Enqueues so many events.
    fn push(&self, partition: &str, count: usize) {
        for _ in 0..count {
            self.hub.push(partition, "body");
        }
    }

    fn spec(&self, guest: &TestGuest) -> ProcessorSpec {
        let sink = |s: &MemorySink| Arc::new(s.clone()) as Arc<dyn Sink>;
        ProcessorSpec {
            name: "test".into(),
            scope: scope("hub"),
            source: Arc::new(self.hub.clone()) as Arc<dyn EventSource>,
            store: Arc::new(self.store.clone()) as Arc<dyn CheckpointStore>,
            processor: Arc::new(guest.clone()),
            outputs: BTreeMap::from([("default".to_owned(), sink(&self.out))]),
            dead_letter: Some(sink(&self.dead)),
            options: self.options.clone(),
        }
    }

    /// Runs to the end of what is there now.
    async fn catch_up(&self, guest: &TestGuest) -> Outcome {
        catch_up(Host::builder().processor(self.spec(guest))).await
    }

    fn start(&self, guest: &TestGuest) -> Running {
        Running::start(Host::builder().processor(self.spec(guest)))
    }
}

fn scope(hub: &str) -> Scope {
    Scope { namespace: "n".into(), event_hub: hub.into(), consumer_group: "g".into() }
}

async fn catch_up(host: HostBuilder) -> Outcome {
    let host = host.until_caught_up(true).build().unwrap();
    let status = host.status();
    let outcome = host.run(pending()).await;
    every_event_is_accounted_for(&status);
    outcome
}

/// At the end of every story: each event that was received has ended in one way, or was given back.
fn every_event_is_accounted_for(status: &Status) {
    for processor in status.snapshot().processors {
        for partition in processor.partitions {
            assert!(partition.is_balanced() && partition.in_flight == 0, "{partition:?}");
        }
    }
}

/// A service that runs until it is told to stop.
struct Running {
    status: Status,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Outcome>,
}

impl Running {
    fn start(host: HostBuilder) -> Self {
        let host = host.build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let status = host.status();
        let task = tokio::spawn(host.run(async move {
            let _ = stopped.await;
        }));
        Self { status, stop, task }
    }

    async fn stop(self) -> Outcome {
        self.stop.send(()).unwrap();
        let outcome = self.task.await.unwrap();
        every_event_is_accounted_for(&self.status);
        outcome
    }

    fn partition(&self, index: usize) -> PartitionSnapshot {
        self.status.snapshot().processors[0].partitions[index].clone()
    }

    /// Whether partition 0 is known and looks like this.
    fn shows(&self, like: impl FnOnce(&PartitionSnapshot) -> bool) -> bool {
        self.status.snapshot().processors[0].partitions.first().is_some_and(like)
    }
}

/// Waits, for at most ten minutes of virtual time.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to pass: {what}");
}

fn end(outcome: &Outcome, partition: usize) -> &PartitionEnd {
    &outcome.processors[0].partitions[partition].end
}

/// One output per event.
fn each(batch: &Batch) -> Vec<GuestOutput> {
    (0..batch.events().len()).map(|i| output(Origin::Event(i as u32))).collect()
}

fn output(origin: Origin) -> GuestOutput {
    GuestOutput {
        origin: Some(origin),
        target: None,
        partition_key: None,
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
        body: "out".into(),
    }
}

fn ack(progress: Progress) -> Ack {
    Ack { progress, rejected: Vec::new(), redeliver: None }
}

/// Acknowledges everything, with one output per event.
fn done(batch: &Batch) -> Result<Answer, Failure> {
    Ok(Answer { ack: ack(Progress::All), outputs: each(batch) })
}

fn trap() -> Failure {
    Failure::Trap(TrapReport {
        cause: TrapCause::Trap,
        message: "unreachable executed".into(),
        stderr: "panicked at flights.rs".into(),
        backtrace: "delays::parse".into(),
    })
}

/// The output ids of events `from..to`.
fn ids(partition: usize, events: std::ops::Range<i64>) -> Vec<String> {
    events.map(|n| format!("hub/{partition}/{n}/0")).collect()
}
