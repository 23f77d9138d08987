//! The host, embedded: the `delays` processor between the two hubs, until it has caught up.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_host::azure::{Namespace, SinkOptions, Timeouts};
use weir_host::host::{Host, Outcome, ProcessorSpec};
use weir_host::local::{DirectoryStore, FileSink};
use weir_host::model::{OwnerId, Scope};
use weir_host::options::ProcessorOptions as Options;
use weir_host::seams::Sink;
use weir_host::status::HostSnapshot;
use weir_host::wasm::{Engine, EngineOptions, Limits, Module, ModuleSource, ProcessorOptions};

use crate::{Error, FLIGHTS, LATE_BY, LATE_FLIGHTS};

/// What the host is made of: where things are.
pub(crate) struct Place<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) module: &'a Module,
    pub(crate) namespace: &'a Namespace,
}

/// The stream and the group that the checkpoints belong to.
pub(crate) fn scope() -> Scope {
    Scope { namespace: "localhost".into(), event_hub: FLIGHTS.into(), consumer_group: "$default".into() }
}

/// Checks and compiles the processor. Compiled code is kept, so that the next run begins at once.
pub(crate) async fn load(directory: &Path, module: &Path) -> Result<Module, Error> {
    let options = EngineOptions { cache: Some(directory.join("compiled")), ..EngineOptions::default() };
    Ok(Engine::new(options)?.load(ModuleSource::File(module.to_owned())).await?)
}

/// Wires the host.
pub(crate) fn host(place: &Place<'_>) -> Result<Host, Error> {
    let owner = OwnerId::from("demo");
    let processor = place.module.processor(ProcessorOptions {
        limits: Limits { memory: 64 << 20, time: Duration::from_secs(10), ..Limits::default() },
        ..ProcessorOptions::new("delays")
    })?;
    let late: Arc<dyn Sink> = Arc::new(place.namespace.sink(LATE_FLIGHTS, SinkOptions::default()));
    let rejected = FileSink::open(&place.directory.join("rejected.ndjson"))?;
    let spec = ProcessorSpec {
        name: "delays".into(),
        scope: scope(),
        source: Arc::new(place.namespace.source(FLIGHTS, "$default", Timeouts::default())),
        store: Arc::new(DirectoryStore::open(&place.directory.join("checkpoints"), scope(), &owner)?),
        processor,
        outputs: BTreeMap::from([("default".to_owned(), late)]),
        dead_letter: Some(Arc::new(rejected)),
        options: Options { config: format!(r#"{{"late-by-minutes":{LATE_BY}}}"#).into(), ..Options::default() },
    };
    Ok(Host::builder().owner(owner).until_caught_up(true).processor(spec).build()?)
}

/// Runs the host to its end and shows how far it is in the meantime.
pub(crate) async fn run(host: Host, mut show: impl FnMut(&HostSnapshot)) -> Result<(Outcome, HostSnapshot), Error> {
    let status = host.status();
    let mut running = std::pin::pin!(host.run(asked_to_stop()));
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            _ = ticks.tick() => show(&status.snapshot()),
        }
    };
    let last = status.snapshot();
    show(&last);
    Ok((outcome, last))
}

/// Ctrl-C, or what a service manager sends.
async fn asked_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminated) = signal(SignalKind::terminate()) else {
            let _ = interrupted.await;
            return;
        };
        tokio::select! { _ = interrupted => {}, _ = terminated.recv() => {} }
    }
    #[cfg(not(unix))]
    let _ = interrupted.await;
}
