//! A fleet of real `weir` processes over Azurite and a local namespace: started, stopped, killed, suspended, and watched by somebody
//! who is none of them.
//!
//! The guest passes events on and counts them in its state, which at the end must hold each of them once, whatever befell the hosts.
//!
//! Events keep coming in while a [`Fleet`] lives. A witness reads the output hub and the checkpoint records all the time; with what the hosts log
//! of their tenancies that makes a [`History`], which [`Fleet::end`] judges.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what can't go on in a test panics")]

pub mod history;
mod log;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use weir_amqp::message::MessageParts;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_host::azure::{BlobContainer, BlobStore, Patience};
use weir_host::model::{PartitionId, Scope};
use weir_host::seams::CheckpointStore as _;
use weir_host::state::PartitionState;

use self::history::{Findings, History, Partition, Step};
use self::witness::{Sights, Witness};
use crate::guests::guest;
use crate::weir::{Ended, Weir, command};

/// Partitions of the hub.
pub const PARTITIONS: u32 = 8;
/// Events a partition gets at once, and how often.
const TRICKLE: (i64, Duration) = (4, Duration::from_millis(80));
/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// The cast of a story. Panics where a story can't go on.
pub struct Fleet {
    emulator: Arc<Emulator>,
    store: Arc<BlobStore>,
    container: String,
    expiry: Duration,
    module: PathBuf,
    directory: TempDir,
    hosts: BTreeMap<String, Host>,
    history: History,
    lives: u32,
    sights: Arc<Mutex<Sights>>,
    producer: JoinHandle<()>,
    witness: JoinHandle<()>,
}

/// One process.
struct Host {
    /// Its owner name and which life it is.
    life: String,
    weir: Weir,
    suspended: bool,
}

impl Fleet {
    /// A namespace with events coming in, and an empty container in the account `blobs`.
    pub async fn begin(blobs: &str, expiry: Duration) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Before events come in: building it may take a while.
        let module = guest("ledger");
        let hubs = ["in", "out"].map(|name| HubSpec { name: name.into(), partitions: PARTITIONS });
        let config = EmulatorConfig { listen: "127.0.0.1:0".into(), hubs: hubs.into(), ..EmulatorConfig::default() };
        let emulator = Arc::new(Emulator::start(config).await.unwrap());
        let container = format!("{blobs}/fleet-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let opened = create_container(&container).await;
        let scope = Scope { namespace: "localhost".into(), event_hub: "in".into(), consumer_group: "$default".into() };
        let store = Arc::new(opened.store(&scope));
        let sights = Arc::<Mutex<Sights>>::default();
        let witness = Witness::new(Arc::clone(&emulator), Arc::clone(&store), Arc::clone(&sights));
        Self {
            producer: tokio::spawn(produce(Arc::clone(&emulator))),
            witness: tokio::spawn(witness.run()),
            emulator,
            store,
            container,
            expiry,
            module,
            directory: tempfile::tempdir().unwrap(),
            hosts: BTreeMap::new(),
            history: History::default(),
            lives: 0,
            sights,
        }
    }

    /// Starts a host under this owner name.
    pub fn start(&mut self, owner: &str) {
        let file = self.directory.path().join(format!("{owner}.toml"));
        std::fs::write(&file, self.configuration(owner)).unwrap();
        self.lives += 1;
        let mut command = command(["run".as_ref(), file.as_os_str()]);
        command.args(["--log-format", "json", "--log-level", "info,weir::history=debug"]);
        let host = Host { life: format!("{owner}#{}", self.lives), weir: Weir::start(&mut command), suspended: false };
        let before = self.hosts.insert(owner.to_owned(), host);
        assert!(before.is_none(), "{owner} was running already");
    }

    fn configuration(&self, owner: &str) -> String {
        let (module, cache) = (&self.module, cache());
        let endpoint = self.emulator.endpoint();
        let (container, expiry) = (&self.container, self.expiry.as_millis());
        format!(
            r#"
            [namespace]
            fully-qualified-namespace = "localhost"
            endpoint = "{endpoint}"
            credential = "none"
            [checkpoints]
            container = "{container}"
            expiry = "{expiry} ms"
            [host]
            owner = "{owner}"
            cache = "{}"
            guest-threads = 1
            [[processor]]
            name = "counts"
            module = "{}"
            event-hub = "in"
            config = {{ count = true }}
            batch = {{ events = 50, linger = "20 ms" }}
            checkpoint = {{ interval = "500 ms", events = 200 }}
            [processor.outputs.default]
            event-hub = "out"
            "#,
            cache.display(),
            module.display()
        )
    }

    /// Hosts that run and are not suspended.
    pub fn running(&self) -> Vec<String> {
        self.hosts.iter().filter(|(_, host)| !host.suspended).map(|(owner, _)| owner.clone()).collect()
    }

    /// Hosts that are suspended.
    pub fn suspended(&self) -> Vec<String> {
        self.hosts.iter().filter(|(_, host)| host.suspended).map(|(owner, _)| owner.clone()).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self, owner: &str) {
        let host = self.hosts.remove(owner).expect("a host that runs");
        self.history.harmed.insert(host.life.clone());
        let ended = host.weir.kill();
        self.keep_log(&host.life, &ended);
    }

    /// SIGSTOP.
    pub fn suspend(&mut self, owner: &str) {
        let host = self.hosts.get_mut(owner).expect("a host that runs");
        host.weir.signal(libc::SIGSTOP);
        host.suspended = true;
        self.history.harmed.insert(host.life.clone());
    }

    /// SIGCONT.
    pub fn resume(&mut self, owner: &str) {
        let host = self.hosts.get_mut(owner).expect("a host that is suspended");
        host.weir.signal(libc::SIGCONT);
        host.suspended = false;
    }

    /// SIGTERM; it must end well.
    pub async fn stop(&mut self, owner: &str) {
        let host = self.hosts.remove(owner).expect("a host that runs");
        host.weir.signal(libc::SIGTERM);
        // The namespace lives in this process: its tasks must not wait for the host.
        let ended = tokio::task::spawn_blocking(|| host.weir.end()).await.unwrap();
        self.keep_log(&host.life, &ended);
        assert_eq!(ended.code, Some(0), "{} did not end well:\n{}", host.life, ended.stderr);
    }

    fn keep_log(&mut self, life: &str, ended: &Ended) {
        self.history.told.extend(ended.stderr.lines().filter_map(|line| log::told(life, line)));
    }

    /// The owner of each partition, by the records.
    pub async fn owners(&self) -> BTreeMap<Partition, String> {
        let listed = self.store.list().await.unwrap().partitions;
        let owner = |record: weir_host::seams::PartitionRecord| {
            Some((number(record.partition.as_str()), record.ownership?.owner?.to_string()))
        };
        listed.into_iter().filter_map(owner).collect()
    }

    /// Waits until exactly these hosts have the partitions, none more than one above another.
    pub async fn shared_by(&self, owners: &[&str]) {
        let is_even = |found: &BTreeMap<Partition, String>| {
            let held = |owner: &&str| found.values().filter(|o| o == owner).count();
            let counts: Vec<_> = owners.iter().map(held).collect();
            let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
            counts.iter().sum::<usize>() == PARTITIONS as usize && most - least <= 1
        };
        let deadline = self.deadline();
        loop {
            let found = self.owners().await;
            if is_even(&found) {
                return;
            }
            assert!(Instant::now() < deadline, "{owners:?} don't share evenly: {found:?}\n{}", self.said());
            tokio::time::sleep(GLANCE * 5).await;
        }
    }

    /// Waits until everything that is published by now has come out, from every partition.
    pub async fn catches_up(&self) {
        let published = self.published();
        let all = |sights: &Sights| published.iter().all(|(partition, count)| sights.whole(*partition) >= *count);
        self.until("everything has come out", || all(&self.sights())).await;
    }

    /// Waits until this host has seen the end of every tenancy that it began before now.
    pub async fn forgets(&self, owner: &str, tenancies: &BTreeSet<(Partition, u64)>) {
        let host = &self.hosts[owner];
        let ended = || {
            let told = log::all(&host.life, &host.weir.stderr_lines());
            let over: BTreeSet<_> = told
                .iter()
                .filter(|told| matches!(told.step, Step::Drained | Step::Broken))
                .map(|told| (told.partition, told.generation))
                .collect();
            tenancies.is_subset(&over)
        };
        self.until("the host knows that its tenancies are over", ended).await;
    }

    /// The tenancies that this host has begun and not ended, by its log.
    pub fn tenancies(&self, owner: &str) -> BTreeSet<(Partition, u64)> {
        let host = &self.hosts[owner];
        let mut open = BTreeSet::new();
        for told in log::all(&host.life, &host.weir.stderr_lines()) {
            match told.step {
                Step::Drained | Step::Broken => open.remove(&(told.partition, told.generation)),
                _ => open.insert((told.partition, told.generation)),
            };
        }
        open
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = self.deadline();
        while !condition() {
            assert!(Instant::now() < deadline, "it took too long until {what}\n{}", self.said());
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Far beyond what the protocol promises: a loaded machine is no defect.
    fn deadline(&self) -> Instant {
        Instant::now() + self.expiry * 4 + Duration::from_secs(60)
    }

    fn published(&self) -> BTreeMap<Partition, i64> {
        published(&self.emulator).collect()
    }

    fn sights(&self) -> MutexGuard<'_, Sights> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come, and the last lines of every host without the history.
    fn said(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "published: {:?}, checkpoints: {:?}", self.published(), self.sights().checkpoints);
        for (owner, host) in &self.hosts {
            let lines = host.weir.stderr_lines();
            let lines: Vec<_> = lines.iter().filter(|line| !line.contains(log::TARGET)).collect();
            let _ = writeln!(text, "{owner}, suspended: {}", host.suspended);
            for line in &lines[lines.len().saturating_sub(12)..] {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    /// The longest time without an output of each of these partitions, since then.
    pub fn longest_silence(&self, partitions: &[Partition], since: Instant) -> Vec<Duration> {
        let sights = self.sights();
        let silence = |partition: &Partition| {
            let times = sights.all.iter().filter(|sight| sight.output().is_some_and(|(p, _)| p == *partition));
            let times: Vec<_> = times.map(|sight| sight.at).collect();
            let gaps = times.windows(2).filter(|pair| pair[1] >= since).map(|pair| pair[1] - pair[0]);
            gaps.max().unwrap_or_default()
        };
        partitions.iter().map(silence).collect()
    }

    /// No more events; everything is processed and checkpointed, every host is stopped, and the whole is judged.
    ///
    /// # Panics
    /// When the history shows what must not be.
    pub async fn end(mut self) -> Findings {
        self.producer.abort();
        // It may be in the middle of publishing; only what is there by now is waited for.
        let _ = (&mut self.producer).await;
        for owner in self.suspended() {
            self.resume(&owner);
        }
        self.catches_up().await;
        for owner in self.running() {
            self.stop(&owner).await;
        }
        let published = self.published();
        // The hosts have committed what they had; the witness still has to see it.
        let is_last = |sights: &Sights| {
            published.iter().all(|(partition, count)| sights.checkpoints.get(partition) == Some(&(count - 1)))
        };
        self.until("the last checkpoints are seen", || is_last(&self.sights())).await;
        self.witness.abort();
        for (partition, count) in &published {
            self.state_counts(*partition, *count).await;
        }
        self.history.published = published;
        let seen = self.sights().all.iter().map(|sight| sight.seen).collect();
        self.history.seen = seen;
        let findings = self.history.judge();
        let events: i64 = self.history.published.values().sum();
        println!(
            "{events} events, {} processes, {} tenancies, {} of them lost without harm, {} repeats",
            self.lives, findings.tenancies, findings.lost_unharmed, findings.repeats
        );
        assert!(findings.violations.is_empty(), "the history is not sound:\n{}", findings.violations.join("\n"));
        findings
    }
}

impl Fleet {
    /// The state of a partition is that of one pass over so many events.
    async fn state_counts(&self, partition: Partition, count: i64) {
        let id = PartitionId::from(&*partition.to_string());
        let (checkpoint, _) = self.store.load(&id).await.unwrap().expect("a checkpoint");
        let state = PartitionState::load(usize::MAX, checkpoint.position, checkpoint.state).unwrap();
        let text = |value: Option<bytes::Bytes>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
        assert_eq!(text(state.get("count")), count.to_string(), "partition {partition}: each event once");
        let last = state.scan("last/", None, usize::MAX);
        assert_eq!(last.len() as i64, count.min(1000), "partition {partition}");
        for (key, value) in last {
            let number: i64 = text(Some(value)).trim_start().parse().unwrap();
            let remainder: i64 = key["last/".len()..].parse().unwrap();
            let expected = (count - 1) - (count - 1 - remainder).rem_euclid(1000);
            assert_eq!(number, expected, "partition {partition}, {key}, {count} events");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.producer.abort();
        self.witness.abort();
    }
}

/// A few events to every partition, for ever. The key names the partition, so that its outputs stay in order.
async fn produce(emulator: Arc<Emulator>) {
    let (count, pause) = TRICKLE;
    loop {
        let all: Vec<_> = published(&emulator).collect();
        for (partition, next) in all {
            let event = |n: i64| Incoming {
                tail: MessageParts::data(format!("{partition}/{n}")).encode(),
                key: Some(format!("from-{partition}")),
                ..Incoming::default()
            };
            let events: Vec<_> = (next..next + count).map(event).collect();
            emulator.namespace().publish("in", partition, &events).unwrap();
        }
        tokio::time::sleep(pause).await;
    }
}

fn published(emulator: &Emulator) -> impl Iterator<Item = (Partition, i64)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
    let partitions = emulator.namespace().hub("in").unwrap().partitions();
    (0..PARTITIONS).zip(partitions).map(move |(number, partition)| (number, partition.state(now).last + 1))
}

/// Creates a container, and tries for as long as a loaded machine may need: Azurite's first answers may be late, and creating one again is
/// no mistake.
///
/// # Panics
/// When it can't be created.
pub async fn create_container(url: &str) -> BlobContainer {
    let container = BlobContainer::new(url, None, Patience::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = container.create().await {
        assert!(Instant::now() < deadline, "no container: {error}");
        tokio::time::sleep(GLANCE).await;
    }
    container
}

/// One for all, so that the module is compiled once.
fn cache() -> PathBuf {
    crate::weir::binary().with_file_name("weir-fleet-cache")
}

fn number(partition: &str) -> Partition {
    partition.parse().unwrap_or_else(|error| panic!("partition {partition:?}: {error}"))
}
