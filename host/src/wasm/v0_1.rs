//! weir:processor@0.1: the generated types, and their conversion into the host's one model. Nothing else knows them.
//!
//! Towards the guest nothing is copied on the host's side: a batch becomes one vector of heads that borrow from the events (and
//! one of properties, if any are handed over), and wasmtime writes from there into the guest's memory. The way back: `emit.rs`.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Result, Store};

use self::bindings::weir::processor::{fields, logging, metrics, secrets, types};
pub(super) use self::bindings::weir::processor::{state, timers};
use super::context::{Context, Mask, Properties};
use super::emit;
use super::text::clean;
use crate::guest::{Ack, CloseReason, Failure, OpenReason, Opening, Progress, Redelivery, Rejection};
use crate::model::{Event, Property, Timestamp, Value};

/// Bytes of a guest's reason that are kept.
const REASON: usize = 4 << 10;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::expect_used,
    unsafe_code,
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

/// A linked module of this version.
pub(super) type Pre = bindings::EventProcessorPre<Context>;

/// Links a compiled component to what the host provides, and checks the type of every function on both sides.
pub(super) fn link(engine: &wasmtime::Engine, component: &Component) -> Result<Pre> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    logging::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)?;
    fields::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)?;
    metrics::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)?;
    secrets::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)?;
    state::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)?;
    timers::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context)?;
    emit::link(&mut linker)?;
    Pre::new(linker.instantiate_pre(component)?)
}

/// A live component's exports.
pub(super) struct Guest(bindings::EventProcessor);

impl Guest {
    pub(super) async fn instantiate(pre: &Pre, store: &mut Store<Context>) -> Result<Self> {
        Ok(Self(pre.instantiate_async(store).await?))
    }

    pub(super) async fn open(&self, store: &mut Store<Context>, opening: &Opening) -> Result<Result<(), Failure>> {
        let opening = types::Opening {
            partition: types::Partition {
                namespace: &opening.scope.namespace,
                event_hub: &opening.scope.event_hub,
                consumer_group: &opening.scope.consumer_group,
                id: opening.partition.as_str(),
            },
            reason: match opening.reason {
                OpenReason::FirstStart => types::OpenReason::FirstStart,
                OpenReason::Restart => types::OpenReason::Restart,
                OpenReason::Claimed => types::OpenReason::Claimed,
                OpenReason::Swapped => types::OpenReason::Swapped,
                OpenReason::AfterTrap => types::OpenReason::AfterTrap,
            },
            checkpoint: opening.checkpoint.as_ref().map(|position| types::Checkpoint {
                sequence_number: position.sequence_number,
                offset: &position.offset,
            }),
            config: &opening.config,
        };
        let opened = self.0.weir_processor_processor().call_open(store, opening).await?;
        Ok(opened.map_err(failure))
    }

    pub(super) async fn process(&self, store: &mut Store<Context>, events: &[Event]) -> Result<Result<Ack, Failure>> {
        let mask = &store.data().mask;
        let properties = PropertyTable::new(events, mask);
        let heads: Vec<types::Event<'_>> =
            events.iter().enumerate().map(|(index, event)| head(event, mask, properties.of(index))).collect();
        let answer = self.0.weir_processor_processor().call_process(store, &heads).await?;
        Ok(answer.map(ack).map_err(failure))
    }

    pub(super) async fn tick(&self, store: &mut Store<Context>, now: Timestamp) -> Result<Result<Ack, Failure>> {
        let answer = self.0.weir_processor_processor().call_tick(store, now).await?;
        Ok(answer.map(ack).map_err(failure))
    }

    pub(super) async fn close(&self, store: &mut Store<Context>, reason: CloseReason) -> Result<()> {
        let reason = match reason {
            CloseReason::Shutdown => types::CloseReason::Shutdown,
            CloseReason::LostOwnership => types::CloseReason::LostOwnership,
            CloseReason::Released => types::CloseReason::Released,
            CloseReason::Swapped => types::CloseReason::Swapped,
        };
        self.0.weir_processor_processor().call_close(store, reason).await
    }
}

/// The properties of a whole batch in one vector, so that none is allocated per event.
struct PropertyTable<'a> {
    all: Vec<types::PropertyParam<'a>>,
    /// Where each event's properties end in `all`; empty when there are none at all.
    ends: Vec<usize>,
}

impl<'a> PropertyTable<'a> {
    fn new(events: &'a [Event], mask: &Mask) -> Self {
        let mut table = Self { all: Vec::new(), ends: Vec::new() };
        let wanted = match &mask.properties {
            Properties::All => None,
            Properties::Named(keys) if keys.is_empty() => return table,
            Properties::Named(keys) => Some(keys),
        };
        if events.iter().all(|event| event.properties.is_empty()) {
            return table;
        }
        table.ends.reserve_exact(events.len());
        for event in events {
            let chosen = |property: &&Property| wanted.is_none_or(|keys| keys.iter().any(|key| *key == *property.key));
            table.all.extend(event.properties.iter().filter(chosen).map(property_to_guest));
            table.ends.push(table.all.len());
        }
        table
    }

    fn of(&self, index: usize) -> &[types::PropertyParam<'a>] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |&start| start);
        self.all.get(start..end).unwrap_or_default()
    }
}

fn head<'a>(event: &'a Event, mask: &Mask, properties: &'a [types::PropertyParam<'a>]) -> types::Event<'a> {
    let metadata = types::Metadata {
        offset: if mask.offset { &event.offset } else { "" },
        content_type: event.content_type.as_deref().filter(|_| mask.content_type),
        message_id: event.message_id.as_deref().filter(|_| mask.message_id),
        correlation_id: event.correlation_id.as_deref().filter(|_| mask.correlation_id),
        properties,
    };
    let texts = [metadata.content_type, metadata.message_id, metadata.correlation_id];
    let says_something = mask.offset || !properties.is_empty() || texts.iter().any(Option::is_some);
    types::Event {
        sequence_number: event.sequence_number,
        enqueued_time: event.enqueued_time,
        partition_key: event.partition_key.as_deref(),
        metadata: says_something.then_some(metadata),
        body: &event.body,
    }
}

fn property_to_guest(property: &Property) -> types::PropertyParam<'_> {
    let value = match &property.value {
        Value::Null => types::ValueParam::Null,
        Value::Boolean(value) => types::ValueParam::Boolean(*value),
        Value::Integer(value) => types::ValueParam::Integer(*value),
        Value::Unsigned(value) => types::ValueParam::Unsigned(*value),
        Value::Double(value) => types::ValueParam::Double(*value),
        Value::Text(value) => types::ValueParam::Text(value),
        Value::Binary(value) => types::ValueParam::Binary(value),
        Value::Timestamp(value) => types::ValueParam::Timestamp(*value),
        Value::Uuid(value) => {
            let value = u128::from_be_bytes(*value);
            types::ValueParam::Uuid(((value >> 64) as u64, value as u64))
        }
        Value::Other(value) => types::ValueParam::Other(value),
    };
    types::PropertyParam { key: &property.key, value }
}

fn ack(ack: types::Ack) -> Ack {
    Ack {
        progress: match ack.progress {
            types::Progress::All => Progress::All,
            types::Progress::Hold => Progress::Hold,
            types::Progress::Through(number) => Progress::Through(number),
        },
        rejected: ack
            .rejected
            .into_iter()
            .map(|rejection| Rejection { index: rejection.index, reason: reason(&rejection.reason) })
            .collect(),
        redeliver: ack.redeliver.map(|redelivery| Redelivery {
            index: redelivery.index,
            after: redelivery.after.map(Duration::from_millis),
            reason: reason(&redelivery.reason),
        }),
    }
}

fn failure(failure: types::Failure) -> Failure {
    match failure {
        types::Failure::Retry(retry) => {
            Failure::Retry { after: retry.after.map(Duration::from_millis), reason: reason(&retry.reason) }
        }
        types::Failure::Fatal(why) => Failure::Fatal(reason(&why)),
    }
}

fn reason(text: &str) -> String {
    clean(text, REASON, false)
}

impl logging::Host for Context {
    fn log(&mut self, level: logging::Level, message: String, fields: Vec<(String, String)>) -> Result<()> {
        let level = match level {
            logging::Level::Trace => tracing::Level::TRACE,
            logging::Level::Debug => tracing::Level::DEBUG,
            logging::Level::Info => tracing::Level::INFO,
            logging::Level::Warn => tracing::Level::WARN,
            logging::Level::Error => tracing::Level::ERROR,
        };
        self.log.line(level, &message, &fields, Instant::now());
        Ok(())
    }
}

impl metrics::Host for Context {
    fn counter_add(&mut self, name: String, value: u64, labels: Vec<(String, String)>) -> Result<()> {
        self.metrics.count(name, value, labels);
        Ok(())
    }

    fn gauge_set(&mut self, name: String, value: f64, labels: Vec<(String, String)>) -> Result<()> {
        self.metrics.gauge(name, value, labels);
        Ok(())
    }

    fn histogram_record(&mut self, name: String, value: f64, labels: Vec<(String, String)>) -> Result<()> {
        self.metrics.record(name, value, labels);
        Ok(())
    }
}

impl secrets::Host for Context {
    fn get(&mut self, name: String) -> Result<std::result::Result<Vec<u8>, String>> {
        Ok(self.secret(&name))
    }
}

impl fields::Host for Context {
    fn select(&mut self, fields: Vec<String>) -> Result<Vec<String>> {
        let (mask, unknown) = Mask::select(fields);
        self.mask = mask;
        Ok(unknown)
    }
}
