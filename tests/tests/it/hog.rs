//! A guest that never comes back, in a whole host: one thread for I/O, one for guests, a checkpoint per batch. Whoever could be held
//! up by it would be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_amqp::message::MessageParts;
use weir_host::azure::{Credential, Namespace, Timeouts};
use weir_host::batch::BatchLimits;
use weir_host::checkpoint::Cadence;
use weir_host::host::{Host, PartitionEnd, ProcessorSpec};
use weir_host::model::Scope;
use weir_host::options::ProcessorOptions;
use weir_host::testing::{MemorySink, MemoryStore};
use weir_host::wasm::{self, Engine, EngineOptions, Grants, Limits, ModuleSource};
use weir_tests::guests::guest;

use crate::hub::{HUB, PATIENCE, fill, incoming, namespace, soon, until};

const NEIGHBOURS: std::ops::RangeInclusive<u32> = 1..=3;
const WAVES: i64 = 10;
const WAVE: i64 = 50;

#[tokio::test(flavor = "current_thread")]
async fn a_hog_on_one_partition_holds_up_neither_the_others_checkpoints_nor_the_heartbeat() {
    let emulator = soon(namespace(4)).await;
    let engine = Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap();
    let module = engine.load(ModuleSource::File(guest("misbehave"))).await.unwrap();
    let store = MemoryStore::new();
    let out = MemorySink::new();
    let endpoint = emulator.endpoint();
    let azure = Namespace::new("localhost", Some(&endpoint), Credential::None).unwrap();
    let spec = ProcessorSpec {
        name: "hog".into(),
        scope: Scope { namespace: "localhost".into(), event_hub: HUB.into(), consumer_group: "$default".into() },
        source: Arc::new(azure.source(HUB, "$default", Timeouts::default())),
        store: Arc::new(store.clone()),
        processor: module
            .processor(wasm::ProcessorOptions {
                // The hog is never stopped while anybody looks.
                limits: Limits { time: 100 * PATIENCE, ..Limits::default() },
                grants: Grants { clocks: true, random: true, ..Grants::default() },
                ..wasm::ProcessorOptions::new("hog")
            })
            .unwrap(),
        outputs: BTreeMap::from([("default".to_owned(), Arc::new(out.clone()) as Arc<_>)]),
        dead_letter: None,
        options: ProcessorOptions {
            batch: BatchLimits { linger: Duration::from_millis(2), ..BatchLimits::default() },
            checkpoint: Cadence { interval: Duration::from_millis(10), events: 1 },
            ..ProcessorOptions::default()
        },
    };
    let host = Host::builder().shutdown_deadline(Duration::from_millis(100)).processor(spec).build().unwrap();
    let status = host.status();
    let hog = || status.snapshot().processors[0].partitions.first().cloned();
    let stop = CancellationToken::new();
    let run = tokio::spawn(host.run(stop.clone().cancelled_owned()));
    let beats = Arc::new(AtomicU32::new(0));
    let heart = tokio::spawn({
        let beats = Arc::clone(&beats);
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                beats.fetch_add(1, Ordering::Relaxed);
            }
        }
    });

    emulator.namespace().publish(HUB, 0, &[incoming(&MessageParts::data("loop"))]).unwrap();
    until("the hog has its event", || hog().is_some_and(|hog| hog.received == 1)).await;
    for wave in 1..=WAVES {
        let before = beats.load(Ordering::Relaxed);
        for partition in NEIGHBOURS {
            fill(&emulator, partition, WAVE);
        }
        for partition in NEIGHBOURS {
            let what = format!("partition {partition} is checkpointed to the end of wave {wave}");
            until(&what, || store.checkpoint(&partition.to_string()) == Some(wave * WAVE - 1)).await;
        }
        until("the heart goes on", || beats.load(Ordering::Relaxed) >= before + 10).await;
    }
    let hog = hog().unwrap();
    assert_eq!((hog.acknowledged, hog.traps, hog.retries), (0, 0, 0), "the hog was there all the time");
    assert_eq!(out.ids().len() as i64, WAVES * WAVE * NEIGHBOURS.count() as i64);

    // Nor does it hold up the end.
    stop.cancel();
    let outcome = soon(run).await.unwrap();
    let ends = &outcome.processors[0].partitions;
    assert!(matches!(ends[0].end, PartitionEnd::Unfinished(_)), "{outcome:?}");
    assert!(ends[1..].iter().all(|partition| matches!(partition.end, PartitionEnd::Stopped)), "{outcome:?}");
    heart.abort();
    emulator.shutdown().await;
}
