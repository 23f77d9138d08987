//! What a guest's imports touch: its outputs, its log lines, its choice of metadata, its memory, and a WASI world in which
//! everything is closed. One per instance; nothing of it is shared with another one.

use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::budget::Slices;
use super::emit::Outputs;
use super::instance::ProcessorOptions;
use super::stdio::Capture;
use super::text::clean;
use crate::model::PartitionId;

/// Log lines of one call; what is beyond is counted.
const LOG_LINES: u32 = 1000;
/// Bytes of one log line's message, and of all its fields.
const LOG_BYTES: usize = 4 << 10;
/// Properties that a guest may select by name: the host looks for each in every event, on the guest's thread but not on its time.
const PROPERTY_KEYS: usize = 64;
/// Handles (streams, pollables) that a guest may hold.
const RESOURCES: usize = 1000;

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
    lines: u32,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl Context {
    pub(super) fn new(options: Arc<ProcessorOptions>, partition: PartitionId, slices: Slices) -> Self {
        let (stdout, stderr) = (Capture::default(), Capture::default());
        let wasi = WasiCtxBuilder::new()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self {
            memory: Memory { limit: options.limits.memory, held: 0, refused: None },
            options,
            partition,
            slices,
            outputs: Outputs::default(),
            mask: Mask::default(),
            stderr,
            stdout,
            lines: 0,
            wasi,
            table,
        }
    }

    /// A call begins; `batch` says whether outputs have one to belong to.
    pub(super) fn begin(&mut self, batch: bool) {
        self.outputs.begin(batch);
        self.memory.refused = None;
        self.lines = 0;
    }

    /// A call ended in an answer: what it wrote goes to the log, where it is of interest.
    pub(super) fn flush(&mut self) {
        if self.lines > LOG_LINES {
            let dropped = self.lines - LOG_LINES;
            tracing::warn!(target: "weir::guest", processor = %self.options.name, partition = %self.partition,
                "{dropped} more log lines of this call were dropped (a call may write {LOG_LINES})");
        }
        for (stream, capture) in [("stderr", &self.stderr), ("stdout", &self.stdout)] {
            let text = capture.take();
            if !text.is_empty() {
                tracing::info!(target: "weir::guest", processor = %self.options.name, partition = %self.partition, stream, "{text}");
            }
        }
    }

    /// A log line of the guest's.
    pub(super) fn log(&mut self, level: tracing::Level, message: &str, fields: &[(String, String)]) {
        self.lines = self.lines.saturating_add(1);
        if self.lines > LOG_LINES {
            return;
        }
        let (processor, partition) = (&self.options.name, &self.partition);
        // A level is part of a call site, so each needs one.
        macro_rules! line {
            ($level:expr) => {
                if tracing::enabled!(target: "weir::guest", $level) {
                    let message = clean(message, LOG_BYTES, false);
                    let fields = pairs(fields);
                    tracing::event!(target: "weir::guest", $level, %processor, %partition, fields, "{message}");
                }
            };
        }
        match level {
            tracing::Level::TRACE => line!(tracing::Level::TRACE),
            tracing::Level::DEBUG => line!(tracing::Level::DEBUG),
            tracing::Level::INFO => line!(tracing::Level::INFO),
            tracing::Level::WARN => line!(tracing::Level::WARN),
            _ => line!(tracing::Level::ERROR),
        }
    }
}

/// `key=value` pairs, as many as fit.
fn pairs(fields: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in fields {
        if text.len() > LOG_BYTES {
            text.push_str(" …");
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&clean(key, LOG_BYTES, false));
        text.push('=');
        text.push_str(&clean(value, LOG_BYTES, false));
    }
    text
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
    /// What was asked for and refused during this call, in bytes.
    pub(super) refused: Option<usize>,
}

impl Memory {
    fn grow(&mut self, by: usize) -> bool {
        match self.held.checked_add(by) {
            Some(held) if held <= self.limit => {
                self.held = held;
                true
            }
            _ => {
                self.refused = Some(by);
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
        let bytes = desired.saturating_sub(current).saturating_mul(size_of::<usize>());
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(bytes))
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
        let mut memory = Memory { limit: 100, held: 0, refused: None };
        assert!(memory.memory_growing(0, 60, None).is_ok_and(|grown| grown));
        assert!(memory.table_growing(0, 3, None).is_ok_and(|grown| grown));
        assert!(memory.memory_growing(0, 60, None).is_ok_and(|grown| !grown));
        assert_eq!((memory.held, memory.refused), (84, Some(60)));
        assert!(memory.memory_growing(60, 70, Some(65)).is_ok_and(|grown| !grown));
        assert_eq!(memory.refused, Some(60), "beyond its own maximum is not our refusal");
    }
}
