//! Writes of ownership records that are refused, or whose answers are lost.

use std::time::Duration;

use weir_host::seams::SourceErrorKind;
use weir_host::status::State;
use weir_tests::fault_proxy::{Effect, Operation, Rule};

use super::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_meets_another_owner_stops_the_partition_at_once() {
    let mut world = World::new(1).await;
    // Every cycle asks the hub for its partitions.
    world.options.partition_refresh = Duration::ZERO;
    let host = world.start();
    let feed = world.feed();
    until("it is processed", || world.handed_over() > 0 && host.is_running(0)).await;
    // Without an answer a cycle lists no records, so that only the renewal can notice.
    world.hub.fail_listing(Some(SourceErrorKind::Transient));
    until("the cycles fail", || host.problem().contains("can't list the partitions")).await;
    world.set_metadata("ownership/0", &[("ownerid", "a-thief")]).await;
    until("the host has stopped", || {
        host.partition(0)
            .is_some_and(|p| matches!(p.state, State::Retrying(why) if why.contains("another host has taken")))
    })
    .await;
    let stopped = world.handed_over();
    assert!(world.puts("ownership/0").contains(&Some(412)), "the renewal was refused");
    feed.more(50).await;
    assert_eq!(world.handed_over(), stopped, "nothing is handed over without an ownership");
    // The thief never renews, so it is followed.
    world.hub.fail_listing(None);
    until("it is taken back", || world.handed_over() > stopped).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_nothing_is_lost("0", last);
    assert_eq!(world.tenancies("0").len(), 2, "with a new guest, and nothing of the old tenancy's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_is_refused_over_a_record_of_its_own_costs_nothing() {
    let world = World::new(1).await;
    let refused = world
        .proxy
        .add(Rule::on(Operation::Put, "ownership/0", Effect::Answer(412, "ConditionNotMet")).after(1).times(1));
    let host = world.start();
    let feed = world.feed();
    until("a renewal is refused", || world.proxy.hits(refused) == 1).await;
    let renewed = world.puts("ownership/0").len();
    until("the next ones are not", || world.puts("ownership/0").len() >= renewed + 2).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_and_renewals_whose_answers_are_lost_are_found_to_be_ones_own() {
    let world = World::new(1).await;
    let lost = world.proxy.add(Rule::on(Operation::Put, "ownership/0", Effect::LoseAnswer).times(1));
    let host = world.start();
    let feed = world.feed();
    until("the claim is found", || host.is_running(0)).await;
    assert_eq!(world.proxy.hits(lost), 1);
    let puts = world.puts("ownership/0");
    assert!(puts.starts_with(&[Some(201), Some(409)]), "it was written, tried again, and refused: {puts:?}");
    let lost = world.proxy.add(Rule::on(Operation::Put, "ownership/0", Effect::LoseAnswer).times(2));
    until("renewals are lost too", || world.proxy.hits(lost) == 2).await;
    let renewed = world.puts("ownership/0").len();
    until("it goes on", || world.puts("ownership/0").len() >= renewed + 2).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert_eq!(world.generations().await, [1], "one ownership all along");
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
}
