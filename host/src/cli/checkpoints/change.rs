//! Moves checkpoints: what that would do, and doing it.
//!
//! A checkpoint is written under an ownership of the command's own: claim, write, release. Each step is conditional. A host that is still
//! at work on the partition (`--force`) can't write over it: its next commit and its next renewal meet a record that isn't
//! its own any more, its tenancy ends with all that was read under it, and whoever claims the partition next reads the
//! new checkpoint. A directory needs no such care: its lock keeps everybody else out.
//!
//! Before it claims, the command announces itself as a host that is leaving. Hosts take an owner that says nothing for one of another kind
//! that wants an even share, and would give up partitions for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::azure::{SdkSource, Timeouts};
use crate::cli::failure::Failure;
use crate::cli::hub::namespace;
use crate::cli::reach::Address;
use crate::cli::stores::Stores;
use crate::cli::wire::scope;
use crate::cli::{print_line, say, summary};
use crate::config::{CheckpointsConfig, Config, ProcessorConfig};
use crate::model::{
    Checkpoint, ETag, Incarnation, Mark, OwnerId, PartitionId, PartitionInfo, Position, Scope, Tenancy,
};
use crate::seams::{
    CheckpointStore, EventSource as _, HostRecord, Listing, Ownership, Part, Presence, StoreError, Written,
};
use crate::state::StateImage;

/// Claims and writes that somebody else may get ahead of, before it is given up.
const ATTEMPTS: usize = 10;

/// Partitions that are looked at together.
pub(super) const AT_ONCE: usize = 8;

/// What the user may allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permission {
    /// To take the partition from a host that is at work on it.
    pub(crate) force: bool,
    /// To lose the processor's state.
    pub(crate) drop_state: bool,
}

/// A processor's hub and store.
pub(crate) struct Place {
    pub(crate) scope: Scope,
    pub(super) source: SdkSource,
    pub(super) store: Arc<dyn CheckpointStore>,
    /// `None`: a lock says who works here.
    fleet: Option<Fleet>,
    owner: OwnerId,
    incarnation: Incarnation,
    claims: AtomicU64,
}

/// What the hosts that share a container agree on.
#[derive(Clone, Copy, Debug)]
struct Fleet {
    /// When an ownership counts as abandoned.
    expiry: Duration,
    /// Whether an announcement stands for all ownerships of a host.
    exclusive: bool,
}

/// A checkpoint to be moved.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) info: PartitionInfo,
    /// `None`: there is none.
    pub(crate) before: Option<Checkpoint>,
    pub(crate) after: Position,
    pub(crate) owner: Option<Owner>,
    /// What it carries then.
    pub(crate) state: StateImage,
}

/// A host that is at work on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(super) id: OwnerId,
    /// When it last said so.
    pub(super) age: Option<Duration>,
}

impl Place {
    /// `write`: whether anything is to be written, which a directory has to be locked for.
    pub(crate) async fn find(config: &Config, processor: &ProcessorConfig, write: bool) -> Result<Self, Failure> {
        let stores = Stores::new(&config.checkpoints).map_err(Failure::failed)?;
        let scope = scope(processor);
        let owner = OwnerId::from(&*format!("weir-checkpoints-{}", std::process::id()));
        let store = match write {
            true => stores.change(&scope, &owner).map_err(Failure::failed)?,
            false => stores.look(&scope),
        };
        let fleet = match &config.checkpoints {
            CheckpointsConfig::Directory(_) => None,
            CheckpointsConfig::Container { expiry, exclusive, .. } => {
                Some(Fleet { expiry: *expiry, exclusive: *exclusive })
            }
        };
        let hubs = namespace(&processor.namespace)?;
        Address::of(&processor.namespace).reach().await.map_err(Failure::failed)?;
        let source = hubs.source(&processor.event_hub, &processor.consumer_group, Timeouts::default());
        let incarnation = Incarnation::new(rand::random());
        Ok(Self { scope, source, store, fleet, owner, incarnation, claims: AtomicU64::new(0) })
    }

    /// What the hub says of all its partitions, in their order.
    pub(crate) async fn partitions(&self) -> Result<Vec<PartitionInfo>, Failure> {
        let failed = |error| Failure::failed(format!("can't ask {} for its partitions: {error}", self.scope.event_hub));
        let mut ids = self.source.partitions().await.map_err(failed)?;
        ids.sort_by_key(|id| (id.as_str().len(), id.clone()));
        let infos = stream::iter(&ids).map(|id| self.source.partition_info(id)).buffered(AT_ONCE);
        infos.try_collect().await.map_err(failed)
    }

    pub(crate) async fn listing(&self) -> Result<Listing, Failure> {
        let listed = self.store.list().await;
        listed.map_err(|error| Failure::failed(format!("can't list the checkpoints of {}: {error}", self.scope)))
    }

    pub(crate) async fn load(&self, partition: &PartitionId) -> Result<Option<Checkpoint>, String> {
        let found = self.store.load(partition).await.map_err(|error| error.to_string())?;
        Ok(found.map(|(checkpoint, _)| checkpoint))
    }

    /// Who is at work on a partition.
    pub(crate) fn owner(&self, listing: &Listing, partition: &PartitionId) -> Option<Owner> {
        let record = listing.partitions.iter().find(|record| record.partition == *partition)?;
        live_owner(record.ownership.as_ref()?, &listing.hosts, self.fleet?.expiry)
    }

    /// Moves a checkpoint. The error is a clause for a person.
    pub(super) async fn write(&self, change: &Change, permission: Permission) -> Result<(), String> {
        let tenancy = self.claim(&change.info.id, permission).await?;
        let written = self.commit(&tenancy, change, permission).await;
        // Whatever came of it: the partition is to be somebody's.
        let released = self.store.release(&tenancy).await;
        written?;
        match released {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "the checkpoint is written, but the partition could not be given back ({error}): it is free when the ownership of {} \
                 expires",
                self.owner
            )),
        }
    }

    async fn claim(&self, partition: &PartitionId, permission: Permission) -> Result<Tenancy, String> {
        let mark = Mark::new(self.incarnation, self.claims.fetch_add(1, Relaxed) + 1);
        for _ in 0..ATTEMPTS {
            let listing = self.store.list().await.map_err(|error| error.to_string())?;
            if let Some(owner) =
                self.owner(&listing, partition).filter(|owner| owner.id != self.owner && !permission.force)
            {
                return Err(in_use(&owner));
            }
            let record = listing.partitions.into_iter().find(|record| record.partition == *partition);
            let expected = record.and_then(|record| record.ownership).map(|ownership| ownership.etag);
            match self.store.claim(partition, &self.owner, mark, expected.as_ref()).await {
                Ok(Written::Done(tenancy)) => return Ok(tenancy),
                // Renewed or claimed meanwhile, or by us without our knowing: the record says which.
                Ok(Written::Conflict) | Err(StoreError::Indeterminate(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("somebody else claimed it each time, {ATTEMPTS} times; try again"))
    }

    async fn commit(&self, tenancy: &Tenancy, change: &Change, permission: Permission) -> Result<(), String> {
        let Change { info, before, after, state, .. } = change;
        let partition = &info.id;
        let Tenancy { generation, mark, .. } = *tenancy;
        let new = Checkpoint { position: after.clone(), generation, mark: Some(mark), state: state.clone() };
        for _ in 0..ATTEMPTS {
            let found = self.store.load(partition).await.map_err(|error| error.to_string())?;
            if found.as_ref().is_some_and(|(found, _)| *found == new) {
                return Ok(());
            }
            let (found, etag) = found.unzip();
            if !permission.force && found.as_ref().map(|c| &c.position) != before.as_ref().map(|c| &c.position) {
                return Err("its checkpoint was moved by somebody else meanwhile; look again".into());
            }
            if let Some(state) = found.filter(|found| !found.state.is_empty() && !permission.drop_state) {
                return Err(has_state(&state));
            }
            match self.store.commit(partition, &new, etag.as_ref()).await {
                Ok(Written::Done(_)) => return Ok(()),
                // A last commit of the host that worked here, or our own: the record says which.
                Ok(Written::Conflict) | Err(StoreError::Indeterminate(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("somebody else wrote its checkpoint each time, {ATTEMPTS} times; try again"))
    }
}

/// The command's announcement, kept young while it works.
struct Announced<'a> {
    store: &'a dyn CheckpointStore,
    presence: Presence,
    /// Half of it is how old the announcement may become.
    expiry: Duration,
    /// Of the last one, and when it was written.
    last: Option<(ETag, Instant)>,
}

impl<'a> Announced<'a> {
    fn new(store: &'a dyn CheckpointStore, fleet: Fleet, owner: &OwnerId, incarnation: Incarnation) -> Self {
        let presence = Presence {
            owner: owner.clone(),
            incarnation: Some(incarnation),
            exclusive: fleet.exclusive,
            capacity: Some(0),
            part: Part::Leaving,
            wanted: 0,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        Self { store, presence, expiry: fleet.expiry, last: None }
    }

    /// Says that the command is there, unless it said so a moment ago. The error is a clause for a person.
    async fn refresh(&mut self) -> Result<(), String> {
        if self.last.as_ref().is_some_and(|(_, at)| at.elapsed() < self.expiry / 2) {
            return Ok(());
        }
        let failed =
            |error: &dyn std::fmt::Display| format!("can't announce {} to the hosts: {error}", self.presence.owner);
        let mut expected = self.last.as_ref().map(|(etag, _)| etag.clone());
        for _ in 0..ATTEMPTS {
            let at = Instant::now();
            match self.store.announce(&self.presence, expected.as_ref()).await {
                Ok(Written::Done(etag)) => {
                    self.last = Some((etag, at));
                    return Ok(());
                }
                // Ours without our knowing, or of a command with the same process id, which said the same.
                Ok(Written::Conflict) | Err(StoreError::Indeterminate(_)) => {}
                Err(error) => return Err(failed(&error)),
            }
            let found = self.found().await.map_err(|error| failed(&error))?;
            expected = found.map(|host| host.etag);
        }
        Err(failed(&"its record keeps changing"))
    }

    /// Takes it back. What fails leaves an announcement that nobody counts any more when it has expired.
    async fn withdraw(self) {
        let owner = &self.presence.owner;
        let mut expected = self.last.as_ref().map(|(etag, _)| etag.clone());
        for _ in 0..ATTEMPTS {
            if let Some(etag) = &expected {
                match self.store.withdraw(owner, etag).await {
                    Ok(Written::Done(())) => return,
                    Ok(Written::Conflict) | Err(StoreError::Indeterminate(_)) => {}
                    Err(error) => return tracing::warn!("can't take back the announcement of {owner}: {error}"),
                }
            }
            match self.found().await {
                Ok(found) => {
                    let mine = found.filter(|host| host.presence.incarnation == self.presence.incarnation);
                    let Some(mine) = mine else { return };
                    expected = Some(mine.etag);
                }
                Err(error) => return tracing::warn!("can't take back the announcement of {owner}: {error}"),
            }
        }
        tracing::warn!("can't take back the announcement of {owner}: its record keeps changing");
    }

    /// The announcement under the command's name.
    async fn found(&self) -> Result<Option<HostRecord>, StoreError> {
        let hosts = self.store.list().await?.hosts;
        Ok(hosts.into_iter().find(|host| host.presence.owner == self.presence.owner))
    }
}

/// Who is at work under an ownership, by the clock of the store: it was written within the expiry, or its owner said within it that it is
/// there.
fn live_owner(ownership: &Ownership, hosts: &[HostRecord], expiry: Duration) -> Option<Owner> {
    let id = ownership.owner.clone()?;
    // An age that the store doesn't know counts as none.
    let young = |age: Option<Duration>| age.is_none_or(|age| age < expiry);
    let said = hosts.iter().filter(|host| host.presence.owner == id).map(|host| host.age);
    let age = said.chain([ownership.age]).find(|age| young(*age))?;
    Some(Owner { id, age })
}

fn in_use(owner: &Owner) -> String {
    let Owner { id, age } = owner;
    let age = age.map_or("just now".into(), |age| format!("{} s ago", age.as_secs()));
    format!(
        "{id} is at work on it (it last said so {age}); stop that host first, or add --force to take the partition from it (a processor of \
         another kind may still write its checkpoint over this one)"
    )
}

fn has_state(checkpoint: &Checkpoint) -> String {
    format!(
        "its checkpoint carries {} bytes of the processor's state, as of event {}, which would not be that of another event; \
         `weir checkpoints set` with --drop-state lets the processor begin with none",
        checkpoint.state.len(),
        checkpoint.position.sequence_number
    )
}

impl Change {
    /// What stands against it. The errors are clauses for a person.
    pub(crate) fn obstacles(&self, permission: Permission) -> Vec<String> {
        let owner = self.owner.as_ref().filter(|_| !permission.force).map(in_use);
        let state = self.before.as_ref().filter(|before| !before.state.is_empty() && !permission.drop_state);
        owner.into_iter().chain(state.map(has_state)).collect()
    }

    /// Retained events that are processed again, and those that are left out.
    fn effect(&self) -> (u64, u64) {
        let (info, after) = (&self.info, self.after.sequence_number);
        let covered = self.before.as_ref().map_or(i64::MIN, |before| before.position.sequence_number);
        let clamp = |number: i64| number.clamp(info.beginning_sequence_number - 1, info.last_enqueued_sequence_number);
        if info.is_empty {
            return (0, 0);
        }
        let (covered, after) = (clamp(covered), clamp(after));
        (u64::try_from(covered - after).unwrap_or(0), u64::try_from(after - covered).unwrap_or(0))
    }
}

/// Says what would become of each partition.
pub(super) fn show(changes: &[Change]) -> Result<(), Failure> {
    let mut table =
        summary::plain(["partition", "checkpoint", "becomes", "goes on with", "repeated", "skipped", "owner"], 1..6);
    for change in changes {
        let (repeated, skipped) = change.effect();
        let next = (change.after.sequence_number + 1).max(change.info.beginning_sequence_number);
        table.add_row([
            change.info.id.to_string(),
            change.before.as_ref().map_or("-".into(), |before| before.position.sequence_number.to_string()),
            change.after.sequence_number.to_string(),
            next.to_string(),
            repeated.to_string(),
            skipped.to_string(),
            change.owner.as_ref().map_or("-".into(), |owner| owner.id.to_string()),
        ]);
    }
    print_line(&summary::text(&table))
}

/// Asks whoever is at the terminal.
pub(super) fn confirm(count: usize, yes: bool) -> Result<(), Failure> {
    let question = format!("Write {count} checkpoint{}?", if count == 1 { "" } else { "s" });
    crate::cli::confirm::confirm(&question, yes, "nothing was written", "Add --yes to write, --dry-run to look only")
}

/// Writes all of them; each by itself, so that what fails with one leaves the others. The problems are lines for a person.
pub(crate) async fn write_all(place: &Place, changes: &[Change], permission: Permission) -> Vec<String> {
    let mut problems = vec![];
    let mut count = 0;
    let announced = |fleet| Announced::new(&*place.store, fleet, &place.owner, place.incarnation);
    let mut announced = place.fleet.map(announced);
    for change in changes {
        let written = async {
            if let Some(announced) = &mut announced {
                announced.refresh().await?;
            }
            place.write(change, permission).await
        };
        match written.await {
            Ok(()) => count += 1,
            Err(why) => problems.push(format!("partition {}: {why}", change.info.id)),
        }
    }
    if let Some(announced) = announced {
        announced.withdraw().await;
    }
    say(format_args!("{count} checkpoint{} written", if count == 1 { "" } else { "s" }));
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::testing::MemoryStore;

    const EXPIRY: Duration = Duration::from_secs(60);

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn an_owner_is_live_by_its_record_or_by_its_announcement() {
        let ownership = |owner: Option<&str>, age| Ownership {
            owner: owner.map(OwnerId::from),
            generation: 1,
            mark: None,
            etag: ETag("e".into()),
            age,
        };
        let host = |owner: &str, age| HostRecord {
            presence: Presence {
                owner: OwnerId::from(owner),
                incarnation: None,
                exclusive: false,
                capacity: None,
                part: Part::Fair,
                wanted: 1,
                version: "1".into(),
            },
            etag: ETag("h".into()),
            age,
        };
        let live = |ownership, hosts: &[HostRecord]| live_owner(&ownership, hosts, EXPIRY).map(|owner| owner.age);
        assert_eq!(live(ownership(Some("a"), seconds(59)), &[]), Some(seconds(59)));
        assert_eq!(live(ownership(Some("a"), seconds(60)), &[]), None);
        assert_eq!(live(ownership(Some("a"), None), &[]), Some(None), "an unknown age is fresh");
        assert_eq!(live(ownership(None, seconds(1)), &[]), None, "released");
        assert_eq!(live(ownership(Some("a"), seconds(90)), &[host("a", seconds(5))]), Some(seconds(5)));
        assert_eq!(live(ownership(Some("a"), seconds(90)), &[host("a", seconds(70)), host("b", seconds(1))]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_command_is_announced_as_leaving_while_it_works_and_then_no_more() {
        let store = MemoryStore::new();
        let owner = OwnerId::from("weir-checkpoints-1");
        let fleet = Fleet { expiry: EXPIRY, exclusive: true };
        let new = |n| Announced::new(&store, fleet, &owner, Incarnation::new(n));
        let hosts = async || store.list().await.unwrap().hosts;
        // Remains of a command that was killed, with the same process id.
        new(1).refresh().await.unwrap();
        let mut announced = new(2);
        announced.refresh().await.unwrap();
        let first = hosts().await;
        let [HostRecord { presence, etag, .. }] = &first[..] else { panic!("{first:?}") };
        assert_eq!((presence.part, presence.exclusive), (Part::Leaving, true));
        assert_eq!(presence.incarnation, Some(Incarnation::new(2)));
        announced.refresh().await.unwrap();
        assert_eq!(hosts().await[0].etag, *etag, "it is young");
        tokio::time::advance(EXPIRY / 2).await;
        announced.refresh().await.unwrap();
        assert_ne!(hosts().await[0].etag, *etag);
        announced.withdraw().await;
        assert_eq!(hosts().await, []);
        // Somebody else's stays.
        let mut announced = new(3);
        announced.refresh().await.unwrap();
        new(4).refresh().await.unwrap();
        announced.withdraw().await;
        assert_eq!(hosts().await[0].presence.incarnation, Some(Incarnation::new(4)));
    }

    #[test]
    fn what_is_repeated_or_skipped_counts_retained_events_only() {
        let effect = |before: Option<i64>, after: i64| {
            let position = |n: i64| Position { sequence_number: n, offset: "1".into() };
            let info = PartitionInfo {
                id: "0".into(),
                beginning_sequence_number: 100,
                last_enqueued_sequence_number: 199,
                last_enqueued_offset: "1".into(),
                last_enqueued_time: 0,
                is_empty: false,
            };
            let before = before.map(|n| Checkpoint {
                position: position(n),
                generation: 1,
                mark: None,
                state: StateImage::default(),
            });
            Change { info, before, after: position(after), owner: None, state: StateImage::default() }.effect()
        };
        assert_eq!(effect(Some(150), 99), (51, 0));
        assert_eq!(effect(Some(150), 199), (0, 49));
        assert_eq!(effect(Some(20), 99), (0, 0), "what lay between is gone");
        assert_eq!(effect(Some(20), 120), (0, 21));
        assert_eq!(effect(None, 99), (0, 0));
        assert_eq!(effect(None, 199), (0, 100));
        assert_eq!(effect(Some(500), 199), (0, 0), "another hub's");
    }
}
