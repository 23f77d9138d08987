//! Lines in, events out: what `weir send` and `weir dev --events` share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::say;
use crate::azure::{HubSink, Namespace, SinkOptions};
use crate::model::Output;
use crate::ndjson::{self, Record};
use crate::seams::{Sink as _, SinkError};

/// How lines become events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// Each line is a body, not JSON.
    pub(crate) plain: bool,
    /// For lines that name no key of their own.
    pub(crate) key: Option<String>,
    /// For all lines.
    pub(crate) partition: Option<String>,
    /// For lines that name none of their own.
    pub(crate) content_type: Option<String>,
    /// Whether a partition that a line names counts, rather than where a line was received from.
    pub(crate) keep_partition: bool,
    /// What to do about a line that is no JSON at all.
    pub(crate) hint: &'static str,
}

/// An input by name: a file, or `-` for standard input.
pub(crate) struct Input {
    pub(crate) name: String,
    lines: Box<dyn AsyncBufRead + Send + Unpin>,
}

impl Input {
    /// Lines that are there already.
    pub(crate) fn lines(name: String, lines: Vec<u8>) -> Self {
        Self { name, lines: Box::new(BufReader::new(std::io::Cursor::new(lines))) }
    }

    pub(crate) async fn open(file: &Path) -> Result<Self, Failure> {
        if file == Path::new("-") {
            return Ok(Self { name: "standard input".into(), lines: Box::new(BufReader::new(tokio::io::stdin())) });
        }
        let name = file.display().to_string();
        let opened = tokio::fs::File::open(file)
            .await
            .map_err(|error| Failure::failed(format!("can't read {name}: {error}")))?;
        Ok(Self { name, lines: Box::new(BufReader::with_capacity(1 << 18, opened)) })
    }
}

/// Events that are published together.
const CHUNK_EVENTS: usize = 2_000;
/// Bytes that are published together.
const CHUNK_BYTES: usize = 4 << 20;
/// A person who types, or a program that writes now and then, sees events go out after this.
const IDLE: Duration = Duration::from_millis(100);
/// How often a publish is tried. The service may be busy, or a connection end, at any time.
const ATTEMPTS: u32 = 6;

/// Sends every line of an input and answers how many there were. What was sent before an error stays sent.
pub(crate) async fn send(
    mut input: Input,
    reading: &Reading,
    namespace: &Namespace,
    hub: &str,
) -> Result<u64, Failure> {
    let mut sinks = Sinks { namespace, hub, by_partition: BTreeMap::new() };
    let (mut line, mut number, mut sent) = (Vec::new(), 0u64, 0u64);
    let mut chunk = Chunk::default();
    loop {
        let read = input.lines.read_until(b'\n', &mut line);
        let read = if chunk.is_empty() { Ok(read.await) } else { timeout(IDLE, read).await };
        let Ok(read) = read else {
            // The rest of a line comes later; what was read of it stays.
            sent += sinks.publish(&mut chunk, sent).await?;
            continue;
        };
        let read = read.map_err(|error| {
            Failure::failed(format!("can't read {}: {error}; {} before were sent", input.name, counted(sent)))
        })?;
        let ended = read == 0;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        number += 1;
        if !(text.is_empty() || (!reading.plain && text.iter().all(u8::is_ascii_whitespace))) {
            match record(text, reading) {
                Ok(record) => chunk.push(record),
                Err(why) => {
                    sent += sinks.publish(&mut chunk, sent).await?;
                    let text = format!(
                        "{}, line {number}: {why}; what stands before it was sent ({}), the rest was not",
                        input.name,
                        counted(sent)
                    );
                    return Err(Failure::failed(text));
                }
            }
        }
        line.clear();
        if ended || chunk.events >= CHUNK_EVENTS || chunk.bytes >= CHUNK_BYTES {
            sent += sinks.publish(&mut chunk, sent).await?;
        }
        if ended {
            for sink in sinks.by_partition.values() {
                sink.close().await;
            }
            return Ok(sent);
        }
    }
}

fn record(line: &[u8], reading: &Reading) -> Result<Record, String> {
    let mut record = match reading.plain {
        true => Record { body: Bytes::copy_from_slice(line), ..Record::default() },
        false => ndjson::parse(line).map_err(|error| match ndjson::begins_object(line) {
            true => format!("not an event: {error}"),
            false => format!("not an event: {error} ({})", reading.hint),
        })?,
    };
    record.key = record.key.or_else(|| reading.key.clone().map(Into::into));
    record.content_type = record.content_type.or_else(|| reading.content_type.clone().map(Into::into));
    record.partition = match &reading.partition {
        Some(partition) => Some(partition.clone()),
        None => record.partition.filter(|_| reading.keep_partition),
    };
    if record.partition.is_some() {
        // The service takes one or the other.
        record.key = None;
    }
    Ok(record)
}

#[derive(Default)]
struct Chunk {
    by_partition: BTreeMap<Option<String>, Vec<Output>>,
    events: usize,
    bytes: usize,
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.events == 0
    }

    fn push(&mut self, record: Record) {
        self.events += 1;
        self.bytes += record.body.len();
        let output = Output {
            // Not one that a host made: the sink stamps nothing.
            id: Default::default(),
            partition_key: record.key,
            content_type: record.content_type,
            message_id: record.message_id,
            correlation_id: record.correlation_id,
            properties: record.properties,
            body: record.body,
        };
        self.by_partition.entry(record.partition).or_default().push(output);
    }
}

struct Sinks<'a> {
    namespace: &'a Namespace,
    hub: &'a str,
    by_partition: BTreeMap<Option<String>, HubSink>,
}

impl Sinks<'_> {
    /// Publishes and empties the chunk; answers how many events it had.
    async fn publish(&mut self, chunk: &mut Chunk, before: u64) -> Result<u64, Failure> {
        let Chunk { by_partition, events, .. } = std::mem::take(chunk);
        for (partition, outputs) in by_partition {
            let sink = self.by_partition.entry(partition).or_insert_with_key(|partition| {
                let partition = partition.as_deref().map(Into::into);
                self.namespace.sink(self.hub, SinkOptions { partition, ..SinkOptions::default() })
            });
            if let Err(error) = deliver(sink, &outputs).await {
                let hub = self.hub;
                return Err(Failure::failed(format!("can't send to {hub}: {error}; sent before: {}", counted(before))));
            }
        }
        Ok(events as u64)
    }
}

/// Publishes, over passing errors; each repeat may make events arrive twice.
pub(crate) async fn deliver(sink: &HubSink, outputs: &[Output]) -> Result<(), SinkError> {
    let mut pause = Duration::from_millis(200);
    let mut attempt = 1;
    loop {
        match sink.publish(outputs).await {
            Err(SinkError::Transient(why)) if attempt < ATTEMPTS => {
                say(format_args!("sending again, some may arrive twice ({why})"));
                sleep(pause).await;
                pause *= 2;
                attempt += 1;
            }
            published => return published,
        }
    }
}

/// `1 event`, `2 events`.
pub(crate) fn counted(count: u64) -> String {
    format!("{count} event{}", if count == 1 { "" } else { "s" })
}

/// Reads the argument of an option that names a file of events.
pub(crate) fn file_or_stdin(file: Option<&PathBuf>) -> PathBuf {
    file.cloned().unwrap_or_else(|| "-".into())
}
