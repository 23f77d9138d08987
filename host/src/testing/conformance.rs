//! What every [`CheckpointStore`] must do. Call [`checkpoint_store`] with an empty one; it panics where the store is at
//! fault.

#![allow(clippy::panic, reason = "a conformance check fails by panicking, like the test that calls it")]

use bytes::Bytes;
use bytestring::ByteString;

use crate::model::{Checkpoint, ETag, OwnerId, PartitionId, Position, Tenancy};
use crate::seams::{CheckpointStore, StoreError, Written};

/// Checks an empty store. Errors are retried the way the pipeline does (determinate: again; indeterminate: read first),
/// so a store behind [`super::FaultyStore`] must pass as well, as long as no write is late.
pub async fn checkpoint_store(store: &dyn CheckpointStore) {
    let (zero, one) = (PartitionId::from("0"), PartitionId::from("one/../weird"));
    let (ann, ben) = (OwnerId::from("ann"), OwnerId::from("ben"));
    assert!(list(store).await.is_empty(), "an empty store lists nothing");
    assert!(load(store, &zero).await.is_none(), "an empty store has no checkpoint");

    // Ownership: whoever names the current ETag wins, everybody else conflicts, and generations count.
    let first = claim(store, &zero, &ann, None).await.unwrap_or_else(|| panic!("a free partition can be claimed"));
    assert_eq!(first.generation, 1, "the first ownership is generation 1");
    assert!(claim(store, &zero, &ben, None).await.is_none(), "a claim for a free partition loses against an owner");
    let second = claim(store, &zero, &ben, Some(&first.ownership)).await;
    let second = second.unwrap_or_else(|| panic!("a claim that names the record's ETag wins"));
    assert!(second.generation > first.generation, "a newer ownership has a higher generation");
    assert!(claim(store, &zero, &ann, Some(&first.ownership)).await.is_none(), "an old ETag loses");
    assert!(!release(store, &first).await, "an ended tenancy can't release its successor's");
    assert_eq!(owner(store, &zero).await, Some(Some(ben.clone())));
    assert!(release(store, &second).await, "the owner can release");
    assert_eq!(owner(store, &zero).await, Some(None), "released: the record stays, without an owner");
    let etag = ownership_etag(store, &zero).await;
    let third = claim(store, &zero, &ann, etag.as_ref()).await.unwrap_or_else(|| panic!("released: free to claim"));
    assert!(third.generation > second.generation, "a release doesn't reset the generation");
    claim(store, &one, &ann, None).await.unwrap_or_else(|| panic!("partitions are independent, whatever their name"));
    assert_eq!(list(store).await.len(), 2, "both partitions are listed");

    // Checkpoints: one writer wins, what was written is read, and nothing else ever is.
    let c1 = checkpoint(5, third.generation, b"");
    let e1 = commit(store, &zero, &c1, None).await.unwrap_or_else(|| panic!("the first commit creates"));
    assert!(commit(store, &zero, &checkpoint(6, 9, b""), None).await.is_none(), "a second creation loses");
    assert_eq!(load(store, &zero).await, Some((c1, e1.clone())), "a lost race changes nothing");
    let c2 = checkpoint(70, third.generation, &[0, 255, 10, 13, 34]);
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
    let listed = list(store).await.into_iter().find(|r| r.partition == zero);
    let listed = listed.and_then(|r| r.checkpoint).map(|c| (c.position, c.generation));
    assert_eq!(listed, Some((c2.position, c2.generation)), "a list shows checkpoints too");
    assert!(load(store, &one).await.is_none(), "partitions don't share checkpoints");
    assert_eq!(owner(store, &zero).await, Some(Some(ann)), "a commit doesn't touch the ownership");
}

fn checkpoint(sequence_number: i64, generation: u64, state: &[u8]) -> Checkpoint {
    let position = Position { sequence_number, offset: ByteString::from(format!("{sequence_number}\"ö")) };
    Checkpoint { position, generation, state: Bytes::copy_from_slice(state) }
}

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

async fn list(store: &dyn CheckpointStore) -> Vec<crate::seams::PartitionRecord> {
    settled!(store.list().await).unwrap_or_else(|| panic!("a read is never indeterminate"))
}

async fn load(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<(Checkpoint, ETag)> {
    settled!(store.load(partition).await).unwrap_or_else(|| panic!("a read is never indeterminate"))
}

async fn ownership(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<crate::seams::Ownership> {
    list(store).await.into_iter().find(|r| r.partition == *partition).and_then(|r| r.ownership)
}

async fn owner(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<Option<OwnerId>> {
    ownership(store, partition).await.map(|o| o.owner)
}

async fn ownership_etag(store: &dyn CheckpointStore, partition: &PartitionId) -> Option<ETag> {
    ownership(store, partition).await.map(|o| o.etag)
}

/// `None`: conflict.
async fn claim(
    store: &dyn CheckpointStore,
    partition: &PartitionId,
    claimant: &OwnerId,
    expected: Option<&ETag>,
) -> Option<Tenancy> {
    loop {
        match settled!(store.claim(partition, claimant, expected).await) {
            Some(Written::Done(tenancy)) => return Some(tenancy),
            Some(Written::Conflict) => return None,
            None => match ownership(store, partition).await {
                Some(o) if expected != Some(&o.etag) && o.owner.as_ref() == Some(claimant) => {
                    let (partition, owner) = (partition.clone(), claimant.clone());
                    return Some(Tenancy { partition, owner, generation: o.generation, ownership: o.etag });
                }
                Some(o) if expected != Some(&o.etag) => return None,
                _ => {}
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
                other => return other.is_some_and(|o| o.owner.is_none()),
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
