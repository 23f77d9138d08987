//! Blobs, and the container, that somebody deletes under a running host.

use weir_host::options::Start;
use weir_tests::fleet::create_container;

use super::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ownership_that_is_deleted_is_said_and_written_anew() {
    let world = World::new(1).await;
    let host = world.start();
    let feed = world.feed();
    until("it is processed", || world.handed_over() > 0).await;
    world.delete("ownership/0").await;
    until("it is said", || world.said(&["the ownership ended", "its ownership record was deleted"])).await;
    let stopped = world.handed_over();
    until("it goes on", || world.handed_over() > stopped).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(world.generations().await[0] > 1, "generations count on, from the checkpoint");
    assert!(host.stop().await.is_success());
    world.assert_nothing_is_lost("0", last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_deleted_is_named_and_its_return_is_enough() {
    let world = World::with_a_short_expiry(1).await;
    let host = world.start();
    let feed = world.feed();
    until("it is checkpointed", || !world.proxy.committed("0").is_empty()).await;
    world.raw.delete(None).await.unwrap();
    until("the host says what is missing and what to do", || {
        let problem = host.problem();
        problem.contains(&format!("{} does not exist; create it", world.name))
    })
    .await;
    until("the fence falls", || world.said(&["the ownership ended"])).await;
    let stopped = world.handed_over();
    feed.more(50).await;
    assert_eq!(world.handed_over(), stopped, "nothing is handed over without an ownership");
    create_container(&world.container).await;
    until("it goes on", || world.handed_over() > stopped).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(world.said(&["ERROR", "its checkpoint is gone"]), "what it goes on from is said");
    assert!(host.stop().await.is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_deleted_is_said_aloud_and_nothing_is_skipped() {
    for (start, first) in [(Start::Earliest, 0), (Start::Latest, 20)] {
        let mut world = World::new(1).await;
        world.options.start = start;
        world.push("0", 10);
        let host = world.start();
        until("it is there", || host.is_running(0)).await;
        world.push("0", 10);
        world.committed_through("0", 19).await;
        world.delete("checkpoint/0").await;
        // In hand when the host notices, and with "latest" not to be jumped over.
        world.push("0", 10);
        world.committed_through("0", 29).await;
        assert!(world.said(&["WARN", "the checkpoint was deleted"]), "{start:?}");
        assert!(world.said(&["ERROR", "its checkpoint is gone", "at sequence number 19"]), "{start:?}");
        assert!(host.stop().await.is_success());
        let tenancies = world.tenancies("0");
        let again = tenancies.last().unwrap();
        assert_eq!(again.events, (first..30).collect::<Vec<_>>(), "{start:?}: {tenancies:?}");
    }
}
