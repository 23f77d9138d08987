#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytestring::ByteString;
use tempfile::TempDir;

use super::*;
use crate::model::{Incarnation, Position};
use crate::testing::{Faults, FaultyStore, conformance, image};

const MARK: Mark = Mark::new(Incarnation::new(1), 1);

fn scope(group: &str) -> Scope {
    Scope {
        namespace: "fleet.servicebus.windows.net".into(),
        event_hub: "Flights".into(),
        consumer_group: group.into(),
    }
}

fn open(root: &TempDir, group: &str) -> Result<DirectoryStore, OpenError> {
    DirectoryStore::open(root.path(), scope(group), &OwnerId::from("host-0"))
}

fn checkpoint(sequence_number: i64) -> Checkpoint {
    let position = Position { sequence_number, offset: ByteString::from("12") };
    Checkpoint { position, generation: 1, mark: Some(MARK), state: image("state") }
}

#[tokio::test]
async fn conforms() {
    let root = TempDir::new().unwrap();
    conformance::checkpoint_store(&open(&root, "$Default").unwrap()).await;
}

#[tokio::test]
async fn conforms_behind_faults() {
    for seed in 0..5 {
        let root = TempDir::new().unwrap();
        let faults = Faults { late: 0.0, delay: std::time::Duration::ZERO, ..Faults::MANY };
        conformance::checkpoint_store(&FaultyStore::new(open(&root, "g").unwrap(), seed, faults)).await;
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let root = TempDir::new().unwrap();
    let zero = PartitionId::from("0");
    let store = open(&root, "g").unwrap();
    store.commit(&zero, &checkpoint(7), None).await.unwrap();
    let reader = DirectoryStore::read_only(root.path(), scope("G"));
    assert_eq!(reader.load(&zero).await.unwrap().unwrap().0, checkpoint(7), "readable while a host writes");
    drop(store);
    let (found, etag) = open(&root, "g").unwrap().load(&zero).await.unwrap().unwrap();
    assert_eq!(found, checkpoint(7));
    let refused = reader.commit(&zero, &checkpoint(8), Some(&etag)).await;
    assert!(matches!(refused, Err(StoreError::Determinate(_))), "{refused:?}");
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it() {
    let root = TempDir::new().unwrap();
    let first = open(&root, "g").unwrap();
    let refused = open(&root, "G").unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())) && refused.contains("host-0"), "{refused}");
    open(&root, "another-group").unwrap();
    drop(first);
    open(&root, "g").unwrap();
}

#[tokio::test]
async fn damage_is_refused_with_a_way_out() {
    let root = TempDir::new().unwrap();
    let zero = PartitionId::from("0");
    let store = open(&root, "g").unwrap();
    store.commit(&zero, &checkpoint(7), None).await.unwrap();
    let path = store.inner.path::<CheckpointRecord>(&zero);
    let good = fs::read_to_string(&path).unwrap();
    let edited = good.replace("\"sequence-number\": 7", "\"sequence-number\": 9");
    assert_ne!(good, edited);
    let newer = good.replace("\"weir\": 1", "\"weir\": 2");
    for (bad, why) in [
        (&good[..good.len() / 2], "damaged"),
        ("", "damaged"),
        (edited.as_str(), "checksum"),
        (newer.as_str(), "version 2"),
    ] {
        fs::write(&path, bad).unwrap();
        let refused = store.load(&zero).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, StoreError::Corrupt(_)), "{text}");
        let remedy = if why == "version 2" { "run the Weir that wrote it" } else { "move it away" };
        assert!(text.contains(why) && text.contains("checkpoint.json") && text.contains(remedy), "{text}");
        let refused = store.commit(&zero, &checkpoint(8), None).await.unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt(_)), "never overwritten: {refused}");
    }
}

#[tokio::test]
async fn a_damaged_ownership_record_is_replaced_by_the_next_claim_and_keeps_nobody_else_waiting() {
    let root = TempDir::new().unwrap();
    let (zero, one, owner) = (PartitionId::from("0"), PartitionId::from("1"), OwnerId::from("host-0"));
    let store = open(&root, "g").unwrap();
    let Written::Done(tenancy) = store.claim(&zero, &owner, MARK, None).await.unwrap() else { panic!("conflict") };
    store.claim(&one, &owner, MARK, None).await.unwrap();
    store.commit(&zero, &Checkpoint { generation: 4, ..checkpoint(7) }, None).await.unwrap();
    let path = store.inner.path::<OwnershipRecord>(&zero);
    let good = fs::read_to_string(&path).unwrap();
    for bad in
        ["", "{", &good.replace("host-0", "host-1"), &good.replace("\"partition\": \"0\"", "\"partition\": \"1\"")]
    {
        fs::write(&path, bad).unwrap();
        let listed = store.list().await.unwrap().partitions;
        assert_eq!(listed.iter().map(|record| &record.partition).collect::<Vec<_>>(), [&zero, &one], "{bad}");
        assert_eq!(listed[0].ownership, None);
        assert_eq!(listed[0].checkpoint.as_ref().map(|c| c.position.sequence_number), Some(7), "{bad}");
        assert_eq!(store.renew(&tenancy).await.unwrap(), Written::Conflict, "no tenancy stands on it");
        let Written::Done(claimed) = store.claim(&zero, &owner, MARK, None).await.unwrap() else { panic!("conflict") };
        assert_eq!(claimed.generation, 5, "counts on from the checkpoint");
        assert!(matches!(store.renew(&claimed).await.unwrap(), Written::Done(_)));
    }
    fs::write(&path, good.replace("\"weir\": 1", "\"weir\": 2")).unwrap();
    assert_eq!(store.list().await.unwrap().partitions.len(), 2);
    let refused = store.claim(&zero, &owner, MARK, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)), "a newer Weir's record is not overwritten: {refused}");
}

#[tokio::test]
async fn a_partition_of_which_nothing_can_be_read_is_listed_all_the_same() {
    let root = TempDir::new().unwrap();
    let zero = PartitionId::from("0");
    let store = open(&root, "g").unwrap();
    store.commit(&zero, &checkpoint(7), None).await.unwrap();
    fs::write(store.inner.path::<CheckpointRecord>(&zero), "").unwrap();
    let listed = store.list().await.unwrap().partitions;
    assert_eq!(listed, [PartitionRecord { partition: zero, ownership: None, checkpoint: None }]);
}

#[tokio::test]
async fn a_record_in_another_partitions_place_is_refused() {
    let root = TempDir::new().unwrap();
    let (zero, one) = (PartitionId::from("0"), PartitionId::from("1"));
    let store = open(&root, "g").unwrap();
    store.commit(&zero, &checkpoint(7), None).await.unwrap();
    store.commit(&one, &checkpoint(9), None).await.unwrap();
    fs::copy(store.inner.path::<CheckpointRecord>(&one), store.inner.path::<CheckpointRecord>(&zero)).unwrap();
    let refused = store.load(&zero).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to another partition"), "{refused}");
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_the_old_record() {
    let root = TempDir::new().unwrap();
    let zero = PartitionId::from("0");
    let store = open(&root, "g").unwrap();
    let Written::Done(etag) = store.commit(&zero, &checkpoint(7), None).await.unwrap() else { panic!("conflict") };
    let path = store.inner.path::<CheckpointRecord>(&zero);
    fs::write(path.with_extension("json.new"), "{ half a rec").unwrap();
    assert_eq!(store.load(&zero).await.unwrap().unwrap().0, checkpoint(7));
    assert!(matches!(store.commit(&zero, &checkpoint(8), Some(&etag)).await.unwrap(), Written::Done(_)));
    assert_eq!(store.list().await.unwrap().partitions.len(), 1);
}
