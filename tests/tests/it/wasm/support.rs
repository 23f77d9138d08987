//! An engine, a guest on it, events for it.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use weir_host::guest::{Answer, Batch, Failure, Instance, OpenReason, Opening, TrapReport};
use weir_host::model::{Event, Scope};
use weir_host::state::PartitionState;
use weir_host::wasm::{Engine, EngineOptions, Grants, Limits, Module, ModuleSource, ProcessorOptions};
use weir_tests::guests::guest;

pub(super) fn engine() -> Engine {
    Engine::new(EngineOptions { threads: 1, ..EngineOptions::default() }).unwrap()
}

pub(super) async fn module(engine: &Engine, name: &str) -> Module {
    engine.load(ModuleSource::File(guest(name))).await.unwrap()
}

pub(super) fn options() -> ProcessorOptions {
    let grants = Grants { clocks: true, random: true, ..Grants::default() };
    ProcessorOptions { grants, ..ProcessorOptions::new("story") }
}

pub(super) fn opening(config: &Value, reason: OpenReason) -> Opening {
    Opening {
        scope: Scope { namespace: "localhost".into(), event_hub: "hub".into(), consumer_group: "$default".into() },
        partition: "0".into(),
        reason,
        checkpoint: None,
        config: config.to_string().into(),
        state: PartitionState::none(),
    }
}

/// Opens the guest that obeys its events.
pub(super) async fn misbehave(engine: &Engine, options: ProcessorOptions) -> Box<dyn Instance> {
    misbehave_with(engine, options, json!({})).await.unwrap()
}

pub(super) async fn misbehave_with(
    engine: &Engine,
    options: ProcessorOptions,
    config: Value,
) -> Result<Box<dyn Instance>, Failure> {
    module(engine, "misbehave").await.processor(options).unwrap().open(opening(&config, OpenReason::FirstStart)).await
}

/// What the guest makes of these commands, in an instance of its own.
pub(super) async fn obey(commands: &[&str]) -> Result<Answer, Failure> {
    obey_within(options(), commands).await
}

pub(super) async fn obey_within(options: ProcessorOptions, commands: &[&str]) -> Result<Answer, Failure> {
    misbehave(&engine(), options).await.process(batch(commands)).await
}

pub(super) fn limits(limits: Limits) -> ProcessorOptions {
    ProcessorOptions { limits, ..options() }
}

pub(super) fn in_time(time: Duration) -> ProcessorOptions {
    limits(Limits { time, ..Limits::default() })
}

/// Events with these bodies and the sequence numbers 100, 101, …
pub(super) fn batch(bodies: &[&str]) -> Batch {
    Batch::new((100..).zip(bodies).map(|(number, body)| event(number, body)).collect())
}

pub(super) fn event(sequence_number: i64, body: &str) -> Event {
    Event {
        sequence_number,
        offset: sequence_number.to_string().into(),
        enqueued_time: 1_700_000_000_000,
        partition_key: None,
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
        body: body.as_bytes().to_vec().into(),
    }
}

pub(super) fn trap(answer: Result<Answer, Failure>) -> TrapReport {
    match answer {
        Err(Failure::Trap(report)) => report,
        other => panic!("expected a trap, got {other:?}"),
    }
}

pub(super) fn bodies(answer: &Answer) -> Vec<&str> {
    answer.outputs.iter().map(|output| std::str::from_utf8(&output.body).unwrap()).collect()
}

/// The process's log from here on; lines of concurrent tests are in it too.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn capture() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::DEBUG)
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("no other logger in this process");
            log
        })
    }

    /// The lines that contain `needle`.
    pub(super) fn lines(&self, needle: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(needle)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
