//! `weir checkpoints import`: goes on where processors of other kinds left off.
//!
//! A group whose names are written in lower case needs no import when the container stays the same: Weir reads the same blobs. What it does
//! not read are names in mixed case (the Rust SDK) or with a port (Python, at a custom endpoint), and other containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use futures::stream::{self, StreamExt as _};

use super::change::{self, Change, Permission, Place};
use super::place;
use crate::azure::{BlobContainer, Credential, Left, Leftovers, Patience};
use crate::cli::failure::Failure;
use crate::cli::hub::processor;
use crate::cli::say;
use crate::config::{CheckpointsConfig, Config};
use crate::model::{PartitionId, PartitionInfo, Position, Scope};

/// Take over the checkpoints that processors of other kinds left in a container
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir checkpoints import weir.toml --from same
  weir checkpoints import weir.toml --from https://fleet.blob.core.windows.net/old --dry-run
  weir checkpoints import weir.toml --from same --from-group '$Default' --yes

For a container in the layout of the Azure SDKs (.NET, Java, JavaScript, Python, Go, Rust): blobs
NAMESPACE/EVENT-HUB/GROUP/checkpoint/PARTITION with the metadata offset and sequencenumber. Stop
those processors first. Names are matched whatever their case, and with or without a port. In the
same container, names in lower case are those that Weir reads itself, and need no import.

A checkpoint is written where Weir has none or is behind; with --force also where Weir is further,
and where a host is at work. Of two spellings of a group, the further one counts. What can't be
understood is listed with the reason, the rest is imported all the same, and the exit code is 1.")]
pub(super) struct ImportArgs {
    /// The configuration
    #[arg(value_name = "WEIR.TOML", default_value = "weir.toml")]
    config: PathBuf,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
    /// The container's URL, or `same` for the one of the configuration
    #[arg(long, value_name = "CONTAINER")]
    from: String,
    /// Who asks for access to that container [default: as for the configuration's]
    #[arg(long, value_name = "CREDENTIAL")]
    from_credential: Option<Credential>,
    /// The namespace that the others read [default: the processor's]
    #[arg(long, value_name = "HOST")]
    from_namespace: Option<String>,
    /// The event hub that they read [default: the processor's]
    #[arg(long, value_name = "HUB")]
    from_hub: Option<String>,
    /// The consumer group that they read through [default: the processor's]
    #[arg(long, value_name = "GROUP")]
    from_group: Option<String>,
    /// Also write where Weir is further, or a host is at work
    #[arg(long)]
    force: bool,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    /// Write without asking
    #[arg(long)]
    yes: bool,
}

pub(super) async fn import(args: ImportArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let processor = processor(&config, args.processor.as_deref())?;
    let (container, same) = container(&config, &args)?;
    let place = Place::find(&config, processor, !args.dry_run).await?;
    let permission = Permission { force: args.force, drop_state: false };
    let ours = place.scope.clone();
    let scope = Scope {
        namespace: args.from_namespace.unwrap_or(ours.namespace),
        event_hub: args.from_hub.unwrap_or(ours.event_hub),
        consumer_group: args.from_group.unwrap_or(ours.consumer_group),
    };
    let reads_itself = same && same_names(&scope, &place.scope);
    let leftovers = container.leftovers(&scope).await;
    let leftovers = leftovers.map_err(|error| Failure::failed(format!("can't look through the container: {error}")))?;
    if leftovers.found.is_empty() {
        return Err(Failure::failed(nothing(&scope, &leftovers)));
    }
    let (left, in_place): (Vec<_>, Vec<_>) =
        leftovers.found.into_iter().partition(|left| !(reads_itself && left.in_place));
    let (best, mut problems) = furthest(left);
    let infos: BTreeMap<_, _> = place.partitions().await?.into_iter().map(|info| (info.id.clone(), info)).collect();
    let listing = place.listing().await?;
    let mut changes = vec![];
    let looked = stream::iter(best).map(async |(partition, (name, position))| {
        let looked = async {
            let info = infos.get(&partition).ok_or("the hub has no such partition")?;
            check(&place, info, &position).await?;
            Ok((info.clone(), place.load(&partition).await?))
        };
        let looked = looked.await.map_err(|why: String| format!("{name}: {why}"));
        (partition, position, looked)
    });
    for (partition, position, looked) in looked.buffered(change::AT_ONCE).collect::<Vec<_>>().await {
        let (info, before) = match looked {
            Ok(found) => found,
            Err(why) => {
                problems.push(why);
                continue;
            }
        };
        let had = before.as_ref().map(|before| before.position.sequence_number);
        match had {
            Some(had) if had == position.sequence_number => {
                say(format_args!("partition {partition}: is at {had} already"));
                continue;
            }
            Some(had) if had > position.sequence_number && !args.force => {
                let theirs = position.sequence_number;
                say(format_args!(
                    "partition {partition}: Weir is at {had}, further than {theirs}: left as it is (--force)"
                ));
                continue;
            }
            _ => {}
        }
        let change = Change { owner: place.owner(&listing, &partition), info, before, after: position };
        match change.obstacles(permission) {
            obstacles if obstacles.is_empty() => changes.push(change),
            obstacles => problems.extend(obstacles.iter().map(|why| format!("partition {partition}: {why}"))),
        }
    }
    if !in_place.is_empty() {
        let (count, verb) = (in_place.len(), if in_place.len() == 1 { "lies" } else { "lie" });
        say(format_args!(
            "{count} of the checkpoints {verb} where Weir reads them itself: no import is needed for those"
        ));
    }
    if !changes.is_empty() {
        change::show(&changes)?;
        if !args.dry_run {
            change::confirm(changes.len(), args.yes)?;
            problems.extend(change::write_all(&place, &changes, permission).await);
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!("not imported:\n  {}", problems.join("\n  ")))),
    }
}

/// Where the others' checkpoints are, and whether that is where ours are.
fn container(config: &Config, args: &ImportArgs) -> Result<(BlobContainer, bool), Failure> {
    let own = match &config.checkpoints {
        CheckpointsConfig::Container { url, credential, .. } => Some((url.as_str(), *credential)),
        CheckpointsConfig::Directory(_) => None,
    };
    let (url, credential, same) = match (&*args.from, own) {
        ("same", Some((url, credential))) => (url, credential, true),
        ("same", None) => {
            let why = "--from same is for checkpoints in a container, and this configuration keeps them in a directory: name the \
                       container, such as --from https://ACCOUNT.blob.core.windows.net/CONTAINER";
            return Err(Failure::usage(why));
        }
        (url, own) => {
            // A signature may differ; the place is the same.
            let bare = |url: &str| url.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
            let same = own.is_some_and(|(own, _)| bare(own) == bare(url));
            let signed = url.contains('?');
            (url, own.and_then(|(_, credential)| credential).filter(|_| !signed), same)
        }
    };
    let container = BlobContainer::new(url, args.from_credential.or(credential), Patience::default());
    Ok((container.map_err(|error| Failure::usage(format!("--from: {error}")))?, same))
}

fn same_names(a: &Scope, b: &Scope) -> bool {
    a.to_string().to_lowercase() == b.to_string().to_lowercase()
}

fn nothing(scope: &Scope, leftovers: &Leftovers) -> String {
    let others: Vec<_> = leftovers.others.iter().take(10).map(|other| format!("\n  {other}")).collect();
    let there = match others.is_empty() {
        true => "; there are no checkpoints in the layout of the Azure SDKs in it at all".to_owned(),
        false => format!(
            "; it has those of the following (choose with --from-namespace, --from-hub and --from-group):{}",
            others.concat()
        ),
    };
    format!("the container has no checkpoints of {scope}{there}")
}

/// A blob's name and what it says.
type Named = (String, Position);

/// Of each partition, the furthest that can be understood; and what can't.
fn furthest(left: Vec<Left>) -> (BTreeMap<PartitionId, Named>, Vec<String>) {
    let mut best: BTreeMap<PartitionId, Named> = BTreeMap::new();
    let mut problems = vec![];
    for Left { name, partition, position, .. } in left {
        match position {
            Err(why) => problems.push(format!("{name}: {why}")),
            Ok(position) => match best.get(&partition) {
                Some((_, other)) if other.sequence_number >= position.sequence_number => {}
                _ => drop(best.insert(partition, (name, position))),
            },
        }
    }
    (best, problems)
}

/// Whether a position can be one of this partition: a checkpoint of a hub that was created anew, or of another, must not be gone on from.
async fn check(place: &Place, info: &PartitionInfo, position: &Position) -> Result<(), String> {
    let (number, last) = (position.sequence_number, info.last_enqueued_sequence_number);
    let elsewhere = "the hub was created anew, or this is the checkpoint of another one";
    if number > last {
        return Err(format!("it is at event {number}, but the partition's newest is {last}: {elsewhere}"));
    }
    if info.is_empty || number < info.beginning_sequence_number {
        // Nothing there to compare it with.
        return Ok(());
    }
    let Some(event) = place::event(&place.source, info, number).await? else { return Ok(()) };
    match event.offset == position.offset {
        true => Ok(()),
        false => Err(format!(
            "it says that event {number} has the offset {}, but the hub says {}: {elsewhere}",
            position.offset, event.offset
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_spellings_the_further_counts_and_the_rest_is_named() {
        let left = |name: &str, partition: &str, position: Result<i64, &str>| Left {
            name: name.into(),
            in_place: false,
            partition: partition.into(),
            position: position.map(|n| Position { sequence_number: n, offset: "1".into() }).map_err(str::to_owned),
        };
        let (best, problems) = furthest(vec![
            left("A/checkpoint/0", "0", Ok(5)),
            left("a/checkpoint/0", "0", Ok(3)),
            left("a:1/checkpoint/0", "0", Err("its metadata has no `offset`")),
            left("a/checkpoint/1", "1", Ok(3)),
            left("b/checkpoint/1", "1", Ok(4)),
        ]);
        let best: Vec<_> = best.iter().map(|(id, (name, p))| (id.as_str(), &**name, p.sequence_number)).collect();
        assert_eq!(best, [("0", "A/checkpoint/0", 5), ("1", "b/checkpoint/1", 4)]);
        assert_eq!(problems, ["a:1/checkpoint/0: its metadata has no `offset`"]);
    }

    #[test]
    fn a_container_without_the_group_says_whose_checkpoints_it_has() {
        let scope = Scope { namespace: "n".into(), event_hub: "h".into(), consumer_group: "g".into() };
        assert!(nothing(&scope, &Leftovers::default()).contains("no checkpoints in the layout"));
        let others = ["n/h/$Default".to_owned()].into();
        let text = nothing(&scope, &Leftovers { found: vec![], others });
        assert!(text.starts_with("the container has no checkpoints of n/h/g;") && text.ends_with("\n  n/h/$Default"));
    }
}
