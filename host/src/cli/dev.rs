//! `weir dev`: a module, a namespace of its own, and events from a file or from any client.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec};

use super::failure::Failure;
use super::outgoing::{Input, Reading};
use super::signals::Signals;
use super::wire::{self, Cache};
use super::{outgoing, run, say, summary};
use crate::azure::{Credential, Namespace, Timeouts};
use crate::config::{GrantsConfig, ProcessorConfig};
use crate::dead_letter::REASON_PROPERTY;
use crate::host::{Host, ProcessorSpec};
use crate::local::DirectoryStore;
use crate::model::{Output, OwnerId, Scope, Value};
use crate::ndjson;
use crate::options::{BreakerPolicy, Delivery, ProcessorOptions};
use crate::outputs::DEFAULT_OUTPUT;
use crate::seams::{Sink, SinkError};
use crate::wasm::{Grants, Limits, Metrics, Module, ModuleError, ModuleSource, Need};

/// Try a module: a local namespace, its events in, its outputs on standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dev delays.wasm --events in.ndjson                     run over a file and end
  weir dev delays.wasm --events in.ndjson | jq .body          outputs are lines of JSON
  weir dev delays.wasm --config '{\"late-by-minutes\": 30}'     wait for what any client sends
  weir dev delays.wasm --events in.ndjson --data ./try        the next run goes on from here

Events of one key keep their order. Lines of --events look like {\"body\": …, \"key\": …,
\"properties\": {…}} (see `weir send --help`). Outputs go to standard output; rejected events, log
lines (the module's too) and the table at the end go to standard error.")]
pub(crate) struct DevArgs {
    /// The component to run
    #[arg(value_name = "MODULE.wasm")]
    module: PathBuf,
    /// Send the lines of this file (- for standard input), and end when they are processed
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Go on after the file's events, for what other clients send
    #[arg(long, requires = "events")]
    keep_running: bool,
    /// Partitions of the hub
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: u32,
    /// The hub's name
    #[arg(long, value_name = "NAME", default_value = "events")]
    hub: String,
    /// Where clients connect [default: 127.0.0.1:5672, with --events a free port]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Keep events and checkpoints in this directory [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The module's settings: a JSON object, or @FILE that holds one
    #[arg(long, value_name = "JSON", default_value = "{}")]
    config: String,
    /// What the module may use: a file with the keys of [processor.grants]
    /// [default: the clock and random numbers, if it needs them]
    #[arg(long, value_name = "FILE.toml")]
    grants: Option<PathBuf>,
    /// Another output that the module may emit to, besides default; repeat for more
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
}

pub(crate) async fn dev(args: DevArgs) -> Result<(), Failure> {
    let input = match &args.events {
        Some(file) => Some(Input::open(file).await?),
        None => None,
    };
    let module = load(&args.module).await?;
    let grants = match &args.grants {
        Some(file) => wire::grants(&GrantsConfig::load(file)?),
        None => usual_grants(&module),
    };
    let trial = Trial {
        module,
        limits: Limits::default(),
        grants,
        failures: BreakerPolicy::default().failures,
        hint: "\n(here: without the header, in a file that --grants names)",
    };
    try_out(args, input, trial).await
}

/// A module, and how it is tried.
struct Trial {
    module: Module,
    limits: Limits,
    grants: Grants,
    /// Events in a row that may fail.
    failures: u32,
    /// Where to write what is missing among the grants.
    hint: &'static str,
}

async fn load(module: &Path) -> Result<Module, Failure> {
    let engine = wire::engine(None, None, Cache::Usual)?;
    let loaded = engine.load(ModuleSource::File(module.to_owned())).await;
    loaded.map_err(|error| Failure::failed(error.to_string()))
}

/// Runs a module over events as this processor would, and ends with them, without keeping anything.
pub(crate) async fn try_over(module: PathBuf, processor: &ProcessorConfig, events: Input) -> Result<(), Failure> {
    let outputs = processor.outputs.keys().filter(|name| *name != DEFAULT_OUTPUT).cloned().collect();
    let trial = Trial {
        module: load(&module).await?,
        limits: wire::limits(&processor.limits),
        grants: wire::grants(&processor.grants),
        // Letters are events at which modules fail: a row of failures says nothing of this one.
        failures: u32::MAX,
        hint: "",
    };
    let args = DevArgs {
        module,
        events: None,
        keep_running: false,
        partitions: 1,
        hub: "events".into(),
        listen: None,
        data: None,
        config: processor.config.to_string(),
        grants: None,
        outputs,
    };
    try_out(args, Some(events), trial).await
}

async fn try_out(args: DevArgs, input: Option<Input>, trial: Trial) -> Result<(), Failure> {
    let config = guest_config(&args.config)?;
    let names = || std::iter::once("default").chain(args.outputs.iter().map(String::as_str));
    let outputs: BTreeMap<_, _> =
        names().map(|name| (name.to_owned(), Arc::new(Printed { name: name.to_owned() }) as Arc<dyn Sink>)).collect();
    let metrics = Metrics::default();
    let processor = trial.module.processor(crate::wasm::ProcessorOptions {
        targets: outputs.keys().cloned().collect(),
        metrics: metrics.clone(),
        limits: trial.limits,
        grants: trial.grants,
        ..crate::wasm::ProcessorOptions::new("dev")
    });
    let processor = processor.map_err(|error| {
        let hint = if matches!(error, ModuleError::Ungranted { .. }) { trial.hint } else { "" };
        Failure::failed(format!("{error}{hint}"))
    })?;
    let directory = Directory::new(args.data.clone())?;
    let finite = input.is_some() && !args.keep_running;
    let listen = args.listen.clone().unwrap_or_else(|| match input {
        Some(_) => "127.0.0.1:0".into(),
        None => "127.0.0.1:5672".into(),
    });
    let emulator = Emulator::start(EmulatorConfig {
        listen,
        hubs: vec![HubSpec { name: args.hub.clone(), partitions: args.partitions }],
        data: args.data.as_ref().map(|data| data.join("namespace")),
        ..EmulatorConfig::default()
    });
    let emulator = emulator.await.map_err(|error| Failure::failed(error.to_string()))?;
    let endpoint = emulator.endpoint();
    let namespace = Namespace::new("localhost", Some(&endpoint), Credential::None)
        .map_err(|error| Failure::failed(error.to_string()))?;
    say(format_args!("the hub {} is at {endpoint} ({})", args.hub, emulator.connection_string(Some(&args.hub))));
    let signals = Signals::listen(|| say("stopping; a second signal stops at once"))?;
    if let Some(input) = input {
        let reading = Reading {
            keep_partition: true,
            hint: "text goes in as it is with `weir dev` alone and `weir send --lines`",
            ..Reading::default()
        };
        let name = input.name.clone();
        let sending = outgoing::send(input, &reading, &namespace, &args.hub);
        let sent = tokio::select! {
            sent = sending => sent?,
            () = signals.drain.cancelled() => return Err(Failure::Unfinished("stopped while sending the events".into())),
        };
        say(format_args!("sent {} of {name}", outgoing::counted(sent)));
    } else {
        say(format_args!("waiting for events: weir send --endpoint {endpoint} --hub {} in.ndjson", args.hub));
    }

    let owner = OwnerId::from("dev");
    let scope = Scope { namespace: "localhost".into(), event_hub: args.hub.clone(), consumer_group: "$default".into() };
    let store = DirectoryStore::open(&directory.path.join("checkpoints"), scope.clone(), &owner)
        .map_err(|error| Failure::failed(error.to_string()))?;
    let breaker = BreakerPolicy { failures: trial.failures, ..BreakerPolicy::default() };
    let delivery = Delivery { breaker, ..Delivery::default() };
    let host = Host::builder()
        .owner(owner)
        .until_caught_up(finite)
        .processor(ProcessorSpec {
            name: "dev".into(),
            source: Arc::new(namespace.source(&scope.event_hub, &scope.consumer_group, Timeouts::default())),
            scope,
            store: Arc::new(store),
            processor,
            outputs,
            dead_letter: Some(Arc::new(Rejected)),
            options: ProcessorOptions { config: config.into(), delivery, ..ProcessorOptions::default() },
        })
        .build()
        .map_err(|error| Failure::failed(error.to_string()))?;
    let status = host.status();
    let outcome = tokio::select! {
        outcome = host.run(signals.drain.clone().cancelled_owned()) => Some(outcome),
        () = signals.stop.cancelled() => None,
    };
    summary::show(&status.snapshot(), false);
    summary::measured(&[("dev".to_owned(), metrics)], false);
    emulator.shutdown().await;
    match outcome {
        Some(outcome) => run::verdict(&outcome, &[]),
        None => Err(Failure::Unfinished("stopped at once by a second signal".into())),
    }
}

/// What needs no more than a yes is granted for trying out, and said, so that nobody misses it later.
fn usual_grants(module: &Module) -> Grants {
    let needs = |need| module.report().needs.contains(&need);
    let (clocks, random) = (needs(Need::Clocks), needs(Need::Random));
    let granted: Vec<_> =
        [(clocks, Need::Clocks), (random, Need::Random)].into_iter().filter(|(needed, _)| *needed).collect();
    if !granted.is_empty() {
        let granted: Vec<_> = granted.iter().map(|(_, need)| need.to_string()).collect();
        say(format_args!(
            "granted for trying out: {}; weir.toml must say so under [processor.grants]",
            granted.join(", ")
        ));
    }
    Grants { clocks, random, ..Grants::default() }
}

fn guest_config(text: &str) -> Result<String, Failure> {
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("can't read --config {file}: {error}")))?,
    };
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => Err(Failure::usage("--config is not a JSON object; write it like '{\"late-by-minutes\": 30}'")),
        Err(error) => {
            Err(Failure::usage(format!("--config is not JSON ({error}); write it like '{{\"late-by-minutes\": 30}}'")))
        }
    }
}

/// Where checkpoints are: kept by request, else removed at the end.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn new(data: Option<PathBuf>) -> Result<Self, Failure> {
        let temporary = data.is_none();
        let path = data.unwrap_or_else(|| std::env::temp_dir().join(format!("weir-dev-{}", uuid::Uuid::new_v4())));
        let made = |path: &Path| std::fs::create_dir_all(path);
        made(&path)
            .map_err(|error| Failure::failed(format!("can't make the directory {}: {error}", path.display())))?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Left to the system's own cleaning if it can't be removed.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// An output on standard output, under its name.
struct Printed {
    name: String,
}

#[async_trait]
impl Sink for Printed {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        let failed = |error| SinkError::Permanent(format!("can't write to standard output: {error}"));
        let mut lines = Vec::new();
        outputs
            .iter()
            .try_for_each(|output| ndjson::write_named_output(&mut lines, &self.name, output))
            .map_err(failed)?;
        // Whoever reads them may take their time.
        let print = move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&lines).and_then(|()| out.flush())
        };
        let printed = tokio::task::spawn_blocking(print).await;
        printed.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(failed)
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }
}

/// Rejected events on standard error, with the reason first.
struct Rejected;

#[async_trait]
impl Sink for Rejected {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        for output in outputs {
            let reason = output.properties.iter().find(|property| property.key == REASON_PROPERTY);
            let reason = match reason.map(|property| &property.value) {
                Some(Value::Text(text)) => text.to_string(),
                _ => "no reason".into(),
            };
            let mut line = Vec::new();
            ndjson::write_output(&mut line, output).map_err(|error| SinkError::Permanent(error.to_string()))?;
            say(format_args!("rejected ({reason}): {}", String::from_utf8_lossy(&line).trim_end()));
        }
        Ok(())
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }
}
