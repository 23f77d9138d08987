//! Virtual time, and everything that happens in it: one queue, drawn from one seed.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::Sequence;
use super::broker::Broker;
use super::check::{History, Violation};
use super::machine::{Action, Input, Machine, Phase};
use super::rules::{Rule, Rules};
use super::store::{Reply, Request, Store};
use super::weather::{Mood, Trouble, Weather, below};
use crate::balance::{Balancer, Record, Settings};
use crate::lease::{Moment, Terms};
use crate::model::{OwnerId, PartitionId};

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// A process learns something.
    Input(Process, usize, Input),
    /// A request reaches the store.
    Request(Process, usize, u64, Request),
    Attach {
        process: Process,
        partition: usize,
        attempt: u64,
        after: Sequence,
    },
    /// Outputs become durable.
    Accept {
        process: Process,
        partition: usize,
        tenancy: u64,
        sequence: Sequence,
    },
    /// An event is enqueued.
    Enqueue(usize),
    Tick(Process),
    /// A host begins a cycle of balancing: it lists.
    Cycle(Process),
    /// A sign of life reaches the store, and when it was sent by its host's clock.
    Sign(Process, Moment),
    /// The store makes the listing.
    List(Process, BTreeSet<(usize, u64)>),
    Listed(Process, BTreeSet<(usize, u64)>, Vec<Record>),
    Trouble,
    /// One host dies.
    Death,
    Start(usize),
    /// A process that stood still goes on.
    Thaw(usize),
}

/// A host, and which of its lives.
pub(super) type Process = (usize, u32);

pub(super) struct Host {
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) frozen: Moment,
    /// What a process that stands still has yet to learn, in order.
    backlog: Vec<Happening>,
    pub(super) machines: Vec<Machine>,
    pub(super) balancer: Balancer,
    pub(super) draining: bool,
    /// What its clock shows more than the world's.
    pub(super) ahead: Moment,
    /// Its presence: the number of the sign, and when it was given.
    pub(super) sign: (u64, Moment),
}

pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) weather: Weather,
    pub(super) rng: SmallRng,
    pub(super) now: Moment,
    pub(super) hosts: Vec<Host>,
    pub(super) stores: Vec<Store>,
    pub(super) brokers: Vec<Broker>,
    pub(super) histories: Vec<History>,
    pub(super) violation: Option<Violation>,
    /// Commits of a rightful owner that an older tenancy's write made fail.
    pub(super) beaten: usize,
    pub(super) story: Option<Vec<String>>,
    /// Since when nobody has read a partition whose owner died.
    unread: Vec<Option<Moment>>,
    queue: BTreeMap<(Moment, u64), Happening>,
    happenings: u64,
    signs: u64,
}

/// Says something, if somebody listens.
macro_rules! say {
    ($world:expr, $($text:tt)*) => {
        if let Some(story) = &mut $world.story {
            story.push(format!("{:>10.3} {}", $world.now.as_secs_f64(), format_args!($($text)*)));
        }
    };
}
pub(super) use say;

impl World {
    pub(super) fn new(seed: u64, mood: Mood, rules: Rules, tell: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let weather = Weather::draw(mood, &mut rng);
        let mut world = Self {
            rules,
            now: Moment::ZERO,
            hosts: Vec::new(),
            stores: (0..weather.partitions).map(|_| Store::default()).collect(),
            brokers: (0..weather.partitions).map(|_| Broker::default()).collect(),
            histories: (0..weather.partitions).map(|_| History::default()).collect(),
            unread: vec![None; weather.partitions],
            violation: None,
            beaten: 0,
            story: tell.then(Vec::new),
            queue: BTreeMap::new(),
            happenings: 0,
            signs: 0,
            weather,
            rng,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        say!(self, "{:?}", self.weather);
        let clears = self.weather.clears;
        for host in 0..self.weather.hosts {
            let mut host_state = Host {
                up: false,
                life: 0,
                frozen: Moment::ZERO,
                backlog: Vec::new(),
                machines: Vec::new(),
                balancer: self.balancer(host),
                draining: false,
                ahead: below(&mut self.rng, self.weather.expiry * 5),
                sign: (0, Moment::ZERO),
            };
            host_state.machines = self.machines();
            self.hosts.push(host_state);
            // The first is there from the beginning.
            let late = if self.weather.mood == Mood::Calm { clears / 2 } else { self.weather.tick };
            let at = if host == 0 { Moment::ZERO } else { below(&mut self.rng, late) };
            self.at(at, Happening::Start(host));
        }
        for partition in 0..self.weather.partitions {
            for _ in 0..self.weather.events {
                let at = below(&mut self.rng, clears);
                self.at(at, Happening::Enqueue(partition));
            }
        }
        if self.weather.mood == Mood::Death {
            let at = clears / 4 + below(&mut self.rng, clears / 2);
            self.at(at, Happening::Death);
        }
        self.at(self.weather.pause, Happening::Trouble);
    }

    fn machines(&self) -> Vec<Machine> {
        let terms = Terms::of(self.weather.expiry);
        (0..self.weather.partitions)
            .map(|_| Machine::new(self.rules, terms, self.weather.cadence, self.weather.exclusive))
            .collect()
    }

    fn balancer(&self, host: usize) -> Balancer {
        let patience = if self.rules.on(Rule::TakeOver) { 1 } else { 4 };
        let exclusive = self.weather.exclusive && self.rules.on(Rule::SignsStand);
        let settings = Settings { expiry: self.weather.expiry * patience, most: None, assignment: None, exclusive };
        Balancer::new(owner(host), settings)
    }

    /// Tells the story to its end.
    pub(super) fn run(&mut self) {
        while self.violation.is_none() {
            let Some(((at, _), happening)) = self.queue.pop_first() else { break };
            self.now = at;
            if self.is_clear() && self.is_done() {
                return;
            }
            if self.now > self.weather.horizon {
                let reached: Vec<_> = self.stores.iter().map(|s| s.checkpoint.sequence).collect();
                // Where another SDK has written, a route with state may have to stop.
                if self.weather.mood != Mood::Foreign {
                    let events = self.weather.events;
                    self.violation =
                        Some((0, format!("it is not done: {reached:?} of {events} events, {:?}", self.unread)));
                }
                return;
            }
            self.happen(happening);
        }
    }

    /// Whether nothing more goes wrong.
    pub(super) fn is_clear(&self) -> bool {
        self.now >= self.weather.clears
    }

    fn is_done(&self) -> bool {
        let all = |s: &Store| s.checkpoint.sequence >= self.weather.events;
        self.stores.iter().all(all) && self.unread.iter().all(Option::is_none)
    }

    pub(super) fn at(&mut self, at: Moment, happening: Happening) {
        self.happenings += 1;
        self.queue.insert((at, self.happenings), happening);
    }

    pub(super) fn soon(&mut self, happening: Happening) {
        let clear = self.is_clear();
        let way = self.weather.way(&mut self.rng, clear);
        self.at(self.now + way, happening);
    }

    pub(super) fn lives(&self, (host, life): Process) -> bool {
        self.hosts[host].up && self.hosts[host].life == life
    }

    fn happen(&mut self, happening: Happening) {
        // Who stands still learns everything later.
        let process = match &happening {
            Happening::Input(process, ..)
            | Happening::Tick(process)
            | Happening::Cycle(process)
            | Happening::Listed(process, ..) => Some(*process),
            _ => None,
        };
        let waits = |host: &Host| host.frozen > self.now || !host.backlog.is_empty();
        if let Some((host, _)) = process.filter(|(host, _)| waits(&self.hosts[*host])) {
            return self.hosts[host].backlog.push(happening);
        }
        if process.is_some_and(|process| !self.lives(process)) {
            return;
        }
        match happening {
            Happening::Input(process, partition, input) => self.input(process, partition, input),
            Happening::Request(process, partition, serial, request) => {
                self.request(process, partition, serial, &request)
            }
            Happening::Attach { process, partition, attempt, after } => {
                if self.lives(process) {
                    self.attached(process, partition, attempt, after);
                }
            }
            Happening::Accept { process, partition, tenancy, sequence } => {
                self.histories[partition].accepted.insert(sequence);
                self.soon(Happening::Input(process, partition, Input::Accepted { tenancy, sequence }));
            }
            Happening::Enqueue(partition) => self.enqueue(partition),
            Happening::Tick(process) => {
                self.at(self.now + self.weather.tick, Happening::Tick(process));
                for partition in 0..self.weather.partitions {
                    if self.hosts[process.0].machines[partition].phase == Phase::Running {
                        self.input(process, partition, Input::Tick);
                    }
                }
            }
            Happening::Cycle(process) => self.cycle(process),
            Happening::Sign(process, sent) => self.signed(process, sent),
            Happening::List(process, running) => self.list(process, running),
            Happening::Listed(process, running, records) => self.listed(process, &running, &records),
            Happening::Trouble => self.trouble(),
            Happening::Death => {
                let up: Vec<usize> = (0..self.hosts.len()).filter(|h| self.hosts[*h].up).collect();
                if let Some(host) = up.choose(&mut self.rng).copied() {
                    self.crash(host);
                    self.at(self.now + self.weather.expiry * 3, Happening::Start(host));
                }
            }
            Happening::Start(host) => self.start(host),
            Happening::Thaw(host) if self.hosts[host].frozen <= self.now => {
                for happening in std::mem::take(&mut self.hosts[host].backlog) {
                    self.happen(happening);
                }
            }
            Happening::Thaw(_) => {}
        }
    }

    fn start(&mut self, host: usize) {
        if self.hosts[host].up {
            return;
        }
        say!(self, "h{host} starts");
        self.hosts[host].balancer = self.balancer(host);
        self.hosts[host].up = true;
        self.hosts[host].draining = false;
        let process = (host, self.hosts[host].life);
        self.at(self.now + self.weather.tick, Happening::Tick(process));
        if self.weather.mood.is_fleet() {
            self.at(self.now, Happening::Cycle(process));
        }
    }

    pub(super) fn crash(&mut self, host: usize) {
        say!(self, "h{host} dies");
        for (partition, store) in self.stores.iter().enumerate() {
            if store.ownership.owner == Some(host) && self.weather.mood == Mood::Death {
                self.unread[partition] = Some(self.now);
            }
        }
        let machines = self.machines();
        let state = &mut self.hosts[host];
        state.up = false;
        state.life += 1;
        state.machines = machines;
        state.frozen = Moment::ZERO;
        state.backlog.clear();
        for broker in &mut self.brokers {
            broker.links.retain(|link| link.process.0 != host);
        }
    }

    /// The sign that a host gives at every cycle.
    pub(super) fn sign(&mut self, host: usize) {
        self.signs += 1;
        self.hosts[host].sign = (self.signs, self.now);
    }

    /// Gives an input to a host's machine, and does what it says.
    pub(super) fn input(&mut self, process: Process, partition: usize, input: Input) {
        let (host, life) = process;
        match &input {
            Input::Guest { tenancy, sequence, hold: false } => {
                let handed = self.histories[partition].handed.get(&(host, life, *tenancy)).cloned().unwrap_or_default();
                let done = handed.into_iter().filter(|n| n <= sequence);
                self.histories[partition].acknowledged.extend(done);
            }
            Input::Attached { .. } => self.read_again(partition),
            _ => {}
        }
        let clock = self.now + self.hosts[host].ahead;
        let mut actions = Vec::new();
        self.hosts[host].machines[partition].input(clock, input, &mut actions);
        for action in actions {
            self.act(process, partition, action);
        }
    }

    /// Invariant 7: the record expires, a host's own watch of it began up to a cycle later, and its next cycle claims.
    fn read_again(&mut self, partition: usize) {
        let Some(since) = self.unread[partition].take() else { return };
        let cycle = self.weather.tick * 13;
        let steps = self.weather.latency * 40;
        if self.now - since > self.weather.expiry + cycle * 2 + steps {
            self.violation = Some((7, format!("p{partition} was not read for {:?}", self.now - since)));
        }
    }

    fn act(&mut self, process: Process, partition: usize, action: Action) {
        let (host, life) = process;
        let clear = self.is_clear();
        match action {
            Action::Send { serial, request } => {
                let answer = Input::Answer { serial, reply: None };
                self.at(self.now + self.weather.timeout, Happening::Input(process, partition, answer));
                if self.weather.loses(&mut self.rng, clear) {
                    say!(self, "h{host} p{partition} sends {request:?}, which is lost");
                } else {
                    self.soon(Happening::Request(process, partition, serial, request));
                }
            }
            Action::Attach { attempt, after } => {
                self.soon(Happening::Attach { process, partition, attempt, after });
            }
            Action::Detach { link } => self.brokers[partition].links.retain(|l| l.id != link),
            Action::Dispatch { tenancy, sequence } => {
                say!(self, "h{host} p{partition} processes {sequence} in {tenancy}");
                let history = &mut self.histories[partition];
                history.handed.entry((host, life, tenancy)).or_default().push(sequence);
                let times = history.processed.entry(sequence).or_default();
                *times += 1;
                if *times > 1 && self.weather.mood == Mood::Calm {
                    self.violation = Some((6, format!("{sequence} of p{partition} was processed again by h{host}")));
                }
                let hold = sequence < self.weather.events && self.rng.random_range(0..100) < self.weather.percent_hold;
                let hold = hold && !clear;
                let at = self.now + below(&mut self.rng, self.weather.work);
                self.at(at, Happening::Input(process, partition, Input::Guest { tenancy, sequence, hold }));
            }
            Action::Publish { tenancy, sequence } => {
                self.soon(Happening::Accept { process, partition, tenancy, sequence });
            }
            Action::Over(why) => say!(self, "h{host} p{partition} is over: {why}"),
        }
    }

    fn request(&mut self, process: Process, partition: usize, serial: u64, request: &Request) {
        let host = process.0;
        let store = &mut self.stores[partition];
        let (reply, write) = store.apply(host, request, self.rules, self.now);
        say!(self, "store p{partition}: {request:?} of h{host}: {reply:?}");
        if let (Request::Commit { condition: Some(1..), generation, .. }, Reply::Conflict) = (request, &reply) {
            let store = &self.stores[partition];
            let rightful = store.ownership.owner == Some(host) && store.ownership.generation == *generation;
            self.beaten += usize::from(rightful && store.checkpoint.generation.is_some_and(|g| g < *generation));
        }
        if let Some(write) = write {
            let foreign = self.weather.mood == Mood::Foreign;
            if let Err(violation) = self.histories[partition].check(&write, foreign) {
                self.violation = Some(violation);
            }
        }
        let clear = self.is_clear();
        if !self.weather.loses(&mut self.rng, clear) {
            let answer = Input::Answer { serial, reply: Some(reply) };
            self.soon(Happening::Input(process, partition, answer));
        }
    }

    fn trouble(&mut self) {
        self.at(self.now + self.weather.pause, Happening::Trouble);
        if self.is_clear() {
            return self.mend();
        }
        let Some(trouble) = self.weather.troubles().choose(&mut self.rng).copied() else { return };
        let partition = self.rng.random_range(0..self.weather.partitions);
        let host = self.rng.random_range(0..self.hosts.len());
        say!(self, "trouble: {trouble:?} (h{host}, p{partition})");
        match trouble {
            Trouble::Steal => self.steal(host, partition),
            Trouble::Drain => self.input_if_up(host, partition, Input::Drain),
            Trouble::Leave => self.hosts[host].draining |= host > 0,
            Trouble::Crash => {
                if self.hosts[host].up {
                    self.crash(host);
                    let at = self.now + below(&mut self.rng, self.weather.expiry);
                    self.at(at, Happening::Start(host));
                }
            }
            Trouble::Freeze => {
                let until = self.now + below(&mut self.rng, self.weather.expiry * 2);
                self.hosts[host].frozen = until.max(self.hosts[host].frozen);
                self.at(self.hosts[host].frozen, Happening::Thaw(host));
            }
            Trouble::DropLink => self.drop_link(partition),
            Trouble::StepBack => self.step_back(partition),
            Trouble::DeleteOwnership => self.stores[partition].forget_owner(),
            Trouble::ForeignCommit => {
                let newest = self.brokers[partition].newest;
                let from = self.stores[partition].checkpoint.sequence;
                if from < newest {
                    let sequence = self.rng.random_range(from + 1..=newest);
                    self.stores[partition].foreign_commit(sequence);
                }
            }
        }
    }

    /// Without a fleet's rules, somebody has to take what nobody has.
    fn mend(&mut self) {
        for partition in 0..self.weather.partitions {
            let idle = |h: &Host| h.machines[partition].phase == Phase::Idle;
            if !self.weather.mood.is_fleet() && self.hosts.iter().all(idle) {
                let host = self.rng.random_range(0..self.hosts.len());
                self.steal(host, partition);
            }
        }
        for host in 0..self.hosts.len() {
            self.start(host);
        }
    }

    fn steal(&mut self, host: usize, partition: usize) {
        let store = &self.stores[partition];
        let claim = Input::Claim { expected: store.ownership.etag, seen: store.checkpoint.clone() };
        let process = (host, self.hosts[host].life);
        self.soon(Happening::Input(process, partition, claim));
    }

    pub(super) fn input_if_up(&mut self, host: usize, partition: usize, input: Input) {
        let process = (host, self.hosts[host].life);
        if self.lives(process) && self.hosts[host].frozen <= self.now {
            self.input(process, partition, input);
        }
    }
}

pub(super) fn owner(host: usize) -> OwnerId {
    OwnerId::from(format!("h{host}").as_str())
}

pub(super) fn partition_id(partition: usize) -> PartitionId {
    PartitionId::from(partition.to_string().as_str())
}
