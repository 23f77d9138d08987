//! Writes of checkpoints that are refused, late, or whose answers are lost.

use weir_tests::fault_proxy::{Effect, Operation, Rule};

use super::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_meets_anothers_checkpoint_ends_the_tenancy_and_goes_on_behind_it() {
    let world = World::new(1).await;
    let host = world.start();
    world.push("0", 20);
    world.committed_through("0", 19).await;
    // Somebody else was here, and further.
    world.push("0", 20);
    world.committed_through("0", 39).await;
    world.set_metadata("checkpoint/0", &[("offset", "3840"), ("sequencenumber", "60")]).await;
    world.push("0", 60);
    until("the commit is refused", || world.puts("checkpoint/0").contains(&Some(412))).await;
    world.committed_through("0", 99).await;
    assert!(world.said(&["the ownership ended", "wrote a checkpoint at 60"]));
    assert!(host.stop().await.is_success());
    let tenancies = world.tenancies("0");
    assert_eq!(tenancies.len(), 2, "{tenancies:?}");
    assert_eq!((tenancies[1].behind, &tenancies[1].events), (Some(60), &(61..100).collect()));
    // The new tenancy first writes what it found in its own name.
    let committed = world.proxy.committed("0");
    assert!(committed.is_sorted() && !committed.iter().any(|n| (40..60).contains(n)), "{committed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_refused_over_a_checkpoint_of_its_own_is_written_again() {
    let world = World::new(1).await;
    let refused = world
        .proxy
        .add(Rule::on(Operation::Put, "checkpoint/0", Effect::Answer(412, "ConditionNotMet")).after(1).times(2));
    let host = world.start();
    let feed = world.feed();
    until("commits are refused", || world.proxy.hits(refused) == 2).await;
    feed.more(20).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_by_its_mark_and_not_written_twice() {
    let world = World::new(1).await;
    let lost = [0, 1, 3].map(|after| {
        world.proxy.add(Rule::on(Operation::Put, "checkpoint/0", Effect::LoseAnswer).after(after).times(1))
    });
    let host = world.start();
    let feed = world.feed();
    until("answers are lost", || lost.iter().all(|rule| world.proxy.hits(*rule) == 1)).await;
    feed.more(20).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
    // A slow answer is as good as a lost one.
    assert!(world.refused("checkpoint/0") >= 3, "each was tried again and refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_arrives_behind_the_next_one_is_refused() {
    let world = World::new(1).await;
    let held = world.proxy.add(Rule::on(Operation::Put, "checkpoint/0", Effect::HoldBack).after(1).times(1));
    let host = world.start();
    let feed = world.feed();
    until("a commit is under way", || world.proxy.hits(held) == 1).await;
    let before = world.proxy.committed("0").len();
    until("others have overtaken it", || world.proxy.committed("0").len() >= before + 2).await;
    let refused = world.refused("checkpoint/0");
    world.proxy.lift(held);
    until("it is refused", || world.refused("checkpoint/0") > refused).await;
    feed.more(20).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
}
