//! Broker faults in mid-stream, through the whole host: the official SDK against the namespace, a guest in plain Rust that writes
//! down what it sees. Within one tenancy the guest must see each event once, in order, without a gap, whatever happens to links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use weir_emulator::faults::{Action, Fault, Moment, Target};
use weir_emulator::{Emulator, Retention};
use weir_host::azure::{Credential, Namespace, Timeouts};
use weir_host::batch::BatchLimits;
use weir_host::checkpoint::Cadence;
use weir_host::guest::{Ack, Answer, Batch, CloseReason, Failure, Instance, Opening, Processor, Progress};
use weir_host::host::{Host, Outcome, ProcessorSpec};
use weir_host::model::{PartitionId, Scope, SequenceNumber};
use weir_host::options::{MissingEvents, ProcessorOptions};
use weir_host::retry::Backoff;
use weir_host::seams::CheckpointStore;
use weir_host::status::{PartitionSnapshot, State, Status};
use weir_host::testing::MemoryStore;

use crate::hub::{HUB, PATIENCE, fill, namespace, namespace_that_keeps, soon, until};

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
    status: Status,
    stop: CancellationToken,
    run: tokio::task::JoinHandle<Outcome>,
}

impl Story {
    async fn begin(partitions: u32) -> Self {
        Self::begin_refreshing(partitions, Duration::from_secs(300)).await
    }

    async fn begin_refreshing(partitions: u32, partition_refresh: Duration) -> Self {
        let emulator = soon(namespace(partitions)).await;
        let options = ProcessorOptions { partition_refresh, ..ProcessorOptions::default() };
        Self::over(emulator, Seen::default(), Arc::default(), options)
    }

    /// A host over a namespace, with its checkpoints, and with quick answers to everything.
    fn over(emulator: Emulator, seen: Seen, store: Arc<MemoryStore>, options: ProcessorOptions) -> Self {
        let stop = CancellationToken::new();
        let endpoint = emulator.endpoint();
        let azure = Namespace::new("localhost", Some(&endpoint), Credential::None).unwrap();
        let options = ProcessorOptions {
            prefetch: 50,
            batch: BatchLimits { events: 20, linger: Duration::from_millis(2), ..BatchLimits::default() },
            checkpoint: Cadence { interval: Duration::from_millis(50), events: 100 },
            reconnect: Backoff { first: Duration::from_millis(10), max: Duration::from_millis(200) },
            stall: Duration::from_millis(300),
            ..options
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
        let status = host.status();
        let run = tokio::spawn(host.run(stop.clone().cancelled_owned()));
        Self { emulator, seen, store, status, stop, run }
    }

    fn partition(&self, index: usize) -> Option<PartitionSnapshot> {
        self.status.snapshot().processors[0].partitions.get(index).cloned()
    }

    async fn generation(&self, partition: &str) -> Option<u64> {
        let loaded = self.store.load(&PartitionId::from(partition)).await.unwrap();
        loaded.map(|(checkpoint, _)| checkpoint.generation)
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
    until("it is checkpointed to its end", || story.store.checkpoint("0") == Some(299)).await;
    assert_eq!(story.generation("0").await, Some(1), "the ownership was kept");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_partitions_become_eight_and_the_new_ones_are_read_from_their_first_event() {
    let story = Story::begin_refreshing(4, Duration::from_millis(50)).await;
    for partition in 0..4 {
        fill(&story.emulator, partition, 30);
        story.reaches(partition, 30).await;
    }
    story.emulator.namespace().add_partitions(HUB, 4).unwrap();
    for partition in 4..8 {
        fill(&story.emulator, partition, 30);
    }
    story.end(8, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_link_is_not_attached_again_without_a_new_claim_and_its_prefetch_is_discarded() {
    let story = Story::begin(1).await;
    story.inject(&Fault::new(Action::Steal, Moment::Delivery).on(of(0)).after(235).times(1));
    // All at once, so that the link has much that was not handed over yet when it is stolen.
    fill(&story.emulator, 0, 400);
    story.reaches(0, 400).await;
    until("it is checkpointed to its end", || story.store.checkpoint("0") == Some(399)).await;
    assert_eq!(story.generation("0").await, Some(2), "claimed anew, once");
    story.stop.cancel();
    assert!(soon(story.run).await.unwrap().is_success());
    let seen = story.seen.lock().unwrap()["0"].clone();
    // One step back at most, to behind the checkpoint: everything between is handed over again, in order, by the new tenancy.
    let steps: Vec<_> = (1..seen.len()).filter(|i| seen[*i] != seen[i - 1] + 1).collect();
    assert!(steps.len() <= 1, "{seen:?}");
    let turn = steps.first().copied().unwrap_or(0);
    assert!(seen[0] == 0 && seen.last() == Some(&399), "{seen:?}");
    assert!(turn == 0 || seen[turn] <= seen[turn - 1] + 1, "nothing is skipped: {seen:?}");
    let history = story.store.history("0");
    assert!(history.is_sorted(), "{history:?}");
    let faults = story.emulator.namespace().standing_faults();
    assert!(faults.iter().all(|fault| fault.hits == 1), "{faults:?}");
    story.emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_said_and_outlived() {
    let story = Story::begin(1).await;
    fill(&story.emulator, 0, 100);
    story.reaches(0, 100).await;
    story.inject(&Fault::new(Action::Refuse, Moment::Token).times(None));
    story.inject(&Fault::new(Action::Reset, Moment::Now).on(of(0)));
    until("the refusal shows", || {
        let refused =
            |p: PartitionSnapshot| matches!(p.state, State::Retrying(why) if why.contains("refused the credentials"));
        story.partition(0).is_some_and(refused)
    })
    .await;
    fill(&story.emulator, 0, 100);
    story.emulator.namespace().lift_all();
    story.end(1, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_no_longer_retained_are_counted_and_passed_over_or_stop_the_partition() {
    for missing in [MissingEvents::Continue, MissingEvents::Stop] {
        // Each fill is a block, and little more than the newest one is kept.
        let keeps = Retention { bytes: 1, ..Retention::default() };
        let emulator = soon(namespace_that_keeps(1, keeps)).await;
        let (seen, store) = (Seen::default(), Arc::new(MemoryStore::new()));
        let options = ProcessorOptions { missing, ..ProcessorOptions::default() };
        let story = Story::over(emulator, Arc::clone(&seen), Arc::clone(&store), options.clone());
        fill(&story.emulator, 0, 50);
        until("they are committed", || store.checkpoint("0") == Some(49)).await;
        story.stop.cancel();
        assert!(soon(story.run).await.unwrap().is_success());
        fill(&story.emulator, 0, 50);
        fill(&story.emulator, 0, 50);
        let story = Story::over(story.emulator, seen, store, options);
        match missing {
            MissingEvents::Continue => {
                until("it goes on", || story.store.checkpoint("0") == Some(149)).await;
                assert_eq!(story.partition(0).map(|p| p.missing), Some(50));
                story.stop.cancel();
                assert!(soon(story.run).await.unwrap().is_success());
            }
            MissingEvents::Stop => {
                let outcome = tokio::time::timeout(PATIENCE, story.run).await.unwrap().unwrap().to_string();
                assert!(outcome.contains("sequence numbers 50 to 99 are not in the event hub any more"), "{outcome}");
                assert_eq!(story.store.checkpoint("0"), Some(49), "and no checkpoint passes them");
            }
        }
        story.emulator.shutdown().await;
    }
}
