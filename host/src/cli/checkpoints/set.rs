//! `weir checkpoints set`: moves checkpoints back or forward.

use std::path::PathBuf;

use clap::Args;
use futures::stream::{self, StreamExt as _};
use time::OffsetDateTime;

use super::change::{self, Change, Permission, Place};
use super::place;
use crate::cli::failure::Failure;
use crate::cli::hub::processor;
use crate::cli::tail::From as Target;
use crate::config::Config;
use crate::model::{PartitionId, PartitionInfo};
use crate::seams::Listing;
use crate::state::StateImage;

/// Move checkpoints back or forward, so that processing goes on elsewhere
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir checkpoints set weir.toml --all --to earliest               process everything again
  weir checkpoints set weir.toml --all --to 2026-01-01T00:00:00Z   what came since
  weir checkpoints set weir.toml --partition 0,3 --to latest       leave out what is there
  weir checkpoints set weir.toml --partition 3 --to 4711 --dry-run

A number or a time names the first event that is processed next: with --to 4711 the checkpoint
becomes that of the event before it. A time must not be in the future. What that means is shown
per partition first; nothing is written before you agree, and nothing at all where one of the
partitions can't be set. What \"earliest\" and \"latest\" come to is decided now, not when the host
starts.

Refuses while a host is at work on a partition. In a container, --force takes the partition from
it: the host drops what it has in hand, and whoever claims the partition next goes on at the new
place. It may have processed some events beyond its checkpoint by then. Processors of other kinds
write without a condition: stop those first. In a directory, stop the host.")]
pub(super) struct SetArgs {
    /// The configuration
    #[arg(value_name = "WEIR.TOML", default_value = "weir.toml")]
    config: PathBuf,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
    /// These partitions
    #[arg(long = "partition", value_name = "ID,…", value_delimiter = ',', required_unless_present = "all")]
    partitions: Vec<String>,
    /// All partitions
    #[arg(long, conflicts_with = "partitions")]
    all: bool,
    /// Where to go on: earliest, latest, a sequence number, or a time such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "POSITION")]
    to: Target,
    /// Take the partition from a host that is at work on it
    #[arg(long)]
    force: bool,
    /// Give up state that the processor keeps with the checkpoint
    #[arg(long)]
    drop_state: bool,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    /// Write without asking
    #[arg(long)]
    yes: bool,
}

pub(super) async fn set(args: SetArgs) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    place::refuse_future(args.to, i64::try_from(now).unwrap_or(i64::MAX)).map_err(Failure::usage)?;
    let config = Config::load(&args.config)?;
    let processor = processor(&config, args.processor.as_deref())?;
    let place = Place::find(&config, processor, !args.dry_run).await?;
    let permission = Permission { force: args.force, drop_state: args.drop_state };
    let infos = chosen(place.partitions().await?, &args.partitions)?;
    let listing = place.listing().await?;
    let (mut changes, mut obstacles) = (vec![], vec![]);
    let looked = stream::iter(infos).map(|info| look(&place, &listing, info, args.to)).buffered(change::AT_ONCE);
    for (partition, found) in looked.collect::<Vec<_>>().await {
        let whose = |why| format!("partition {partition}: {why}");
        match found {
            Ok(change) => {
                obstacles.extend(change.obstacles(permission).into_iter().map(whose));
                changes.push(change);
            }
            Err(why) => obstacles.push(whose(why)),
        }
    }
    change::show(&changes)?;
    if !obstacles.is_empty() {
        return Err(Failure::failed(format!("nothing was written: {}", obstacles.join("\n  "))));
    }
    if args.dry_run {
        return Ok(());
    }
    change::confirm(changes.len(), args.yes)?;
    match change::write_all(&place, &changes, permission).await {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Failure::failed(problems.join("\n  "))),
    }
}

/// What would become of a partition.
async fn look(
    place: &Place,
    listing: &Listing,
    info: PartitionInfo,
    to: Target,
) -> (PartitionId, Result<Change, String>) {
    let partition = info.id.clone();
    let found = async {
        let before = place.load(&partition).await?;
        let after = place::find(&place.source, &info, to).await?;
        Ok(Change { owner: place.owner(listing, &partition), info, before, after, state: StateImage::default() })
    };
    let found = found.await;
    (partition, found)
}

/// Those that were named; without names, all.
fn chosen(infos: Vec<PartitionInfo>, names: &[String]) -> Result<Vec<PartitionInfo>, Failure> {
    if let Some(missing) = names.iter().find(|name| !infos.iter().any(|info| info.id.as_str() == **name)) {
        let known: Vec<_> = infos.iter().map(|info| info.id.as_str()).collect();
        return Err(Failure::usage(format!("there is no partition {missing:?}; there are {}", known.join(", "))));
    }
    let named = |info: &PartitionInfo| names.is_empty() || names.iter().any(|name| info.id.as_str() == name);
    Ok(infos.into_iter().filter(named).collect())
}
