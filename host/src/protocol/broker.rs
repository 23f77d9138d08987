//! The broker's side of a partition: links, which deliver in order, may be cut, and may step back.

use rand::Rng;

use super::Sequence;
use super::machine::Input;
use super::rules::Rule;
use super::weather::below;
use super::world::{Happening, Process, World, say};
use crate::lease::Moment;

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) newest: Sequence,
    pub(super) links: Vec<Link>,
    made: u64,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) process: Process,
    next: Sequence,
    /// When what was sent has arrived.
    arrived: Moment,
}

impl World {
    pub(super) fn enqueue(&mut self, partition: usize) {
        self.brokers[partition].newest += 1;
        for link in 0..self.brokers[partition].links.len() {
            self.feed(partition, link);
        }
    }

    pub(super) fn attached(&mut self, process: Process, partition: usize, attempt: u64, after: Sequence) {
        if self.rules.on(Rule::OwnerLevel) {
            for old in std::mem::take(&mut self.brokers[partition].links) {
                self.lost(partition, &old, true);
            }
        }
        let broker = &mut self.brokers[partition];
        broker.made += 1;
        let link = broker.made;
        say!(self, "h{} p{partition} attaches after {after}: link {link}", process.0);
        let arrived = self.now + below(&mut self.rng, self.weather.latency);
        self.brokers[partition].links.push(Link { id: link, process, next: after + 1, arrived });
        self.at(arrived, Happening::Input(process, partition, Input::Attached { attempt, link }));
        self.feed(partition, self.brokers[partition].links.len() - 1);
    }

    /// Sends what there is.
    fn feed(&mut self, partition: usize, link: usize) {
        let broker = &mut self.brokers[partition];
        let newest = broker.newest;
        let link = &mut broker.links[link];
        let (id, process) = (link.id, link.process);
        let mut due = Vec::new();
        while link.next <= newest {
            link.arrived = link.arrived.max(self.now) + below(&mut self.rng, self.weather.latency);
            due.push((link.arrived, Input::Event { link: id, sequence: link.next }));
            link.next += 1;
        }
        for (at, event) in due {
            self.at(at, Happening::Input(process, partition, event));
        }
    }

    fn lost(&mut self, partition: usize, link: &Link, stolen: bool) {
        let at = link.arrived.max(self.now) + below(&mut self.rng, self.weather.latency);
        self.at(at, Happening::Input(link.process, partition, Input::LinkLost { link: link.id, stolen }));
    }

    pub(super) fn drop_link(&mut self, partition: usize) {
        if let Some(link) = self.brokers[partition].links.pop() {
            self.lost(partition, &link, false);
        }
    }

    /// The link sends again what it has sent before.
    pub(super) fn step_back(&mut self, partition: usize) {
        let Some(link) = self.brokers[partition].links.last_mut() else { return };
        if link.next > 1 {
            link.next = self.rng.random_range(1..link.next);
            let last = self.brokers[partition].links.len() - 1;
            self.feed(partition, last);
        }
    }
}
