//! Against a service in memory, in virtual time. Against Azurite, the suite is in `tests/tests/azurite/store.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod service;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::{Duration, Instant, advance};

use self::service::{Fate, Service};
use super::*;
use crate::model::{Checkpoint, Incarnation, Mark, OwnerId, PartitionId, Position, Scope};
use crate::seams::{CheckpointStore, Listing, StoreError, Written};
use crate::testing::{Faults, FaultyStore, conformance, image};

const URL: &str = "https://account.blob.core.windows.net/weir?sv=2021-12-02&sig=secret";
const PREFIX: &str = "fleet/flights/$default/";
const MARK: Mark = Mark::new(Incarnation::new(1), 1);

fn store(service: &Service) -> BlobStore {
    let container = BlobContainer::with_transport(URL, None, Patience::default(), Some(service.transport())).unwrap();
    let scope = Scope { namespace: "fleet".into(), event_hub: "Flights".into(), consumer_group: "$Default".into() };
    container.store(&scope)
}

fn zero() -> PartitionId {
    PartitionId::from("0")
}

fn ann() -> OwnerId {
    OwnerId::from("ann")
}

fn checkpoint(sequence_number: i64, state: &[u8]) -> Checkpoint {
    let position = Position { sequence_number, offset: ByteString::from("64") };
    Checkpoint { position, generation: 1, mark: Some(MARK), state: image(Bytes::copy_from_slice(state)) }
}

fn name(rest: &str) -> String {
    format!("{PREFIX}{rest}")
}

fn done<T: std::fmt::Debug>(written: Result<Written<T>, StoreError>) -> T {
    match written.unwrap() {
        Written::Done(value) => value,
        Written::Conflict => panic!("conflict"),
    }
}

/// Waits for what a commit leaves to a task of its own.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn conforms() {
    conformance::checkpoint_store(&store(&Service::new(0, 0.0))).await;
}

#[tokio::test(start_paused = true)]
async fn conforms_behind_faults() {
    for seed in 0..20 {
        let faults = Faults { late: 0.0, ..Faults::MANY };
        conformance::checkpoint_store(&FaultyStore::new(store(&Service::new(0, 0.0)), seed, faults)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn conforms_over_a_service_with_faults() {
    for seed in 0..40 {
        conformance::checkpoint_store(&store(&Service::new(seed, 0.25))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_known_again() {
    for fate in [Fate::DoneButFailed, Fate::DoneButCut, Fate::DoneButHangs] {
        let service = Service::new(0, 0.0);
        let store = store(&service);
        store.list().await.unwrap();
        service.requests();
        service.script([fate]);
        let tenancy = done(store.claim(&zero(), &ann(), MARK, None).await);
        let ownership = name("ownership/0");
        let requests = [format!("PUT {ownership}"), format!("PUT {ownership}"), format!("HEAD {ownership}")];
        assert_eq!(service.requests(), requests, "{fate:?}");
        done(store.renew(&tenancy).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_race_that_was_lost_while_the_outcome_was_open_is_a_conflict() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    let etag = done(store.commit(&zero(), &checkpoint(1, b""), None).await);
    service.script([Fate::Cut]);
    service.requests();
    let slow = async { store.commit(&zero(), &checkpoint(2, b""), Some(&etag)).await };
    let faster = async {
        until("the first attempt failed", || !service.requests().is_empty()).await;
        service.put(&name("checkpoint/0"), &[("offset", "640"), ("sequencenumber", "10")], b"");
    };
    let (slow, ()) = tokio::join!(slow, faster);
    assert_eq!(slow.unwrap(), Written::Conflict);
    assert_eq!(store.load(&zero()).await.unwrap().unwrap().0.position.sequence_number, 10);
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_is_said_to_be_open() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    service.script([Fate::DoneButHangs, Fate::Refused(500, "InternalError"), Fate::Unreachable]);
    let error = store.commit(&zero(), &checkpoint(1, b""), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Indeterminate(_)), "{error}");
    service.script([Fate::Unreachable, Fate::Unreachable, Fate::Unreachable]);
    let error = store.commit(&zero(), &checkpoint(1, b""), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Determinate(_)), "{error}");
    service.script([Fate::Cut, Fate::Refused(403, "AuthenticationFailed")]);
    let error = store.commit(&zero(), &checkpoint(1, b""), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Indeterminate(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_hangs_is_given_up_in_seconds() {
    let service = Service::new(0, 0.0);
    service.script([Fate::Hangs, Fate::Hangs, Fate::Hangs]);
    let began = Instant::now();
    let error = store(&service).list().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(error.to_string().contains("no answer within 4s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_not_repeated_and_say_what_to_do() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    for (status, code, advice) in [
        (404, "ContainerNotFound", "az storage container create"),
        (403, "AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
        (403, "AuthenticationFailed", "clock"),
        (403, "AuthorizationFailure", "firewall"),
        (400, "InvalidHeaderValue", "In plain words"),
    ] {
        service.script([Fate::Refused(status, code)]);
        let error = store.list().await.unwrap_err();
        assert!(matches!(error, StoreError::Determinate(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(advice) && text.contains("account.blob.core.windows.net/weir"), "{text}");
        assert!(!text.contains("secret") && !text.contains("Ids"), "{text}");
        assert_eq!(service.requests().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn age_is_the_services() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    let tenancy = done(store.claim(&zero(), &ann(), MARK, None).await);
    advance(Duration::from_secs(70)).await;
    let age = |listing: Listing| listing.partitions[0].ownership.clone().unwrap().age.unwrap().as_secs();
    assert_eq!(age(store.list().await.unwrap()), 70);
    done(store.renew(&tenancy).await);
    advance(Duration::from_secs(3)).await;
    assert_eq!(age(store.list().await.unwrap()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_cycle_of_a_settled_group_is_one_request_and_a_claim_another() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    let listing = store.list().await.unwrap();
    assert_eq!(listing, Listing::default());
    done(store.claim(&zero(), &ann(), MARK, None).await);
    let listing = store.list().await.unwrap();
    let etag = listing.partitions[0].ownership.as_ref().map(|o| o.etag.clone());
    done(store.claim(&zero(), &ann(), MARK, etag.as_ref()).await);
    let methods: Vec<_> = service.requests().iter().map(|r| r.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["GET", "PUT", "GET", "PUT"]);
}

#[tokio::test(start_paused = true)]
async fn other_clients_records_are_understood() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    service.put(&name("ownership/0"), &[("OwnerId", "a-python-one")], b"");
    service.put(&name("checkpoint/0"), &[("Offset", "640"), ("SequenceNumber", "10")], b"");
    service.put(&name("ownership/1"), &[("ownerid", "")], b"");
    let listing = store.list().await.unwrap();
    let [first, second] = &*listing.partitions else { panic!("{listing:?}") };
    let ownership = first.ownership.clone().unwrap();
    assert_eq!((ownership.owner, ownership.generation), (Some(OwnerId::from("a-python-one")), 0));
    assert_eq!(first.checkpoint.as_ref().map(|c| (c.position.sequence_number, c.generation)), Some((10, 0)));
    assert_eq!(second.ownership.as_ref().unwrap().owner, None);
    let (loaded, etag) = store.load(&zero()).await.unwrap().unwrap();
    assert_eq!((&*loaded.position.offset, loaded.state.len()), ("640", 0));
    // Ours over theirs, theirs over ours: generations count on.
    let theft = done(store.claim(&zero(), &ann(), MARK, Some(&ownership.etag)).await);
    done(
        store
            .commit(&zero(), &Checkpoint { generation: theft.generation + 6, ..checkpoint(20, b"") }, Some(&etag))
            .await,
    );
    service.set_metadata(&name("ownership/0"), &[("ownerid", "a-python-one")]);
    let etag = store.list().await.unwrap().partitions[0].ownership.clone().unwrap().etag;
    assert_eq!(done(store.claim(&zero(), &ann(), MARK, Some(&etag)).await).generation, theft.generation + 7);
    assert_eq!(store.renew(&theft).await.unwrap(), Written::Conflict);
}

#[tokio::test(start_paused = true)]
async fn garbage_harms_nobody() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    done(store.commit(&PartitionId::from("7"), &checkpoint(5, b""), None).await);
    service.put(&name("ownership/1"), &[], b"");
    service.put(&name("ownership/2"), &[("owner", "x")], b"{}");
    service.put(&name("ownership/3/4"), &[("ownerid", "x")], b"");
    service.put(&name("checkpoint/2"), &[("offset", "1")], b"");
    service.put(&name("checkpoint/3"), &[("sequencenumber", "many"), ("offset", "1")], b"");
    service.put(&name("notes.txt"), &[("ownerid", "x")], b"hello");
    service.put(&name("weir/hosts/x"), &[("ownerid", "x"), ("weirwanted", "-1")], b"");
    service.put(&name("weir/later/x"), &[("ownerid", "x")], b"");
    let listing = store.list().await.unwrap();
    assert_eq!(listing.hosts, []);
    let owners: Vec<_> = listing.partitions.iter().map(|r| (r.partition.as_str(), r.ownership.is_some())).collect();
    assert_eq!(owners, [("1", true), ("2", true), ("7", false)]);
    assert!(listing.partitions.iter().all(|r| r.ownership.as_ref().is_none_or(|o| o.owner.is_none())));
    let one = listing.partitions[0].ownership.clone().unwrap().etag;
    done(store.claim(&PartitionId::from("1"), &ann(), MARK, Some(&one)).await);
    let error = store.load(&PartitionId::from("3")).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt(text) if text.contains("`many`") && text.contains("delete it")),
        "{error}"
    );
    assert!(store.load(&PartitionId::from("7")).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn state_under_another_clients_position_is_refused() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    done(store.commit(&zero(), &checkpoint(5, b"counts"), None).await);
    service.set_metadata(&name("checkpoint/0"), &[("offset", "999"), ("sequencenumber", "9")]);
    let error = store.load(&zero()).await.unwrap_err().to_string();
    assert!(error.contains("moved it to 9") && error.contains("group of its own"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn large_state_has_a_blob_of_its_own_while_it_is_needed() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    let states = || service.names().into_iter().filter(|n| n.contains("/weir/state/")).collect::<Vec<_>>();
    let large = |byte: u8| vec![byte; 100_000];
    let mut etag = done(store.commit(&zero(), &checkpoint(1, &large(1)), None).await);
    let first = states();
    assert_eq!(first.len(), 1);
    assert!(service.blob(&name("checkpoint/0")).unwrap().body.len() < 1000, "the checkpoint itself stays small");
    etag = done(store.commit(&zero(), &checkpoint(2, &large(1)), Some(&etag)).await);
    assert_eq!(states(), first, "the same state stays");
    etag = done(store.commit(&zero(), &checkpoint(3, &large(2)), Some(&etag)).await);
    until("the old state is removed", || states().len() == 1).await;
    assert_ne!(states(), first);
    assert_eq!(store.load(&zero()).await.unwrap().unwrap().0, checkpoint(3, &large(2)));
    done(store.commit(&zero(), &checkpoint(4, b"small"), Some(&etag)).await);
    until("no large state is left", || states().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn state_that_nobody_names_is_swept_when_it_is_old() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    let large = vec![1; 100_000];
    let etag = done(store.commit(&zero(), &checkpoint(1, &large), None).await);
    // A commit that wrote its state and then lost the race.
    let lost = store.commit(&zero(), &checkpoint(2, &vec![2; 100_000]), None).await;
    assert_eq!(lost.unwrap(), Written::Conflict);
    let states = || service.names().into_iter().filter(|n| n.contains("/weir/state/")).count();
    store.list().await.unwrap();
    let etag = done(store.commit(&zero(), &checkpoint(3, &large), Some(&etag)).await);
    assert_eq!(states(), 2, "young: its checkpoint may be on its way");
    advance(Duration::from_secs(2 * 3600)).await;
    store.list().await.unwrap();
    done(store.commit(&zero(), &checkpoint(4, &large), Some(&etag)).await);
    until("it is swept", || states() == 1).await;
    assert_eq!(store.load(&zero()).await.unwrap().unwrap().0, checkpoint(4, &large));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_state_that_is_gone_is_refused_loudly() {
    let service = Service::new(0, 0.0);
    let store = store(&service);
    done(store.commit(&zero(), &checkpoint(1, &vec![1; 100_000]), None).await);
    let state = service.names().into_iter().find(|n| n.contains("/weir/state/")).unwrap();
    service.remove(&state);
    let error = store.load(&zero()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("part of its state is gone")), "{error}");
}
