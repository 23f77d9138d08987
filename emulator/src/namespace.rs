//! The namespace: its hubs, who is connected, the faults that stand. One handle for the server, tests and control.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::futures::Notified;

use crate::connections::{Client, Command, ConnectionInfo};
use crate::faults::{Fault, Faults, Moment, Standing, Strike};
use crate::model::{Groups, Hub, Incoming, Log, Partition, Retention, lock, now_ms};
use crate::store::{Batch, HubRecord, QUEUE_BYTES, Store, StoreError, Writer};

/// Most partitions of a hub, as in the service's premium tier.
pub const MAX_PARTITIONS: u32 = 1024;

/// Why a hub could not be made or changed.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// There is no such hub.
    #[error("there is no event hub {hub:?} in this namespace; it has: {known}")]
    NoHub {
        /// The name asked for.
        hub: String,
        /// The names there are.
        known: String,
    },
    /// A name that no event hub can have.
    #[error("{0:?} is no event hub name: 1 to 256 letters, digits, '.', '-' and '_', beginning with a letter or digit")]
    BadName(String),
    /// A hub of that name exists.
    #[error("the event hub {0:?} exists already")]
    Exists(String),
    /// A number of partitions outside the limits.
    #[error("an event hub has 1 to {MAX_PARTITIONS} partitions, not {0}")]
    BadPartitionCount(u32),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What injecting a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Injected {
    /// The fault's number, to lift it by.
    pub id: u64,
    /// How many links (or connections) it struck at once; 0 for a standing fault.
    pub struck: usize,
}

/// A namespace. Shared by everything that serves it.
#[derive(Debug)]
pub struct Namespace {
    hubs: RwLock<BTreeMap<String, Arc<Hub>>>,
    retention: Retention,
    /// Serialises changes to the set of hubs and partitions.
    changes: Mutex<()>,
    store: Option<Store>,
    writer: Option<Writer>,
    faults: Faults,
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    ids: AtomicU64,
}

impl Namespace {
    /// An empty namespace in memory.
    #[must_use]
    pub fn in_memory(retention: Retention) -> Self {
        Self {
            hubs: RwLock::default(),
            retention,
            changes: Mutex::default(),
            store: None,
            writer: None,
            faults: Faults::default(),
            clients: Mutex::default(),
            ids: AtomicU64::new(1),
        }
    }

    /// The namespace that a directory holds; an empty one if the directory is new. Reads all events back.
    ///
    /// # Errors
    /// The directory is in use, can't be read, or is damaged.
    pub fn in_directory(directory: &Path, retention: Retention) -> Result<Self, NamespaceError> {
        Self::journalled(directory, retention, QUEUE_BYTES)
    }

    /// As [`in_directory`](Self::in_directory), with so many bytes that may wait for the journal.
    pub(crate) fn journalled(directory: &Path, retention: Retention, queue: usize) -> Result<Self, NamespaceError> {
        let store = Store::open(directory)?;
        let mut namespace = Self::in_memory(retention);
        for record in store.hubs()? {
            let name: Arc<str> = record.name.as_str().into();
            let partitions = (0..record.partitions)
                .map(|id| {
                    let (log, journal) = store.partition(&name, id, retention)?;
                    Ok(Arc::new(Partition::with(Arc::clone(&name), id, log, Some(journal))))
                })
                .collect::<Result<_, StoreError>>()?;
            let hub = Hub::new(Arc::clone(&name), record.created_ms, record.groups(), partitions);
            namespace.write_hubs(|hubs| hubs.insert(name.to_ascii_lowercase(), Arc::new(hub)));
        }
        let start = StoreError::io("can't start the thread that writes to", directory);
        namespace.writer = Some(Writer::start(queue).map_err(start)?);
        namespace.store = Some(store);
        Ok(namespace)
    }

    /// All hubs, by name.
    #[must_use]
    pub fn hubs(&self) -> Vec<Arc<Hub>> {
        self.hubs.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The hub of that name; case does not matter.
    ///
    /// # Errors
    /// There is none.
    pub fn hub(&self, name: &str) -> Result<Arc<Hub>, NamespaceError> {
        let hubs = self.hubs.read().unwrap_or_else(PoisonError::into_inner);
        hubs.get(&name.to_ascii_lowercase()).cloned().ok_or_else(|| NamespaceError::NoHub {
            hub: name.chars().take(256).collect(),
            known: hubs.values().map(|hub| &*hub.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Makes a hub.
    ///
    /// # Errors
    /// The name or the number of partitions won't do, the hub exists, or it can't be written down.
    pub fn create_hub(&self, name: &str, partitions: u32, groups: Groups) -> Result<Arc<Hub>, NamespaceError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.len() > 256 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
            return Err(NamespaceError::BadName(name.chars().take(256).collect()));
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(NamespaceError::BadPartitionCount(partitions));
        }
        let _alone = lock(&self.changes);
        if self.hub(name).is_ok() {
            return Err(NamespaceError::Exists(name.to_owned()));
        }
        let name: Arc<str> = name.into();
        let created_ms = now_ms();
        let members =
            (0..partitions).map(|id| self.new_partition(&name, id)).collect::<Result<Vec<_>, NamespaceError>>()?;
        let hub = Arc::new(Hub::new(Arc::clone(&name), created_ms, groups, members));
        self.save(&hub, partitions)?;
        self.write_hubs(|hubs| hubs.insert(name.to_ascii_lowercase(), Arc::clone(&hub)));
        Ok(hub)
    }

    /// Adds partitions to a hub, as can be done in the service's premium tier; returns how many it has then. Keys are
    /// spread over the new number from then on.
    ///
    /// # Errors
    /// There is no such hub, the limit is passed, or it can't be written down.
    pub fn add_partitions(&self, hub: &str, more: u32) -> Result<u32, NamespaceError> {
        let hub = self.hub(hub)?;
        let _alone = lock(&self.changes);
        let before = hub.partition_count();
        let count = before.saturating_add(more);
        if count > MAX_PARTITIONS {
            return Err(NamespaceError::BadPartitionCount(count));
        }
        let new = (before..count).map(|id| self.new_partition(&hub.name, id)).collect::<Result<Vec<_>, _>>()?;
        self.save(&hub, count)?;
        new.into_iter().for_each(|partition| hub.add(partition));
        Ok(count)
    }

    /// Takes events into a partition and says when they are safe, which in memory is at once. Gives them back if the
    /// journal has no room for them now.
    pub(crate) fn append(&self, batch: Batch) -> Result<(), Batch> {
        match &self.writer {
            Some(writer) => writer.append(batch),
            None => {
                batch.write();
                Ok(())
            }
        }
    }

    /// Ready once the journal has room; none in memory, where nothing waits. To be asked for before the
    /// [`append`](Self::append) that may be refused.
    pub(crate) fn room(&self) -> Option<Notified<'_>> {
        self.writer.as_ref().map(Writer::room)
    }

    /// Takes events into a partition without a client. Blocks while the journal is written.
    ///
    /// # Errors
    /// There is no such hub or partition, or the journal can't be written.
    pub fn publish(&self, hub: &str, partition: u32, events: &[Incoming]) -> Result<Range<i64>, NamespaceError> {
        let hub = self.hub(hub)?;
        let partition = hub.partition(&partition.to_string()).ok_or(NamespaceError::BadPartitionCount(partition))?;
        Ok(partition.append(events, now_ms())?)
    }

    /// Injects a fault: strikes what is there ([`Moment::Now`]) or adds a standing one.
    pub fn inject(&self, fault: &Fault) -> Injected {
        let id = self.next_id();
        if fault.at != Moment::Now {
            self.faults.add(id, fault.clone(), Instant::now());
            return Injected { id, struck: 0 };
        }
        let strike = Strike::of(id, fault);
        let clients: Vec<_> = lock(&self.clients).values().cloned().collect();
        let struck = clients.iter().map(|client| client.strike(strike, &fault.target)).sum();
        Injected { id, struck }
    }

    /// Lifts a standing fault, or a stall; the connections that it held go on.
    pub fn lift(&self, id: u64) -> bool {
        self.tell_all(|| Command::Lift(Some(id)));
        self.faults.lift(id)
    }

    /// Lifts all faults.
    pub fn lift_all(&self) {
        self.faults.clear();
        self.tell_all(|| Command::Lift(None));
    }

    /// The standing faults, with what they have done.
    #[must_use]
    pub fn standing_faults(&self) -> Vec<Standing> {
        self.faults.list()
    }

    /// Who is connected, with links and positions.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        lock(&self.clients).values().map(|client| client.info()).collect()
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn enter(&self, client: &Arc<Client>) {
        lock(&self.clients).insert(client.id, Arc::clone(client));
    }

    pub(crate) fn leave(&self, id: u64) {
        lock(&self.clients).remove(&id);
    }

    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        lock(&self.clients).len()
    }

    /// Tells the connection that one of its links lost its partition.
    pub(crate) fn evict(&self, connection: u64, link: u64, by: &str) {
        let client = lock(&self.clients).get(&connection).cloned();
        if let Some(client) = client {
            client.tell(Command::Evict { link, by: by.to_owned() });
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        let clients: Vec<_> = lock(&self.clients).values().cloned().collect();
        clients.iter().for_each(|client| client.tell(command()));
    }

    fn new_partition(&self, hub: &Arc<str>, id: u32) -> Result<Arc<Partition>, NamespaceError> {
        let (log, journal) = match &self.store {
            Some(store) => {
                let (log, journal) = store.partition(hub, id, self.retention)?;
                (log, Some(journal))
            }
            None => (Log::new(self.retention), None),
        };
        Ok(Arc::new(Partition::with(Arc::clone(hub), id, log, journal)))
    }

    fn save(&self, hub: &Hub, partitions: u32) -> Result<(), NamespaceError> {
        let Some(store) = &self.store else { return Ok(()) };
        let groups = match &hub.groups {
            Groups::Any => None,
            Groups::Listed(names) => Some(names.clone()),
        };
        Ok(store.save(&HubRecord { name: hub.name.to_string(), created_ms: hub.created_ms, partitions, groups })?)
    }

    fn write_hubs<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Hub>>) -> T) -> T {
        change(&mut self.hubs.write().unwrap_or_else(PoisonError::into_inner))
    }
}
