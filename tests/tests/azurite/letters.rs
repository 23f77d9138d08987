//! Dead letters in a container.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use weir_amqp::message::MessageParts;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_host::azure::{BlobContainer, LetterContainer, Patience};
use weir_host::dead_letter::read;
use weir_host::seams::{Sink as _, Written};
use weir_host::testing::conformance;
use weir_tests::guests::guest;
use weir_tests::weir::run;

use crate::store::World;

fn letters(url: &str) -> LetterContainer {
    LetterContainer::new(BlobContainer::new(url, None, Patience::default()).unwrap())
}

#[tokio::test]
async fn conforms() {
    let world = World::new().await;
    let letters = letters(&world.url);
    conformance::sink(&letters, async || {
        let mut stored = Vec::new();
        for processor in ["one", "two"] {
            for place in letters.list(("n", "hub"), processor).await.unwrap() {
                stored.push(read(&letters.read(&place).await.unwrap().unwrap().0).unwrap());
            }
        }
        stored
    })
    .await;
    let blobs = world.blobs().await;
    assert!(blobs.contains_key("hub@n/0/one/7.json") && blobs.contains_key("hub@n/0/two/7.json"), "{:?}", blobs.keys());

    // What was written again since it was read stays; what is gone is gone.
    let place = letters.list(("n", "hub"), "one").await.unwrap().remove(7);
    let (text, old) = letters.read(&place).await.unwrap().unwrap();
    letters.publish(&[read(&text).unwrap()]).await.unwrap();
    assert_eq!(letters.remove(&place, &old).await.unwrap(), Written::Conflict);
    let (_, new) = letters.read(&place).await.unwrap().unwrap();
    assert_eq!(letters.remove(&place, &new).await.unwrap(), Written::Done(()));
    assert_eq!(letters.read(&place).await.unwrap(), None);
    assert_eq!(letters.remove(&place, &new).await.unwrap(), Written::Done(()));
}

#[tokio::test]
async fn a_container_that_is_missing_is_named() {
    let error = letters(&format!("{}/weir-missing", crate::account())).list(("n", "hub"), "one").await.unwrap_err();
    assert!(error.to_string().contains("weir-missing does not exist; create it"), "{error}");
}

/// The command over a container, with letters of a real host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_lists_shows_sends_back_and_discards() {
    let world = World::new().await;
    let hubs = ["flights", "again"].map(|name| HubSpec { name: name.into(), partitions: 1 });
    let config = EmulatorConfig { listen: "127.0.0.1:0".into(), hubs: hubs.into(), ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await.unwrap();
    let bodies = ["fine", "reject", "panic", "fine"];
    let events: Vec<_> =
        bodies.map(|body| Incoming { tail: MessageParts::data(body).encode(), ..Incoming::default() }).into();
    emulator.namespace().publish("flights", 0, &events).unwrap();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("weir.toml");
    let text = format!(
        r#"
        [namespace]
        fully-qualified-namespace = "localhost"
        endpoint = "{}"
        credential = "none"
        [checkpoints]
        directory = "checkpoints"
        [host]
        owner = "host-0"
        cache = "cache"
        [[processor]]
        name = "misbehave"
        module = "{}"
        event-hub = "flights"
        grants.clocks = true
        retry = {{ attempts = 2, backoff = "1 ms", max-backoff = "1 ms" }}
        outputs.default.file = "out.ndjson"
        dead-letter.container = "{}"
        "#,
        emulator.endpoint(),
        guest("misbehave").display(),
        world.url
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    run(["run", file, "--until-caught-up"]).expect_code(0);
    let ids = || {
        let listed = run(["dead-letters", "list", file, "--json"]).expect_code(0).stdout;
        let heads: Vec<Value> = serde_json::from_str(&listed).unwrap();
        heads.iter().map(|head| head["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ["flights/0/1/rejected", "flights/0/2/rejected"]);
    let shown = run(["dead-letters", "show", file, "flights/0/2/rejected"]).expect_code(0).stdout;
    assert!(shown.contains("cause: trap") && shown.contains("body (5 bytes):"), "{shown}");
    let sent = run(["dead-letters", "redrive", file, "flights/0/2/rejected", "--to-hub", "again"]).expect_code(0);
    assert!(sent.stderr.contains("1 letter sent to again, 1 removed"), "{}", sent.stderr);
    assert_eq!(emulator.namespace().hub("again").unwrap().partitions()[0].state(0).last, 0, "one event");
    assert_eq!(ids(), ["flights/0/1/rejected"]);
    run(["dead-letters", "discard", file, "--all", "--yes"]).expect_code(0);
    assert_eq!(ids(), Vec::<String>::new());
    assert_eq!(world.blobs().await.len(), 0, "nothing is left");
}
