//! Broker faults in mid-stream, through the whole host: the official SDK against the namespace, a guest in plain Rust that writes
//! down what it sees. Within one tenancy the guest must see each event once, in order, without a gap, whatever happens to links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use weir_emulator::Emulator;
use weir_emulator::faults::{Action, Fault, Moment, Target};
use weir_host::azure::{Credential, Namespace, Timeouts};
use weir_host::batch::BatchLimits;
use weir_host::checkpoint::Cadence;
use weir_host::guest::{Ack, Answer, Batch, CloseReason, Failure, Instance, Opening, Processor, Progress};
use weir_host::host::{Host, Outcome, ProcessorSpec};
use weir_host::model::{Scope, SequenceNumber};
use weir_host::options::ProcessorOptions;
use weir_host::retry::Backoff;
use weir_host::testing::MemoryStore;

use crate::hub::{HUB, fill, namespace, soon, until};

/// What the guest saw, by partition.
type Seen = Arc<Mutex<BTreeMap<String, Vec<SequenceNumber>>>>;

struct Witness(Seen);

#[async_trait]
impl Processor for Witness {
    async fn open(&self, opening: Opening) -> Result<Box<dyn Instance>, Failure> {
        Ok(Box::new(Note { partition: opening.partition.to_string(), seen: Arc::clone(&self.0) }))
    }
}

struct Note {
    partition: String,
    seen: Seen,
}

#[async_trait]
impl Instance for Note {
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure> {
        let numbers = batch.events().iter().map(|event| event.sequence_number);
        self.seen.lock().unwrap().entry(self.partition.clone()).or_default().extend(numbers);
        let ack = Ack { progress: Progress::All, rejected: Vec::new(), redeliver: None };
        Ok(Answer { ack, outputs: Vec::new() })
    }

    async fn close(self: Box<Self>, _: CloseReason) {}
}

struct Story {
    emulator: Emulator,
    seen: Seen,
    store: Arc<MemoryStore>,
    stop: CancellationToken,
    run: tokio::task::JoinHandle<Outcome>,
}

impl Story {
    async fn begin(partitions: u32) -> Self {
        Self::begin_refreshing(partitions, Duration::from_secs(300)).await
    }

    async fn begin_refreshing(partitions: u32, partition_refresh: Duration) -> Self {
        let emulator = soon(namespace(partitions)).await;
        let seen = Seen::default();
        let store = Arc::new(MemoryStore::new());
        let stop = CancellationToken::new();
        let endpoint = emulator.endpoint();
        let azure = Namespace::new("localhost", Some(&endpoint), Credential::None).unwrap();
        let options = ProcessorOptions {
            prefetch: 50,
            batch: BatchLimits { events: 20, linger: Duration::from_millis(2), ..BatchLimits::default() },
            checkpoint: Cadence { interval: Duration::from_millis(50), events: 100 },
            reconnect: Backoff { first: Duration::from_millis(10), max: Duration::from_millis(200) },
            stall: Duration::from_millis(300),
            partition_refresh,
            ..ProcessorOptions::default()
        };
        let spec = ProcessorSpec {
            name: "witness".into(),
            scope: Scope { namespace: "localhost".into(), event_hub: HUB.into(), consumer_group: "$default".into() },
            source: Arc::new(azure.source(HUB, "$default", Timeouts::default())),
            store: store.clone(),
            processor: Arc::new(Witness(Arc::clone(&seen))),
            outputs: BTreeMap::new(),
            dead_letter: None,
            options,
        };
        let host = Host::builder().owner("witness").processor(spec).build().unwrap();
        let run = tokio::spawn(host.run(stop.clone().cancelled_owned()));
        Self { emulator, seen, store, stop, run }
    }

    fn inject(&self, fault: &Fault) {
        self.emulator.namespace().inject(fault);
    }

    fn seen(&self, partition: u32) -> usize {
        self.seen.lock().unwrap().get(&partition.to_string()).map_or(0, Vec::len)
    }

    async fn reaches(&self, partition: u32, events: usize) {
        until(&format!("partition {partition} has seen {events} events"), || self.seen(partition) >= events).await;
    }

    /// Stops the host, and says whether each partition saw each event once and in order, and is checkpointed to its end.
    async fn end(self, partitions: u32, events: i64) {
        for partition in 0..partitions {
            self.reaches(partition, usize::try_from(events).unwrap()).await;
        }
        self.stop.cancel();
        let outcome = soon(self.run).await.unwrap();
        assert!(outcome.is_success(), "{outcome}");
        for partition in 0..partitions {
            let seen = self.seen.lock().unwrap()[&partition.to_string()].clone();
            assert_eq!(seen, (0..events).collect::<Vec<_>>(), "partition {partition}");
            assert_eq!(self.store.checkpoint(&partition.to_string()), Some(events - 1), "partition {partition}");
        }
        // A fault that never struck would prove nothing.
        for fault in self.emulator.namespace().standing_faults() {
            assert!(fault.hits > 0 && fault.fault.times == Some(0), "not used up: {fault:?}");
        }
        self.emulator.shutdown().await;
    }
}

fn of(partition: u32) -> Target {
    Target { hub: Some(HUB.into()), partition: Some(partition), ..Target::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forced_detaches_and_ended_sessions_at_many_points_leave_no_gap_and_no_repeat() {
    let story = Story::begin(2).await;
    // Detached before the first event, after one, on a batch's edge, within one; and so often that the prefetch is full of it.
    for (after, action) in [
        (0, Action::Detach),
        (1, Action::EndSession),
        (19, Action::Detach),
        (33, Action::EndSession),
        (50, Action::Detach),
        (171, Action::Close),
        (400, Action::Detach),
    ] {
        story.inject(&Fault::new(action, Moment::Delivery).on(of(0)).after(after).times(1));
    }
    fill(&story.emulator, 0, 600);
    fill(&story.emulator, 1, 600);
    story.end(2, 600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_reset_again_and_again_leaves_no_gap_and_no_repeat() {
    let story = Story::begin(1).await;
    for after in [3, 47, 120, 260] {
        story.inject(&Fault::new(Action::Reset, Moment::Delivery).on(of(0)).after(after).times(1));
    }
    fill(&story.emulator, 0, 500);
    story.end(1, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let story = Story::begin(2).await;
    story.inject(&Fault::new(Action::Stall, Moment::Delivery).on(of(0)).after(100).times(1));
    fill(&story.emulator, 0, 500);
    fill(&story.emulator, 1, 500);
    // The neighbour goes on while one connection is silent.
    story.reaches(1, 500).await;
    story.end(2, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_service_and_refused_attaches_only_delay() {
    let story = Story::begin(1).await;
    story.inject(&Fault::new(Action::Busy, Moment::Delivery).on(of(0)).after(30).times(2));
    story.inject(&Fault::new(Action::Refuse, Moment::Attach).on(of(0)).after(1).times(2));
    fill(&story.emulator, 0, 300);
    story.end(1, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_while_running_are_read_from_their_first_event() {
    let story = Story::begin_refreshing(1, Duration::from_millis(50)).await;
    fill(&story.emulator, 0, 50);
    story.reaches(0, 50).await;
    story.emulator.namespace().add_partitions(HUB, 1).unwrap();
    fill(&story.emulator, 1, 50);
    story.end(2, 50).await;
}
