//! Storage faults, row by row of the table in `docs/faults.md`: whole hosts that share a container, with a proxy before it that breaks
//! single requests. Events come from a hub in memory; what is asserted is what the host does and says, and what the service has taken.

mod clocks;
mod commits;
mod deletions;
mod foreign;
mod outages;
mod ownership;
mod said;
mod words;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::Url;
use azure_storage_blob::BlobContainerClient;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use weir_host::azure::{BlobContainer, BlobStore, DEVELOPMENT_SAS, Patience};
use weir_host::batch::BatchLimits;
use weir_host::checkpoint::Cadence;
use weir_host::guest::{Ack, Answer, Batch, CloseReason, Failure, Instance, Opening, Processor, Progress};
use weir_host::host::{Host, Outcome, ProcessorSpec};
use weir_host::model::{PartitionId, Scope};
use weir_host::options::{Fleet, ProcessorOptions};
use weir_host::retry::{Backoff, RetryPolicy};
use weir_host::seams::CheckpointStore;
use weir_host::status::{PartitionSnapshot, ProcessorSnapshot, State, Status};
use weir_host::testing::MemoryHub;
use weir_tests::fault_proxy::{Exchange, FaultProxy, Operation};
use weir_tests::fleet::create_container;

/// Renewed after a third, fenced after five sixths: so long that only what a test breaks on purpose costs an ownership.
const EXPIRY: Duration = Duration::from_secs(12);
/// Where the fence has to fall.
const SHORT_EXPIRY: Duration = Duration::from_secs(4);
/// How long one request may take.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A guest that writes down what it sees: the events of each tenancy, by partition.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<BTreeMap<String, Vec<Tenancy>>>>);

#[derive(Clone, Debug)]
struct Tenancy {
    /// The checkpoint that it began behind.
    behind: Option<i64>,
    events: Vec<i64>,
}

#[async_trait]
impl Processor for Witness {
    async fn open(&self, opening: Opening) -> Result<Box<dyn Instance>, Failure> {
        let partition = opening.partition.to_string();
        let tenancy = Tenancy { behind: opening.checkpoint.map(|c| c.sequence_number), events: Vec::new() };
        self.0.lock().unwrap().entry(partition.clone()).or_default().push(tenancy);
        Ok(Box::new(Note { partition, witness: self.clone() }))
    }
}

struct Note {
    partition: String,
    witness: Witness,
}

#[async_trait]
impl Instance for Note {
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure> {
        let numbers = batch.events().iter().map(|event| event.sequence_number);
        if let Some(tenancy) = self.witness.0.lock().unwrap().get_mut(&self.partition).and_then(|all| all.last_mut()) {
            tenancy.events.extend(numbers);
        }
        let ack = Ack { progress: Progress::All, rejected: Vec::new(), redeliver: None };
        Ok(Answer { ack, outputs: Vec::new() })
    }

    async fn close(self: Box<Self>, _: CloseReason) {}
}

/// A container of its own, a proxy before it, a hub, and a guest.
struct World {
    /// Of the processor: tells this world's messages from those of others.
    name: String,
    container: String,
    proxy: FaultProxy,
    raw: BlobContainerClient,
    hub: MemoryHub,
    guest: Witness,
    options: ProcessorOptions,
}

impl World {
    async fn new(partitions: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        said::listen();
        let name = format!("faults-{}-{:03}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}/{name}", crate::account());
        create_container(&url).await;
        let raw = BlobContainerClient::new(Url::parse(&format!("{url}?{DEVELOPMENT_SAS}")).unwrap(), None, None);
        let options = ProcessorOptions {
            batch: BatchLimits { events: 10, linger: Duration::from_millis(2), ..BatchLimits::default() },
            checkpoint: Cadence { interval: Duration::from_millis(50), events: 1000 },
            reconnect: Backoff { first: Duration::from_millis(20), max: Duration::from_millis(200) },
            store_retry: quick(5),
            fleet: Some(Fleet { expiry: EXPIRY, ..Fleet::default() }),
            ..ProcessorOptions::default()
        };
        Self {
            proxy: proxy().await,
            name,
            container: url,
            raw: raw.unwrap(),
            hub: MemoryHub::new(partitions),
            guest: Witness::default(),
            options,
        }
    }

    /// One in which a host that can't renew is soon fenced.
    async fn with_a_short_expiry(partitions: usize) -> Self {
        let mut world = Self::new(partitions).await;
        world.options.fleet = Some(Fleet { expiry: SHORT_EXPIRY, ..Fleet::default() });
        world
    }

    fn scope(&self) -> Scope {
        Scope { namespace: "n".into(), event_hub: "hub".into(), consumer_group: "g".into() }
    }

    /// The store, past the proxy.
    fn store(&self) -> BlobStore {
        BlobContainer::new(&self.container, None, Patience::default()).unwrap().store(&self.scope())
    }

    fn start(&self) -> Running {
        self.join("host-0", &self.proxy, &self.guest)
    }

    /// Starts a host that reaches the container through this proxy.
    fn join(&self, owner: &str, proxy: &FaultProxy, guest: &Witness) -> Running {
        let patience = Patience { attempt: ATTEMPT, retry: quick(3) };
        let container = BlobContainer::new(&self.through(proxy), None, patience).unwrap();
        let spec = ProcessorSpec {
            name: self.name.clone(),
            scope: self.scope(),
            source: Arc::new(self.hub.clone()),
            store: Arc::new(container.store(&self.scope())),
            processor: Arc::new(guest.clone()),
            outputs: BTreeMap::new(),
            dead_letter: None,
            options: self.options.clone(),
        };
        let host = Host::builder().owner(owner).processor(spec).build().unwrap();
        let (status, stop) = (host.status(), CancellationToken::new());
        let task = AbortOnDropHandle::new(tokio::spawn(host.run(stop.clone().cancelled_owned())));
        Running { status, stop, task }
    }

    fn through(&self, proxy: &FaultProxy) -> String {
        self.container.replace(&azurite(), proxy.address())
    }

    fn push(&self, partition: &str, count: usize) {
        for _ in 0..count {
            self.hub.push(partition, "body");
        }
    }

    /// Pushes an event to partition 0 every few milliseconds, until it is dropped.
    fn feed(&self) -> Feed {
        let (hub, pushed) = (self.hub.clone(), Arc::new(Mutex::new(0)));
        let counted = Arc::clone(&pushed);
        let task = tokio::spawn(async move {
            loop {
                hub.push("0", "body");
                *counted.lock().unwrap() += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Feed { pushed, task }
    }

    async fn checkpoint(&self, partition: &str) -> Option<i64> {
        let loaded = self.store().load(&PartitionId::from(partition)).await.unwrap();
        loaded.map(|(checkpoint, _)| checkpoint.position.sequence_number)
    }

    async fn committed_through(&self, partition: &str, last: i64) {
        let done = async {
            while self.checkpoint(partition).await != Some(last) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let what = format!("partition {partition} is checkpointed at {last}");
        assert!(tokio::time::timeout(PATIENCE, done).await.is_ok(), "it took too long until {what}");
    }

    /// The generation of each ownership record that has one.
    async fn generations(&self) -> Vec<u64> {
        let listing = self.store().list().await.unwrap();
        listing.partitions.iter().map(|record| record.ownership.as_ref().map_or(0, |o| o.generation)).collect()
    }

    fn tenancies(&self, partition: &str) -> Vec<Tenancy> {
        self.guest.0.lock().unwrap().get(partition).cloned().unwrap_or_default()
    }

    /// How many events of partition 0 were handed over, repeats included.
    fn handed_over(&self) -> usize {
        self.tenancies("0").iter().map(|tenancy| tenancy.events.len()).sum()
    }

    /// Every tenancy of a partition was contiguous behind its checkpoint, together they left nothing out, and no checkpoint went back.
    fn assert_nothing_is_lost(&self, partition: &str, through: i64) {
        let mut seen = vec![false; usize::try_from(through + 1).unwrap()];
        for tenancy in self.tenancies(partition) {
            let first = tenancy.behind.map_or(0, |behind| behind + 1);
            let expected: Vec<_> = (first..first + tenancy.events.len() as i64).collect();
            assert_eq!(tenancy.events, expected, "within a tenancy behind {:?}", tenancy.behind);
            tenancy.events.iter().for_each(|n| seen[usize::try_from(*n).unwrap()] = true);
        }
        assert!(seen.iter().all(|seen| *seen), "events were left out");
        let committed = self.proxy.committed(partition);
        assert!(committed.is_sorted(), "a checkpoint went back: {committed:?}");
    }

    /// In one tenancy, each event once.
    fn assert_undisturbed(&self, partition: &str, through: i64) {
        let tenancies = self.tenancies(partition);
        assert_eq!(tenancies.len(), 1, "the partition was not given up: {tenancies:?}");
        assert_eq!(tenancies[0].events, (0..=through).collect::<Vec<_>>());
        let committed = self.proxy.committed(partition);
        assert!(committed.windows(2).all(|w| w[0] < w[1]), "nothing is written twice: {committed:?}");
    }

    /// The answers to writes of a blob.
    fn puts(&self, end: &str) -> Vec<Option<u16>> {
        let writes = |e: &Exchange| e.operation == Operation::Put && e.path.ends_with(end);
        self.proxy.exchanges().into_iter().filter(writes).map(|e| e.status).collect()
    }

    /// How many writes of a blob were refused because it was another than expected.
    fn refused(&self, end: &str) -> usize {
        self.puts(end).into_iter().filter(|status| matches!(status, Some(409 | 412))).count()
    }

    fn blob(&self, rest: &str) -> String {
        format!("n/hub/g/{rest}")
    }

    /// Writes metadata as another client does.
    async fn set_metadata(&self, blob: &str, metadata: &[(&str, &str)]) {
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.raw.blob_client(&self.blob(blob)).set_metadata(&metadata, None).await.unwrap();
    }

    async fn delete(&self, blob: &str) {
        self.raw.blob_client(&self.blob(blob)).delete(None).await.unwrap();
    }
}

struct Feed {
    pushed: Arc<Mutex<i64>>,
    task: JoinHandle<()>,
}

impl Feed {
    fn pushed(&self) -> i64 {
        *self.pushed.lock().unwrap()
    }

    /// Waits for so many more.
    async fn more(&self, count: i64) {
        let before = self.pushed();
        until("the hub has more", || self.pushed() >= before + count).await;
    }

    /// Stops; says what the last sequence number is.
    async fn stop(self) -> i64 {
        self.task.abort();
        let _ = self.task.await;
        *self.pushed.lock().unwrap() - 1
    }
}

/// A host that runs until it is told to stop.
struct Running {
    status: Status,
    stop: CancellationToken,
    task: AbortOnDropHandle<Outcome>,
}

impl Running {
    fn processor(&self) -> ProcessorSnapshot {
        self.status.snapshot().processors[0].clone()
    }

    fn problem(&self) -> String {
        self.processor().problem.unwrap_or_default()
    }

    fn partition(&self, index: usize) -> Option<PartitionSnapshot> {
        self.processor().partitions.get(index).cloned()
    }

    fn is_running(&self, index: usize) -> bool {
        self.partition(index).is_some_and(|p| p.state == State::Running)
    }

    async fn stop(self) -> Outcome {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it took too long to stop").unwrap()
    }
}

fn quick(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts, backoff: Duration::from_millis(20), max_backoff: Duration::from_millis(100) }
}

/// `host:port` of Azurite.
fn azurite() -> String {
    let url = Url::parse(&crate::account()).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

async fn proxy() -> FaultProxy {
    FaultProxy::start(&azurite()).await
}

/// Waits for a condition that no event tells of.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it took too long until {what}");
}
