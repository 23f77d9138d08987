//! Storage that fails, hangs, or is away.

use weir_host::status::State;
use weir_tests::fault_proxy::{Effect, Operation, Rule};

use super::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_answers_500_503_or_429_is_asked_again() {
    let world = World::new(1).await;
    let host = world.start();
    let feed = world.feed();
    until("it is processed", || world.handed_over() > 0).await;
    let answers = [(500, "InternalError"), (503, "ServerBusy"), (429, "TooManyRequests")];
    let rules: Vec<_> = [Operation::List, Operation::Put, Operation::Put]
        .into_iter()
        .zip(["", "checkpoint/0", "ownership/0"])
        .flat_map(|(operation, path)| answers.map(|(status, code)| (operation, path, status, code)))
        .map(|(operation, path, status, code)| {
            world.proxy.add(Rule::on(operation, path, Effect::Answer(status, code)).times(1))
        })
        .collect();
    until("every one was met", || rules.iter().all(|rule| world.proxy.hits(*rule) == 1)).await;
    let renewed = world.puts("ownership/0").len();
    until("it is renewed", || world.puts("ownership/0").len() > renewed && host.problem().is_empty()).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_hangs_is_given_up_and_the_cycles_go_on() {
    let world = World::new(1).await;
    let host = world.start();
    let feed = world.feed();
    until("it is processed", || world.handed_over() > 0).await;
    let hanging = world.proxy.add(Rule::on(Operation::List, "", Effect::Hang));
    until("it is said", || host.problem().contains("can't list the checkpoints")).await;
    let (hits, renewed) = (world.proxy.hits(hanging), world.puts("ownership/0").len());
    until("cycles and renewals go on", || {
        world.proxy.hits(hanging) >= hits + 3 && world.puts("ownership/0").len() >= renewed + 2
    })
    .await;
    assert!(host.is_running(0), "renewals need no list: {:?}", host.partition(0));
    world.proxy.lift(hanging);
    until("all is well", || host.problem().is_empty()).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    assert!(host.stop().await.is_success());
    world.assert_undisturbed("0", last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_is_away_stops_dispatch_at_the_self_fence_and_costs_nothing() {
    let outages = [Effect::Cut, Effect::Answer(503, "ServerBusy"), Effect::Hang];
    futures::future::join_all(outages.map(outlives)).await;
}

/// With so few attempts at a commit that they are used up long before the fence falls.
async fn outlives(outage: Effect) {
    let mut world = World::with_a_short_expiry(1).await;
    world.options.store_retry.attempts = 2;
    let host = world.start();
    let feed = world.feed();
    until("it is processed", || world.handed_over() > 0 && host.is_running(0)).await;
    let away = world.proxy.add(Rule::all(outage.clone()));
    until("the fence falls", || {
        let state = host.partition(0).map(|p| p.state);
        assert!(!matches!(state, Some(State::Failed(_))), "{outage:?}: {state:?}");
        matches!(state, Some(State::Retrying(why)) if why.contains("the ownership ended"))
    })
    .await;
    let stopped = world.handed_over();
    feed.more(100).await;
    assert_eq!(world.handed_over(), stopped, "{outage:?}: nothing is handed over without an ownership");
    world.proxy.lift(away);
    until("it goes on", || world.handed_over() > stopped).await;
    let last = feed.stop().await;
    world.committed_through("0", last).await;
    let outcome = host.stop().await;
    assert!(outcome.is_success(), "{outage:?}: {outcome}");
    world.assert_nothing_is_lost("0", last);
}
