//! `weir checkpoints set` and `import` over a container, with real hosts beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use weir_amqp::message::MessageParts;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_tests::guests::guest;
use weir_tests::weir::{Ended, Weir, command, run};

use crate::store::World;

/// A hub with four partitions of forty events, a container, and a place for a configuration.
struct Fleet {
    emulator: Emulator,
    world: World,
    directory: TempDir,
}

impl Fleet {
    async fn new() -> Self {
        let hubs = vec![HubSpec { name: "flights".into(), partitions: 4 }];
        let config = EmulatorConfig { listen: "127.0.0.1:0".into(), hubs, ..EmulatorConfig::default() };
        let emulator = Emulator::start(config).await.unwrap();
        for partition in 0..4 {
            let event = |n: i32| Incoming { tail: MessageParts::data(n.to_string()).encode(), ..Incoming::default() };
            let events: Vec<_> = (0..40).map(event).collect();
            emulator.namespace().publish("flights", partition, &events).unwrap();
        }
        Self { emulator, world: World::new().await, directory: TempDir::new().unwrap() }
    }

    /// Writes a configuration; `checkpoints` is its section.
    fn file(&self, name: &str, checkpoints: &str, start: &str) -> PathBuf {
        let file = self.directory.path().join(name);
        let text = format!(
            r#"
            [namespace]
            fully-qualified-namespace = "localhost"
            endpoint = "{}"
            credential = "none"
            [checkpoints]
            {checkpoints}
            [host]
            owner = "host-0"
            cache = "cache"
            [[processor]]
            name = "copies"
            module = "{}"
            event-hub = "flights"
            start = "{start}"
            checkpoint.interval = "100 ms"
            outputs.default.file = "out.ndjson"
            dead-letter.file = "rejected.ndjson"
            "#,
            self.emulator.endpoint(),
            guest("identity").display(),
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn container(&self, start: &str) -> PathBuf {
        self.file("weir.toml", &format!("container = \"{}\"\nexpiry = \"15 s\"", self.world.url), start)
    }

    /// How often each event's output came, by its id.
    fn outputs(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(self.directory.path().join("out.ndjson")).unwrap_or_default().lines() {
            // The last line may be half written.
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            *counts.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Each event's offset, by partition and sequence number.
    fn offsets(&self) -> BTreeMap<(String, i64), String> {
        let endpoint = self.emulator.endpoint();
        let tail = ["tail", "--endpoint", &endpoint, "--hub", "flights", "--until-caught-up"];
        let lines = run(tail).expect_code(0).stdout;
        let event = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            ((text("partition"), event["sequence-number"].as_i64().unwrap()), text("offset"))
        };
        lines.lines().map(event).collect()
    }
}

fn weir(arguments: &[&str], file: &Path, more: &[&str]) -> Ended {
    run(arguments.iter().copied().chain([file.to_str().unwrap()]).chain(more.iter().copied()))
}

fn progress(file: &Path) -> Vec<Option<i64>> {
    let shown: Value = serde_json::from_str(&weir(&["checkpoints"], file, &["--json"]).expect_code(0).stdout).unwrap();
    shown[0]["partitions"].as_array().unwrap().iter().map(|partition| partition["checkpoint"].as_i64()).collect()
}

/// Waits for a condition that no line tells of.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !condition() {
        assert!(Instant::now() < deadline, "it took too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_is_set_under_a_running_host_only_by_force_and_the_host_goes_on_there() {
    let fleet = Fleet::new().await;
    let file = fleet.container("earliest");
    let host = Weir::start(&mut command(["run", file.to_str().unwrap()]));
    until("all is committed", || progress(&file) == [Some(39); 4]);

    let refused = weir(&["checkpoints", "set"], &file, &["--all", "--to", "earliest", "--yes"]).expect_code(1);
    assert!(refused.stderr.contains("nothing was written: partition 0: host-0 is at work on it"), "{}", refused.stderr);
    assert_eq!(progress(&file), [Some(39); 4]);

    let set = ["--partition", "0", "--to", "10", "--yes", "--force"];
    weir(&["checkpoints", "set"], &file, &set).expect_code(0);
    host.wait_stderr("the ownership ended: ");
    until("the host went on from the new place", || {
        fleet.outputs().get("flights/0/39/0") == Some(&2) && progress(&file) == [Some(39); 4]
    });
    let outputs = fleet.outputs();
    for n in 0..40 {
        assert_eq!(outputs[&format!("flights/0/{n}/0")], if n < 10 { 1 } else { 2 }, "event {n}");
        assert_eq!(outputs[&format!("flights/1/{n}/0")], 1, "the neighbour's event {n}");
    }
    host.signal(libc::SIGTERM);
    host.end().expect_code(0);

    // A fleet that has stopped is not in the way. The checkpoint wins over the configured start.
    weir(&["checkpoints", "set"], &file, &["--partition", "1", "--to", "earliest", "--yes"]).expect_code(0);
    let blobs = fleet.world.blobs().await;
    let metadata = &blobs["localhost/flights/$default/checkpoint/1"];
    assert_eq!((&*metadata["offset"], &*metadata["sequencenumber"]), ("-1", "-1"));
    assert_eq!(blobs["localhost/flights/$default/ownership/1"]["ownerid"], "", "given back");
    assert!(!blobs.keys().any(|name| name.contains("/weir/hosts/weir-checkpoints")), "{:?}", blobs.keys());
    let file = fleet.container("latest");
    let host = Weir::start(&mut command(["run", file.to_str().unwrap()]));
    until("all of it came again", || progress(&file) == [Some(39); 4]);
    host.signal(libc::SIGTERM);
    let ended = host.end().expect_code(0);
    let outputs = fleet.outputs();
    assert!((0..40).all(|n| outputs[&format!("flights/1/{n}/0")] == 2), "{outputs:?}");
    assert!(ended.stderr.contains("storage calls in the last minute: "), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_processors_left_is_imported_and_what_cant_be_is_named() {
    let fleet = Fleet::new().await;
    let file = fleet.container("earliest");
    let offsets = fleet.offsets();
    let offset = |partition: &str, n: i64| offsets[&(partition.to_owned(), n)].clone();
    let (zero, one, two) = (offset("0", 19), offset("1", 29), offset("2", 9));
    let put = |name: &'static str, metadata: Vec<(&'static str, String)>| {
        let world = &fleet.world;
        async move {
            let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, &**value)).collect();
            world.put(name, &metadata, b"").await;
        }
    };
    let at = |n: i64, offset: &str| vec![("offset", offset.to_owned()), ("sequencenumber", n.to_string())];
    // As Python writes with a custom endpoint, the Rust SDK, JavaScript; and what nobody can go on from.
    put("localhost:5672/flights/$default/checkpoint/0", at(19, &zero)).await;
    put("localhost/Flights/$Default/checkpoint/0", at(5, &offset("0", 5))).await;
    put("localhost/Flights/$Default/checkpoint/1", vec![("Offset", one), ("SequenceNumber", "29".into())]).await;
    put("localhost/flights/$default/checkpoint/2", at(9, &two)).await;
    put("localhost/Flights/$Default/checkpoint/2", vec![("sequencenumber", "12".into())]).await;
    put("localhost/Flights/$Default/checkpoint/3", at(12, "99999999")).await;
    put("localhost:5672/flights/$default/checkpoint/3", at(400, "99999999")).await;
    put("localhost/Flights/$Default/checkpoint/9", at(1, "64")).await;

    let looked = weir(&["checkpoints", "import"], &file, &["--from", "same", "--dry-run"]).expect_code(1);
    assert_eq!(progress(&file), [None, None, Some(9), None], "only looked: {}", looked.stdout);
    let imported = weir(&["checkpoints", "import"], &file, &["--from", "same", "--yes"]).expect_code(1);
    assert_eq!(progress(&file), [Some(19), Some(29), Some(9), None], "{}", imported.stderr);
    for reason in [
        "2 checkpoints written",
        "1 of the checkpoints lies where Weir reads them itself",
        "localhost/Flights/$Default/checkpoint/2: its metadata has no `offset`",
        "localhost:5672/flights/$default/checkpoint/3: it is at event 400, but the partition's newest is 39",
        "localhost/Flights/$Default/checkpoint/9: the hub has no such partition",
    ] {
        assert!(imported.stderr.contains(reason), "{reason} is missing in\n{}", imported.stderr);
    }
    let blobs = fleet.world.blobs().await;
    let metadata = &blobs["localhost/flights/$default/checkpoint/0"];
    assert_eq!((&metadata["offset"], &*metadata["sequencenumber"]), (&zero, "19"));

    // Further than the others: only by force. A forged offset is refused.
    weir(&["checkpoints", "set"], &file, &["--partition", "0", "--to", "30", "--yes"]).expect_code(0);
    fleet
        .world
        .put("localhost:5672/flights/$default/checkpoint/3", &[("offset", "7"), ("sequencenumber", "39")], b"")
        .await;
    let again = weir(&["checkpoints", "import"], &file, &["--from", "same", "--yes"]).expect_code(1);
    assert!(
        again.stderr.contains("partition 0: Weir is at 29, further than 19: left as it is; add --force"),
        "{}",
        again.stderr
    );
    assert!(again.stderr.contains("partition 1: is at 29 already"), "{}", again.stderr);
    assert!(again.stderr.contains("event 39 has the offset 7, but the hub says"), "{}", again.stderr);
    assert_eq!(progress(&file), [Some(29), Some(29), Some(9), None]);
    weir(&["checkpoints", "import"], &file, &["--from", "same", "--yes", "--force"]).expect_code(1);
    assert_eq!(progress(&file), [Some(19), Some(29), Some(9), None]);

    // Into a directory, from there.
    let local = fleet.file("local.toml", "directory = \"checkpoints\"", "earliest");
    let from = ["--from", &fleet.world.url, "--yes"];
    weir(&["checkpoints", "import"], &local, &from).expect_code(1);
    assert_eq!(progress(&local), [Some(19), Some(29), Some(9), None]);
    let from = ["--from", &fleet.world.url, "--from-group", "audit", "--yes"];
    let nothing = weir(&["checkpoints", "import"], &local, &from).expect_code(1);
    assert!(
        nothing.stderr.contains("no checkpoints of localhost/flights/audit; it has those of the following"),
        "{}",
        nothing.stderr
    );
    assert!(nothing.stderr.contains("\n  localhost/Flights/$Default"), "{}", nothing.stderr);
}
