//! Thousands of short random stories against an oracle: guests of every mood, faults at every seam, crashes at any
//! moment.
//!
//! What must hold in each:
//! - an instance sees its events in order and without a gap, beginning right after the checkpoint that it was opened
//!   with;
//! - no checkpoint is ever written over an event that no guest has finished, or whose output or dead letter was not
//!   accepted;
//! - in half of them the guest keeps state: at every checkpoint it holds the effect of each event up to there exactly once, and of none
//!   behind it, whatever failed, broke, was held or came again;
//! - checkpoints only move forwards; only a new owner may write the same position again, in its own name;
//! - in the end every event is processed, and its output is there; where a guest breaks at an event whatever is done, its dead letter is.

mod audit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::audit::Audited;
use super::*;
use crate::guest::{CloseReason, Instance, Opening, Processor, Redelivery, Rejection};
use crate::model::{Checkpoint, ETag, Output, OwnerId, PartitionId, Tenancy};
use crate::options::{BreakerPolicy, Delivery, Fleet};
use crate::retry::{Backoff, RetryPolicy};
use crate::seams::{Listing, Presence, SinkError, StoreError, Written};
use crate::state::PartitionState;
use crate::testing::{Faults, FaultySink, FaultySource, FaultyStore};

const PARTITIONS: usize = 2;
/// More than any story needs.
const STATE: usize = 16 << 20;
/// In fleets.
const EXPIRY: Duration = Duration::from_millis(600);

/// Knows what was finished and what was accepted, and writes down what should never be.
#[derive(Clone)]
struct Oracle {
    inner: Arc<Mutex<Known>>,
}

struct Known {
    rng: SmallRng,
    /// In a calm world guests acknowledge everything.
    calm: bool,
    /// Whether guests keep state.
    stateful: bool,
    /// Per partition, the highest prefix that a guest has finished.
    finished: BTreeMap<String, i64>,
    /// In a poisoned world the guest breaks at every so manieth event, always, and events get a few attempts only.
    poison: Option<i64>,
    /// Events at which a guest has failed alone: only these may be left out, and then they must become dead letters.
    alone: BTreeSet<(String, i64)>,
    left_out: BTreeSet<(String, i64)>,
    letters: BTreeSet<(String, i64)>,
    /// What sinks accepted: partition and sequence number.
    accepted: BTreeSet<(String, i64)>,
    /// Position and generation.
    committed: BTreeMap<String, (i64, u64)>,
    violations: Vec<String>,
}

impl Oracle {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let known = Known {
            poison: rng.random_bool(0.5).then(|| rng.random_range(3..20)),
            stateful: rng.random_bool(0.5),
            rng,
            calm: false,
            alone: BTreeSet::new(),
            left_out: BTreeSet::new(),
            letters: BTreeSet::new(),
            finished: BTreeMap::new(),
            accepted: BTreeSet::new(),
            committed: BTreeMap::new(),
            violations: Vec::new(),
        };
        Self { inner: Arc::new(Mutex::new(known)) }
    }

    fn know<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.inner.lock().unwrap())
    }
}

impl Known {
    /// What was given up counts as finished where everything before it is.
    fn advance(&mut self, partition: &str) {
        let finished = self.finished.entry(partition.to_owned()).or_insert(-1);
        while self.letters.contains(&(partition.to_owned(), *finished + 1)) {
            *finished += 1;
        }
    }
}

#[async_trait]
impl Processor for Oracle {
    async fn open(&self, opening: Opening) -> Result<Box<dyn Instance>, Failure> {
        let partition = opening.partition.to_string();
        let after = opening.checkpoint.map_or(-1, |c| c.sequence_number);
        self.know(|known| {
            let mut finished = known.finished.get(&partition).copied().unwrap_or(-1);
            // What was given up may still be on its way to the dead letters.
            while known.alone.contains(&(partition.clone(), finished + 1)) {
                finished += 1;
            }
            if after > finished {
                known.violations.push(format!("{partition}: opened after {after}, but only {finished} was finished"));
            }
            if !known.calm && known.rng.random_bool(0.05) {
                return Err(trap());
            }
            let (oracle, state) = (self.clone(), opening.state);
            Ok(Box::new(Moody { oracle, partition, state, base: after, handed: Vec::new(), dead: false })
                as Box<dyn Instance>)
        })
    }

    fn uses_state(&self) -> bool {
        self.know(|known| known.stateful)
    }
}

struct Moody {
    oracle: Oracle,
    partition: String,
    state: PartitionState,
    base: i64,
    /// Whether each event after `base` is finished.
    handed: Vec<bool>,
    dead: bool,
}

impl Moody {
    /// Counts these events in the state.
    fn count(&self, numbers: &[i64], rng: &mut SmallRng) {
        for n in numbers {
            let key = n.to_string();
            let mut value = vec![0; rng.random_range(1..3000)];
            value[0] = self.state.get(&key).map_or(0, |value| value[0]) + 1;
            self.state.set(&key, value.into()).unwrap();
        }
    }

    /// What a call does to the state that comes to nothing.
    fn spoil(&self, numbers: &[i64], known: &mut Known) {
        if known.stateful {
            self.state.set("spoilt", "x".into()).unwrap();
            self.state.delete(&(numbers[0] - 1).to_string());
            self.count(numbers, &mut known.rng);
        }
    }

    fn act(&mut self, batch: &Batch, known: &mut Known) -> Result<Answer, Failure> {
        let numbers: Vec<i64> = batch.events().iter().map(|e| e.sequence_number).collect();
        let mut expected = self.base + 1 + self.handed.len() as i64;
        while numbers.first().is_some_and(|n| *n > expected)
            && known.alone.contains(&(self.partition.clone(), expected))
        {
            known.left_out.insert((self.partition.clone(), expected));
            self.handed.push(true);
            expected += 1;
        }
        let in_order = numbers.iter().enumerate().all(|(i, n)| *n == expected + i as i64);
        if !in_order || numbers.is_empty() || self.dead {
            known
                .violations
                .push(format!("{}: saw {numbers:?}, expected from {expected} (dead: {})", self.partition, self.dead));
        }
        let len = numbers.len();
        if known.poison.is_some_and(|every| numbers.iter().any(|n| n % every == 1)) {
            self.spoil(&numbers, known);
            self.dead = true;
            return Err(trap());
        }
        if !known.calm {
            let mood = known.rng.random_range(0..100);
            if mood < 12 {
                self.spoil(&numbers, known);
            }
            match mood {
                0..5 => return Err(Failure::Retry { after: None, reason: "moody".into() }),
                5..10 => {
                    self.dead = true;
                    return Err(trap());
                }
                10..12 => {
                    self.dead = true;
                    return Ok(Answer { ack: ack(Progress::Through(expected + len as i64)), outputs: Vec::new() });
                }
                _ => {}
            }
        }
        let rng = &mut known.rng;
        let redeliver = (!known.calm && rng.random_bool(0.15)).then(|| rng.random_range(0..len));
        let standing = redeliver.unwrap_or(len);
        let rejected: Vec<usize> = (0..standing).filter(|_| rng.random_bool(0.05)).collect();
        if known.stateful {
            self.count(&numbers[..standing], rng);
        }
        let newest = expected + standing as i64 - 1;
        let progress = match rng.random_range(0..10) {
            0..2 if !known.calm => Progress::Hold,
            2..4 if !known.calm => Progress::Through(rng.random_range(-1..=newest.max(-1))),
            _ => Progress::All,
        };
        self.handed.extend((0..standing).map(|i| rejected.contains(&i)));
        for (i, finished) in self.handed.iter_mut().enumerate() {
            *finished |= match progress {
                Progress::All => true,
                Progress::Hold => false,
                Progress::Through(last) => self.base + 1 + i as i64 <= last,
            };
        }
        let prefix = self.base + self.handed.iter().take_while(|f| **f).count() as i64;
        let finished = known.finished.entry(self.partition.clone()).or_insert(-1);
        *finished = prefix.max(*finished);
        known.advance(&self.partition);
        let outputs = (0..len).filter(|i| !rejected.contains(i)).map(|i| output(Origin::Event(i as u32))).collect();
        let rejected = rejected.iter().map(|i| Rejection { index: *i as u32, reason: "moody".into() }).collect();
        let redeliver = redeliver.map(|i| Redelivery { index: i as u32, after: None, reason: "moody".into() });
        Ok(Answer { ack: Ack { progress, rejected, redeliver }, outputs })
    }
}

#[async_trait]
impl Instance for Moody {
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure> {
        let pause = self.oracle.know(|known| known.rng.random_range(0..20));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let oracle = self.oracle.clone();
        oracle.know(|known| {
            let before = self.handed.len();
            let answer = self.act(&batch, known);
            let nothing = match &answer {
                Ok(answer) => answer.ack.redeliver.as_ref().is_some_and(|again| again.index == 0) || self.dead,
                Err(_) => batch.events().len() == 1,
            };
            let stands =
                answer.as_ref().is_ok_and(|answer| answer.ack.redeliver.as_ref().is_none_or(|again| again.index > 0));
            if !stands {
                // What lies before a call of which nothing stands may still come again.
                self.handed.truncate(before);
            }
            if nothing && let Some(first) = batch.events().first() {
                known.alone.insert((self.partition.clone(), first.sequence_number));
            }
            answer
        })
    }

    async fn close(self: Box<Self>, _reason: CloseReason) {}
}

#[async_trait]
impl Sink for Oracle {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        self.know(|known| {
            for output in outputs {
                let mut parts = output.id.split('/').skip(1);
                let partition = parts.next().unwrap().to_owned();
                let event = (partition, parts.next().unwrap().parse().unwrap());
                if parts.next() == Some("rejected") {
                    known.letters.insert(event.clone());
                    known.advance(&event.0);
                }
                known.accepted.insert(event);
            }
        });
        Ok(())
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }
}

struct Story {
    rng: SmallRng,
    oracle: Oracle,
    hub: MemoryHub,
    store: MemoryStore,
}

impl Story {
    /// `member`: its name in a fleet.
    fn host(&mut self, faults: Faults, member: Option<&str>) -> HostBuilder {
        let sink: Arc<dyn Sink> = Arc::new(FaultySink::new(self.oracle.clone(), self.rng.random(), faults));
        let audited = Audited { inner: self.store.clone(), oracle: self.oracle.clone() };
        let patient =
            RetryPolicy { attempts: 10_000, backoff: Duration::from_millis(5), max_backoff: Duration::from_millis(50) };
        let poisoned = self.oracle.know(|known| known.poison.is_some());
        let options = ProcessorOptions {
            batch: BatchLimits {
                events: self.rng.random_range(1..12),
                bytes: self.rng.random_range(200..3000),
                linger: Duration::from_millis(self.rng.random_range(0..20)),
            },
            checkpoint: Cadence {
                interval: Duration::from_millis(self.rng.random_range(1..200)),
                events: self.rng.random_range(1..30),
            },
            retry: RetryPolicy { attempts: if poisoned { 4 } else { 10_000 }, ..patient },
            delivery: Delivery {
                breaker: BreakerPolicy {
                    failures: self.rng.random_range(2..12),
                    rest: Backoff { first: Duration::from_millis(5), max: Duration::from_millis(50) },
                },
                ..Delivery::default()
            },
            sink_retry: patient,
            store_retry: patient,
            reconnect: Backoff { first: Duration::from_millis(5), max: Duration::from_millis(50) },
            stall: Duration::from_millis(500),
            fleet: member.map(|_| Fleet { expiry: EXPIRY, ..Fleet::default() }),
            emit_ahead: self.rng.random_range(1..5),
            ..ProcessorOptions::default()
        };
        let host = Host::builder().owner(member.unwrap_or("alone"));
        host.memory(self.rng.random_range(500..5000)).processor(ProcessorSpec {
            name: "moody".into(),
            scope: scope("hub"),
            source: Arc::new(FaultySource::new(self.hub.clone(), self.rng.random(), faults)),
            store: Arc::new(FaultyStore::new(audited, self.rng.random(), faults)),
            processor: Arc::new(self.oracle.clone()),
            outputs: BTreeMap::from([("default".to_owned(), Arc::clone(&sink))]),
            dead_letter: Some(sink),
            options,
        })
    }

    async fn tell(mut self) {
        let faults = Faults { delay: Duration::from_millis(5), ..Faults::MANY };
        let faults = Faults { not_done: 0.05, unknown_not_done: 0.05, unknown_done: 0.05, late: 0.05, ..faults };
        for _ in 0..self.rng.random_range(1..4) {
            let host = Running::start(self.host(faults, None));
            for _ in 0..self.rng.random_range(1..5) {
                let partition = self.rng.random_range(0..PARTITIONS).to_string();
                for _ in 0..self.rng.random_range(0..25) {
                    self.hub.push(&partition, vec![0; self.rng.random_range(0..200)]);
                }
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..300))).await;
            }
            if self.rng.random_bool(0.7) {
                // Killed where it stands. What it had sent to the store may still arrive.
                host.task.abort();
                let _ = host.task.await;
            } else {
                let outcome = host.stop().await;
                assert!(outcome.errors().is_empty(), "{outcome}");
            }
        }
        self.end().await;
    }

    /// Hosts of a fleet that come, go and die at any moment.
    async fn tell_of_a_fleet(mut self) {
        const NAMES: [&str; 3] = ["ann", "ben", "cem"];
        let faults = Faults { not_done: 0.05, unknown_not_done: 0.05, unknown_done: 0.05, late: 0.05, ..Faults::MANY };
        let mut hosts: [Option<Running>; 3] = [None, None, None];
        for _ in 0..self.rng.random_range(5..15) {
            let place = self.rng.random_range(0..NAMES.len());
            hosts[place] = match hosts[place].take() {
                None => Some(Running::start(self.host(faults, Some(NAMES[place])))),
                Some(host) => match self.rng.random_range(0..4) {
                    0 => {
                        // Killed where it stands.
                        host.task.abort();
                        let _ = host.task.await;
                        None
                    }
                    1 => {
                        let outcome = host.stop().await;
                        assert!(outcome.errors().is_empty(), "{outcome}");
                        None
                    }
                    _ => Some(host),
                },
            };
            let partition = self.rng.random_range(0..PARTITIONS).to_string();
            for _ in 0..self.rng.random_range(0..25) {
                self.hub.push(&partition, vec![0; self.rng.random_range(0..200)]);
            }
            tokio::time::sleep(EXPIRY.mul_f64(self.rng.random_range(0.0..1.5))).await;
        }
        for host in hosts.into_iter().flatten() {
            assert!(host.stop().await.errors().is_empty());
        }
        self.end().await;
    }

    /// What was begun is finished in calm, and nothing is missing.
    async fn end(mut self) {
        self.oracle.know(|known| known.calm = true);
        let outcome = catch_up(self.host(Faults::NONE, None)).await;
        assert!(outcome.is_success(), "{outcome}");
        self.oracle.know(|known| {
            assert!(known.violations.is_empty(), "{:#?}", known.violations);
            let vanished: Vec<_> = known.left_out.iter().filter(|event| !known.accepted.contains(event)).collect();
            assert!(vanished.is_empty(), "left out and never told: {vanished:?}");
        });
        for partition in 0..PARTITIONS {
            let partition = partition.to_string();
            let count = self.hub.push(&partition, "end");
            let missing: Vec<i64> = self
                .oracle
                .know(|known| (0..count).filter(|n| !known.accepted.contains(&(partition.clone(), *n))).collect());
            assert!(missing.is_empty(), "lost in partition {partition}: {missing:?}");
            assert_eq!(self.store.checkpoint(&partition), (count > 0).then_some(count - 1));
        }
    }
}

fn tell<F: Future<Output = ()>>(seeds: u64, story: impl Fn(Story) -> F + std::panic::RefUnwindSafe) {
    let seeds = match std::env::var("WEIR_STORY_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..seeds,
    };
    for seed in seeds {
        let told = std::panic::catch_unwind(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            let (hub, store) = (MemoryHub::new(PARTITIONS), MemoryStore::new());
            let rng = SmallRng::seed_from_u64(seed);
            runtime.block_on(story(Story { rng, oracle: Oracle::new(seed), hub, store }));
        });
        assert!(told.is_ok(), "story {seed} went wrong (above); tell it again with WEIR_STORY_SEED={seed}");
    }
}

#[test]
fn nothing_is_lost_reordered_or_committed_early_whatever_happens() {
    tell(1000, Story::tell);
}

#[test]
fn nor_in_a_fleet_whose_hosts_come_go_and_die() {
    tell(300, Story::tell_of_a_fleet);
}
