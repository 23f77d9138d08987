//! What the host is doing, for people, probes and the `weir` command: counters that the pumps keep up as they go.
//!
//! Written without a lock on the way of an event (relaxed atomics, once per batch), read at any time by
//! [`Status::snapshot`]. The figures of a snapshot are each true, but not all of the same instant.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::budget::Budget;
pub use crate::governor::BudgetSnapshot;
use crate::governor::Governor;
use crate::meter::Meter;
pub use crate::meter::StoreCalls;
use crate::model::{PartitionId, Position, SequenceNumber};

/// A view of a running host. Cheap to clone; stays readable after the host has ended.
#[derive(Clone, Debug)]
pub struct Status {
    budget: Arc<Budget>,
    governor: Arc<Governor>,
    processors: Arc<Vec<Arc<ProcessorStatus>>>,
}

/// The whole host at a moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostSnapshot {
    /// The cap on bytes of events in flight.
    pub memory_cap: usize,
    /// Bytes of events in flight.
    pub memory_in_flight: usize,
    /// The budget of checkpoint writes; `None` without one.
    pub checkpoint_budget: Option<BudgetSnapshot>,
    /// Calls of all processors to their checkpoint stores in the last minute.
    pub storage_calls_per_minute: StoreCalls,
    /// The processors in the order of the configuration.
    pub processors: Vec<ProcessorSnapshot>,
}

/// A processor at a moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessorSnapshot {
    /// Its name.
    pub name: String,
    /// What concerns it as a whole, such as a hub that can't be listed; `None` when all is well.
    pub problem: Option<String>,
    /// Its place in the fleet; `None` without one, and before the first cycle.
    pub fleet: Option<FleetSnapshot>,
    /// Calls to its checkpoint store in the last minute.
    pub storage_calls_per_minute: StoreCalls,
    /// Its partitions, as far as known.
    pub partitions: Vec<PartitionSnapshot>,
}

/// A host's place in its fleet, as of its last cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FleetSnapshot {
    /// Whether others have all partitions, and this host takes over when one of them goes.
    pub standby: bool,
    /// Partitions that it should have.
    pub quota: usize,
    /// Partitions in its name.
    pub held: usize,
    /// Hosts that count, this one included.
    pub hosts: usize,
    /// Partitions that nobody has.
    pub claimable: usize,
    /// Owners that are no Weir hosts.
    pub foreign: Vec<String>,
    /// Partitions that the configuration assigns to it and the hub doesn't have.
    pub absent: Vec<String>,
}

/// A partition at a moment. Counters start at 0 with the process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionSnapshot {
    /// The partition.
    pub partition: String,
    /// What it is doing.
    pub state: State,
    /// Events received, those that came again included. At any moment between two batches it is the sum of the next six.
    pub received: u64,
    /// Events that the guest finished and that the watermark has passed.
    pub acknowledged: u64,
    /// Events that the guest rejected and that the watermark has passed.
    pub rejected: u64,
    /// Events that the guest failed at, that went to the dead letters, and that the watermark has passed.
    pub poisoned: u64,
    /// Likewise, but dropped, as the configuration says.
    pub dropped: u64,
    /// Events that were received and given back unfinished: they are read again, here (after a rewind) or by the next owner.
    pub given_back: u64,
    /// Events that are in hand: waiting, with the guest, held by it, or set aside.
    pub in_flight: u64,
    /// Outputs that were accepted downstream.
    pub emitted: u64,
    /// Dead letters that their sink accepted, be it as repeats.
    pub dead_lettered: u64,
    /// Events handed over again because the guest asked.
    pub redelivered: u64,
    /// Batches handed over again after a failure.
    pub retries: u64,
    /// Guests that broke and were replaced.
    pub traps: u64,
    /// Links that were opened after the first.
    pub reattached: u64,
    /// Events that a link sent again and that were skipped over.
    pub replayed: u64,
    /// Events that were gone before they could be read.
    pub missing: u64,
    /// Events that the guest has but has not finished.
    pub held: u64,
    /// Checkpoints written.
    pub commits: u64,
    /// The last checkpoint.
    pub checkpoint: Option<SequenceNumber>,
    /// The last event that a guest answered for.
    pub handed_over: Option<SequenceNumber>,
    /// The newest event in the partition, when last asked.
    pub last_enqueued: Option<SequenceNumber>,
}

impl PartitionSnapshot {
    /// Events that have ended, in whichever way, and that the watermark has passed.
    pub fn finished(&self) -> u64 {
        self.acknowledged + self.rejected + self.poisoned + self.dropped
    }

    /// Whether every event that was received is accounted for. False only for the moment between two counters.
    pub fn is_balanced(&self) -> bool {
        self.received == self.finished() + self.given_back + self.in_flight
    }

    /// Sequence numbers between the checkpoint and the newest event known; `None` while either is unknown.
    pub fn lag(&self) -> Option<u64> {
        let newest = self.last_enqueued?.max(self.handed_over.unwrap_or(i64::MIN));
        Some(u64::try_from(newest - self.checkpoint?).unwrap_or(0))
    }
}

/// What a partition is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "because")]
pub enum State {
    /// Not owned yet.
    Claiming,
    /// Events flow, or would.
    Running,
    /// Something fails and is tried again: what.
    Retrying(String),
    /// No longer receiving; finishing what is in hand.
    Draining,
    /// A run with an end has reached it.
    CaughtUp,
    /// Given back.
    Released,
    /// Another host of the fleet has it, or it has no owner yet.
    Elsewhere,
    /// Stopped until a person acts: why.
    Failed(String),
}

impl Status {
    pub(crate) fn new(budget: Arc<Budget>, governor: Arc<Governor>, processors: Vec<Arc<ProcessorStatus>>) -> Self {
        Self { budget, governor, processors: Arc::new(processors) }
    }

    /// The figures as of now.
    pub fn snapshot(&self) -> HostSnapshot {
        let processors: Vec<_> = self.processors.iter().map(|p| p.snapshot()).collect();
        let calls = processors.iter().map(|p| p.storage_calls_per_minute);
        HostSnapshot {
            memory_cap: self.budget.cap(),
            memory_in_flight: self.budget.in_flight(),
            checkpoint_budget: self.governor.snapshot(),
            storage_calls_per_minute: calls.fold(StoreCalls::default(), StoreCalls::plus),
            processors,
        }
    }
}

/// The figures of one processor.
#[derive(Debug)]
pub(crate) struct ProcessorStatus {
    name: String,
    meter: Arc<Meter>,
    problem: Mutex<Option<String>>,
    fleet: Mutex<Option<FleetSnapshot>>,
    partitions: Mutex<BTreeMap<PartitionId, Arc<PartitionStatus>>>,
}

impl ProcessorStatus {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            meter: Meter::new(),
            problem: Mutex::default(),
            fleet: Mutex::default(),
            partitions: Mutex::default(),
        })
    }

    /// Counts what is asked of the processor's store.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    pub(crate) fn set_problem(&self, problem: Option<String>) {
        *lock(&self.problem) = problem;
    }

    pub(crate) fn set_fleet(&self, fleet: FleetSnapshot) {
        *lock(&self.fleet) = Some(fleet);
    }

    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// The figures of a partition, which begin when it is first asked for.
    pub(crate) fn partition(&self, id: &PartitionId) -> Arc<PartitionStatus> {
        Arc::clone(lock(&self.partitions).entry(id.clone()).or_default())
    }

    fn snapshot(&self) -> ProcessorSnapshot {
        // Ids are numbers in all but name: shorter ones first puts "10" after "9".
        let mut partitions: Vec<_> = lock(&self.partitions).iter().map(|(id, p)| p.snapshot(id)).collect();
        partitions.sort_by(|a, b| (a.partition.len(), &a.partition).cmp(&(b.partition.len(), &b.partition)));
        ProcessorSnapshot {
            name: self.name.clone(),
            problem: self.problem(),
            fleet: lock(&self.fleet).clone(),
            storage_calls_per_minute: self.meter.calls(),
            partitions,
        }
    }
}

/// The figures of one partition.
#[derive(Debug)]
pub(crate) struct PartitionStatus {
    state: Mutex<State>,
    received: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) rejected: Counter,
    pub(crate) poisoned: Counter,
    pub(crate) dropped: Counter,
    given_back: Counter,
    in_flight: AtomicU64,
    pub(crate) emitted: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) retries: Counter,
    pub(crate) traps: Counter,
    pub(crate) reattached: Counter,
    pub(crate) replayed: Counter,
    pub(crate) missing: Counter,
    held: AtomicU64,
    attached: AtomicBool,
    pub(crate) commits: Counter,
    checkpoint: Mutex<Option<Position>>,
    pub(crate) handed_over: Place,
    pub(crate) last_enqueued: Place,
}

impl Default for PartitionStatus {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::Claiming),
            received: Counter::default(),
            acknowledged: Counter::default(),
            rejected: Counter::default(),
            poisoned: Counter::default(),
            dropped: Counter::default(),
            given_back: Counter::default(),
            in_flight: AtomicU64::default(),
            emitted: Counter::default(),
            dead_lettered: Counter::default(),
            redelivered: Counter::default(),
            retries: Counter::default(),
            traps: Counter::default(),
            reattached: Counter::default(),
            replayed: Counter::default(),
            missing: Counter::default(),
            held: AtomicU64::default(),
            attached: AtomicBool::default(),
            commits: Counter::default(),
            checkpoint: Mutex::default(),
            handed_over: Place::default(),
            last_enqueued: Place::default(),
        }
    }
}

impl PartitionStatus {
    pub(crate) fn set_state(&self, state: State) {
        *lock(&self.state) = state;
    }

    /// Something that was retried works again.
    pub(crate) fn recovered(&self) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Retrying(_) | State::Claiming) {
            *state = State::Running;
        }
    }

    pub(crate) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Relaxed);
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Relaxed)
    }

    /// A checkpoint was read or written.
    pub(crate) fn set_checkpoint(&self, position: &Position) {
        *lock(&self.checkpoint) = Some(position.clone());
    }

    /// The last checkpoint that was read or written here. Somebody may have deleted it since.
    pub(crate) fn known_checkpoint(&self) -> Option<Position> {
        lock(&self.checkpoint).clone()
    }

    /// Events came in.
    pub(crate) fn take(&self, events: u64) {
        self.received.add(events);
        self.in_flight.fetch_add(events, Relaxed);
    }

    /// The watermark has passed so many events.
    pub(crate) fn finish(&self, events: u64) {
        self.in_flight.fetch_sub(events, Relaxed);
    }

    /// Everything in hand is let go of, to be read again.
    pub(crate) fn give_back(&self) {
        self.given_back.add(self.in_flight.swap(0, Relaxed));
    }

    pub(crate) fn set_held(&self, held: usize) {
        self.held.store(held as u64, Relaxed);
    }

    fn snapshot(&self, id: &PartitionId) -> PartitionSnapshot {
        PartitionSnapshot {
            partition: id.to_string(),
            state: lock(&self.state).clone(),
            received: self.received.get(),
            acknowledged: self.acknowledged.get(),
            rejected: self.rejected.get(),
            poisoned: self.poisoned.get(),
            dropped: self.dropped.get(),
            given_back: self.given_back.get(),
            in_flight: self.in_flight.load(Relaxed),
            emitted: self.emitted.get(),
            dead_lettered: self.dead_lettered.get(),
            redelivered: self.redelivered.get(),
            retries: self.retries.get(),
            traps: self.traps.get(),
            reattached: self.reattached.get(),
            replayed: self.replayed.get(),
            missing: self.missing.get(),
            held: self.held.load(Relaxed),
            commits: self.commits.get(),
            checkpoint: self.known_checkpoint().map(|position| position.sequence_number),
            handed_over: self.handed_over.get(),
            last_enqueued: self.last_enqueued.get(),
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A sequence number, or none yet.
#[derive(Debug)]
pub(crate) struct Place(AtomicI64);

impl Default for Place {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Place {
    pub(crate) fn set(&self, sequence_number: SequenceNumber) {
        self.0.store(sequence_number, Relaxed);
    }

    pub(crate) fn get(&self) -> Option<SequenceNumber> {
        Some(self.0.load(Relaxed)).filter(|n| *n != i64::MIN)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
