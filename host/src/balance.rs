//! Decides how the hosts of a fleet share the partitions of a hub. Pure: a snapshot comes in, a decision goes out; nothing
//! here reads a store, a clock or a random number.
//!
//! Nobody coordinates. Every host looks at the same records and computes the same, and a claim is a conditional write,
//! so two that decide differently cost each other a cycle, never a partition. The rules, in the order of their use:
//!
//! - **Quota**: an even share for everyone present, see [`quota`]. A host counts as soon as it says that it is there,
//!   before it owns anything.
//! - **Release first**: who has too much gives up what it has too much, drained and committed; who has too little claims
//!   what is free. Hosts that are well move partitions only so, and no event is processed twice for it. What is free is
//!   dealt out: those that lack something take it in the order of their names, so that no two claim the same.
//! - **Guards**, for when somebody doesn't do his part: what lay claimable for [`LINGERING`] cycles goes to anybody up to
//!   one above the floor; for [`ORPHANED`] cycles, to anybody. Who has let claimable partitions lie for [`IGNORED`]
//!   cycles doesn't count any more for what he lacks. One partition a cycle is stolen, by a host that was below its floor
//!   for [`STARVED`] cycles, from an owner that knows no release (another SDK) or hasn't made one for [`STUCK`] cycles.
//! - **Liveness** by two clocks, see [`watch`]: the store's, and this host's own. Never by anybody's wall clock.
//! - **Restart**: records in this host's own name that it doesn't run are claimed again at once.
//!
//! A [`Balancer`] belongs to one processor on one host and lives as long as the process: the guards count its cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lease::Moment;
use crate::model::{ETag, OwnerId, PartitionId};

mod board;
#[cfg(test)]
mod convergence;
#[cfg(test)]
mod fleet;
mod memory;
mod quota;
#[cfg(test)]
mod rivals;
mod share;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
mod watch;

use board::{Board, Sights};
use memory::Memory;

/// Cycles that a partition must have been claimable before a host above its quota takes it. Less, and two hosts that see
/// each other a moment too late take what the other was about to.
const LINGERING: u32 = 2;
/// Cycles after which anybody takes it, whatever its quota: an unread partition is worse than an uneven fleet.
const ORPHANED: u32 = 6;
/// Cycles in which a host may ignore claimable partitions before it stops counting for what it lacks. No less than
/// [`ORPHANED`], or hosts that are merely slow would be passed over.
const IGNORED: u32 = 6;
/// Cycles that a host must have been below the floor before it steals. Other SDKs need some to see a newcomer.
const STARVED: u32 = 3;
/// Cycles in which one of our hosts may hold too much without giving anything up before it is stolen from. A drain takes
/// as long as the guest takes for what it holds.
const STUCK: u32 = 6;

/// What is fixed for one processor on one host.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Age at which a record that nobody renews is abandoned; the same on all hosts.
    pub(crate) expiry: Duration,
    /// Most partitions that this host runs.
    pub(crate) most: Option<usize>,
    /// Run exactly these, and take no part in the sharing.
    pub(crate) assignment: Option<BTreeSet<PartitionId>>,
    /// One heartbeat per host stands for all of its records. Only for groups that nobody else uses.
    pub(crate) exclusive: bool,
}

/// How a host takes part. It says so in its presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// An even share, within its limit.
    Fair {
        /// Most partitions that it takes.
        most: Option<usize>,
    },
    /// What its configuration lists. What it holds is not shared.
    Fixed,
    /// Nothing more: it is leaving. What it still holds is to be shared among the others.
    Nothing,
}

/// What is known at one moment. Listings and claims of one processor must take turns: a snapshot that is older than a
/// claim of ours calls the claimed partition lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot<'a> {
    /// When the listing was asked for, on this host's clock.
    pub(crate) now: Moment,
    /// The hub's partitions. Records of others are ignored.
    pub(crate) partitions: &'a [PartitionId],
    /// Ownership records.
    pub(crate) records: &'a [Record],
    /// Presence of our hosts, old ones included.
    pub(crate) hosts: &'a [Presence],
    /// What runs on this host.
    pub(crate) here: &'a BTreeMap<PartitionId, Here>,
    /// What this host doesn't begin to run now: it failed here, or waits for its next attempt.
    pub(crate) avoid: &'a BTreeSet<PartitionId>,
}

/// An ownership record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// `None` or empty: released.
    pub(crate) owner: Option<OwnerId>,
    /// The condition for changing it.
    pub(crate) etag: ETag,
    /// Since it was written, by the store's clock alone (`Date` − `Last-Modified`); `None` where a store has none.
    pub(crate) age: Option<Duration>,
}

/// A host's sign of life.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Presence {
    /// The host.
    pub(crate) owner: OwnerId,
    /// What it wants.
    pub(crate) part: Part,
    /// Changes with every sign.
    pub(crate) etag: ETag,
    /// Since the last sign, by the store's clock alone.
    pub(crate) age: Option<Duration>,
}

/// How a partition stands on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// It runs.
    Running,
    /// It drains, to be released.
    Leaving,
}

/// What to do. No partition is named twice.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    /// To stop at once, without a commit: the tenancy is over.
    pub(crate) lost: Vec<(PartitionId, Lost)>,
    /// To drain, commit and release.
    pub(crate) release: Vec<Release>,
    /// To claim: nobody has it.
    pub(crate) claim: Vec<Claim>,
    /// To claim although somebody has it.
    pub(crate) steal: Option<Claim>,
    /// What to show.
    pub(crate) view: View,
}

/// A partition to give up.
#[derive(Debug, PartialEq)]
pub(crate) struct Release {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// Without a pump there is nothing to drain: it is a record of an earlier process.
    pub(crate) running: bool,
    /// The record as it was seen.
    pub(crate) expected: ETag,
}

/// A claim to make.
#[derive(Debug, PartialEq)]
pub(crate) struct Claim {
    /// The partition.
    pub(crate) partition: PartitionId,
    /// The condition; `None`: there must be no record.
    pub(crate) expected: Option<ETag>,
    /// Who had it last, if that wasn't this host.
    pub(crate) from: Option<OwnerId>,
    /// The rule.
    pub(crate) why: Why,
}

/// The rule behind a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is within the quota.
    Quota,
    /// The record is in this host's name, from before a restart.
    Restart,
    /// The configuration lists it.
    Listed,
    /// Whoever should take it doesn't.
    Lingering,
    /// Nobody takes it.
    Orphaned,
    /// This host has too little, and the owner doesn't give up what it has too much.
    Starved,
}

/// How a partition that runs here was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Somebody has taken it.
    To(OwnerId),
    /// Somebody has released it.
    Released,
    /// Somebody has deleted the record.
    Deleted,
}

/// For the status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Whether there is something to do for this host.
    pub(crate) role: Role,
    /// Partitions that it should have.
    pub(crate) quota: usize,
    /// Partitions in its name.
    pub(crate) held: usize,
    /// Hosts that count, this one included.
    pub(crate) hosts: usize,
    /// Partitions that nobody has.
    pub(crate) claimable: usize,
    /// Owners that aren't ours.
    pub(crate) foreign: Vec<OwnerId>,
    /// Listed in the configuration, but not in the hub.
    pub(crate) absent: Vec<PartitionId>,
}

/// What a host is to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has partitions, or will.
    Active,
    /// Others have them all; it takes over when one of them goes.
    Standby,
}

/// Decides for one processor on one host, and remembers what the guards need.
#[derive(Debug)]
pub(crate) struct Balancer {
    owner: OwnerId,
    settings: Settings,
    sights: Sights,
    memory: Memory,
}

impl Balancer {
    pub(crate) fn new(owner: OwnerId, settings: Settings) -> Self {
        Self { owner, settings, sights: Sights::new(), memory: Memory::default() }
    }

    /// What this host's presence is to say until it leaves.
    pub(crate) fn part(&self) -> Part {
        match &self.settings.assignment {
            Some(_) => Part::Fixed,
            None => Part::Fair { most: self.settings.most },
        }
    }

    /// One cycle.
    pub(crate) fn step(&mut self, snapshot: &Snapshot<'_>) -> Decision {
        let part = self.part();
        self.sights.look(snapshot);
        let board = Board::read(&self.owner, part, snapshot, &self.sights, &self.settings);
        let shares = share::quotas(&board, &self.memory);
        let listed = self.settings.assignment.as_ref();
        let plan = match listed {
            Some(listed) => share::keep_to(&board, listed),
            None => share::plan(&board, &self.memory, &shares, self.settings.most.unwrap_or(usize::MAX)),
        };
        self.memory.cycle(&board, &shares, &plan);
        let held = board.held(board.me);
        let quota = match listed {
            Some(listed) => board.slots.iter().filter(|s| listed.contains(s.id)).count(),
            None => shares.of(board.me),
        };
        let idle = held == 0 && plan.claim.is_empty() && plan.steal.is_none();
        let role = if idle && (quota == 0 || listed.is_some()) { Role::Standby } else { Role::Active };
        let known: BTreeSet<&PartitionId> = snapshot.partitions.iter().collect();
        let view = View {
            role,
            quota,
            held,
            hosts: board.members.len(),
            claimable: board.claimable().count(),
            foreign: board.members.iter().filter(|m| m.foreign).map(|m| m.owner.clone()).collect(),
            absent: listed.into_iter().flatten().filter(|id| !known.contains(id)).cloned().collect(),
        };
        Decision { lost: lost(&board), release: plan.release, claim: plan.claim, steal: plan.steal, view }
    }
}

/// What runs here in somebody else's name, or in nobody's.
fn lost(board: &Board<'_>) -> Vec<(PartitionId, Lost)> {
    let running = board.slots.iter().filter(|slot| slot.here.is_some() && slot.holder != Some(board.me));
    let lost = running.filter_map(|slot| {
        let how = match slot.record {
            None => Lost::Deleted,
            Some(record) => match record.owner.as_ref().filter(|owner| !board::name(owner).is_empty()) {
                Some(owner) => Lost::To(owner.clone()),
                // Its release may have just been written.
                None if slot.here == Some(Here::Leaving) => return None,
                None => Lost::Released,
            },
        };
        Some((slot.id.clone(), how))
    });
    lost.collect()
}
