//! A host's cycle of balancing: it gives its sign, lists, and does what the balancer says.

use std::collections::BTreeSet;

use rand::Rng;

use super::machine::{Input, Phase};
use super::store::Request;
use super::world::{Happening, Process, World, owner, partition_id, say};
use crate::balance::{Here, Part, Presence, Record, Snapshot};
use crate::lease::Moment;
use crate::model::ETag;

impl World {
    pub(super) fn cycle(&mut self, process: Process) {
        let host = process.0;
        let pause = self.weather.tick * self.rng.random_range(80..130) / 10;
        self.at(self.now + pause, Happening::Cycle(process));
        self.give_sign(process);
        let state = &mut self.hosts[host];
        if state.draining && state.machines.iter().all(|m| m.phase == Phase::Idle) {
            say!(self, "h{host} has left");
            self.hosts[host].up = false;
            self.hosts[host].life += 1;
            self.hosts[host].sign = (0, Moment::ZERO);
            return;
        }
        if state.draining {
            return (0..self.weather.partitions).for_each(|partition| self.input(process, partition, Input::Drain));
        }
        let running = self.hosts[host].machines.iter().enumerate().filter(|(_, m)| is_claimed(m.phase));
        let running = running.map(|(partition, m)| (partition, m.tenancy)).collect();
        if !self.weather.loses(&mut self.rng, self.now >= self.weather.clears) {
            self.soon(Happening::List(process, running));
        }
    }

    /// In exclusive mode a sign is a write like any other: it may be late or lost, and counts from when it was sent.
    fn give_sign(&mut self, process: Process) {
        if !self.weather.exclusive {
            return self.sign(process.0);
        }
        let sent = self.now + self.hosts[process.0].ahead;
        if !self.weather.loses(&mut self.rng, self.now >= self.weather.clears) {
            self.soon(Happening::Sign(process, sent));
        }
    }

    /// A sign is written.
    pub(super) fn signed(&mut self, process: Process, sent: Moment) {
        // A later process of the name has another condition.
        if process.1 != self.hosts[process.0].life {
            return;
        }
        self.sign(process.0);
        if !self.weather.loses(&mut self.rng, self.now >= self.weather.clears) {
            for partition in 0..self.weather.partitions {
                self.soon(Happening::Input(process, partition, Input::Signed { sent }));
            }
        }
    }

    pub(super) fn list(&mut self, process: Process, running: BTreeSet<(usize, u64)>) {
        let records = self.stores.iter().enumerate().filter(|(_, store)| store.ownership.etag > 0);
        let records = records.map(|(partition, store)| Record {
            partition: partition_id(partition),
            owner: store.ownership.owner.map(owner),
            etag: ETag(store.ownership.etag.to_string()),
            age: Some(self.now - store.ownership.written),
        });
        let records = records.collect();
        self.soon(Happening::Listed(process, running, records));
    }

    /// `running`: what ran, and in which tenancy, when the listing was asked for. Of the others it says nothing.
    pub(super) fn listed(&mut self, process: Process, running: &BTreeSet<(usize, u64)>, records: &[Record]) {
        let host = process.0;
        let hosts = self.hosts.iter().enumerate().filter(|(_, h)| h.sign.0 > 0);
        let hosts: Vec<Presence> = hosts
            .map(|(i, h)| Presence {
                owner: owner(i),
                part: if h.draining { Part::Nothing } else { h.balancer.part() },
                etag: ETag(h.sign.0.to_string()),
                age: Some(self.now - h.sign.1),
            })
            .collect();
        let now = self.now + self.hosts[host].ahead;
        let (mut here, mut avoid) = (std::collections::BTreeMap::new(), BTreeSet::new());
        for (partition, machine) in self.hosts[host].machines.iter().enumerate() {
            let id = partition_id(partition);
            if is_claimed(machine.phase) && running.contains(&(partition, machine.tenancy)) {
                let leaving = machine.is_draining() || machine.phase == Phase::Releasing;
                here.insert(id, if leaving { Here::Leaving } else { Here::Running });
            } else if machine.phase != Phase::Idle {
                avoid.insert(id);
            }
        }
        let partitions: Vec<_> = (0..self.weather.partitions).map(partition_id).collect();
        let snapshot = Snapshot { now, partitions: &partitions, records, hosts: &hosts, here: &here, avoid: &avoid };
        let decision = self.hosts[host].balancer.step(&snapshot);
        let place = |id: &crate::model::PartitionId| partitions.iter().position(|p| p == id).unwrap_or_default();
        let number = |etag: &ETag| etag.0.parse().unwrap_or_default();
        for (id, how) in &decision.lost {
            say!(self, "h{host} p{id} is lost: {how:?}");
            self.input(process, place(id), Input::Lost);
        }
        for release in &decision.release {
            say!(self, "h{host} p{} is to be released", release.partition);
            let partition = place(&release.partition);
            if release.running {
                self.input(process, partition, Input::Drain);
            } else {
                let request = Request::Release(Some(number(&release.expected)));
                self.soon(Happening::Request(process, partition, 0, request));
            }
        }
        for claim in decision.claim.iter().chain(&decision.steal) {
            say!(self, "h{host} claims p{} ({:?})", claim.partition, claim.why);
            let partition = place(&claim.partition);
            let seen = self.stores[partition].checkpoint.clone();
            let expected = claim.expected.as_ref().map_or(0, number);
            self.input(process, partition, Input::Claim { expected, seen });
        }
    }
}

fn is_claimed(phase: Phase) -> bool {
    !matches!(phase, Phase::Idle | Phase::Claiming)
}
