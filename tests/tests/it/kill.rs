//! The host is killed (SIGKILL) at random moments, twenty times over one run, while events keep coming. Nothing may be lost, nothing may be
//! checkpointed before its outputs are at the service, and only what no checkpoint covers may come again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use weir_amqp::message::{Message, MessageParts};
use weir_amqp::wire::ValueRef;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_host::local::DirectoryStore;
use weir_host::model::{OUTPUT_ID_PROPERTY, Scope};
use weir_host::seams::CheckpointStore as _;
use weir_tests::guests::guest;
use weir_tests::weir::{Weir, command};

use crate::hub::{now_ms, soon, until};

const PARTITIONS: u32 = 4;
const KILLS: usize = 20;
/// Printed when the story fails; set it to replay the same kills as far as timing allows.
const SEED: u64 = 0x5eed_2013;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_twenty_times_loses_nothing_and_repeats_only_what_no_checkpoint_covers() {
    let story = Story::begin().await;
    let mut random = StdRng::seed_from_u64(SEED);
    let mut committed = story.checkpoints().await;
    for kill in 0..KILLS {
        story.publish(400);
        let seen = story.arrivals();
        let weir = story.host(false);
        // From before its first line of code to far into the run; the process's own timing adds to the dice.
        match kill % 5 {
            1 => {}
            // About to claim.
            2 => drop(weir.wait_stderr("identity: identity.wasm")),
            // Claiming, or reading its checkpoints.
            3 => until("it connects", || story.emulator.namespace().connection_count() > 0).await,
            _ => {
                let more = random.random_range(1..1200);
                until("the outputs of this life arrive", || story.count() >= seen.total() + more).await;
            }
        }
        drop(weir.kill());
        until("the killed host's connections are gone", || story.emulator.namespace().connection_count() == 0).await;
        let checkpoints = story.checkpoints().await;
        story.check_life(kill, &seen, &committed, &checkpoints);
        committed = checkpoints;
    }

    story.publish(100);
    let seen = story.arrivals();
    story.host(true).end().expect_code(0);
    let last = story.checkpoints().await;
    story.check_life(KILLS, &seen, &committed, &last);
    let arrived = story.arrivals();
    for partition in 0..PARTITIONS {
        let all: BTreeSet<i64> = (0..story.published(partition)).collect();
        let outputs: BTreeSet<i64> = arrived.of(partition).iter().copied().collect();
        assert_eq!(outputs, all, "partition {partition}: each event's output, by id (seed {SEED:#x})");
        assert_eq!(last.get(&partition), all.last(), "partition {partition}: checkpoint at the end");
    }
    let repeats = arrived.total() - (0..PARTITIONS).map(|p| story.published(p) as usize).sum::<usize>();
    println!("{KILLS} kills, {} outputs, {repeats} of them repeats", arrived.total());
}

/// What arrived in the output hub: the source sequence numbers, by source partition, in the order of arrival.
#[derive(Default)]
struct Arrivals(BTreeMap<u32, Vec<i64>>);

impl Arrivals {
    fn of(&self, partition: u32) -> &[i64] {
        self.0.get(&partition).map_or(&[], Vec::as_slice)
    }

    fn total(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

struct Story {
    emulator: Emulator,
    directory: tempfile::TempDir,
}

impl Story {
    async fn begin() -> Self {
        let hubs = ["in", "out"].map(|name| HubSpec { name: name.into(), partitions: PARTITIONS });
        let config = EmulatorConfig { listen: "127.0.0.1:0".into(), hubs: hubs.into(), ..EmulatorConfig::default() };
        let emulator = soon(Emulator::start(config)).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let module = guest("identity");
        let file = format!(
            r#"
                [namespace]
                fully-qualified-namespace = "localhost"
                endpoint = "{}"
                credential = "none"
                [checkpoints]
                directory = "checkpoints"
                [host]
                owner = "killed"
                cache = "cache"
                [[processor]]
                name = "identity"
                module = "{}"
                event-hub = "in"
                batch = {{ events = 40, linger = "2 ms" }}
                checkpoint = {{ interval = "20 ms", events = 100 }}
                [processor.outputs.default]
                event-hub = "out"
            "#,
            emulator.endpoint(),
            module.display()
        );
        fs::write(directory.path().join("weir.toml"), file).unwrap();
        Self { emulator, directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the host.
    fn host(&self, until_caught_up: bool) -> Weir {
        let file = self.path().join("weir.toml");
        let mut command = command(["run".as_ref(), file.as_os_str()]);
        if until_caught_up {
            command.arg("--until-caught-up");
        }
        Weir::start(&mut command)
    }

    /// Adds so many events to each partition. The key names the partition, so that all outputs of one partition arrive in order.
    fn publish(&self, count: i64) {
        for partition in 0..PARTITIONS {
            let key = format!("from-{partition}");
            let next = self.published(partition);
            let events: Vec<_> = (next..next + count)
                .map(|n| Incoming {
                    tail: MessageParts::data(format!("{partition}/{n}")).encode(),
                    key: Some(key.clone()),
                    ..Incoming::default()
                })
                .collect();
            self.emulator.namespace().publish("in", partition, &events).unwrap();
        }
    }

    fn published(&self, partition: u32) -> i64 {
        self.range("in", partition).end
    }

    fn range(&self, hub: &str, partition: u32) -> Range<i64> {
        let state = self.emulator.namespace().hub(hub).unwrap().partitions()[partition as usize].state(now_ms());
        state.begin..state.last + 1
    }

    fn count(&self) -> usize {
        (0..PARTITIONS).map(|p| self.range("out", p).end as usize).sum()
    }

    fn arrivals(&self) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for partition in self.emulator.namespace().hub("out").unwrap().partitions() {
            let (mut from, mut runs) = (0, Vec::new());
            loop {
                let count = partition.read(from, 1000, &mut runs);
                if count == 0 {
                    break;
                }
                from += count as i64;
            }
            for (run, index) in runs.iter().flat_map(|run| (run.from..run.to).map(move |index| (run, index))) {
                let message = Message::parse(run.block.event_bytes(index)).unwrap();
                let body: Vec<u8> = message.data().flat_map(|data| data.unwrap()).collect();
                let id = output_id(&message);
                // Same event, same id, whenever and in whatever batch it was processed; and the body is the event's own.
                let (source, n) = parse_id(&id);
                assert_eq!(String::from_utf8(body).unwrap(), format!("{source}/{n}"), "output {id}");
                arrivals.0.entry(source).or_default().push(n);
            }
        }
        arrivals
    }

    async fn checkpoints(&self) -> BTreeMap<u32, i64> {
        let scope = Scope { namespace: "localhost".into(), event_hub: "in".into(), consumer_group: "$default".into() };
        let store = DirectoryStore::read_only(&self.path().join("checkpoints"), scope);
        let records = store.list().await.unwrap().partitions;
        records
            .into_iter()
            .filter_map(|record| {
                let checkpoint = record.checkpoint?;
                Some((record.partition.as_str().parse().unwrap(), checkpoint.position.sequence_number))
            })
            .collect()
    }

    /// What one life of the host must have left behind.
    fn check_life(&self, life: usize, before: &Arrivals, was: &BTreeMap<u32, i64>, is: &BTreeMap<u32, i64>) {
        let after = self.arrivals();
        for partition in 0..PARTITIONS {
            let context = format!("life {life}, partition {partition}, seed {SEED:#x}");
            let (was, is) = (was.get(&partition).copied().unwrap_or(-1), is.get(&partition).copied().unwrap_or(-1));
            assert!(is >= was, "{context}: the checkpoint went back from {was} to {is}");
            let arrived: BTreeSet<i64> = after.of(partition).iter().copied().collect();
            if let Some(missing) = (0..=is).find(|n| !arrived.contains(n)) {
                panic!("{context}: the checkpoint is at {is}, but the output of {missing} never arrived");
            }
            let new = &after.of(partition)[before.of(partition).len()..];
            if let Some(first) = new.first() {
                assert_eq!(*first, was + 1, "{context}: this life went on right behind the checkpoint");
            }
            assert!(
                new.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{context}: in order and without a gap, not {new:?}"
            );
        }
    }
}

pub(crate) fn output_id(message: &Message) -> String {
    let properties = message.application_properties().expect("an output has properties");
    match properties.get(OUTPUT_ID_PROPERTY) {
        Ok(Some(ValueRef::Str(id))) => id.to_owned(),
        other => panic!("an output without its id: {other:?}"),
    }
}

/// Partition and sequence number of `in/<partition>/<sequence number>/0`.
fn parse_id(id: &str) -> (u32, i64) {
    let parts: Vec<_> = id.split('/').collect();
    assert!(parts.len() == 4 && parts[0] == "in" && parts[3] == "0", "unexpected id {id}");
    (parts[1].parse().unwrap(), parts[2].parse().unwrap())
}
