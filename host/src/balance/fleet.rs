//! A fleet in rounds: hosts of ours with their balancers, hosts that follow an SDK's rule, and a store that compares ETags.
//!
//! A round is one cycle of every host, in random order: all on the same listing (`concurrent`), or each on what the one
//! before left. Claims are conditional, a release takes as many rounds as its drain, who is down renews nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that finds something else than it expects has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::rivals::Rule;
use super::table::{SECOND, ids, settings};
use super::*;

pub(super) const ROUND: Duration = Duration::from_secs(10);

/// Whom an SDK may take for the owner of what was released.
const NOBODY: usize = usize::MAX;

pub(super) struct Fleet {
    pub(super) hosts: Vec<Host>,
    pub(super) concurrent: bool,
    /// Our hosts renew nothing: their presence stands for it.
    pub(super) exclusive: bool,
    /// Most rounds that a drain takes.
    pub(super) drain: u32,
    /// Partitions taken from a host that was up.
    pub(super) steals: usize,
    /// Everything that was done, in order.
    pub(super) story: Vec<String>,
    partitions: Vec<PartitionId>,
    records: Vec<Blob>,
    /// The store's clock.
    now: Duration,
    writes: u64,
    rng: SmallRng,
}

/// A blob, as far as the rules care.
#[derive(Clone)]
struct Blob {
    owner: Option<usize>,
    write: u64,
    at: Duration,
}

pub(super) struct Host {
    pub(super) owner: OwnerId,
    pub(super) life: Life,
    pub(super) draining: bool,
    /// What its clock shows more than the store's.
    pub(super) ahead: Duration,
    pub(super) most: Option<usize>,
    pub(super) avoid: BTreeSet<PartitionId>,
    mind: Mind,
    beat: (u64, Duration),
    leaving: BTreeMap<usize, u32>,
    running: BTreeSet<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Up,
    /// It says that it is there, and does nothing.
    Hung,
    Down,
}

enum Mind {
    Ours(Box<Balancer>),
    Rival(Rule),
}

impl Fleet {
    /// Nobody owns anything yet, nobody is there.
    pub(super) fn new(partitions: usize, seed: u64) -> Self {
        let free = Blob { owner: None, write: 0, at: Duration::ZERO };
        Self {
            hosts: Vec::new(),
            concurrent: true,
            exclusive: false,
            drain: 0,
            steals: 0,
            story: Vec::new(),
            partitions: ids(partitions),
            records: vec![free; partitions],
            now: Duration::from_secs(1_000_000),
            writes: 0,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// One more host of ours. Its presence is there before its first round.
    pub(super) fn join(&mut self, most: Option<usize>) -> usize {
        let settings = Settings { most, exclusive: self.exclusive, ..settings() };
        let owner = OwnerId::from(format!("h{:02}", self.hosts.len()).as_str());
        let balancer = Box::new(Balancer::new(owner.clone(), settings));
        self.add(owner, most, Mind::Ours(balancer))
    }

    pub(super) fn join_rival(&mut self, rule: Rule) -> usize {
        self.add(OwnerId::from(format!("r{:02}", self.hosts.len()).as_str()), None, Mind::Rival(rule))
    }

    fn add(&mut self, owner: OwnerId, most: Option<usize>, mind: Mind) -> usize {
        self.hosts.push(Host {
            owner,
            life: Life::Up,
            draining: false,
            ahead: Duration::from_secs(400),
            most,
            avoid: BTreeSet::new(),
            mind,
            beat: (0, self.now),
            leaving: BTreeMap::new(),
            running: BTreeSet::new(),
        });
        self.hosts.len() - 1
    }

    /// Puts a partition into a host's hands.
    pub(super) fn give(&mut self, partition: usize, host: Option<usize>) {
        if let Some(old) = self.records[partition].owner {
            self.hosts[old].running.remove(&partition);
        }
        self.write(partition, host);
        if let Some(host) = host {
            self.hosts[host].running.insert(partition);
        }
    }

    pub(super) fn owners(&self) -> Vec<Option<usize>> {
        self.records.iter().map(|r| r.owner).collect()
    }

    /// Every partition is read by a host that is up, and none of those without a limit has two more than another.
    pub(super) fn is_even(&self) -> bool {
        let mut held = vec![0usize; self.hosts.len()];
        for owner in self.owners() {
            match owner.filter(|o| self.hosts[*o].life == Life::Up && !self.hosts[*o].draining) {
                Some(owner) => held[owner] += 1,
                None => return false,
            }
        }
        let up = self.hosts.iter().zip(held).filter(|(h, _)| h.life == Life::Up && !h.draining);
        let (full, rest): (Vec<_>, Vec<_>) = up.partition(|(h, held)| h.most.is_some_and(|most| *held >= most));
        let least = rest.iter().map(|(_, held)| *held).min();
        let most = rest.iter().chain(&full).map(|(_, held)| *held).max();
        full.iter().all(|(h, held)| h.most == Some(*held)) && least.zip(most).is_none_or(|(l, m)| m - l <= 1)
    }

    /// Rounds until it is even and no drain is under way, which would make it uneven again; fails after `within`.
    pub(super) fn settle(&mut self, within: usize) -> usize {
        for round in 1..=within {
            self.round();
            if self.is_even() && self.hosts.iter().all(|host| host.life != Life::Up || host.leaving.is_empty()) {
                return round;
            }
        }
        panic!("not even after {within} rounds:\n{}", self.story.join("\n"));
    }

    /// Nothing may move for so many rounds.
    pub(super) fn rest(&mut self, rounds: usize) {
        let before = self.story.len();
        for _ in 0..rounds {
            self.round();
        }
        assert!(self.story.len() == before, "it doesn't come to rest:\n{}", self.story.join("\n"));
    }

    /// One cycle of everybody; the number of things that were done.
    pub(super) fn round(&mut self) -> usize {
        let before = self.story.len();
        self.now += ROUND;
        for i in 0..self.hosts.len() {
            if self.hosts[i].life != Life::Down {
                self.writes += 1;
                self.hosts[i].beat = (self.writes, self.now);
            }
        }
        let mut order: Vec<usize> = (0..self.hosts.len()).filter(|i| self.hosts[*i].life == Life::Up).collect();
        order.shuffle(&mut self.rng);
        let mut listing = self.list();
        let mut listed_at = self.writes;
        for host in order {
            if !self.concurrent && self.writes != listed_at {
                listing = self.list();
                listed_at = self.writes;
            }
            match self.hosts[host].mind {
                Mind::Ours(_) => self.ours(host, &listing),
                Mind::Rival(rule) => self.rival(host, rule),
            }
        }
        self.drains();
        self.renewals();
        self.story.len() - before
    }

    fn write(&mut self, partition: usize, owner: Option<usize>) {
        self.writes += 1;
        self.records[partition] = Blob { owner, write: self.writes, at: self.now };
    }

    fn list(&self) -> Vec<Record> {
        let record = |(id, blob): (&PartitionId, &Blob)| {
            (blob.write > 0).then(|| Record {
                partition: id.clone(),
                owner: blob.owner.map(|o| self.hosts[o].owner.clone()),
                etag: ETag(blob.write.to_string()),
                age: Some(self.now - blob.at),
            })
        };
        self.partitions.iter().zip(&self.records).filter_map(record).collect()
    }

    /// Who leaves decides nothing any more: everything goes.
    fn leave(&mut self, me: usize) {
        for p in self.hosts[me].running.clone() {
            let rounds = self.rng.random_range(0..=self.drain);
            if let std::collections::btree_map::Entry::Vacant(place) = self.hosts[me].leaving.entry(p) {
                place.insert(rounds);
                self.story.push(format!("h{me} gives up {p}"));
            }
        }
        if self.drain == 0 {
            self.drains_of(me);
        }
    }

    fn ours(&mut self, me: usize, listing: &[Record]) {
        if self.hosts[me].draining {
            return self.leave(me);
        }
        let present = self.hosts.iter().filter_map(|host| match &host.mind {
            Mind::Ours(balancer) => Some(Presence {
                owner: host.owner.clone(),
                part: if host.draining { Part::Nothing } else { balancer.part() },
                etag: ETag(host.beat.0.to_string()),
                age: Some(self.now - host.beat.1),
            }),
            Mind::Rival(_) => None,
        });
        let present: Vec<Presence> = present.collect();
        let host = &mut self.hosts[me];
        let here = host.running.iter().map(|p| {
            let state = if host.leaving.contains_key(p) { Here::Leaving } else { Here::Running };
            (self.partitions[*p].clone(), state)
        });
        let snapshot = Snapshot {
            now: self.now - Duration::from_secs(900_000) + host.ahead,
            partitions: &self.partitions,
            records: listing,
            hosts: &present,
            here: &here.collect(),
            avoid: &host.avoid,
        };
        let Mind::Ours(balancer) = &mut host.mind else { return };
        let decision = balancer.step(&snapshot);
        let place = |id: &PartitionId| id.as_str().parse::<usize>().unwrap();
        let mut named = BTreeSet::new();
        let steal = decision.steal.iter().map(|c| &c.partition);
        for id in decision.claim.iter().map(|c| &c.partition).chain(decision.release.iter().map(|r| &r.partition)) {
            assert!(named.insert(id), "{id} is named twice: {decision:?}");
        }
        assert!(steal.into_iter().all(|id| named.insert(id)));
        for (id, how) in &decision.lost {
            let p = place(id);
            self.hosts[me].running.remove(&p);
            self.hosts[me].leaving.remove(&p);
            self.story.push(format!("h{me} has lost {id}: {how:?}"));
        }
        for release in &decision.release {
            let rounds = self.rng.random_range(0..=self.drain);
            self.hosts[me].leaving.insert(place(&release.partition), rounds);
            self.story.push(format!("h{me} gives up {}", release.partition));
        }
        if self.drain == 0 {
            self.drains_of(me);
        }
        for claim in decision.claim.iter().chain(&decision.steal) {
            let (p, why) = (place(&claim.partition), claim.why);
            let blob = &self.records[p];
            let seen = claim.expected.as_ref().map_or(0, |etag| etag.0.parse().unwrap());
            if blob.write != seen {
                self.story.push(format!("h{me} is too late for {p} ({why:?})"));
                continue;
            }
            if why == Why::Starved && blob.owner.is_some_and(|o| self.hosts[o].life == Life::Up) {
                self.steals += 1;
            }
            self.write(p, Some(me));
            self.hosts[me].running.insert(p);
            self.story.push(format!("h{me} has {p} ({why:?})"));
        }
    }

    /// Rivals don't compare with what is known to be newer: each pass sees the store as it is.
    fn rival(&mut self, me: usize, rule: Rule) {
        for _ in 0..=self.records.len() {
            let nobody = rule.takes_nobody_for_a_host().then_some(NOBODY);
            let fresh = |blob: &Blob| {
                let written = blob.write > 0 && self.now - blob.at < 60 * SECOND;
                blob.owner.or(nobody).filter(|_| written)
            };
            let owners: Vec<Option<usize>> = self.records.iter().map(fresh).collect();
            let mut took = false;
            for p in rule.pass(&owners, me, &mut self.rng) {
                if owners[p] != Some(me) {
                    self.steals += usize::from(owners[p].is_some_and(|owner| owner != NOBODY));
                    self.write(p, Some(me));
                    self.story.push(format!("r{me} has {p} ({rule:?}, from {:?})", owners[p]));
                    took = true;
                }
            }
            if !took || !rule.repeats() {
                return;
            }
        }
    }

    fn drains(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].life == Life::Up {
                self.drains_of(host);
            }
        }
    }

    fn drains_of(&mut self, host: usize) {
        let leaving = std::mem::take(&mut self.hosts[host].leaving);
        for (p, rounds) in leaving {
            if rounds > 0 {
                self.hosts[host].leaving.insert(p, rounds - 1);
                continue;
            }
            self.hosts[host].running.remove(&p);
            if self.records[p].owner == Some(host) {
                self.write(p, None);
                self.story.push(format!("h{host} has released {p}"));
            }
        }
    }

    /// Ours renew every other round, as they are due after 20 s.
    fn renewals(&mut self) {
        for p in 0..self.records.len() {
            let Some(owner) = self.records[p].owner else { continue };
            let host = &self.hosts[owner];
            let due = match host.mind {
                Mind::Ours(_) => {
                    !self.exclusive && host.running.contains(&p) && self.now - self.records[p].at >= 20 * SECOND
                }
                Mind::Rival(_) => true,
            };
            if due && host.life == Life::Up {
                self.write(p, Some(owner));
            }
        }
    }
}
