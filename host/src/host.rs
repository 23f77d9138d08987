//! Wires processors to their sources, stores and sinks, and runs them.
//!
//! Processors share the process's memory cap and nothing else: each has a coordinator of its own, and whatever befalls
//! one (a hub that can't be listed, a store that is away, even a defect that panics) stays with it.
//!
//! A service runs until its shutdown signal, or until nothing is left to run because every partition has failed. A run
//! with an end ([`HostBuilder::until_caught_up`]) also ends when every partition has reached what was enqueued when it
//! began.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::budget::Budget;
use crate::coordinator::Coordinator;
use crate::error::PartitionError;
use crate::governor::Governor;
use crate::guest::Processor;
use crate::meter::Metered;
use crate::model::{OwnerId, PartitionId, Scope, SequenceNumber};
use crate::options::ProcessorOptions;
use crate::outputs::Sinks;
use crate::pump::Context;
use crate::seams::{CheckpointStore, EventSource, Sink};
use crate::shutdown::Shutdown;
use crate::status::{ProcessorStatus, Status};

/// One processor and what it is wired to.
#[derive(Clone)]
pub struct ProcessorSpec {
    /// Its name, unique in the host.
    pub name: String,
    /// What it reads: the hub's name becomes part of output ids.
    pub scope: Scope,
    /// Where events come from.
    pub source: Arc<dyn EventSource>,
    /// Where its ownerships and checkpoints are.
    pub store: Arc<dyn CheckpointStore>,
    /// The guest.
    pub processor: Arc<dyn Processor>,
    /// Sinks by output name; `default` is what a guest means that names none.
    pub outputs: BTreeMap<String, Arc<dyn Sink>>,
    /// Where rejected events go. Without one, a partition stops when its guest rejects an event.
    pub dead_letter: Option<Arc<dyn Sink>>,
    /// The rest.
    pub options: ProcessorOptions,
}

impl fmt::Debug for ProcessorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorSpec").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Gathers what a host needs.
#[derive(Debug)]
pub struct HostBuilder {
    owner: OwnerId,
    memory: usize,
    shutdown_deadline: Duration,
    until_caught_up: bool,
    checkpoint_writes: Option<u32>,
    processors: Vec<ProcessorSpec>,
}

/// Why a host can't be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// There is nothing to run.
    #[error("the host has no processor; add one with `processor`")]
    NoProcessor,
    /// Two processors are named alike.
    #[error("two processors are named `{0}`; names tell them apart in messages and figures")]
    SameName(String),
    /// Two processors would write the same checkpoints.
    #[error("processors `{0}` and `{1}` both read {2}; give each a consumer group of its own")]
    SameScope(String, String, Scope),
    /// A run with an end in a fleet.
    #[error(
        "processor `{0}` shares its partitions with other hosts, and a run until caught up would wait for theirs; give it a store of its own, \
         without a fleet"
    )]
    EndInFleet(String),
    /// A limit that lets nothing through.
    #[error("processor `{processor}`: {what} must not be 0")]
    Zero {
        /// The processor.
        processor: String,
        /// The option.
        what: &'static str,
    },
}

/// A host, ready to run.
#[derive(Debug)]
pub struct Host {
    owner: OwnerId,
    shutdown_deadline: Duration,
    until_caught_up: bool,
    budget: Arc<Budget>,
    governor: Arc<Governor>,
    processors: Vec<(ProcessorSpec, Arc<ProcessorStatus>)>,
    status: Status,
}

impl Host {
    /// Starts gathering.
    pub fn builder() -> HostBuilder {
        HostBuilder {
            owner: OwnerId::from("host"),
            memory: 256 << 20,
            shutdown_deadline: Duration::from_secs(25),
            until_caught_up: false,
            checkpoint_writes: None,
            processors: Vec::new(),
        }
    }

    /// The figures of this host, to be read at any time.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Runs on the current tokio runtime until `shutdown` is ready and the drain is done, or nothing is left to run.
    /// Dropping the future stops everything at once; nothing is lost by that, but what was not committed is processed
    /// again.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Outcome {
        let ending = Shutdown::new(self.shutdown_deadline);
        let mut coordinators = JoinSet::new();
        let mut names = BTreeMap::new();
        for (place, (spec, status)) in self.processors.into_iter().enumerate() {
            let context = Context {
                sinks: Sinks::new(&spec.outputs, spec.dead_letter.as_ref()),
                name: spec.name.clone(),
                scope: spec.scope,
                owner: self.owner.clone(),
                source: spec.source,
                store: Arc::new(Metered { store: spec.store, meter: Arc::clone(status.meter()) }),
                processor: spec.processor,
                options: spec.options,
                budget: Arc::clone(&self.budget),
                governor: Arc::clone(&self.governor),
                status,
                deadline: self.shutdown_deadline,
            };
            let coordinator = Coordinator::new(Arc::new(context), ending.clone(), self.until_caught_up);
            let task = coordinators.spawn(coordinator.run());
            names.insert(task.id(), (place, spec.name));
        }
        let signal = async {
            shutdown.await;
            ending.begin();
            std::future::pending::<()>().await;
        };
        let all = async {
            let mut outcomes = BTreeMap::new();
            while let Some(ended) = coordinators.join_next_with_id().await {
                let id = ended.as_ref().map_or_else(|e| e.id(), |(id, _)| *id);
                let Some((place, name)) = names.remove(&id) else { continue };
                let outcome = ended.map_or_else(
                    |e| {
                        let problem =
                            Some(format!("its coordinator ended unexpectedly ({e}); this is a defect of the host"));
                        ProcessorOutcome { name, problem, partitions: Vec::new() }
                    },
                    |(_, outcome)| outcome,
                );
                outcomes.insert(place, outcome);
            }
            Outcome { processors: outcomes.into_values().collect() }
        };
        tokio::select! {
            outcome = all => outcome,
            () = signal => Outcome { processors: Vec::new() },
        }
    }
}

impl HostBuilder {
    /// Who this host is, in ownership records: stable over restarts.
    pub fn owner(mut self, owner: impl Into<OwnerId>) -> Self {
        self.owner = owner.into();
        self
    }

    /// The cap on bytes of events in flight, for the whole host. What receivers prefetch comes on top.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// How long a drain may take.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }

    /// Ends the run when every partition has reached what was enqueued when it began. A processor that holds events
    /// back ends there as well, with the number of held events in its outcome. A start by time ends when nothing comes.
    /// Such a run gives up on what a service would try for ever.
    pub fn until_caught_up(mut self, yes: bool) -> Self {
        self.until_caught_up = yes;
        self
    }

    /// The most checkpoints that this host writes a minute, over all partitions; `None`: as many as their cadences ask for. Writes that end
    /// or begin a tenancy are neither delayed nor counted.
    pub fn checkpoint_writes_per_minute(mut self, most: Option<u32>) -> Self {
        self.checkpoint_writes = most;
        self
    }

    /// Adds a processor.
    pub fn processor(mut self, spec: ProcessorSpec) -> Self {
        self.processors.push(spec);
        self
    }

    /// Checks and builds.
    pub fn build(self) -> Result<Host, BuildError> {
        if self.processors.is_empty() {
            return Err(BuildError::NoProcessor);
        }
        let mut names = BTreeSet::new();
        for spec in &self.processors {
            if !names.insert(spec.name.as_str()) {
                return Err(BuildError::SameName(spec.name.clone()));
            }
            if self.until_caught_up && spec.options.fleet.is_some() {
                return Err(BuildError::EndInFleet(spec.name.clone()));
            }
            let ProcessorOptions { batch, prefetch, .. } = &spec.options;
            for (zero, what) in [
                (batch.events == 0, "the number of events in a batch"),
                (batch.bytes == 0, "the number of bytes in a batch"),
                (*prefetch == 0, "the prefetch"),
            ] {
                if zero {
                    return Err(BuildError::Zero { processor: spec.name.clone(), what });
                }
            }
        }
        for (n, a) in self.processors.iter().enumerate() {
            for b in self.processors.iter().skip(n + 1) {
                if Arc::ptr_eq(&a.store, &b.store) || same(&a.scope, &b.scope) {
                    return Err(BuildError::SameScope(a.name.clone(), b.name.clone(), b.scope.clone()));
                }
            }
        }
        let Self { owner, memory, shutdown_deadline, until_caught_up, checkpoint_writes, processors } = self;
        let budget = Budget::new(memory);
        let governor = Governor::new(checkpoint_writes);
        let with_status = |spec: ProcessorSpec| {
            let status = ProcessorStatus::new(&spec.name);
            (spec, status)
        };
        let processors: Vec<_> = processors.into_iter().map(with_status).collect();
        let statuses = processors.iter().map(|(_, s)| Arc::clone(s)).collect();
        let status = Status::new(Arc::clone(&budget), Arc::clone(&governor), statuses);
        Ok(Host { owner, shutdown_deadline, until_caught_up, budget, governor, processors, status })
    }
}

/// Event Hubs ignores the case of these names.
fn same(a: &Scope, b: &Scope) -> bool {
    let parts = |s: &Scope| [&s.namespace, &s.event_hub, &s.consumer_group].map(|p| p.to_lowercase());
    parts(a) == parts(b)
}

/// How a run ended. Print it for a person: one line per problem.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The processors, in the order they were added.
    pub processors: Vec<ProcessorOutcome>,
}

/// How a processor ended.
#[derive(Clone, Debug)]
pub struct ProcessorOutcome {
    /// Its name.
    pub name: String,
    /// What concerned it as a whole when it ended; `None` when all was well.
    pub problem: Option<String>,
    /// Its partitions.
    pub partitions: Vec<PartitionOutcome>,
}

/// How a partition ended.
#[derive(Clone, Debug)]
pub struct PartitionOutcome {
    /// The partition.
    pub partition: PartitionId,
    /// Its last checkpoint.
    pub checkpoint: Option<SequenceNumber>,
    /// How.
    pub end: PartitionEnd,
}

/// How a partition ended.
#[derive(Clone, Debug)]
pub enum PartitionEnd {
    /// Drained and released on request.
    Stopped,
    /// Everything up to the end of the run was handed over, answered, emitted and committed.
    CaughtUp {
        /// Events that the guest holds back: the checkpoint is before them.
        held: u64,
    },
    /// Not ended in order: why. Nothing is lost, but what was not committed is processed again.
    Unfinished(String),
    /// Stopped by an error.
    Failed(PartitionError),
}

impl Outcome {
    /// Whether every partition ended in order and no processor has a problem.
    pub fn is_success(&self) -> bool {
        self.processors.iter().all(|p| {
            let fine = |p: &PartitionOutcome| matches!(p.end, PartitionEnd::Stopped | PartitionEnd::CaughtUp { .. });
            p.problem.is_none() && p.partitions.iter().all(fine)
        })
    }

    /// The errors that stopped partitions.
    pub fn errors(&self) -> Vec<&PartitionError> {
        let ends = self.processors.iter().flat_map(|p| p.partitions.iter().map(|p| &p.end));
        ends.filter_map(|end| if let PartitionEnd::Failed(error) = end { Some(error) } else { None }).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for p in &self.processors {
            if let Some(problem) = &p.problem {
                writeln!(f, "processor `{}`: {problem}", p.name)?;
            }
            for partition in &p.partitions {
                match &partition.end {
                    PartitionEnd::Stopped | PartitionEnd::CaughtUp { .. } => {}
                    PartitionEnd::Unfinished(why) => {
                        writeln!(f, "processor `{}`, partition {}: {why}", p.name, partition.partition)?;
                    }
                    PartitionEnd::Failed(error) => writeln!(f, "{error}")?,
                }
            }
        }
        Ok(())
    }
}
