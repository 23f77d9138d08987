//! What the host adds to a guest call: CPU time per event of `Instance::process` against calling the same component with bare
//! wasmtime on one thread (an engine of its own, equally configured, the same typed bindings). The whole process's CPU time is
//! counted, so that the hop between the runtimes and the ticker are in it.
//!
//! `cargo xtask bench dispatch`. Rounds are interleaved, so that a noisy machine disturbs both sides alike; medians are shown.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark stops where it can't measure")]

use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use weir_host::guest::{Batch, Instance, OpenReason, Opening};
use weir_host::model::{Event, Property, Scope, Value};
use weir_host::state::PartitionState;
use weir_host::wasm::{Engine, EngineOptions, ModuleSource, ProcessorOptions};

const ROUNDS: usize = 41;
/// Events of one round.
const EVENTS: usize = 20_000;

fn main() {
    // `cargo test --benches` only wants to know that it builds and runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let module = guest("identity");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!(
        "CPU time per event, 1 KiB bodies, guest `identity` (every event emitted again), median of {rounds} rounds\n"
    );
    println!("{:<28}{:>10}{:>10}{:>8}", "batch", "wasmtime", "host", "ratio");
    for (name, count, properties) in
        [("100 events", 100, 0), ("500 events", 500, 0), ("100, 3 properties", 100, 3), ("500, 3 properties", 500, 3)]
    {
        let batch = Batch::new((0..count).map(|n| event(n, properties)).collect());
        let mut host = Host::new(&runtime, &module);
        let mut bare = bare::Bare::new(&runtime, &module);
        let calls = EVENTS / batch.events().len();
        let (mut of_host, mut of_bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            of_bare.push(cpu(|| (0..calls).for_each(|_| bare.process(&runtime, batch.events()))));
            of_host.push(cpu(|| runtime.block_on(host.process(&batch, calls))));
        }
        let per_event =
            |rounds: Vec<Duration>| median(rounds).as_nanos() as f64 / (calls * batch.events().len()) as f64;
        let (bare, host) = (per_event(of_bare), per_event(of_host));
        println!("{name:<28}{bare:>7.0} ns{host:>7.0} ns{:>8.2}", host / bare);
    }
}

struct Host {
    instance: Box<dyn Instance>,
}

impl Host {
    fn new(runtime: &Runtime, module: &[u8]) -> Self {
        let engine = Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap();
        let opening = Opening {
            scope: Scope { namespace: "n".into(), event_hub: "h".into(), consumer_group: "g".into() },
            partition: "0".into(),
            reason: OpenReason::FirstStart,
            checkpoint: None,
            config: "{}".into(),
            state: PartitionState::none(),
        };
        let instance = runtime.block_on(async {
            let source = ModuleSource::Bytes { name: "identity".into(), bytes: module.to_vec().into() };
            engine
                .load(source)
                .await
                .unwrap()
                .processor(ProcessorOptions::new("bench"))
                .unwrap()
                .open(opening)
                .await
                .unwrap()
        });
        Self { instance }
    }

    async fn process(&mut self, batch: &Batch, calls: usize) {
        for _ in 0..calls {
            let answer = self.instance.process(batch.clone()).await.unwrap();
            assert_eq!(answer.outputs.len(), batch.events().len());
        }
    }
}

/// The component called directly.
mod bare {
    use tokio::runtime::Runtime;
    use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
    use wasmtime::{Config, Store};
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
    use weir_host::model::{Event, Value};

    use self::bindings::weir::processor::types;

    #[allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unsafe_code,
        missing_docs,
        unreachable_pub,
        reason = "generated"
    )]
    mod bindings {
        wasmtime::component::bindgen!({
            path: "../wit",
            world: "event-processor",
            imports: { default: trappable },
            exports: { default: async },
            ownership: Borrowing { duplicate_if_necessary: true },
        });
    }

    struct Context {
        wasi: WasiCtx,
        table: ResourceTable,
        outputs: Vec<types::Output>,
    }

    impl WasiView for Context {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
        }
    }

    impl types::Host for Context {}

    impl bindings::weir::processor::outputs::Host for Context {
        fn emit(&mut self, outputs: Vec<types::Output>) -> wasmtime::Result<Result<(), String>> {
            self.outputs = outputs;
            Ok(Ok(()))
        }
    }

    pub(super) struct Bare {
        store: Store<Context>,
        guest: bindings::EventProcessor,
    }

    impl Bare {
        pub(super) fn new(runtime: &Runtime, module: &[u8]) -> Self {
            let engine = wasmtime::Engine::new(Config::new().epoch_interruption(true)).unwrap();
            let component = Component::from_binary(&engine, module).unwrap();
            let mut linker = Linker::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
            bindings::weir::processor::outputs::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)
                .unwrap();
            // What the guest imports besides it never calls.
            linker.define_unknown_imports_as_traps(&component).unwrap();
            let context =
                Context { wasi: WasiCtx::builder().build(), table: ResourceTable::new(), outputs: Vec::new() };
            let mut store = Store::new(&engine, context);
            store.set_epoch_deadline(1_000_000);
            let opening = types::Opening {
                partition: types::Partition { namespace: "n", event_hub: "h", consumer_group: "g", id: "0" },
                reason: types::OpenReason::FirstStart,
                checkpoint: None,
                config: "{}",
            };
            let guest = runtime.block_on(async {
                let guest = bindings::EventProcessor::instantiate_async(&mut store, &component, &linker).await.unwrap();
                guest.weir_processor_processor().call_open(&mut store, opening).await.unwrap().unwrap();
                guest
            });
            Self { store, guest }
        }

        pub(super) fn process(&mut self, runtime: &Runtime, events: &[Event]) {
            let properties: Vec<Vec<types::PropertyParam<'_>>> =
                events.iter().map(|event| event.properties.iter().map(property).collect()).collect();
            let heads: Vec<types::Event<'_>> = events
                .iter()
                .zip(&properties)
                .map(|(event, properties)| types::Event {
                    sequence_number: event.sequence_number,
                    enqueued_time: event.enqueued_time,
                    partition_key: event.partition_key.as_deref(),
                    // The events here have properties or nothing, and what says nothing is left out, as the host does.
                    metadata: (!properties.is_empty()).then_some(types::Metadata {
                        offset: "",
                        content_type: event.content_type.as_deref(),
                        message_id: event.message_id.as_deref(),
                        correlation_id: event.correlation_id.as_deref(),
                        properties,
                    }),
                    body: &event.body,
                })
                .collect();
            let answer = runtime.block_on(self.guest.weir_processor_processor().call_process(&mut self.store, &heads));
            answer.unwrap().unwrap();
            assert_eq!(std::mem::take(&mut self.store.data_mut().outputs).len(), events.len());
        }
    }

    fn property(property: &weir_host::model::Property) -> types::PropertyParam<'_> {
        let value = match &property.value {
            Value::Text(text) => types::ValueParam::Text(text),
            Value::Integer(value) => types::ValueParam::Integer(*value),
            other => unreachable!("not sent here: {other:?}"),
        };
        types::PropertyParam { key: &property.key, value }
    }
}

fn event(sequence_number: i64, properties: usize) -> Event {
    let properties = (0..properties)
        .map(|n| Property {
            key: format!("property-{n}").into(),
            value: if n % 2 == 0 { Value::Text("a value".into()) } else { Value::Integer(7) },
        })
        .collect();
    Event {
        sequence_number,
        offset: sequence_number.to_string().into(),
        enqueued_time: 1_700_000_000_000,
        partition_key: None,
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties,
        body: vec![b'x'; 1024].into(),
    }
}

/// A guest that `cargo xtask guests` has built: beside this benchmark's own directory.
fn guest(name: &str) -> Vec<u8> {
    let here = std::env::current_exe().unwrap();
    let target: PathBuf = here.ancestors().nth(3).expect("TARGET/PROFILE/deps/bench").into();
    let path = target.join(format!("wasm32-wasip2/guest/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask guests` first", path.display()))
}

/// The process's CPU time during `f`.
fn cpu(f: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap();
    let before = now();
    f();
    now() - before
}

fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort();
    rounds[rounds.len() / 2]
}
