//! `weir state`: what processors keep in the host, looked at (`get.rs`, `scan.rs`), copied out (`export.rs`) and put in (`import.rs`).
//!
//! What only reads takes no lock and works beside running hosts: it sees the state as of the last checkpoint. What writes goes through the
//! same gate as `weir checkpoints set`.

mod entry;
mod export;
mod get;
mod import;
mod scan;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::hub::processor;
use super::stores::Stores;
use super::wire::scope;
use crate::config::{Config, ProcessorConfig};
use crate::model::{PartitionId, Position, Scope};
use crate::seams::CheckpointStore;
use crate::state::PartitionState;

/// Look at the state that a processor keeps with its checkpoints, copy it out, or put it in
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  weir state scan weir.toml                         what is there
  weir state get weir.toml seen/42 --partition 3    one value
  weir state export weir.toml > state.ndjson        all of it, a line each
  weir state import weir.toml state.ndjson          and back

What is shown is the state as of the last checkpoint of each partition. Reading works while
`weir run` is running; `import` needs the hosts stopped.")]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Get(get::GetArgs),
    Scan(scan::ScanArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
}

pub(crate) async fn state(args: StateArgs) -> Result<(), Failure> {
    match args.action {
        Action::Get(args) => get::get(args).await,
        Action::Scan(args) => scan::scan(args).await,
        Action::Export(args) => export::export(args).await,
        Action::Import(args) => import::import(args).await,
    }
}

/// Which processor's state.
#[derive(Debug, Args)]
struct Which {
    /// The configuration
    #[arg(value_name = "WEIR.TOML")]
    config: PathBuf,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
}

impl Which {
    fn load(&self) -> Result<(Config, ProcessorConfig), Failure> {
        let config = Config::load(&self.config)?;
        let processor = processor(&config, self.processor.as_deref())?.clone();
        Ok((config, processor))
    }
}

/// The state of one partition.
struct Found {
    partition: PartitionId,
    /// The event that it is as of.
    position: Position,
    state: PartitionState,
}

/// Reads the states of these partitions (without names, of all), in their order, and says what is wrong with others. A partition without a
/// checkpoint has none.
async fn read(which: &Which, names: &[String]) -> Result<(Scope, Vec<Found>, Vec<String>), Failure> {
    let (config, processor) = which.load()?;
    let scope = scope(&processor);
    let store = Stores::new(&config.checkpoints).map_err(Failure::failed)?.look(&scope);
    let listing = store
        .list()
        .await
        .map_err(|error| Failure::failed(format!("can't list the checkpoints of {scope}: {error}")))?;
    let mut ids: Vec<_> = listing.partitions.into_iter().map(|record| record.partition).collect();
    ids.sort_by_key(|id| (id.as_str().len(), id.clone()));
    if let Some(missing) = names.iter().find(|name| !ids.iter().any(|id| id.as_str() == **name)) {
        return Err(Failure::failed(format!("partition {missing} of {scope} has no checkpoint, and so no state")));
    }
    let (mut found, mut problems) = (vec![], vec![]);
    for id in ids {
        if !names.is_empty() && !names.iter().any(|name| id.as_str() == name) {
            continue;
        }
        match load(&*store, &id).await {
            Ok(state) => found.extend(state),
            Err(why) => problems.push(format!("partition {id}: {why}")),
        }
    }
    Ok((scope, found, problems))
}

/// Reads one. `None`: it has no checkpoint. The error is a clause for a person.
async fn load(store: &dyn CheckpointStore, partition: &PartitionId) -> Result<Option<Found>, String> {
    let Some((checkpoint, _)) = store.load(partition).await.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let position = checkpoint.position;
    // Nobody adds to it here, so no limit stands against it.
    let state = PartitionState::load(usize::MAX, position.clone(), checkpoint.state).map_err(|why| {
        format!(
            "its state can't be used: {why}. Restore the checkpoint from a backup, put an earlier export in with `weir state import`, or \
             give the state up with `weir checkpoints set … --drop-state`"
        )
    })?;
    Ok(Some(Found { partition: partition.clone(), position, state }))
}

/// All keys that begin with `prefix`, with their values.
fn entries(state: &PartitionState, prefix: &str) -> Vec<(bytestring::ByteString, bytes::Bytes)> {
    state.scan(prefix, None, usize::MAX)
}

fn verdict(problems: &[String]) -> Result<(), Failure> {
    if problems.is_empty() { Ok(()) } else { Err(Failure::failed(problems.join("\n  "))) }
}
