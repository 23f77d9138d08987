//! From the file's tables to a [`Config`]: each section by itself; what sections mean for each other is in `check.rs`.

use std::collections::BTreeMap;
use std::path::{Path, absolute};

use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::{DeTable, DeValue};

use super::check;
use super::given::{Environment, Given};
use super::grants::grants;
use super::mistake::Mistake;
use super::read::{Reader, Table, integer};
use super::schema;
use super::sinks::{dead_letter, sink};
use super::text::kind_in_words;
use super::*;
use crate::options::Fleet;

/// A processor that was read, and its table for the checks that come later.
pub(super) struct Draft<'a> {
    pub(super) table: Table<'a>,
    pub(super) known: Known,
    /// `None`: something in it is wrong.
    pub(super) config: Option<ProcessorConfig>,
}

/// What of a processor matters to others and to other sections, however wrong the rest of it is. `None`: this was wrong.
pub(super) struct Known {
    pub(super) name: Option<Given<String>>,
    /// Namespace and hub.
    pub(super) input: Option<(NamespaceConfig, Given<String>)>,
    pub(super) consumer_group: Option<Given<String>>,
    pub(super) batch_bytes: Option<u64>,
    pub(super) memory: Option<u64>,
    /// Those that are right.
    pub(super) outputs: BTreeMap<String, SinkConfig>,
    pub(super) dead_letter: Option<SinkConfig>,
}

pub(super) fn parse(text: &str, file: &Path, environment: Environment<'_>) -> Result<Config, Vec<Mistake>> {
    alone(text, file, environment, &schema::ROOT, |root| whole(root, file))
}

/// Reads a file that holds one section. `build` notes what is wrong; `None` without a note is a mistake of ours.
pub(super) fn alone<T>(
    text: &str,
    file: &Path,
    environment: Environment<'_>,
    section: &'static schema::Section,
    build: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<T, Vec<Mistake>> {
    let directory = absolute(file).unwrap_or_else(|_| file.to_owned());
    let directory = directory.parent().unwrap_or(Path::new("."));
    let reader = Reader::new(text, directory, environment);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What follows from a broken line is not worth reading.
        for error in errors {
            reader.note(error.span().map_or(0, |span| span.start), "", None, format!("not TOML: {}", error.message()));
        }
        return Err(reader.into_mistakes());
    }
    let built = build(&Table::root(&reader, section, document.get_ref()));
    let mistakes = reader.into_mistakes();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    built.ok_or_else(|| {
        let why = "can't be read, and the reason was lost: please report this".into();
        vec![Mistake { line: 1, path: String::new(), value: None, why }]
    })
}

/// The whole file.
fn whole(root: &Table<'_>, file: &Path) -> Option<Config> {
    let checkpoints = checkpoints(&root.table("checkpoints"));
    let host_table = root.table("host");
    let host = host(&host_table);
    let log = log(&root.table("log"));
    let outer = root.has("namespace").then(|| namespace(&root.table("namespace")));
    let drafts = root.tables("processor", |number, table| match table.peek_text("name") {
        Some(name) => format!("processor[{name}]"),
        None => format!("processor[#{number}]"),
    });
    let draft = |table| {
        let (known, config) = processor(&table, outer.as_ref());
        Draft { table, known, config }
    };
    let drafts: Vec<_> = drafts.into_iter().map(draft).collect();
    if drafts.is_empty() && root.is_empty_list("processor") {
        root.note("processor", "is empty; add a [[processor]] section");
    }
    let warnings = check::across(&drafts, host.as_ref(), &host_table);

    let processors: Option<Vec<_>> = drafts.into_iter().map(|draft| draft.config).collect();

    Some(Config {
        file: file.to_owned(),
        checkpoints: checkpoints?,
        host: host?,
        log: log?,
        processors: processors?,
        warnings,
    })
}

/// `None`: something in it is wrong, or there is none.
fn checkpoints(table: &Table<'_>) -> Option<CheckpointsConfig> {
    let (directory, container) = (table.file("directory"), table.text("container"));
    let credential = table.choice("credential").and_then(|name| name.parse().ok());
    let (expiry, exclusive) = (table.duration("expiry"), table.flag("exclusive"));
    match (table.has("directory"), table.has("container")) {
        (true, true) => {
            table.note("container", "stands beside directory, and progress is kept in one place; remove one of them");
            None
        }
        (false, false) => {
            if table.is_present() {
                let why = "names no place; add directory = \"./checkpoints\" for one host, or container = \"https://…\" for several";
                table.note_whole(why);
            }
            None
        }
        (true, false) if table.has("expiry") => {
            table.note("expiry", "goes with container only; remove it");
            None
        }
        (true, false) if table.has("exclusive") => {
            table.note("exclusive", "goes with container only; remove it");
            None
        }
        (true, false) if table.has("credential") => {
            table.note("credential", "goes with container only; remove it");
            None
        }
        (true, false) => directory.map(CheckpointsConfig::Directory),
        (false, true) => {
            let sound = !table.has("credential") || credential.is_some();
            let exclusive = if table.has("exclusive") { exclusive? } else { false };
            let url = container.filter(|url| check::container(table, url, credential))?;
            let expiry = if table.has("expiry") { expiry? } else { Fleet::default().expiry };
            sound.then_some(CheckpointsConfig::Container {
                url: url.with_hidden_query(),
                credential,
                expiry,
                exclusive,
            })
        }
    }
}

fn partitions(value: &DeValue<'_>) -> Result<Vec<PartitionId>, String> {
    let wrong = || kind_in_words(schema::Kind::Partitions);
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(wrong)?;
    let id = |value: &toml::Spanned<DeValue<'_>>| {
        value.get_ref().as_str().filter(|id| !id.is_empty()).map(PartitionId::from).ok_or_else(wrong)
    };
    list.iter().map(id).collect()
}

fn host(table: &Table<'_>) -> Option<HostConfig> {
    let (owner, cache) = (table.text("owner"), table.file("cache"));
    let guest_threads = table.count("guest-threads").and_then(|n| usize::try_from(n).ok());
    let guest_stack = table.size("guest-stack");
    let memory = table.size("memory");
    let shutdown_deadline = table.duration("shutdown-deadline");
    let partitions_refresh = table.duration("partitions-refresh");
    let checkpoint_writes_per_minute = small(table.count("checkpoint-writes-per-minute"));
    Some(HostConfig {
        owner,
        memory: usize::try_from(memory?).ok()?,
        shutdown_deadline: shutdown_deadline?,
        partitions_refresh: partitions_refresh?,
        checkpoint_writes_per_minute,
        guest_threads,
        guest_stack: usize::try_from(guest_stack?).ok()?,
        cache,
    })
}

fn log(table: &Table<'_>) -> Option<LogConfig> {
    let format = table.choice("format").map(|format| if format == "json" { LogFormat::Json } else { LogFormat::Text });
    let level = table.text("level");
    Some(LogConfig { format: format?, level: level? })
}

/// `None`: something in it is wrong.
pub(super) fn namespace(table: &Table<'_>) -> Option<NamespaceConfig> {
    let fully_qualified = table.text("fully-qualified-namespace");
    let endpoint = table.text("endpoint");
    let credential = table.choice("credential").and_then(|name| name.parse().ok());
    let sound = !table.has("endpoint") || endpoint.is_some();
    let namespace = NamespaceConfig { fully_qualified: fully_qualified?, endpoint, credential: credential? };
    (sound && check::namespace(table, &namespace)).then_some(namespace)
}

fn processor(table: &Table<'_>, outer: Option<&Option<NamespaceConfig>>) -> (Known, Option<ProcessorConfig>) {
    let own = table.table("namespace");
    let namespace = match (own.is_present(), outer) {
        (true, _) => namespace(&own),
        (false, Some(outer)) => outer.clone(),
        (false, None) => {
            if !table.has("namespace") {
                let why = "is missing, here and for the file; add a [namespace] section with fully-qualified-namespace";
                table.note("namespace", why);
            }
            None
        }
    };
    let name = table.text("name");
    let module = table.file("module");
    let event_hub = table.text("event-hub");
    let consumer_group = table.text("consumer-group");
    let start = table.value("start", start);
    let max_partitions = table.count("max-partitions").and_then(|most| usize::try_from(most).ok());
    let assigned = if table.has("partitions") { Some(table.value("partitions", partitions)) } else { None };
    let missing = table.choice("on-missing-events").map(|policy| match policy {
        "stop" => MissingEvents::Stop,
        _ => MissingEvents::Continue,
    });
    let prefetch = small(table.count("prefetch"));
    let owner_level = table.count("owner-level");
    let stall_timeout = table.duration("stall-timeout");
    let batch_table = table.table("batch");
    let batch_bytes = batch_table.size("bytes");
    let batch = batch(&batch_table, batch_bytes);
    let checkpoint = checkpoint(&table.table("checkpoint"));
    let retry_table = table.table("retry");
    let attempts = small(retry_table.count("attempts"));
    let retry = backoff(&retry_table);
    let max_age = retry_table.duration("max-age");
    let on_poison = table.choice("on-poison").map(|policy| match policy {
        "stop" => OnPoison::Stop,
        "drop" => OnPoison::Drop,
        _ => OnPoison::DeadLetter,
    });
    let breaker = breaker(&table.table("breaker"));
    let publish = publish(&table.table("publish"));
    let reconnect = backoff(&table.table("reconnect"));
    let limits_table = table.table("limits");
    let memory = limits_table.size("memory");
    let limits = limits(&limits_table, memory);
    let grants = grants(&table.table("grants"));
    let config = guest_config(table);
    let outputs: Vec<_> = table
        .named("outputs")
        .into_iter()
        .map(|(output, table)| sink(&table, namespace.as_ref()).map(|sink| (output, sink)))
        .collect();
    let dead_letter = table.has("dead-letter").then(|| dead_letter(&table.table("dead-letter"), namespace.as_ref()));
    let known = Known {
        name: name.clone(),
        input: namespace.clone().zip(event_hub.clone()),
        consumer_group: consumer_group.clone(),
        batch_bytes,
        memory,
        outputs: outputs.iter().flatten().cloned().collect(),
        dead_letter: dead_letter.clone().flatten(),
    };
    let config = (|| {
        Some(ProcessorConfig {
            name: name?,
            module: module?,
            namespace: namespace?,
            event_hub: event_hub?,
            consumer_group: consumer_group?,
            start: start?,
            max_partitions,
            partitions: match assigned {
                Some(assigned) => Some(assigned?),
                None => None,
            },
            missing: missing?,
            prefetch: prefetch?,
            owner_level,
            stall_timeout: stall_timeout?,
            batch: batch?,
            checkpoint: checkpoint?,
            retry: RetryConfig { attempts: attempts?, backoff: retry?, max_age },
            on_poison: on_poison?,
            breaker: breaker?,
            publish: publish?,
            reconnect: reconnect?,
            limits: limits?,
            grants: grants?,
            config: config?,
            outputs: outputs.into_iter().collect::<Option<BTreeMap<_, _>>>()?,
            dead_letter: match dead_letter {
                Some(sink) => Some(sink?),
                None => None,
            },
        })
    })();
    (known, config)
}

fn small(count: Option<i64>) -> Option<u32> {
    count.and_then(|count| u32::try_from(count).ok())
}

fn batch(table: &Table<'_>, bytes: Option<u64>) -> Option<BatchConfig> {
    let (events, linger) = (table.count("events"), table.duration("linger"));
    Some(BatchConfig { events: usize::try_from(events?).ok()?, bytes: usize::try_from(bytes?).ok()?, linger: linger? })
}

fn checkpoint(table: &Table<'_>) -> Option<CheckpointConfig> {
    let (interval, events) = (table.duration("interval"), table.count("events"));
    let (attempts, timeout) = (small(table.count("attempts")), table.duration("timeout"));
    Some(CheckpointConfig {
        interval: interval?,
        events: u64::try_from(events?).ok()?,
        attempts: attempts?,
        timeout: timeout?,
    })
}

fn publish(table: &Table<'_>) -> Option<PublishConfig> {
    let (attempts, timeout, ahead) = (small(table.count("attempts")), table.duration("timeout"), table.count("ahead"));
    Some(PublishConfig { attempts: attempts?, timeout: timeout?, ahead: usize::try_from(ahead?).ok()? })
}

fn backoff(table: &Table<'_>) -> Option<BackoffConfig> {
    pauses(table, "backoff", "max-backoff")
}

fn breaker(table: &Table<'_>) -> Option<BreakerConfig> {
    let (failures, rest) = (small(table.count("failures")), pauses(table, "rest", "max-rest"));
    Some(BreakerConfig { failures: failures?, rest: rest? })
}

fn pauses(table: &Table<'_>, first: &'static str, max: &'static str) -> Option<BackoffConfig> {
    let pauses = (table.duration(first), table.duration(max));
    let backoff = BackoffConfig { first: pauses.0?, max: pauses.1? };
    check::backoff(table, backoff, (first, max)).then_some(backoff)
}

fn limits(table: &Table<'_>, memory: Option<u64>) -> Option<LimitsConfig> {
    let time = table.duration("time");
    let (outputs, output_bytes) = (table.count("outputs"), table.size("output-bytes"));
    let (held_events, state) = (table.count("held-events"), table.size("state"));
    let outputs_per_second = table.count("outputs-per-second").and_then(|n| u64::try_from(n).ok());
    let (table_elements, host_call_bytes) = (table.count("table-elements"), table.size("host-call-bytes"));
    let (lines, lines_per_second) = (table.count("log-lines"), table.count("log-lines-per-second"));
    let bytes_per_second = table.size("log-bytes-per-second");
    let metric_series = table.count("metric-series");
    Some(LimitsConfig {
        memory: usize::try_from(memory?).ok()?,
        time: time?,
        outputs: usize::try_from(outputs?).ok()?,
        output_bytes: usize::try_from(output_bytes?).ok()?,
        held_events: usize::try_from(held_events?).ok()?,
        state: usize::try_from(state?).ok()?,
        outputs_per_second,
        table_elements: usize::try_from(table_elements?).ok()?,
        host_call_bytes: usize::try_from(host_call_bytes?).ok()?,
        log_lines: u64::try_from(lines?).ok()?,
        log_lines_per_second: u64::try_from(lines_per_second?).ok()?,
        log_bytes_per_second: bytes_per_second?,
        metric_series: usize::try_from(metric_series?).ok()?,
    })
}

fn start(value: &DeValue<'_>) -> Result<Start, String> {
    let wrong = || kind_in_words(schema::Kind::Start);
    if let Some(text) = value.as_str() {
        return match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => Err(wrong()),
        };
    }
    let table = value.as_table().filter(|table| table.len() == 1).ok_or_else(wrong)?;
    let (key, value) = table.iter().next().ok_or_else(wrong)?;
    let value = value.get_ref();
    match (&**key.get_ref(), value.as_str(), value.as_datetime(), integer(value)) {
        ("sequence-number", _, _, Some(number)) if number >= 0 => Ok(Start::SequenceNumber(number)),
        ("enqueued-time", Some(text), _, _) => instant(text),
        ("enqueued-time", _, Some(time), _) => instant(&time.to_string()),
        _ => Err(wrong()),
    }
}

fn instant(text: &str) -> Result<Start, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "holds no instant; write date, time and zone, such as \"2026-01-01T00:00:00Z\"".to_owned())?;
    let milliseconds = i64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| "is out of range")?;
    Ok(Start::EnqueuedTime(milliseconds))
}

/// The module's settings as JSON, with the environment put into its strings.
fn guest_config(table: &Table<'_>) -> Option<Given<Arc<str>>> {
    let empty = || Some(Given::plain(Arc::from("{}")));
    if !table.has("config") {
        return empty();
    }
    table.value("config", |value| {
        if value.as_table().is_none() {
            return Err("is not a table; write it as { key = \"value\" }".into());
        }
        let (mut problems, mut secret) = (vec![], false);
        let real = json(value, &mut |text| match table.interpolated(text) {
            Ok(given) => {
                secret |= given.is_secret();
                given.into_inner()
            }
            Err(problem) => {
                problems.push(problem);
                String::new()
            }
        });
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let real: Arc<str> = real.to_string().into();
        Ok(match secret {
            true => Given::from_template(real, &json(value, &mut str::to_owned).to_string()),
            false => Given::plain(real),
        })
    })
}

fn json(value: &DeValue<'_>, text: &mut dyn FnMut(&str) -> String) -> Json {
    match value {
        DeValue::String(value) => Json::String(text(value)),
        DeValue::Integer(_) => integer(value).map_or(Json::Null, Json::from),
        DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(values) => values.iter().map(|value| json(value.get_ref(), text)).collect(),
        DeValue::Table(table) => {
            let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref(), text)));
            Json::Object(entries.collect())
        }
    }
}
