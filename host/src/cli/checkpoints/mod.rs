//! `weir checkpoints`: shows how far each partition is (`show.rs`), and moves it (`set.rs`, `import.rs`).
//!
//! What moves a checkpoint first says what that would do, partition by partition, and then writes under an ownership of its own
//! (`change.rs`), so that a host which still works there finds its tenancy over rather than its checkpoint rewritten.

mod change;
mod import;
mod place;
mod set;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
pub(crate) use change::{Change, Permission, Place, write_all};

/// Show per partition the checkpoint, what was last enqueued, and the lag; or move the checkpoints
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  weir checkpoints weir.toml
  weir checkpoints weir.toml --json | jq '.[].partitions[].lag'
  weir checkpoints set weir.toml --all --to earliest    process everything again
  weir checkpoints import weir.toml --from same         go on where others left off

Works while `weir run` is running. The lag counts events that are enqueued, but not covered by the
checkpoint. When a namespace can't be reached, the checkpoints are shown without what is enqueued
there; when a checkpoint can't be read, its partition is shown without it. Both are said, and the
exit code is 1.")]
pub(crate) struct CheckpointsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    Set(set::SetArgs),
    Import(import::ImportArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The configuration
    #[arg(value_name = "WEIR.TOML", default_value = "weir.toml")]
    config: PathBuf,
    /// Print an array of processors as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn checkpoints(args: CheckpointsArgs) -> Result<(), Failure> {
    match args.action {
        None => show::show(args.show).await,
        Some(Action::Set(args)) => set::set(args).await,
        Some(Action::Import(args)) => import::import(args).await,
    }
}
