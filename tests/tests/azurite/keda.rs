//! What KEDA makes of the checkpoints that a real `weir` wrote: the lag that it scales by is the true one.
//!
//! The reader below does what KEDA's scaler `azure-eventhub` does under `checkpointStrategy: blobMetadata`, told in our own words after
//! its source: kedacore/keda, `pkg/scalers/azure_eventhub_scaler.go` at commit 01515ac21aec and
//! `pkg/scalers/azure/azure_eventhub_checkpoint.go` at commit 65ed041b9d58.

use std::collections::BTreeMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_amqp::message::MessageParts;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_tests::guests::guest;
use weir_tests::weir::{Weir, command};

use crate::store::World;

const PARTITIONS: u32 = 6;

/// The trigger's settings, as they stand in a `ScaledObject`.
struct Keda {
    connection: &'static str,
    consumer_group: &'static str,
}

/// What the hub says of a partition.
struct Partition {
    begin: i64,
    last: i64,
}

impl Keda {
    /// Namespace and hub are taken as they are written, only the group is folded to lower case.
    fn blob(&self, partition: u32) -> String {
        let of =
            |key: &str| self.connection.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix('=')).unwrap();
        let namespace = of("Endpoint").trim_start_matches("sb://").trim_end_matches('/');
        format!("{namespace}/{}/{}/checkpoint/{partition}", of("EntityPath"), self.consumer_group.to_lowercase())
    }

    /// Events that are still to be processed.
    fn lag(&self, id: u32, partition: &Partition, blobs: &BTreeMap<String, BTreeMap<String, String>>) -> i64 {
        // Partition information that is older than the checkpoint by up to so many events counts as caught up.
        const STALE: i64 = 10_000;
        let Partition { begin, last } = *partition;
        if last == -1 {
            return 0;
        }
        let Some(metadata) = blobs.get(&self.blob(id)) else {
            // One event that is not the hub's first can't be told from none: then it says none.
            let is_certain = begin != last || last == 0;
            return if is_certain { last - begin + 1 } else { 0 };
        };
        // The key is looked for in these two forms only, and the value has to be a number.
        let number = metadata.get("sequencenumber").or_else(|| metadata.get("Sequencenumber"));
        let checkpoint: i64 = number.expect("KEDA fails without a sequence number").parse().unwrap();
        let lag = if last >= checkpoint { last - checkpoint } else { i64::MAX - checkpoint + last };
        if lag > i64::MAX - STALE { 0 } else { lag }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_sees_the_true_lag() {
    let world = World::new().await;
    let hubs = vec![HubSpec { name: "flights".into(), partitions: PARTITIONS }];
    let config = EmulatorConfig { listen: "127.0.0.1:0".into(), hubs, ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await.unwrap();
    // Read to the end, empty, never read, read to before the end, never read its only event, read its only event.
    for (partition, count) in [(0, 40), (2, 25), (3, 30), (4, 1), (5, 1)] {
        publish(&emulator, partition, count);
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    let text = format!(
        r#"
        [namespace]
        fully-qualified-namespace = "Fleet.servicebus.windows.net"
        endpoint = "{}"
        credential = "none"
        [checkpoints]
        container = "{}"
        [host]
        owner = "host-0"
        cache = "cache"
        [[processor]]
        name = "identity"
        module = "{}"
        event-hub = "flights"
        partitions = ["0", "1", "3", "5"]
        outputs.default = {{ stdout = true }}
        dead-letter = {{ file = "rejected.ndjson" }}
        "#,
        emulator.endpoint(),
        world.url,
        guest("identity").display(),
    );
    fs::write(&file, text).unwrap();
    let run = move || {
        let weir = Weir::start(&mut command(["run".as_ref(), file.as_os_str()]));
        weir.wait_lines(40 + 30 + 1);
        weir.signal(libc::SIGTERM);
        weir.end().expect_code(0).stdout
    };
    let processed = tokio::task::spawn_blocking(run).await.unwrap();
    publish(&emulator, 3, 7);

    let keda = Keda {
        connection: "Endpoint=sb://fleet.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=s;EntityPath=flights",
        consumer_group: "$Default",
    };
    let blobs = world.blobs().await;
    let mut lags = Vec::new();
    for id in 0..PARTITIONS {
        let state = emulator.namespace().hub("flights").unwrap().partitions()[id as usize].state(now_ms());
        let partition = Partition { begin: state.begin, last: state.last };
        let lag = keda.lag(id, &partition, &blobs);
        // An output's id begins with the hub and the partition of its event.
        let done = processed.lines().filter(|line| line.contains(&format!("\"id\":\"flights/{id}/"))).count() as i64;
        assert_eq!(lag, state.last + 1 - done, "partition {id}: {done} processed; {blobs:?}");
        lags.push(lag);
    }
    assert_eq!(lags, [0, 0, 25, 7, 1, 0]);
}

fn publish(emulator: &Emulator, partition: u32, count: usize) {
    let events = vec![Incoming { tail: MessageParts::data("event".to_owned()).encode(), ..Incoming::default() }; count];
    emulator.namespace().publish("flights", partition, &events).unwrap();
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}
