//! Whether a host has all partitions to itself or shares them with a fleet: turns what a store lists into what is to be done.
//!
//! Alone, everything that isn't here is claimed: the lock of the directory store, or whoever embeds the host, sees to it that no
//! second host is at it. In a fleet the [`Balancer`] decides, cycle by cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::{self, Balancer, Here, Settings, Snapshot, View};
use crate::claim::{self, Claim};
use crate::lease::Terms;
use crate::model::{ETag, Generation, Incarnation, OwnerId, PartitionId};
use crate::options::Fleet;
use crate::seams::{HostRecord, Listing, Part, PartitionRecord, Presence};

/// Parts of the expiry that a cycle takes, so that a dead host is noticed within the expiry and two cycles.
const CYCLES: u32 = 6;
/// A cycle takes between this share of its time and [`LONGEST`]: hosts that began together drift apart.
const SHORTEST: f64 = 0.8;
const LONGEST: f64 = 1.3;

/// The time from one cycle to the next, with `chance` in 0..1.
pub(crate) fn cycle(terms: Terms, chance: f64) -> Duration {
    (terms.expiry / CYCLES).mul_f64(SHORTEST + (LONGEST - SHORTEST) * chance)
}

/// How the partitions of a processor are shared.
pub(crate) enum Sharing {
    /// All of them are for this host.
    Alone,
    /// With other hosts.
    Fleet(Box<Member>),
}

/// This host in its fleet.
pub(crate) struct Member {
    owner: OwnerId,
    terms: Terms,
    most: Option<usize>,
    exclusive: bool,
    balancer: Balancer,
    began: Instant,
}

/// What to do in a cycle.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) claims: Vec<Claim>,
    /// To be drained and released.
    pub(crate) releases: Vec<PartitionId>,
    /// Records in this host's name that nothing runs under, from before a restart: to be released as they are.
    pub(crate) leftovers: Vec<Leftover>,
    /// Not ours any more, and to whom.
    pub(crate) lost: Vec<(PartitionId, String)>,
    pub(crate) view: Option<View>,
}

/// A record to be released.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) partition: PartitionId,
    pub(crate) generation: Generation,
    pub(crate) ownership: ETag,
}

/// How the partitions stand on this host.
#[derive(Default)]
pub(crate) struct Stand {
    pub(crate) partitions: Vec<PartitionId>,
    /// To be claimed now, if nobody else has them.
    pub(crate) wanted: Vec<PartitionId>,
    /// Not to be begun now.
    pub(crate) avoid: BTreeSet<PartitionId>,
    pub(crate) here: BTreeMap<PartitionId, Here>,
}

impl Sharing {
    pub(crate) fn new(owner: &OwnerId, fleet: Option<&Fleet>) -> Self {
        let Some(fleet) = fleet else { return Self::Alone };
        let assignment = fleet.assignment.as_ref().map(|ids| ids.iter().cloned().collect());
        let settings = Settings { expiry: fleet.expiry, most: fleet.most, assignment, exclusive: fleet.exclusive };
        Self::Fleet(Box::new(Member {
            owner: owner.clone(),
            terms: Terms::of(fleet.expiry),
            most: fleet.most,
            exclusive: fleet.exclusive,
            balancer: Balancer::new(owner.clone(), settings),
            began: Instant::now(),
        }))
    }

    /// The times of an ownership, if it has to be renewed.
    pub(crate) fn terms(&self) -> Option<Terms> {
        match self {
            Self::Alone => None,
            Self::Fleet(member) => Some(member.terms),
        }
    }

    /// How long until the next cycle, with `chance` in 0..1. `None`: only when there is something to do.
    pub(crate) fn pause(&self, chance: f64) -> Option<Duration> {
        self.terms().map(|terms| cycle(terms, chance))
    }

    /// What the other hosts are to be told, if there are any.
    pub(crate) fn presence(&self, incarnation: Incarnation) -> Option<Presence> {
        let Self::Fleet(member) = self else { return None };
        Some(Presence {
            owner: member.owner.clone(),
            incarnation: Some(incarnation),
            exclusive: member.exclusive,
            part: part(member.balancer.part()),
            capacity: member.most.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            wanted: 1,
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    /// Whether a sign of life of this host stands for all of its ownerships.
    pub(crate) fn is_exclusive(&self) -> bool {
        matches!(self, Self::Fleet(member) if member.exclusive)
    }

    /// Decides. `asked`: when the listing was asked for.
    pub(crate) fn plan(&mut self, owner: &OwnerId, listing: &Listing, stand: &Stand, asked: Instant) -> Plan {
        match self {
            Self::Alone => {
                let claims = claim::plan(owner, &stand.wanted, &listing.partitions);
                Plan { claims, ..Plan::default() }
            }
            Self::Fleet(member) => member.plan(listing, stand, asked),
        }
    }
}

impl Member {
    fn plan(&mut self, listing: &Listing, stand: &Stand, asked: Instant) -> Plan {
        let records: Vec<_> = listing.partitions.iter().filter_map(record).collect();
        let hosts: Vec<_> = listing.hosts.iter().map(host).collect();
        let decision = self.balancer.step(&Snapshot {
            now: asked.duration_since(self.began),
            partitions: &stand.partitions,
            records: &records,
            hosts: &hosts,
            here: &stand.here,
            avoid: &stand.avoid,
        });
        let claims = decision.claim.into_iter().chain(decision.steal).map(|claim| Claim {
            taken_over: claim.from.is_some(),
            partition: claim.partition,
            expected: claim.expected,
        });
        let lost = decision.lost.into_iter().map(|(id, how)| {
            let why = match how {
                balance::Lost::To(owner) => format!("{owner} has taken the partition"),
                balance::Lost::Released => "somebody has released it".into(),
                balance::Lost::Deleted => "its ownership record was deleted".into(),
            };
            (id, why)
        });
        let (running, idle): (Vec<_>, Vec<_>) = decision.release.into_iter().partition(|release| release.running);
        let releases = running.into_iter().map(|release| release.partition).collect();
        let leftovers = idle.into_iter().map(|release| leftover(listing, release)).collect();
        Plan { claims: claims.collect(), lost: lost.collect(), releases, leftovers, view: Some(decision.view) }
    }
}

fn leftover(listing: &Listing, release: balance::Release) -> Leftover {
    let record = listing.partitions.iter().find(|record| record.partition == release.partition);
    let generation = record.and_then(|record| record.ownership.as_ref()).map_or(0, |ownership| ownership.generation);
    Leftover { partition: release.partition, generation, ownership: release.expected }
}

fn record(record: &PartitionRecord) -> Option<balance::Record> {
    let ownership = record.ownership.as_ref()?;
    Some(balance::Record {
        partition: record.partition.clone(),
        owner: ownership.owner.clone(),
        etag: ownership.etag.clone(),
        age: ownership.age,
    })
}

fn host(host: &HostRecord) -> balance::Presence {
    let most = host.presence.capacity.map(|capacity| usize::try_from(capacity).unwrap_or(usize::MAX));
    balance::Presence {
        owner: host.presence.owner.clone(),
        part: match host.presence.part {
            Part::Fair => balance::Part::Fair { most },
            Part::Fixed => balance::Part::Fixed,
            Part::Leaving => balance::Part::Nothing,
        },
        etag: host.etag.clone(),
        age: host.age,
    }
}

fn part(part: balance::Part) -> Part {
    match part {
        balance::Part::Fair { .. } => Part::Fair,
        balance::Part::Fixed => Part::Fixed,
        balance::Part::Nothing => Part::Leaving,
    }
}
