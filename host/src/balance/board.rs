//! One snapshot, read: who holds what, and who takes part.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Here, Part, Presence, Record, Settings, Snapshot};
use crate::lease::Moment;
use crate::model::{OwnerId, PartitionId};

use super::watch::Watch;

/// An owner's name, folded: a blob's path is in lower case, the metadata beside it need not be.
pub(super) type Name = String;

pub(super) fn name(owner: &OwnerId) -> Name {
    owner.as_str().trim().to_lowercase()
}

/// Everything that stays in sight from one cycle to the next.
#[derive(Debug)]
pub(super) struct Sights {
    records: Watch<PartitionId>,
    hosts: Watch<Name>,
}

impl Sights {
    pub(super) fn new() -> Self {
        Self { records: Watch::new(), hosts: Watch::new() }
    }

    pub(super) fn look(&mut self, snapshot: &Snapshot<'_>) {
        self.records.look(snapshot.now, snapshot.records.iter().map(|r| (r.partition.clone(), &r.etag)));
        self.hosts.look(snapshot.now, snapshot.hosts.iter().map(|h| (name(&h.owner), &h.etag)));
    }

    /// Whether nobody stands behind a record any more. With one heartbeat per host, the heartbeat speaks for all of its
    /// records; an owner without one still speaks by the record.
    fn is_abandoned(&self, record: &Record, heartbeat: Option<&Presence>, now: Moment, settings: &Settings) -> bool {
        let expiry = settings.expiry;
        let beats = || heartbeat.is_some_and(|h| !self.hosts.is_dead(&name(&h.owner), h.age, now, expiry));
        self.records.is_dead(&record.partition, record.age, now, expiry) && !(settings.exclusive && beats())
    }

    /// Whether a host counts. Unlike an ownership, a heartbeat that the store calls old is not waited for: nothing is
    /// taken from anybody by not counting him, and remains of earlier fleets would be counted for a minute.
    fn is_present(&self, host: &Presence, now: Moment, settings: &Settings) -> bool {
        host.age.unwrap_or_else(|| self.hosts.unchanged(&name(&host.owner), now)) < settings.expiry
    }
}

/// Who holds what.
#[derive(Debug)]
pub(super) struct Board<'a> {
    /// In an order that all hosts agree on.
    pub(super) slots: Vec<Slot<'a>>,
    /// By name.
    pub(super) members: Vec<Member>,
    /// Which member this host is.
    pub(super) me: usize,
}

/// A partition.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    pub(super) id: &'a PartitionId,
    pub(super) record: Option<&'a Record>,
    /// The member that has it; `None`: claimable.
    pub(super) holder: Option<usize>,
    pub(super) here: Option<Here>,
    /// Whether this host may begin to run it.
    pub(super) open: bool,
    /// In this host's name, without anything here that runs or is to run: with one heartbeat for all records, nobody else would ever
    /// take it for abandoned.
    pub(super) forsaken: bool,
}

/// A host that counts.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    pub(super) owner: OwnerId,
    pub(super) part: Part,
    /// Not one of ours: it has no presence, and is known only by what it owns.
    pub(super) foreign: bool,
    pub(super) held: usize,
}

impl<'a> Board<'a> {
    pub(super) fn read(
        me: &OwnerId,
        part: Part,
        snapshot: &Snapshot<'a>,
        sights: &Sights,
        settings: &Settings,
    ) -> Self {
        let now = snapshot.now;
        let heartbeats: HashMap<Name, &Presence> = snapshot.hosts.iter().map(|h| (name(&h.owner), h)).collect();
        let mut members: BTreeMap<Name, Member> = BTreeMap::new();
        let mut join = |owner: &OwnerId, part, foreign| {
            let name = name(owner);
            members.entry(name.clone()).or_insert(Member { name, owner: owner.clone(), part, foreign, held: 0 });
        };
        join(me, part, false);
        for host in snapshot.hosts.iter().filter(|h| sights.is_present(h, now, settings)) {
            join(&host.owner, host.part, false);
        }
        let my_name = name(me);
        let mut records: HashMap<&PartitionId, (&'a Record, Option<Name>)> = HashMap::new();
        for record in snapshot.records {
            let owner = record.owner.as_ref().map(name).filter(|name| !name.is_empty());
            let owner = owner.filter(|name| {
                let heartbeat = heartbeats.get(name).copied();
                *name == my_name || !sights.is_abandoned(record, heartbeat, now, settings)
            });
            records.entry(&record.partition).or_insert((record, owner));
        }
        let mut ids: Vec<&'a PartitionId> = snapshot.partitions.iter().collect();
        ids.sort_by_key(|id| (id.as_str().len(), id.as_str()));
        ids.dedup();
        let mut met: HashSet<&Name> = HashSet::new();
        for (record, owner) in ids.iter().filter_map(|id| records.get(id)) {
            if let (Some(owner), Some(name)) = (&record.owner, owner)
                && met.insert(name)
            {
                let heartbeat = heartbeats.get(name);
                join(owner, heartbeat.map_or(Part::Fair { most: None }, |h| h.part), heartbeat.is_none());
            }
        }
        let mut members: Vec<Member> = members.into_values().collect();
        let index: HashMap<Name, usize> = members.iter().enumerate().map(|(i, m)| (m.name.clone(), i)).collect();
        let mut slots = Vec::with_capacity(ids.len());
        for id in ids {
            let (record, owner) =
                records.get(id).map_or((None, None), |(record, owner)| (Some(*record), owner.as_ref()));
            let holder = owner.and_then(|name| index.get(name)).copied();
            if let Some(member) = holder.and_then(|i| members.get_mut(i)) {
                member.held += 1;
            }
            let here = snapshot.here.get(id).copied();
            let open = here.is_none() && !snapshot.avoid.contains(id);
            let mine = owner == Some(&my_name) && here.is_none() && !open;
            let stale = |record: &Record| sights.records.is_dead(&record.partition, record.age, now, settings.expiry);
            let forsaken = settings.exclusive && mine && record.is_some_and(stale);
            slots.push(Slot { id, record, holder, here, open, forsaken });
        }
        let me = index.get(&my_name).copied().unwrap_or_default();
        Self { slots, members, me }
    }

    /// How many partitions a member has.
    pub(super) fn held(&self, member: usize) -> usize {
        self.members.get(member).map_or(0, |m| m.held)
    }

    /// The partitions that a member has.
    pub(super) fn held_by(&self, member: usize) -> impl Iterator<Item = &Slot<'a>> {
        self.slots.iter().filter(move |slot| slot.holder == Some(member))
    }

    /// The partitions that anybody may claim.
    pub(super) fn claimable(&self) -> impl Iterator<Item = &Slot<'a>> {
        self.slots.iter().filter(|slot| slot.holder.is_none())
    }
}
