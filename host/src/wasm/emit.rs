//! `outputs.emit`: takes a guest's outputs over from its memory.
//!
//! Not by the generated types, which allocate every body and every text on their own: here all of a call's outputs are copied into
//! a few blocks (see [`Arena`]). Every length is counted against the limits before anything is copied, so a guest that lets
//! thousands of outputs point at the same memory gains nothing.

use tokio::time::Instant;
use wasmtime::component::{ComponentType, Lift, Linker, WasmList, WasmStr};
use wasmtime::{Result, StoreContext, StoreContextMut};

use super::context::Context;
use super::instance::Limits;
use super::rate::Rate;
use super::text::{clean, size};
use crate::arena::Arena;
use crate::guest::{GuestOutput, Origin};
use crate::model::{Property, Value};
use crate::outputs::DEFAULT_OUTPUT;

/// The contract's interface.
const INTERFACE: &str = "weir:processor/outputs@0.1.0";

/// Bytes of texts that an output is expected to have: a key, an id.
const TEXTS: usize = 32;

/// What the guest emitted during a call.
pub(super) struct Outputs {
    pub(super) collected: Vec<GuestOutput>,
    bytes: usize,
    open: bool,
    /// Over all calls.
    rate: Option<Rate>,
}

impl Outputs {
    pub(super) fn new(per_second: Option<u64>, now: Instant) -> Self {
        let rate = per_second.map(|per_second| Rate::new(per_second, now));
        Self { collected: Vec::new(), bytes: 0, open: false, rate }
    }

    /// A call begins; `open` says whether it has a batch that outputs can belong to.
    pub(super) fn begin(&mut self, open: bool) {
        *self = Self { collected: Vec::new(), bytes: 0, open, rate: self.rate.take() };
    }

    fn too_fast(&mut self, more: usize, now: Instant) -> bool {
        self.rate.as_mut().is_some_and(|rate| !rate.allows(more as u64, now))
    }
}

/// `record output`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Emitted {
    origin: Option<Source>,
    target: Option<WasmStr>,
    #[component(name = "partition-key")]
    partition_key: Option<WasmStr>,
    #[component(name = "content-type")]
    content_type: Option<WasmStr>,
    #[component(name = "message-id")]
    message_id: Option<WasmStr>,
    #[component(name = "correlation-id")]
    correlation_id: Option<WasmStr>,
    properties: WasmList<Named>,
    body: WasmList<u8>,
}

/// `variant origin`.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum Source {
    #[component(name = "event")]
    Event(u32),
    #[component(name = "key")]
    Key(WasmStr),
}

/// `record property`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Named {
    key: WasmStr,
    value: Valued,
}

/// `variant value`.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum Valued {
    #[component(name = "null")]
    Null,
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "integer")]
    Integer(i64),
    #[component(name = "unsigned")]
    Unsigned(u64),
    #[component(name = "double")]
    Double(f64),
    #[component(name = "text")]
    Text(WasmStr),
    #[component(name = "binary")]
    Binary(WasmList<u8>),
    #[component(name = "timestamp")]
    Timestamp(i64),
    #[component(name = "uuid")]
    Uuid((u64, u64)),
    #[component(name = "other")]
    Other(WasmList<u8>),
}

/// Serves the import.
pub(super) fn link(linker: &mut Linker<Context>) -> Result<()> {
    linker.instance(INTERFACE)?.func_wrap("emit", |mut store, (emitted,): (Vec<Emitted>,)| {
        let more = emitted.len();
        let taken = take(&mut store, emitted, Instant::now())?;
        let outputs = &mut store.data_mut().outputs;
        Ok((match taken {
            Ok((taken, bytes)) => {
                outputs.bytes = bytes;
                if let Some(rate) = &mut outputs.rate {
                    rate.take(more as u64);
                }
                if outputs.collected.is_empty() {
                    outputs.collected = taken;
                } else {
                    outputs.collected.extend(taken);
                }
                Ok(())
            }
            Err(why) => Err(why),
        },))
    })
}

/// Takes outputs over, all of them or none; with the bytes of the call so far. The inner error is the guest's to handle.
fn take(
    store: &mut StoreContextMut<'_, Context>,
    emitted: Vec<Emitted>,
    now: Instant,
) -> Result<Result<(Vec<GuestOutput>, usize), String>> {
    let context = store.data_mut();
    if !context.outputs.open {
        return Ok(Err("outputs belong to a batch: emit them in `process`, not in `open` or `close`".into()));
    }
    let limits = &context.options.limits;
    if context.outputs.collected.len() + emitted.len() > limits.outputs {
        return Ok(Err(format!(
            "a call may emit {} outputs, and this one asks for more; raise limits.outputs, or lower batch.events",
            limits.outputs
        )));
    }
    if context.outputs.too_fast(emitted.len(), now) {
        return Ok(Err(format!(
            "a partition may emit {} outputs a second on average, and this one asks for more; raise limits.outputs-per-second",
            limits.outputs_per_second.unwrap_or(0)
        )));
    }
    let bodies = emitted.iter().fold(0, |all: usize, output| all.saturating_add(output.body.len()));
    let arena = Arena::with_capacity(bodies.saturating_add(emitted.len() * TEXTS).min(limits.output_bytes));
    let mut copy = Taking { arena, bytes: context.outputs.bytes, limit: limits.output_bytes };
    let mut taken = Vec::with_capacity(emitted.len());
    for output in emitted {
        match copy.output(store, output) {
            Ok(output) => taken.push(output),
            Err(Stop::Trap(error)) => return Err(error),
            Err(Stop::Limit) => return Ok(Err(too_much(&store.data().options.limits))),
            Err(Stop::Target(why)) => return Ok(Err(why)),
        }
    }
    Ok(Ok((taken, copy.bytes)))
}

fn too_much(limits: &Limits) -> String {
    format!(
        "a call may emit {} in all, and this one asks for more; raise limits.output-bytes, or lower batch.events",
        size(limits.output_bytes)
    )
}

/// Why copying ends early.
enum Stop {
    /// What the guest handed over is invalid.
    Trap(wasmtime::Error),
    /// It is too much.
    Limit,
    /// It goes nowhere.
    Target(String),
}

impl From<wasmtime::Error> for Stop {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

type Copied<T> = std::result::Result<T, Stop>;

struct Taking {
    arena: Arena,
    /// What all outputs of the call weigh: all that they say, and a flat sum, so that empty ones are not free.
    bytes: usize,
    limit: usize,
}

impl Taking {
    fn output(&mut self, store: &mut StoreContextMut<'_, Context>, output: Emitted) -> Copied<GuestOutput> {
        self.weigh(size_of::<GuestOutput>())?;
        let origin = match output.origin {
            None => None,
            Some(Source::Event(index)) => Some(Origin::Event(index)),
            Some(Source::Key(key)) => Some(Origin::Key(self.text(&*store, &key)?.to_string())),
        };
        let target = self.option(&*store, output.target.as_ref())?;
        let targets = &store.data().options.targets;
        let name = target.as_deref().unwrap_or(DEFAULT_OUTPUT);
        if !targets.iter().any(|known| known == name) {
            let known = if targets.is_empty() { "none".to_owned() } else { targets.join(", ") };
            let name = clean(name, 100, false);
            return Err(Stop::Target(format!("the deployment has no output {name:?}; it has {known}")));
        }
        Ok(GuestOutput {
            origin,
            target,
            partition_key: self.option(&*store, output.partition_key.as_ref())?,
            content_type: self.option(&*store, output.content_type.as_ref())?,
            message_id: self.option(&*store, output.message_id.as_ref())?,
            correlation_id: self.option(&*store, output.correlation_id.as_ref())?,
            properties: self.properties(store, &output.properties)?,
            body: self.binary(&*store, &output.body)?,
        })
    }

    fn properties(
        &mut self,
        store: &mut StoreContextMut<'_, Context>,
        list: &WasmList<Named>,
    ) -> Copied<Vec<Property>> {
        let mut properties = Vec::new();
        self.weigh(list.len().saturating_mul(size_of::<Property>()))?;
        properties.reserve_exact(list.len());
        for index in 0..list.len() {
            let Some(property) = list.get(&mut *store, index) else { break };
            let Named { key, value } = property?;
            let value = match value {
                Valued::Null => Value::Null,
                Valued::Boolean(value) => Value::Boolean(value),
                Valued::Integer(value) => Value::Integer(value),
                Valued::Unsigned(value) => Value::Unsigned(value),
                Valued::Double(value) => Value::Double(value),
                Valued::Text(value) => Value::Text(self.text(&*store, &value)?),
                Valued::Binary(value) => Value::Binary(self.binary(&*store, &value)?),
                Valued::Timestamp(value) => Value::Timestamp(value),
                Valued::Uuid((high, low)) => Value::Uuid((u128::from(high) << 64 | u128::from(low)).to_be_bytes()),
                Valued::Other(value) => Value::Other(self.binary(&*store, &value)?),
            };
            properties.push(Property { key: self.text(&*store, &key)?, value });
        }
        Ok(properties)
    }

    fn option<'a>(
        &mut self,
        store: impl Into<StoreContext<'a, Context>>,
        text: Option<&WasmStr>,
    ) -> Copied<Option<bytestring::ByteString>> {
        text.map(|text| self.text(store, text)).transpose()
    }

    fn text<'a>(
        &mut self,
        store: impl Into<StoreContext<'a, Context>>,
        text: &WasmStr,
    ) -> Copied<bytestring::ByteString> {
        let text = text.to_str(store)?;
        self.weigh(text.len())?;
        Ok(self.arena.text(&text))
    }

    fn binary<'a>(&mut self, store: impl Into<StoreContext<'a, Context>>, list: &WasmList<u8>) -> Copied<bytes::Bytes> {
        self.weigh(list.len())?;
        Ok(self.arena.bytes(list.as_le_slice(store)))
    }

    fn weigh(&mut self, bytes: usize) -> Copied<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limit { Err(Stop::Limit) } else { Ok(()) }
    }
}
