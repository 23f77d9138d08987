//! What a guest's imports touch: its outputs, its log lines, its choice of metadata, its memory, and a WASI world in which
//! everything is closed that was not granted. One per instance; what is shared with others (a processor's grants, its metrics) is read
//! or added to, and tells an instance nothing of another one.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::budget::Slices;
use super::emit::Outputs;
use super::grants::Ready;
use super::http::Outgoing;
use super::instance::{Limits, ProcessorOptions};
use super::log::GuestLog;
use super::metrics::Measuring;
use super::module::Module;
use super::stdio::Capture;
use crate::guest::Opening;
use crate::model::{Event, PartitionId};
use crate::state::PartitionState;

/// Properties that a guest may select by name: the host looks for each in every event, on the guest's thread but not on its time.
const PROPERTY_KEYS: usize = 64;
/// Handles (streams, pollables, requests) that a guest may hold. Some stand for memory of the host.
const RESOURCES: usize = 256;
/// Bytes of the headers of one request or answer.
const HEADERS: usize = 32 << 10;
/// Random bytes of one call, which can't be cut off.
const RANDOM: u64 = 64 << 10;

/// What the instances of a processor share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) options: Arc<ProcessorOptions>,
    pub(super) grants: Arc<Ready>,
}

/// A store's data.
pub(super) struct Context {
    pub(super) options: Arc<ProcessorOptions>,
    pub(super) partition: PartitionId,
    pub(super) slices: Slices,
    pub(super) memory: Memory,
    pub(super) outputs: Outputs,
    pub(super) mask: Mask,
    pub(super) stderr: Capture,
    stdout: Capture,
    pub(super) log: GuestLog,
    pub(super) metrics: Measuring,
    /// Bytes of the engine's stacks, for the sentence.
    pub(super) stack: usize,
    grants: Arc<Ready>,
    pub(super) state: PartitionState,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    table: ResourceTable,
}

impl Context {
    /// `io`: where the work of its HTTP requests is done. The error is a sentence about a grant that doesn't hold any more.
    pub(super) fn new(
        module: &Module,
        Shared { options, grants }: Shared,
        opening: &Opening,
        io: Handle,
        now: Instant,
    ) -> Result<Self, String> {
        let engine = module.engine.options();
        let partition = opening.partition.clone();
        let (stdout, stderr) = (Capture::default(), Capture::default());
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(stdout.clone())
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM);
        grants.furnish(&mut wasi)?;
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADERS);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Ok(Self {
            memory: Memory::new(&options.limits),
            slices: Slices::new(options.limits.time, engine.tick),
            outputs: Outputs::new(options.limits.outputs_per_second, now),
            log: GuestLog::new(Arc::clone(&options), partition.clone(), module.digest(), now),
            metrics: Measuring::new(options.metrics.clone(), options.limits.metric_series),
            stack: engine.stack,
            options,
            partition,
            mask: Mask::default(),
            stderr,
            stdout,
            wasi: wasi.build(),
            http,
            outgoing: grants.outgoing(io),
            grants,
            state: opening.state.clone(),
            table,
        })
    }

    /// A secret, if the processor is granted it.
    pub(super) fn secret(&self, name: &str) -> Result<Vec<u8>, String> {
        self.grants.secrets.get(name)
    }

    /// A call begins. `events` is its batch, which a tick has none in; where outputs have nothing to belong to, it is `None`.
    pub(super) fn begin(&mut self, events: Option<&[Event]>) {
        self.outputs.begin(events.is_some());
        self.memory.refused = None;
        self.log.begin(events.unwrap_or_default());
    }

    /// A call ended; `answered` says whether what it measured counts.
    pub(super) fn settle(&mut self, answered: bool) {
        if let Some(refused) = self.metrics.settle(answered) {
            self.log.warn(&refused);
        }
        for refused in self.outgoing.notes() {
            self.log.warn(&refused);
        }
    }

    /// A call ended in an answer: what it wrote goes to the log.
    pub(super) fn flush(&mut self, now: Instant) {
        for (stream, capture) in [("stderr", &self.stderr), ("stdout", &self.stdout)] {
            self.log.output(stream, &capture.take(), now);
        }
        self.log.flush(now);
    }
}

/// Which parts of the metadata are handed over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mask {
    pub(super) offset: bool,
    pub(super) content_type: bool,
    pub(super) message_id: bool,
    pub(super) correlation_id: bool,
    pub(super) properties: Properties,
}

/// Which properties are handed over.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Properties {
    /// Every one.
    All,
    /// Those with these names; often none.
    Named(Vec<String>),
}

impl Default for Mask {
    /// Everything: a guest that never selects misses nothing.
    fn default() -> Self {
        Self { offset: true, content_type: true, message_id: true, correlation_id: true, properties: Properties::All }
    }
}

impl Mask {
    /// Hands over nothing but what is named, and tells which names mean nothing here. A later selection replaces an earlier one.
    pub(super) fn select(fields: Vec<String>) -> (Self, Vec<String>) {
        let none = Properties::Named(Vec::new());
        let mut mask =
            Self { offset: false, content_type: false, message_id: false, correlation_id: false, properties: none };
        let mut unknown = Vec::new();
        for field in fields {
            match field.as_str() {
                "offset" => mask.offset = true,
                "content-type" => mask.content_type = true,
                "message-id" => mask.message_id = true,
                "correlation-id" => mask.correlation_id = true,
                "properties" => mask.properties = Properties::All,
                _ => match (field.strip_prefix("property:"), &mut mask.properties) {
                    (Some(_), Properties::All) => {}
                    (Some(key), Properties::Named(keys)) if keys.len() < PROPERTY_KEYS => {
                        if !keys.iter().any(|known| known == key) {
                            keys.push(key.to_owned());
                        }
                    }
                    (Some(_), Properties::Named(_)) => unknown.push(field),
                    (None, _) => unknown.push(field),
                },
            }
        }
        (mask, unknown)
    }
}

/// A guest's linear memories and tables together, bounded.
pub(super) struct Memory {
    pub(super) limit: usize,
    pub(super) held: usize,
    /// Elements of all tables.
    pub(super) table_limit: usize,
    pub(super) elements: usize,
    /// What was asked for last during this call, and refused.
    pub(super) refused: Option<Refused>,
}

/// What didn't fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Bytes.
    Memory(usize),
    /// Elements of a table.
    Table(usize),
}

impl Memory {
    fn new(limits: &Limits) -> Self {
        Self { limit: limits.memory, held: 0, table_limit: limits.table_elements, elements: 0, refused: None }
    }

    fn grow(&mut self, by: usize) -> bool {
        match self.held.checked_add(by) {
            Some(held) if held <= self.limit => {
                self.held = held;
                true
            }
            _ => {
                self.refused = Some(Refused::Memory(by));
                false
            }
        }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond the maximum that the module itself declares, growing fails without us.
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let by = desired.saturating_sub(current);
        let elements = self.elements.saturating_add(by);
        if elements > self.table_limit {
            self.refused = Some(Refused::Table(by));
            return Ok(false);
        }
        let grown = self.grow(by.saturating_mul(size_of::<usize>()));
        if grown {
            self.elements = elements;
        }
        Ok(grown)
    }
}

impl WasiHttpView for Context {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_selection_replaces_everything_and_returns_what_it_does_not_know() {
        let (mask, unknown) = Mask::select(names(&["offset", "property:a", "sequence", "property:b"]));
        assert_eq!(unknown, names(&["sequence"]));
        assert!(mask.offset && !mask.content_type);
        assert_eq!(mask.properties, Properties::Named(names(&["a", "b"])));
        assert_eq!(Mask::select(Vec::new()).0.properties, Properties::Named(Vec::new()));
        assert_eq!(Mask::select(names(&["properties", "property:a"])).0.properties, Properties::All);
    }

    #[test]
    fn memory_is_counted_over_all_memories_and_tables() {
        let mut memory = Memory::new(&Limits { memory: 100, table_elements: 4, ..Limits::default() });
        assert!(memory.memory_growing(0, 60, None).is_ok_and(|grown| grown));
        assert!(memory.table_growing(0, 3, None).is_ok_and(|grown| grown));
        assert!(memory.memory_growing(0, 60, None).is_ok_and(|grown| !grown));
        assert_eq!((memory.held, memory.refused), (84, Some(Refused::Memory(60))));
        assert!(memory.memory_growing(60, 70, Some(65)).is_ok_and(|grown| !grown));
        assert_eq!(memory.refused, Some(Refused::Memory(60)), "beyond its own maximum is not our refusal");
        assert!(memory.table_growing(3, 5, None).is_ok_and(|grown| !grown));
        assert_eq!((memory.elements, memory.held, memory.refused), (3, 84, Some(Refused::Table(2))));
        assert!(memory.table_growing(3, 4, None).is_ok_and(|grown| grown));
    }
}
