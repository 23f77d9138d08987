//! What others leave in the container.

use azure_core::http::RequestContent;
use weir_host::host::PartitionEnd;

use super::{World, until};

impl World {
    async fn leave(&self, name: &str, metadata: &[(&str, &str)]) {
        let content = RequestContent::from(b"{\"not\": \"ours\"}".to_vec());
        self.raw.blob_client(&self.blob(name)).upload(content, None).await.unwrap();
        self.set_metadata(name, metadata).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_other_sdks_are_understood_and_make_no_phantom_owner() {
    let world = World::new(5).await;
    world.leave("ownership/0", &[("OwnerId", "a-python-one")]).await;
    world.leave("ownership/1", &[("ownerid", "")]).await;
    world.leave("ownership/2", &[]).await;
    world.leave("ownership/3", &[("OWNERID", "")]).await;
    world.leave("checkpoint/3", &[("Offset", "256"), ("SEQUENCENUMBER", "4")]).await;
    (0..5).for_each(|n| world.push(&n.to_string(), 10));
    let host = world.start();
    until("the other one counts while it may live", || {
        host.processor().fleet.is_some_and(|f| f.foreign == ["a-python-one"])
    })
    .await;
    until("and no longer when its record has expired", || {
        host.processor().fleet.is_some_and(|f| (f.hosts, f.held, f.foreign.len()) == (1, 5, 0))
    })
    .await;
    for n in 0..5 {
        world.committed_through(&n.to_string(), 9).await;
    }
    assert!(world.said(&["WARN", "ownership/2", "names no owner"]));
    assert!(host.stop().await.is_success());
    assert_eq!(world.tenancies("3")[0].events, (5..10).collect::<Vec<_>>(), "it goes on from the other's checkpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_the_container_is_said_and_stops_at_most_its_own_partition() {
    let world = World::new(3).await;
    for name in ["notes.txt", "ownership/0/deeper", "weir/later/x", "weir/hosts/nobody"] {
        world.leave(name, &[]).await;
    }
    world.leave("ownership/99", &[("ownerid", "of-a-partition-that-is-not-there")]).await;
    world.leave("checkpoint/1", &[("offset", "64")]).await;
    world.leave("checkpoint/2", &[("offset", "64"), ("sequencenumber", "many")]).await;
    (0..3).for_each(|n| world.push(&n.to_string(), 10));
    let host = world.start();
    world.committed_through("0", 9).await;
    for (blob, what) in [
        ("notes.txt", "not a blob of any Event Hubs client"),
        ("ownership/0/deeper", "not a blob of any Event Hubs client"),
        ("weir/hosts/nobody", "not a host's announcement"),
        ("checkpoint/1", "has no `sequencenumber`"),
        ("checkpoint/2", "is no number: `many`"),
    ] {
        until(&format!("{blob} is said"), || world.said(&["WARN", blob, what])).await;
    }
    until("the damaged ones are reported", || {
        world.said(&["ERROR", "partition 1"]) && world.said(&["ERROR", "partition 2"])
    })
    .await;
    let outcome = host.stop().await;
    let ends: Vec<_> =
        outcome.processors[0].partitions.iter().map(|p| matches!(p.end, PartitionEnd::Failed(_))).collect();
    assert_eq!(ends, [false, true, true], "{outcome}");
    let text = outcome.to_string();
    assert!(text.contains("checkpoint/1") && text.contains("Restore an older version of it, or delete it"), "{text}");
}
