//! `weir emulator`: a local Event Hubs namespace.

use std::path::PathBuf;

use clap::Args;
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Retention};

use super::failure::Failure;
use super::print_line;
use super::signals::Signals;
use crate::config::{parse_duration, parse_size};

/// Run a local Event Hubs namespace that the official clients can use
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir emulator --hub flights:4 --hub late-flights:2
  weir emulator --hub flights:4 --data ./hubs            events survive a restart
  weir emulator --listen 127.0.0.1:0 --hub flights:4     any free port; the first line says which

Connect with the printed connection string (any official SDK), or with endpoint =
\"amqp://127.0.0.1:5672\" and credential = \"none\" in weir.toml. There is no authentication: listen
on loopback only. Ends with Ctrl-C or SIGTERM.")]
pub(crate) struct EmulatorArgs {
    /// Where AMQP clients connect; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5672")]
    listen: String,
    /// A hub and its number of partitions (1 if not said); repeat for more
    #[arg(long = "hub", value_name = "NAME[:PARTITIONS]", required = true)]
    hubs: Vec<HubSpec>,
    /// Keep hubs and events in this directory [default: in memory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Serve the control API (positions, added partitions, injected faults) over HTTP here
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<String>,
    /// Keep events for this long
    #[arg(long, value_name = "DURATION", default_value = "7 d", value_parser = parse_duration)]
    retention: std::time::Duration,
    /// Keep at most this much of each partition
    #[arg(long, value_name = "SIZE", default_value = "512 MiB", value_parser = parse_size)]
    retention_size: u64,
}

pub(crate) async fn emulator(args: EmulatorArgs) -> Result<(), Failure> {
    let signals = Signals::listen(|| {})?;
    let hubs: Vec<_> = args.hubs.iter().map(|hub| hub.name.clone()).collect();
    let config = EmulatorConfig {
        listen: args.listen,
        hubs: args.hubs,
        data: args.data,
        retention: Retention {
            bytes: args.retention_size,
            age_ms: i64::try_from(args.retention.as_millis()).unwrap_or(i64::MAX),
        },
        control: args.control,
        ..EmulatorConfig::default()
    };
    let emulator = Emulator::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
    print_line(&format!("weir emulator is ready: {}", emulator.endpoint()))?;
    if let Some(control) = emulator.control_address() {
        print_line(&format!("control API: http://{control}"))?;
    }
    print_line("connection strings:")?;
    print_line(&format!("  {}", emulator.connection_string(None)))?;
    for hub in &hubs {
        print_line(&format!("  {}", emulator.connection_string(Some(hub))))?;
    }
    signals.drain.cancelled().await;
    tokio::select! {
        () = emulator.shutdown() => Ok(()),
        () = signals.stop.cancelled() => Err(Failure::Unfinished("stopped at once by a second signal".into())),
    }
}
