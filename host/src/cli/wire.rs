//! From a configuration to a host that is ready to run: the one place that knows every adapter.
//!
//! What is wrong with one processor (its module, its checkpoints, its outputs) stays with it: the others are wired and run, and the
//! broken ones are reported, at the start and by the exit code.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::Failure;
use super::hub::namespace;
use super::stores::Stores;
use crate::azure::{BlobContainer, LetterContainer, Namespace, Patience, SinkOptions, Timeouts};
use crate::batch::BatchLimits;
use crate::checkpoint::Cadence;
use crate::clock::Clock;
use crate::config::{
    BackoffConfig, CheckpointsConfig, Config, Given, GrantsConfig, HostConfig, LimitsConfig, NamespaceConfig,
    ProcessorConfig, SecretConfig, SinkConfig, Start,
};
use crate::host::{Host, ProcessorSpec};
use crate::local::{FileSink, LetterDirectory, StdoutSink};
use crate::model::{OwnerId, Scope};
use crate::options::{self, BreakerPolicy, Delivery, Fleet, ProcessorOptions};
use crate::retry::{Backoff, RetryPolicy};
use crate::seams::Sink;
use crate::wasm::{Engine, EngineError, EngineOptions, Grants, Limits, Metrics, ModuleSource, SecretSource};

/// A host and what is to be said about it.
pub(crate) struct Wired {
    /// `None`: every processor is broken.
    pub(crate) host: Option<Host>,
    /// One line for each processor that is wired.
    pub(crate) starts: Vec<String>,
    /// One line for each processor that is not.
    pub(crate) broken: Vec<String>,
    /// What each module measures.
    pub(crate) metrics: Vec<(String, Metrics)>,
}

pub(crate) async fn wire(config: &Config, until_caught_up: bool) -> Result<Wired, Failure> {
    let owner = OwnerId::from(&*owner(&config.host));
    let engine = engine(config.host.guest_threads, Some(config.host.guest_stack), cache(&config.host))?;
    let stores = Stores::new(&config.checkpoints).map_err(Failure::failed)?;
    stores.check().await.map_err(Failure::failed)?;
    let mut wiring = Wiring {
        config,
        engine,
        owner: owner.clone(),
        stores,
        namespaces: vec![],
        files: HashMap::new(),
        metrics: vec![],
    };
    let (mut specs, mut starts, mut broken) = (vec![], vec![], vec![]);
    for processor in &config.processors {
        match wiring.processor(processor).await {
            Ok((spec, start)) => {
                specs.push(spec);
                starts.push(start);
            }
            Err(why) => broken.push(format!("processor `{}` does not run: {why}", processor.name)),
        }
    }
    if specs.is_empty() {
        return Ok(Wired { host: None, starts, broken, metrics: wiring.metrics });
    }
    let builder = Host::builder()
        .owner(owner)
        .memory(config.host.memory)
        .shutdown_deadline(config.host.shutdown_deadline)
        .checkpoint_writes_per_minute(config.host.checkpoint_writes_per_minute)
        .until_caught_up(until_caught_up);
    let builder = specs.into_iter().fold(builder, |builder, spec| builder.processor(spec));
    let host = builder.build().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Wired { host: Some(host), starts, broken, metrics: wiring.metrics })
}

struct Wiring<'a> {
    config: &'a Config,
    engine: Engine,
    owner: OwnerId,
    stores: Stores,
    /// One for each that is described: every further one would have threads and tokens of its own.
    namespaces: Vec<(NamespaceConfig, Namespace)>,
    /// Outputs to one file share its sink.
    files: HashMap<PathBuf, Arc<FileSink>>,
    metrics: Vec<(String, Metrics)>,
}

impl Wiring<'_> {
    async fn processor(&mut self, config: &ProcessorConfig) -> Result<(ProcessorSpec, String), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let module = self.engine.load(ModuleSource::File((*config.module).clone())).await.map_err(|e| text(&e))?;
        let hubs = self.namespace(&config.namespace)?;
        let scope = scope(config);
        // First of what can be in use: a second host is told about the checkpoints, which say who has them.
        let store = self.stores.open(&scope, &self.owner)?;
        let source = hubs.source(&config.event_hub, &config.consumer_group, Timeouts::default());
        let mut outputs: BTreeMap<String, Arc<dyn Sink>> = BTreeMap::new();
        for (name, sink) in &config.outputs {
            outputs.insert(name.clone(), self.sink(sink, config).await.map_err(|e| format!("output `{name}`: {e}"))?);
        }
        let dead_letter = match &config.dead_letter {
            Some(sink) => Some(self.sink(sink, config).await.map_err(|e| format!("dead letter: {e}"))?),
            None => None,
        };
        let start = format!(
            "{}: {} reads {scope}{}",
            config.name,
            module_line(&config.module, module.digest()),
            destinations(config)
        );
        let metrics = Metrics::default();
        self.metrics.push((config.name.to_string(), metrics.clone()));
        let processor = module.processor(crate::wasm::ProcessorOptions {
            name: config.name.as_str().into(),
            limits: limits(&config.limits),
            targets: outputs.keys().cloned().collect(),
            metrics,
            grants: grants(&config.grants),
        });
        let processor = processor.map_err(|e| text(&e))?;
        let spec = ProcessorSpec {
            name: config.name.clone().into_inner(),
            scope,
            source: Arc::new(source),
            store,
            processor,
            outputs,
            dead_letter,
            options: processor_options(config, self.config),
        };
        Ok((spec, start))
    }

    fn namespace(&mut self, config: &NamespaceConfig) -> Result<Namespace, String> {
        if let Some((_, made)) = self.namespaces.iter().find(|(known, _)| known == config) {
            return Ok(made.clone());
        }
        let made = namespace(config).map_err(|error| error.to_string())?;
        self.namespaces.push((config.clone(), made.clone()));
        Ok(made)
    }

    async fn sink(&mut self, sink: &SinkConfig, processor: &ProcessorConfig) -> Result<Arc<dyn Sink>, String> {
        Ok(match sink {
            SinkConfig::EventHub { namespace: config, event_hub } => {
                let options = SinkOptions { timeout: processor.publish.timeout, ..SinkOptions::default() };
                Arc::new(self.namespace(config)?.sink(event_hub, options))
            }
            SinkConfig::Directory(path) => {
                let letters = LetterDirectory::new(path);
                letters.create().map_err(|e| format!("can't make the directory {path:?}: {e}"))?;
                Arc::new(letters)
            }
            SinkConfig::Container { url, credential } => {
                let container = BlobContainer::new(url, *credential, Patience::default()).map_err(|e| e.to_string())?;
                // What it warns of is what checkpoints suffer from; a letter is written once.
                container.check().await.map_err(|e| e.to_string())?;
                Arc::new(LetterContainer::new(container))
            }
            SinkConfig::File(path) => match self.files.get(&**path) {
                Some(sink) => Arc::<FileSink>::clone(sink),
                None => {
                    let sink = Arc::new(FileSink::open(path).map_err(|e| e.to_string())?);
                    self.files.insert((**path).clone(), Arc::clone(&sink));
                    sink
                }
            },
            SinkConfig::Stdout => Arc::new(StdoutSink::new()),
        })
    }
}

/// What ownership and checkpoints are filed under.
pub(crate) fn scope(config: &ProcessorConfig) -> Scope {
    Scope {
        namespace: config.namespace.fully_qualified.clone().into_inner(),
        event_hub: config.event_hub.clone().into_inner(),
        consumer_group: config.consumer_group.clone().into_inner(),
    }
}

/// The guests' engine. A cache that nobody asked for may be missing; one that was configured may not.
pub(crate) fn engine(threads: Option<usize>, stack: Option<usize>, cache: Cache) -> Result<Engine, Failure> {
    let mut options = EngineOptions::default();
    if let Some(threads) = threads {
        options.threads = threads;
    }
    if let Some(stack) = stack {
        options.stack = stack;
    }
    let (directory, asked_for) = match cache {
        Cache::Configured(directory) => (Some(directory), true),
        Cache::Usual => (usual_cache(), false),
    };
    let bare = options.clone();
    options.cache = directory;
    match Engine::new(options) {
        Err(error @ EngineError::Cache { .. }) if !asked_for => {
            tracing::warn!(%error, "modules are compiled anew at each start; set [host] cache to a directory of this user");
            Engine::new(bare).map_err(|error| Failure::failed(error.to_string()))
        }
        engine => engine.map_err(|error| Failure::failed(error.to_string())),
    }
}

/// Where compiled modules are kept.
pub(crate) enum Cache {
    /// There, or it is an error.
    Configured(PathBuf),
    /// In the user's cache directory, if there is one.
    Usual,
}

fn cache(host: &HostConfig) -> Cache {
    host.cache.as_ref().map_or(Cache::Usual, |path| Cache::Configured((**path).clone()))
}

fn usual_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("weir"))
}

/// The configured name, else that of the machine. In lower case: the other clients take names that differ in their case for one.
fn owner(host: &HostConfig) -> String {
    let machine = || {
        let file = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = file.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok())?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    };
    let name = host.owner.clone().map(|owner| owner.into_inner()).or_else(machine);
    name.map_or_else(|| "host".into(), |name| name.trim().to_lowercase())
}

fn processor_options(config: &ProcessorConfig, file: &Config) -> ProcessorOptions {
    let backoff = |BackoffConfig { first, max }| Backoff { first, max };
    let retry =
        |attempts| RetryPolicy { attempts, backoff: config.retry.backoff.first, max_backoff: config.retry.backoff.max };
    ProcessorOptions {
        config: (*config.config).clone(),
        start: match config.start {
            Start::Earliest => options::Start::Earliest,
            Start::Latest => options::Start::Latest,
            Start::SequenceNumber(number) => options::Start::From(number),
            Start::EnqueuedTime(time) => options::Start::EnqueuedTime(time),
        },
        missing: config.missing,
        fleet: fleet(config, &file.checkpoints),
        held_events: config.limits.held_events,
        state_limit: config.limits.state,
        prefetch: config.prefetch,
        owner_level: config.owner_level,
        batch: BatchLimits { events: config.batch.events, bytes: config.batch.bytes, linger: config.batch.linger },
        checkpoint: Cadence { interval: config.checkpoint.interval, events: config.checkpoint.events },
        retry: retry(config.retry.attempts),
        delivery: Delivery {
            on_poison: config.on_poison,
            max_age: config.retry.max_age,
            breaker: BreakerPolicy { failures: config.breaker.failures, rest: backoff(config.breaker.rest) },
        },
        sink_retry: retry(config.publish.attempts),
        sink_timeout: config.publish.timeout,
        store_retry: retry(config.checkpoint.attempts),
        store_timeout: config.checkpoint.timeout,
        reconnect: backoff(config.reconnect),
        stall: config.stall_timeout,
        emit_ahead: config.publish.ahead,
        partition_refresh: file.host.partitions_refresh,
        clock: Clock::default(),
    }
}

/// A container is for a fleet. In a directory, a host that takes only some partitions follows the same rules, alone.
fn fleet(config: &ProcessorConfig, checkpoints: &CheckpointsConfig) -> Option<Fleet> {
    let (expiry, exclusive) = match checkpoints {
        CheckpointsConfig::Container { expiry, exclusive, .. } => (*expiry, *exclusive),
        CheckpointsConfig::Directory(_) if config.max_partitions.is_some() || config.partitions.is_some() => {
            (Fleet::default().expiry, false)
        }
        CheckpointsConfig::Directory(_) => return None,
    };
    Some(Fleet { expiry, most: config.max_partitions, assignment: config.partitions.clone(), exclusive })
}

pub(super) fn limits(config: &LimitsConfig) -> Limits {
    Limits {
        memory: config.memory,
        time: config.time,
        outputs: config.outputs,
        output_bytes: config.output_bytes,
        outputs_per_second: config.outputs_per_second,
        table_elements: config.table_elements,
        host_call_bytes: config.host_call_bytes,
        log_lines: config.log_lines,
        log_lines_per_second: config.log_lines_per_second,
        log_bytes_per_second: config.log_bytes_per_second,
        metric_series: config.metric_series,
    }
}

pub(super) fn grants(config: &GrantsConfig) -> Grants {
    let plain = |(name, value): (&String, &Given<String>)| (name.clone(), value.clone().into_inner());
    let place = |(name, path): (&String, &Given<PathBuf>)| (name.clone(), path.clone().into_inner());
    let secret = |(name, secret): (&String, &SecretConfig)| {
        let source = match secret {
            SecretConfig::Variable(value) => SecretSource::Value(value.clone().into_inner()),
            SecretConfig::File(path) => SecretSource::File(path.clone().into_inner()),
        };
        (name.clone(), source)
    };
    Grants {
        clocks: config.clocks,
        random: config.random,
        environment: config.environment.iter().map(plain).collect(),
        directories: config.directories.iter().map(place).collect(),
        secrets: config.secrets.iter().map(secret).collect(),
        http: config.http.clone(),
    }
}

fn module_line(path: &Path, digest: &str) -> String {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    format!("{name} ({})", digest.get(..12).unwrap_or(digest))
}

/// Where outputs go, for the start line.
fn destinations(config: &ProcessorConfig) -> String {
    let name = |sink: &SinkConfig| match sink {
        SinkConfig::EventHub { event_hub, .. } => event_hub.to_string(),
        SinkConfig::File(path) | SinkConfig::Directory(path) => format!("{path:?}"),
        SinkConfig::Container { url, .. } => url.to_string(),
        SinkConfig::Stdout => "standard output".into(),
    };
    let outputs = config.outputs.iter().map(|(output, sink)| format!(", {output} → {}", name(sink)));
    let dead = config.dead_letter.iter().map(|sink| format!(", rejected → {}", name(sink)));
    outputs.chain(dead).collect()
}
