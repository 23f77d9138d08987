//! What every [`CheckpointStore`] must do, and every [`Sink`] of dead letters. Call [`checkpoint_store`] or [`sink`] with an empty one; it
//! panics where that is at fault.

#![allow(clippy::panic, reason = "a conformance check fails by panicking, like the test that calls it")]

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use bytestring::ByteString;

use super::image;
use crate::dead_letter::{
    ORIGIN_EVENT_HUB_PROPERTY, ORIGIN_NAMESPACE_PROPERTY, ORIGIN_PARTITION_PROPERTY, ORIGIN_PROCESSOR_PROPERTY,
    ORIGIN_SEQUENCE_NUMBER_PROPERTY,
};
use crate::model::{
    Checkpoint, ETag, Incarnation, Mark, Output, OwnerId, PartitionId, Position, Property, Tenancy, Value,
};
use crate::seams::{
    CheckpointStore, HostRecord, Listing, Ownership, Part, PartitionRecord, Presence, Sink, StoreError, Written,
};
use crate::state::{Segment, StateImage};

/// Tries a read or a write again while it certainly did not happen. `None`: it may have happened.
macro_rules! settled {
    ($call:expr) => {
        loop {
            match $call {
                Ok(done) => break Some(done),
                Err(StoreError::Determinate(_)) => {}
                Err(StoreError::Indeterminate(_)) => break None,
                Err(error) => panic!("{error}"),
            }
        }
    };
}

/// Whether a write that must lose a race does. It changes nothing, so it may be tried again whatever went wrong.
macro_rules! refused {
    ($call:expr) => {
        loop {
            match $call {
                Ok(written) => break written == Written::Conflict,
                Err(StoreError::Determinate(_) | StoreError::Indeterminate(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
}

/// Checks an empty store. Errors are retried the way the pipeline does (determinate: again; indeterminate: read first),
/// so a store behind [`super::FaultyStore`] must pass as well, as long as no write is late.
pub async fn checkpoint_store(store: &dyn CheckpointStore) {
    let listing = list(store).await;
    assert!(listing == Listing::default(), "an empty store lists nothing, not {listing:?}");
    let tenancy = ownership_is_by_etag(store).await;
    checkpoints_are_by_etag(store, &tenancy).await;
    renewals_keep_everything_but_the_etag(store).await;
    generations_count_on_from_the_checkpoint(store).await;
    marks_tell_one_tenancy_from_another(store).await;
    state_of_any_size_comes_back(store).await;
    segments_are_written_once_and_stay_while_they_are_named(store).await;
    hosts_announce_themselves(store).await;
}

/// Whoever names the current ETag wins, everybody else conflicts, and generations count.
async fn ownership_is_by_etag(store: &dyn CheckpointStore) -> Tenancy {
    let (zero, one) = (PartitionId::from("0"), PartitionId::from("one/../weird"));
    let (ann, ben) = (OwnerId::from("ann"), OwnerId::from("Ben #2 (ö)"));
    let first = claim(store, &zero, &ann, None).await.unwrap_or_else(|| panic!("a free partition can be claimed"));
    assert_eq!(first.generation, 1, "the first ownership is generation 1");
    assert!(claim(store, &zero, &ben, None).await.is_none(), "a claim for a free partition loses against an owner");
    let second = claim(store, &zero, &ben, Some(&first.ownership)).await;
    let second = second.unwrap_or_else(|| panic!("a claim that names the record's ETag wins"));
    assert!(second.generation > first.generation, "a newer ownership has a higher generation");
    assert!(claim(store, &zero, &ann, Some(&first.ownership)).await.is_none(), "an old ETag loses");
    assert!(refused!(store.release(&first).await), "an ended tenancy can't release its successor's");
    assert_eq!(
        owner(store, &zero).await,
        Some(Some(ben.clone())),
        "owners are listed as they are, whatever their name"
    );
    let listed = ownership(store, &zero).await.map(|o| (o.generation, o.etag));
    assert_eq!(listed, Some((second.generation, second.ownership.clone())), "the list shows what the claim returned");
    assert!(release(store, &second).await, "the owner can release");
    assert_eq!(owner(store, &zero).await, Some(None), "released: the record stays, without an owner");
    assert!(refused!(store.release(&second).await), "a release ends the tenancy");
    let etag = ownership_etag(store, &zero).await;
    let third = claim(store, &zero, &ann, etag.as_ref()).await.unwrap_or_else(|| panic!("released: free to claim"));
    assert!(third.generation > second.generation, "a release doesn't reset the generation");
    claim(store, &one, &ann, None).await.unwrap_or_else(|| panic!("partitions are independent, whatever their name"));
    assert_eq!(list(store).await.partitions.len(), 2, "both partitions are listed");
    assert_eq!(owner(store, &one).await, Some(Some(ann)), "partitions are listed by their own name");
    third
}

/// One writer wins, what was written is read, and nothing else ever is.
async fn checkpoints_are_by_etag(store: &dyn CheckpointStore, tenancy: &Tenancy) {
    let (zero, one) = (PartitionId::from("0"), PartitionId::from("one/../weird"));
    assert!(load(store, &zero).await.is_none(), "an ownership is no checkpoint");
    let c1 = checkpoint(5, tenancy.generation, b"");
    let e1 = commit(store, &zero, &c1, None).await.unwrap_or_else(|| panic!("the first commit creates"));
    assert!(commit(store, &zero, &checkpoint(6, 9, b""), None).await.is_none(), "a second creation loses");
    assert_eq!(load(store, &zero).await, Some((c1, e1.clone())), "a lost race changes nothing");
    let c2 = checkpoint(70, tenancy.generation, &[0, 255, 10, 13, 34]);
    let e2 = commit(store, &zero, &c2, Some(&e1)).await.unwrap_or_else(|| panic!("the holder of the ETag replaces"));
    assert_ne!(e1, e2, "every write changes the ETag");
    assert!(commit(store, &zero, &checkpoint(8, 3, b""), Some(&e1)).await.is_none(), "an old ETag loses");
    assert_eq!(
        load(store, &zero).await,
        Some((c2.clone(), e2.clone())),
        "position, generation and state come back as written"
    );
    let e3 =
        commit(store, &zero, &c2, Some(&e2)).await.unwrap_or_else(|| panic!("the same content may be written again"));
    assert_ne!(e2, e3, "every write changes the ETag, whatever it writes");
    let listed = record(store, &zero).await.and_then(|r| r.checkpoint).map(|c| (c.position, c.generation));
    assert_eq!(listed, Some((c2.position, c2.generation)), "a list shows checkpoints too");
    assert!(load(store, &one).await.is_none(), "partitions don't share checkpoints");
    assert!(commit(store, &one, &checkpoint(1, 1, b""), Some(&e3)).await.is_none(), "there is nothing to replace");
    assert!(load(store, &one).await.is_none(), "and a lost race creates nothing");
    assert_eq!(ownership_etag(store, &zero).await.as_ref(), Some(&tenancy.ownership), "a commit is no renewal");
}

/// The tenancy goes on; who lost it can't renew it.
async fn renewals_keep_everything_but_the_etag(store: &dyn CheckpointStore) {
    let partition = PartitionId::from("2");
    let (ann, ben) = (OwnerId::from("ann"), OwnerId::from("ben"));
    let first = claim(store, &partition, &ann, None).await.unwrap_or_else(|| panic!("a free partition can be claimed"));
    let renewed = renew(store, &first).await.unwrap_or_else(|| panic!("the owner can renew"));
    assert_ne!(renewed.ownership, first.ownership, "a renewal is a write");
    assert_eq!(Tenancy { ownership: first.ownership.clone(), ..renewed.clone() }, first, "and changes nothing else");
    let listed = ownership(store, &partition).await;
    let listed = listed.map(|o| (o.owner, o.generation, o.etag));
    assert_eq!(listed, Some((Some(ann.clone()), first.generation, renewed.ownership.clone())));
    assert!(refused!(store.renew(&first).await), "an old ETag can't renew");
    assert!(claim(store, &partition, &ben, Some(&first.ownership)).await.is_none(), "nor be stolen from");
    assert!(refused!(store.release(&first).await), "nor release");
    let stolen = claim(store, &partition, &ben, Some(&renewed.ownership)).await;
    let stolen = stolen.unwrap_or_else(|| panic!("the renewed record can be claimed like any other"));
    assert!(refused!(store.renew(&renewed).await), "who was robbed can't renew");
    assert_eq!(owner(store, &partition).await, Some(Some(ben)), "and didn't");
    assert!(release(store, &stolen).await);
    assert!(refused!(store.renew(&stolen).await), "who released can't renew");
    assert_eq!(owner(store, &partition).await, Some(None));
}

/// A lost ownership record must not bring an old generation back: checkpoints would look newer than their successors.
async fn generations_count_on_from_the_checkpoint(store: &dyn CheckpointStore) {
    let (partition, ann) = (PartitionId::from("3"), OwnerId::from("ann"));
    commit(store, &partition, &checkpoint(4, 9, b""), None).await.unwrap_or_else(|| panic!("the first commit creates"));
    let found = record(store, &partition).await.unwrap_or_else(|| panic!("a checkpoint alone makes a record"));
    assert_eq!(found.ownership, None, "nobody ever owned it");
    let first = claim(store, &partition, &ann, None).await.unwrap_or_else(|| panic!("a free partition can be claimed"));
    assert_eq!(first.generation, 10, "the checkpoint's generation counts too");
    let second = claim(store, &partition, &ann, Some(&first.ownership)).await.map(|t| t.generation);
    assert_eq!(second, Some(11), "and then the ownership's");
}

/// Whoever wrote a record knows it again: by its mark, whatever else is equal.
async fn marks_tell_one_tenancy_from_another(store: &dyn CheckpointStore) {
    let (partition, ann) = (PartitionId::from("5"), OwnerId::from("ann"));
    let first = claim(store, &partition, &ann, None).await.unwrap_or_else(|| panic!("a free partition can be claimed"));
    let listed = async || ownership(store, &partition).await.and_then(|o| o.mark);
    assert_eq!(listed().await, Some(first.mark), "a claim leaves its mark");
    let renewed = renew(store, &first).await.unwrap_or_else(|| panic!("the owner can renew"));
    assert_eq!(listed().await, Some(first.mark), "a renewal keeps it");
    let second = claim(store, &partition, &ann, Some(&renewed.ownership)).await;
    let second = second.unwrap_or_else(|| panic!("the record can be claimed again, by the same owner too"));
    assert_ne!(second.mark, first.mark);
    assert_eq!(listed().await, Some(second.mark), "the same owner's next claim has another");
    assert!(release(store, &second).await);
    assert_eq!(listed().await, Some(second.mark), "a release says whose it was");
    let mut etag = None;
    for mark in [Some(first.mark), None, Some(second.mark)] {
        let wanted = Checkpoint { mark, ..checkpoint(9, 1, b"") };
        etag = commit(store, &partition, &wanted, etag.as_ref()).await;
        assert!(etag.is_some(), "the holder of the ETag replaces");
        assert_eq!(load(store, &partition).await.map(|(c, _)| c.mark), Some(mark), "a checkpoint says who wrote it");
        let listed = record(store, &partition).await.and_then(|r| r.checkpoint);
        assert_eq!(listed.map(|c| c.mark), Some(mark), "in a list, too");
    }
}

/// Stores keep large state elsewhere than small one; nobody must be able to tell.
async fn state_of_any_size_comes_back(store: &dyn CheckpointStore) {
    let partition = PartitionId::from("4");
    let mut etag = None;
    for (n, size) in [0, 1, 64 << 10, (64 << 10) + 1, 300_000, 300_000, 7, 200_000, 0].into_iter().enumerate() {
        let state: Vec<u8> = (0..size).map(|i| (i * 7 + i / 256 + n) as u8).collect();
        let wanted = checkpoint(n as i64, 1, &state);
        let written = commit(store, &partition, &wanted, etag.as_ref()).await;
        let written = written.unwrap_or_else(|| panic!("{size} bytes of state: the holder of the ETag replaces"));
        let found = load(store, &partition).await;
        let (found, read) = found.unwrap_or_else(|| panic!("{size} bytes of state: it was written"));
        assert!(found == wanted && whole(&found.state), "{size} bytes of state come back as they were");
        assert_eq!(read, written, "{size} bytes of state: a load returns the commit's ETag");
        etag = Some(written);
    }
}

/// A segment is handed over with the first checkpoint that names it, and comes back with every one that does.
async fn segments_are_written_once_and_stay_while_they_are_named(store: &dyn CheckpointStore) {
    let partition = PartitionId::from("6");
    let segment = |name: u8| Segment::new(Bytes::from(vec![name; 1000 + usize::from(name)]));
    let mut etag = None;
    let mut known: Vec<Segment> = Vec::new();
    for (n, names) in ["a", "ab", "abc", "abc", "d", "", "ef", "fe", "g"].into_iter().enumerate() {
        let segments = names.bytes().map(|name| {
            let segment = segment(name);
            // As the state does: by its name alone, where a checkpoint names it that was written.
            if known.contains(&segment) { Segment { bytes: None, ..segment } } else { segment }
        });
        let state = StateImage { segments: segments.collect(), tail: Bytes::from(format!("tail {n}")) };
        let wanted = Checkpoint { state, ..checkpoint(n as i64, 1, b"") };
        let written = commit(store, &partition, &wanted, etag.as_ref()).await;
        etag = Some(written.unwrap_or_else(|| panic!("segments {names}: the holder of the ETag replaces")));
        let found = load(store, &partition).await.map(|(found, _)| found);
        assert!(found.is_some_and(|f| f == wanted && whole(&f.state)), "segments {names} are there, in their order");
        known = wanted.state.segments;
    }
    let listed = record(store, &partition).await.and_then(|record| record.checkpoint);
    assert!(listed.is_some_and(|checkpoint| checkpoint.state.is_empty()), "a list carries no state");
}

/// Whether every segment is at hand, and is what its name says.
fn whole(state: &StateImage) -> bool {
    state
        .segments
        .iter()
        .all(|segment| segment.bytes.as_ref().is_some_and(|bytes| Segment::new(bytes.clone()) == *segment))
}

/// Each host has one announcement, the last.
async fn hosts_announce_themselves(store: &dyn CheckpointStore) {
    let before = list(store).await.partitions.len();
    let host = |name: &str, capacity: Option<u32>, wanted| Presence {
        owner: OwnerId::from(name),
        incarnation: capacity.map(|n| Incarnation::new(n.into())),
        exclusive: wanted == 2,
        part: if wanted > 3 { Part::Fair } else { Part::Fixed },
        capacity,
        wanted,
        version: "0.1.0-rc (ö)".into(),
    };
    let (ann, ben) = (host("ownership", None, 4), host("Ben/../#2 ö", Some(8), 2));
    assert!(refused!(store.announce(&ann, Some(&ETag("0".into()))).await), "nobody is there to be replaced");
    let said = announce(store, &ann).await;
    assert!(refused!(store.announce(&ann, None).await), "of two that say they are the first, one is");
    let first = hosts(store).await;
    announce(store, &ben).await;
    assert_eq!(hosts(store).await.len(), 2, "each host is listed");
    announce(store, &ann).await;
    let again = hosts(store).await;
    let etag = |hosts: &[HostRecord], name| {
        hosts.iter().find(|h| h.presence.owner == OwnerId::from(name)).map(|h| h.etag.clone())
    };
    assert_ne!(etag(&first, "ownership"), etag(&again, "ownership"), "the same again is a sign of life");
    let busy = host("ownership", Some(1), 0);
    let newest = announce(store, &busy).await;
    assert!(
        refused!(store.announce(&ann, Some(&said)).await),
        "whose announcement was replaced doesn't replace another"
    );
    assert!(refused!(store.withdraw(&ann.owner, &said).await), "nor takes it away");
    let mut said: Vec<_> = hosts(store).await.into_iter().map(|h| h.presence).collect();
    said.sort_by_key(|p| p.owner.to_string());
    assert_eq!(said, [ben.clone(), busy], "what is listed is the last that each said");
    assert!(withdraw(store, &ann.owner, &newest).await);
    assert!(withdraw(store, &ann.owner, &newest).await, "gone is gone");
    let left: Vec<_> = hosts(store).await.into_iter().map(|h| h.presence).collect();
    assert_eq!(left, [ben], "who withdrew is gone, and nobody else");
    assert_eq!(list(store).await.partitions.len(), before, "hosts are no partitions");
}

fn checkpoint(sequence_number: i64, generation: u64, state: &[u8]) -> Checkpoint {
    let position = Position { sequence_number, offset: ByteString::from(format!("{sequence_number}\"ö")) };
    let mark = Some(Mark::new(Incarnation::new(u64::MAX), generation));
    Checkpoint { position, generation, mark, state: image(Bytes::copy_from_slice(state)) }
}

async fn list(store: &dyn CheckpointStore) -> Listing {
    settled!(store.list().await).unwrap_or_else(|| panic!("a read is never indeterminate"))
}

async fn hosts(store: &dyn CheckpointStore) -> Vec<HostRecord> {
    list(store).await.hosts
}

async fn load(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<(Checkpoint, ETag)> {
    settled!(store.load(partition).await).unwrap_or_else(|| panic!("a read is never indeterminate"))
}

async fn record(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<PartitionRecord> {
    list(store).await.partitions.into_iter().find(|r| r.partition == *partition)
}

async fn ownership(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<Ownership> {
    record(store, partition).await.and_then(|r| r.ownership)
}

async fn owner(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<Option<OwnerId>> {
    ownership(store, partition).await.map(|o| o.owner)
}

async fn ownership_etag(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<ETag> {
    ownership(store, partition).await.map(|o| o.etag)
}

/// Over whatever the host said last.
async fn announce(store: &dyn CheckpointStore, presence: &Presence) -> ETag {
    loop {
        let before = sign(store, &presence.owner).await;
        match settled!(store.announce(presence, before.as_ref()).await) {
            Some(Written::Done(etag)) => return etag,
            Some(Written::Conflict) => panic!("an announcement over the last one takes place"),
            None => {
                if let Some(etag) = sign(store, &presence.owner).await.filter(|etag| Some(etag) != before.as_ref()) {
                    return etag;
                }
            }
        }
    }
}

/// The ETag of what a host said.
async fn sign(store: &dyn CheckpointStore, owner: &OwnerId) -> Option<ETag> {
    hosts(store).await.into_iter().find(|host| host.presence.owner == *owner).map(|host| host.etag)
}

/// Whether the announcement is gone.
async fn withdraw(store: &dyn CheckpointStore, owner: &OwnerId, expected: &ETag) -> bool {
    loop {
        if let Some(written) = settled!(store.withdraw(owner, expected).await) {
            return written == Written::Done(());
        }
    }
}

/// `None`: conflict.
async fn claim(
    store: &dyn CheckpointStore,
    partition: &PartitionId,
    claimant: &OwnerId,
    expected: Option<&ETag>,
) -> Option<Tenancy> {
    static CLAIMS: AtomicU64 = AtomicU64::new(0);
    let mark = Mark::new(Incarnation::new(u64::MAX), CLAIMS.fetch_add(1, Ordering::Relaxed));
    loop {
        match settled!(store.claim(partition, claimant, mark, expected).await) {
            Some(Written::Done(tenancy)) => return Some(tenancy),
            Some(Written::Conflict) => return None,
            None => match ownership(store, partition).await {
                Some(o) if expected != Some(&o.etag) && o.mark == Some(mark) => {
                    let (partition, owner) = (partition.clone(), claimant.clone());
                    return Some(Tenancy { partition, owner, mark, generation: o.generation, ownership: o.etag });
                }
                Some(o) if expected != Some(&o.etag) => return None,
                _ => {}
            },
        }
    }
}

/// `None`: conflict.
async fn renew(store: &dyn CheckpointStore, tenancy: &Tenancy) -> Option<Tenancy> {
    loop {
        match settled!(store.renew(tenancy).await) {
            Some(Written::Done(renewed)) => return Some(renewed),
            Some(Written::Conflict) => return None,
            None => match ownership(store, &tenancy.partition).await {
                Some(o) if o.etag == tenancy.ownership => {}
                Some(o) if o.mark == Some(tenancy.mark) && o.owner.as_ref() == Some(&tenancy.owner) => {
                    return Some(Tenancy { ownership: o.etag, ..tenancy.clone() });
                }
                _ => return None,
            },
        }
    }
}

async fn release(store: &dyn CheckpointStore, tenancy: &Tenancy) -> bool {
    loop {
        match settled!(store.release(tenancy).await) {
            Some(written) => return written == Written::Done(()),
            None => match ownership(store, &tenancy.partition).await {
                Some(o) if o.etag == tenancy.ownership => {}
                other => return other.is_some_and(|o| o.owner.is_none() && o.mark == Some(tenancy.mark)),
            },
        }
    }
}

/// `None`: conflict.
async fn commit(
    store: &dyn CheckpointStore,
    partition: &PartitionId,
    checkpoint: &Checkpoint,
    expected: Option<&ETag>,
) -> Option<ETag> {
    loop {
        match settled!(store.commit(partition, checkpoint, expected).await) {
            Some(Written::Done(etag)) => return Some(etag),
            Some(Written::Conflict) => return None,
            None => match load(store, partition).await {
                Some((found, etag)) if expected != Some(&etag) => return (found == *checkpoint).then_some(etag),
                _ => {}
            },
        }
    }
}

/// What a sink of dead letters must do: keep all of every letter, the same of a repeat, and letters of two processors apart. `stored`
/// answers what is in it, of the processors `one` and `two` of the hub `hub`.
///
/// # Panics
/// Where the sink does something else.
pub async fn sink(sink: &dyn Sink, stored: impl AsyncFn() -> Vec<Output>) {
    let letter = |processor: &str, number: i64| Output {
        id: format!("hub/0/{number}/rejected").into(),
        partition_key: Some("AA".into()),
        content_type: Some("text/plain".into()),
        message_id: Some("m".into()),
        correlation_id: Some("c".into()),
        properties: vec![
            Property { key: "own".into(), value: Value::Timestamp(-5) },
            Property { key: ORIGIN_EVENT_HUB_PROPERTY.into(), value: Value::Text("hub".into()) },
            Property { key: ORIGIN_PARTITION_PROPERTY.into(), value: Value::Text("0".into()) },
            Property { key: ORIGIN_NAMESPACE_PROPERTY.into(), value: Value::Text("n".into()) },
            Property { key: ORIGIN_PROCESSOR_PROPERTY.into(), value: Value::Text(processor.into()) },
            Property { key: ORIGIN_SEQUENCE_NUMBER_PROPERTY.into(), value: Value::Integer(number) },
        ],
        body: vec![0xff, 0, u8::try_from(number).unwrap_or(0)].into(),
    };
    let publish = async |letters: &[Output]| {
        if let Err(error) = sink.publish(letters).await {
            panic!("{} letters were not accepted: {error}", letters.len());
        }
    };
    let count = i64::try_from(sink.max_outputs().min(40)).unwrap_or(40);
    let of = |processor: &str| (0..count).map(|number| letter(processor, number)).collect::<Vec<_>>();
    publish(&[]).await;
    assert_eq!(stored().await, [], "nothing was published");
    publish(&of("one")).await;
    publish(&of("two")).await;
    let all = [of("one"), of("two")].concat();
    assert_eq!(
        stored().await,
        all,
        "everything is kept, in the order of the events, and nobody's letters replace another's"
    );
    publish(&of("one")).await;
    assert_eq!(stored().await, all, "a repeat adds nothing");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Faults, FaultyStore, MemoryStore};

    #[tokio::test(start_paused = true)]
    async fn memory() {
        checkpoint_store(&MemoryStore::new()).await;
        for seed in 0..200 {
            checkpoint_store(&FaultyStore::new(MemoryStore::new(), seed, Faults { late: 0.0, ..Faults::MANY })).await;
        }
    }
}
