//! What `weir run` says of a container that it can't use, or that will hurt.

use tempfile::TempDir;
use weir_host::azure::DEVELOPMENT_SAS;
use weir_tests::fault_proxy::{Effect, Operation, Rule};
use weir_tests::weir::{Ended, run};

use super::{World, until};

/// Runs the command over a container. There is no module: it ends by itself, behind whatever it says of the container.
async fn weir_run(container: String) -> Ended {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("weir.toml");
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
        module = "not-there.wasm"
        event-hub = "flights"
        "#
    );
    std::fs::write(&file, text).unwrap();
    let ended = tokio::task::spawn_blocking(move || run(["run", file.to_str().unwrap()])).await.unwrap();
    assert!(!ended.stderr.contains("sig="), "no secret is shown: {}", ended.stderr);
    ended.expect_code(1)
}

/// The error comes before any processor is looked at, in one line.
fn is_refused(ended: &Ended, words: &[&str]) {
    let errors: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    assert!(words.iter().all(|word| errors[0].contains(word)), "{}", ended.stderr);
    assert!(!ended.stderr.contains("not-there.wasm"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_does_not_exist_is_named_with_how_to_create_it() {
    let ended = weir_run(format!("{}/no-such-container", crate::account())).await;
    is_refused(&ended, &["checkpoints.container", "no-such-container does not exist", "az storage container create"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_out_of_reach_is_named() {
    let ended = weir_run("http://127.0.0.1:9/devstoreaccount1/weir".into()).await;
    is_refused(
        &ended,
        &["checkpoints.container", "127.0.0.1:9/devstoreaccount1/weir can't be reached", "is its URL right"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_is_denied_is_told_what_it_lacks() {
    let world = World::new(1).await;
    let forged = DEVELOPMENT_SAS.replace("sp=rwdlac", "sp=rl");
    let ended = weir_run(format!("{}?{forged}", world.container)).await;
    is_refused(&ended, &["checkpoints.container", &world.name, "status 403", "signature"]);
    for (code, words) in [
        ("AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
        ("AuthorizationFailure", "firewall"),
        ("AuthenticationFailed", "is this host's clock right"),
    ] {
        let denied = world.proxy.add(Rule::all(Effect::Answer(403, code)));
        is_refused(&weir_run(world.through(&world.proxy)).await, &["checkpoints.container", code, words]);
        assert_eq!(world.proxy.hits(denied), 1, "and not tried again");
        world.proxy.lift(denied);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_warned_of_at_the_start() {
    let world = World::new(1).await;
    for (shift, words) in
        [(-300, "s ahead of that of the storage account"), (300, "s behind that of the storage account")]
    {
        let shifted = world.proxy.add(Rule::all(Effect::ShiftClock(shift)));
        let ended = weir_run(world.through(&world.proxy)).await;
        assert!(ended.stderr.lines().any(|line| line.contains("WARN") && line.contains(words)), "{}", ended.stderr);
        assert!(ended.stderr.contains("not-there.wasm"), "it is only a warning: {}", ended.stderr);
        world.proxy.lift(shifted);
    }
    assert!(!weir_run(world.through(&world.proxy)).await.stderr.contains("clock"));
}

/// Azurite keeps no versions: the header that tells of one is added to its answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versioning_is_warned_of_at_the_first_write() {
    let world = World::new(1).await;
    let versioned = Effect::Header("x-ms-version-id: 2026-11-25T08:00:00.0000000Z");
    let rule = world.proxy.add(Rule::on(Operation::Put, "", versioned));
    let host = world.start();
    world.push("0", 10);
    world.committed_through("0", 9).await;
    until("it is said", || world.said(&["WARN", "versioning is on for this storage account"])).await;
    assert!(world.proxy.hits(rule) > 1);
    assert!(host.stop().await.is_success());
}
