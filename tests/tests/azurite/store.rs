//! The checkpoint store in Azure Blob Storage.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};

use azure_core::http::{RequestContent, Url};
use azure_storage_blob::models::{
    BlobContainerClientListBlobsOptions, BlobServiceProperties, ListBlobsIncludeItem, RetentionPolicy,
};
use azure_storage_blob::{BlobContainerClient, BlobServiceClient};
use bytes::Bytes;
use futures::TryStreamExt;
use weir_host::azure::{BlobContainer, BlobStore, Credential, DEVELOPMENT_SAS, Patience};
use weir_host::model::{Checkpoint, Incarnation, Mark, OwnerId, PartitionId, Position, Scope};
use weir_host::seams::{CheckpointStore, Part, Presence, StoreError, Written};
use weir_host::testing::{Faults, FaultyStore, conformance, image};

const MARK: Mark = Mark::new(Incarnation::new(1), 1);

/// A container of its own for each test.
pub(crate) struct World {
    pub(crate) url: String,
    container: BlobContainer,
    raw: BlobContainerClient,
}

impl World {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let url = format!("{}/weir-{}-{}", crate::account(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let container = BlobContainer::new(&url, None, Patience::default()).unwrap();
        container.create().await.unwrap();
        container.create().await.unwrap();
        let raw =
            BlobContainerClient::new(Url::parse(&format!("{url}?{DEVELOPMENT_SAS}")).unwrap(), None, None).unwrap();
        Self { url, container, raw }
    }

    fn store(&self) -> BlobStore {
        self.container.store(&Scope {
            namespace: "Fleet.servicebus.windows.net".into(),
            event_hub: "Flights".into(),
            consumer_group: "$Default".into(),
        })
    }

    /// Every blob's name and metadata, as another client sees them.
    pub(crate) async fn blobs(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let options = BlobContainerClientListBlobsOptions {
            include: Some(vec![ListBlobsIncludeItem::Metadata]),
            ..Default::default()
        };
        let mut pages = self.raw.list_blobs(Some(options)).unwrap().into_pages();
        let mut blobs = BTreeMap::new();
        while let Some(page) = pages.try_next().await.unwrap() {
            for blob in page.into_model().unwrap().blob_items {
                let metadata = blob.metadata.and_then(|m| m.values).unwrap_or_default();
                blobs.insert(blob.name.unwrap(), metadata.into_iter().collect());
            }
        }
        blobs
    }

    async fn set_metadata(&self, name: &str, metadata: &[(&str, &str)]) {
        self.raw.blob_client(name).set_metadata(&map(metadata), None).await.unwrap();
    }

    pub(crate) async fn put(&self, name: &str, metadata: &[(&str, &str)], body: &'static [u8]) {
        let blob = self.raw.blob_client(name);
        blob.upload(RequestContent::from(body.to_vec()), None).await.unwrap();
        blob.set_metadata(&map(metadata), None).await.unwrap();
    }
}

fn map(metadata: &[(&str, &str)]) -> HashMap<String, String> {
    metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn zero() -> PartitionId {
    PartitionId::from("0")
}

fn checkpoint(sequence_number: i64, state: &[u8]) -> Checkpoint {
    let position = Position { sequence_number, offset: (sequence_number * 64).to_string().into() };
    Checkpoint { position, generation: 1, mark: Some(MARK), state: image(Bytes::copy_from_slice(state)) }
}

fn done<T: std::fmt::Debug>(written: Result<Written<T>, StoreError>) -> T {
    match written.unwrap() {
        Written::Done(value) => value,
        Written::Conflict => panic!("conflict"),
    }
}

const PREFIX: &str = "fleet.servicebus.windows.net/flights/$default";

#[tokio::test]
async fn conforms() {
    conformance::checkpoint_store(&World::new().await.store()).await;
}

#[tokio::test]
async fn conforms_behind_faults() {
    for seed in 0..5 {
        let faults = Faults { late: 0.0, delay: std::time::Duration::ZERO, ..Faults::MANY };
        conformance::checkpoint_store(&FaultyStore::new(World::new().await.store(), seed, faults)).await;
    }
}

#[tokio::test]
async fn of_many_who_claim_at_once_one_wins() {
    let world = World::new().await;
    for round in 0..5 {
        let partition = PartitionId::from(round.to_string().as_str());
        let mut expected = None;
        for _ in 0..3 {
            let claims = (0..16).map(|n| {
                let (store, partition, expected) = (world.store(), partition.clone(), expected.clone());
                async move {
                    store.claim(&partition, &OwnerId::from(format!("host-{n}").as_str()), MARK, expected.as_ref()).await
                }
            });
            let claims = futures::future::join_all(claims).await;
            let mut winners = claims.into_iter().map(Result::unwrap).filter_map(|written| match written {
                Written::Done(tenancy) => Some(tenancy),
                Written::Conflict => None,
            });
            let winner = winners.next().unwrap();
            assert_eq!(winners.next(), None);
            let listed = world.store().list().await.unwrap().partitions;
            let listed = listed.into_iter().find(|r| r.partition == partition).and_then(|r| r.ownership).unwrap();
            assert_eq!((listed.owner, &listed.etag), (Some(winner.owner), &winner.ownership));
            assert!(listed.age.is_some(), "the service's clock says how old it is");
            expected = Some(winner.ownership);
        }
    }
}

#[tokio::test]
async fn the_blobs_are_those_that_other_clients_look_for() {
    let world = World::new().await;
    let store = world.store();
    let tenancy = done(store.claim(&zero(), &OwnerId::from("host-0"), MARK, None).await);
    let etag = done(store.commit(&zero(), &checkpoint(12, b""), None).await);
    let version = "0.1.0".to_owned();
    let presence = Presence {
        owner: OwnerId::from("host-0"),
        incarnation: Some(Incarnation::new(1)),
        exclusive: false,
        part: Part::Fair,
        capacity: None,
        wanted: 4,
        version,
    };
    done(store.announce(&presence, None).await);
    let mark = MARK.to_string();
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    let owned = |owner| pairs(&[("ownerid", owner), ("weirgeneration", "1"), ("weirmark", &mark)]);
    let strip = |blob: &BTreeMap<String, String>| {
        blob.iter().filter(|(k, _)| *k != "weirwrite").map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    let blobs = world.blobs().await;
    let names: Vec<_> = blobs.keys().cloned().collect();
    let expected = ["checkpoint/0", "ownership/0", "weir/hosts/host-0"].map(|name| format!("{PREFIX}/{name}"));
    assert_eq!(names, expected);
    assert_eq!(strip(&blobs[&expected[1]]), owned("host-0"));
    let marks = [("offset", "768"), ("sequencenumber", "12"), ("weirgeneration", "1"), ("weirmark", &*mark)];
    assert_eq!(strip(&blobs[&expected[0]]), pairs(&marks));
    done(store.commit(&zero(), &checkpoint(13, &[7; 70_000]), Some(&etag)).await);
    done(store.release(&tenancy).await);
    let blobs = world.blobs().await;
    assert_eq!(strip(&blobs[&expected[1]]), owned(""), "released: the key stays, empty");
    let body = world.raw.blob_client(&expected[0]).download(None).await.unwrap().body.collect().await.unwrap();
    assert!(body.len() < 1000, "a checkpoint stays small, whatever the state");
}

#[tokio::test]
async fn other_clients_records_are_understood() {
    let world = World::new().await;
    let store = world.store();
    let (ownership, mark) = (format!("{PREFIX}/ownership/0"), format!("{PREFIX}/checkpoint/0"));
    world.put(&ownership, &[("OwnerId", "a-python-one")], b"").await;
    world.put(&mark, &[("Offset", "640"), ("SequenceNumber", "10")], b"").await;
    world.put(&format!("{PREFIX}/ownership/1"), &[("ownerid", "")], b"").await;
    world.put(&format!("{PREFIX}/ownership/2"), &[], b"").await;
    world.put(&format!("{PREFIX}/notes.txt"), &[], b"hello").await;
    let listing = store.list().await.unwrap().partitions;
    let owners: Vec<_> = listing
        .iter()
        .map(|r| {
            (r.partition.to_string(), r.ownership.as_ref().and_then(|o| o.owner.as_ref().map(ToString::to_string)))
        })
        .collect();
    let expected = [("0", Some("a-python-one")), ("1", None), ("2", None)];
    assert_eq!(owners, expected.map(|(p, o)| (p.to_owned(), o.map(str::to_owned))));
    let theirs = listing[0].ownership.clone().unwrap();
    let (loaded, etag) = store.load(&zero()).await.unwrap().unwrap();
    assert_eq!((loaded.position.sequence_number, &*loaded.position.offset), (10, "640"));
    let tenancy = done(store.claim(&zero(), &OwnerId::from("host-0"), MARK, Some(&theirs.etag)).await);
    done(store.commit(&zero(), &checkpoint(20, b"counts"), Some(&etag)).await);

    // They steal and move it on: our tenancy is over, and our state no longer fits.
    world.set_metadata(&ownership, &[("ownerid", "a-python-one")]).await;
    world.set_metadata(&mark, &[("offset", "1920"), ("sequencenumber", "30")]).await;
    assert_eq!(store.renew(&tenancy).await.unwrap(), Written::Conflict);
    let listed = store.list().await.unwrap().partitions[0].checkpoint.clone().unwrap();
    assert_eq!(listed.position.sequence_number, 30);
    let refused = store.load(&zero()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Corrupt(text) if text.contains("moved it to 30")), "{refused}");
}

#[tokio::test]
async fn what_cant_work_says_so() {
    let world = World::new().await;
    let open = |url: &str| BlobContainer::new(url, None, Patience::default()).unwrap();
    let missing = open(&format!("{}/no-such-container", crate::account())).check().await.unwrap_err();
    assert!(matches!(missing, StoreError::Determinate(_)), "{missing}");
    assert!(missing.to_string().contains("no-such-container does not exist; create it"), "{missing}");
    let forged = DEVELOPMENT_SAS.replace("sp=rwdlac", "sp=rl");
    let denied = open(&format!("{}?{forged}", world.url)).check().await.unwrap_err().to_string();
    assert!(denied.contains("status 403") && denied.contains("signature") && !denied.contains("sig="), "{denied}");
    assert!(BlobContainer::new(&world.url, Some(Credential::Cli), Patience::default()).is_err());
    let nobody = open("http://127.0.0.1:9/devstoreaccount1/weir").check().await.unwrap_err().to_string();
    assert!(nobody.contains("127.0.0.1:9") && !nobody.contains("sig="), "{nobody}");
}

#[tokio::test]
async fn soft_delete_is_warned_of() {
    let world = World::new().await;
    let url = Url::parse(&format!("{}?{DEVELOPMENT_SAS}", crate::account())).unwrap();
    let service = BlobServiceClient::new(url, None, None).unwrap();
    let retain = async |enabled: bool| {
        let policy = RetentionPolicy { enabled: Some(enabled), days: enabled.then_some(7), ..Default::default() };
        let properties = BlobServiceProperties { delete_retention_policy: Some(policy), ..Default::default() };
        service.set_properties(properties.try_into().unwrap(), None).await.unwrap();
    };
    assert_eq!(world.container.check().await.unwrap(), Vec::<String>::new());
    retain(true).await;
    let warnings = world.container.check().await.unwrap();
    retain(false).await;
    assert!(warnings.iter().any(|w| w.contains("soft delete is on")), "{warnings:?}");
}

#[tokio::test]
async fn the_command_shows_the_checkpoints_of_a_container() {
    let world = World::new().await;
    let store = world.store();
    done(store.claim(&zero(), &OwnerId::from("host-0"), MARK, None).await);
    done(store.commit(&zero(), &checkpoint(41, b""), None).await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    let config = |container: &str| {
        let text = format!(
            r#"
            [namespace]
            fully-qualified-namespace = "fleet.servicebus.windows.net"
            endpoint = "amqp://127.0.0.1:9"
            credential = "none"
            [checkpoints]
            container = "{container}"
            [[processor]]
            name = "delays"
            module = "delays.wasm"
            event-hub = "flights"
            "#
        );
        std::fs::write(&file, text).unwrap();
    };
    config(&world.url);
    // Nobody is at the namespace's endpoint: what is enqueued is missing, and said to be.
    let shown = weir_tests::weir::run(["checkpoints", file.to_str().unwrap(), "--json"]);
    let progress: serde_json::Value = serde_json::from_str(&shown.expect_code(1).stdout).unwrap();
    let partition = &progress[0]["partitions"][0];
    assert_eq!((&partition["checkpoint"], &partition["owner"]), (&41.into(), &"host-0".into()), "{progress}");
    config(&format!("{}/no-such-container", crate::account()));
    let shown = weir_tests::weir::run(["checkpoints", file.to_str().unwrap()]).expect_code(1);
    assert!(shown.stderr.contains("no-such-container does not exist"), "{}", shown.stderr);
}
