//! `weir checkpoints import`: goes on where processors of other kinds left off.
//!
//! A group whose names are written in lower case needs no import when the container stays the same: Weir reads the same blobs. What it does
//! not read are names in mixed case (the Rust SDK) or with a port (Python, at a custom endpoint), and other containers.

use std::cmp::Reverse;
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
use crate::seams::EventSource;
use crate::state::StateImage;

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
and where a host is at work. Of several spellings of a group, the furthest that fits the hub
counts. What can't be understood or doesn't fit is listed with the reason, the rest is imported
all the same, and the exit code is 1.")]
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
    let (candidates, mut problems) = candidates(left);
    let infos: BTreeMap<_, _> = place.partitions().await?.into_iter().map(|info| (info.id.clone(), info)).collect();
    let listing = place.listing().await?;
    let mut changes = vec![];
    let looked = stream::iter(candidates).map(async |(partition, candidates)| {
        let mut problems = vec![];
        let looked = async {
            let Some(info) = infos.get(&partition) else {
                problems.extend(candidates.iter().map(|(name, _)| format!("{name}: the hub has no such partition")));
                return None;
            };
            let position = first_fit(&place.source, info, candidates, &mut problems).await?;
            match place.load(&partition).await {
                Ok(before) => Some((info.clone(), before, position)),
                Err(why) => {
                    problems.push(format!("partition {partition}: {why}"));
                    None
                }
            }
        };
        let looked = looked.await;
        (partition, looked, problems)
    });
    for (partition, looked, unfit) in looked.buffered(change::AT_ONCE).collect::<Vec<_>>().await {
        problems.extend(unfit);
        let Some((info, before, position)) = looked else { continue };
        let had = before.as_ref().map(|before| before.position.sequence_number);
        match had {
            Some(had) if had == position.sequence_number => {
                say(format_args!("partition {partition}: is at {had} already"));
                continue;
            }
            Some(had) if had > position.sequence_number && !args.force => {
                let theirs = position.sequence_number;
                say(format_args!(
                    "partition {partition}: Weir is at {had}, further than {theirs}: left as it is; add --force to move it back"
                ));
                continue;
            }
            _ => {}
        }
        let change = Change {
            owner: place.owner(&listing, &partition),
            info,
            before,
            after: position,
            state: StateImage::default(),
        };
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

/// Of each partition, those that can be understood, the furthest first; and what can't.
fn candidates(left: Vec<Left>) -> (BTreeMap<PartitionId, Vec<Named>>, Vec<String>) {
    let mut candidates: BTreeMap<PartitionId, Vec<Named>> = BTreeMap::new();
    let mut problems = vec![];
    for Left { name, partition, position, .. } in left {
        match position {
            Err(why) => problems.push(format!("{name}: {why}")),
            Ok(position) => candidates.entry(partition).or_default().push((name, position)),
        }
    }
    for named in candidates.values_mut() {
        named.sort_by_key(|(_, position)| Reverse(position.sequence_number));
    }
    (candidates, problems)
}

/// The first candidate that fits the partition; the problems of those before it are added.
async fn first_fit(
    source: &dyn EventSource,
    info: &PartitionInfo,
    candidates: Vec<Named>,
    problems: &mut Vec<String>,
) -> Option<Position> {
    for (name, position) in candidates {
        match misfit(source, info, &position).await {
            Ok(None) => return Some(position),
            Ok(Some(why)) => problems.push(format!("{name}: {why}")),
            // It may well be the right one: a lesser one must not take its place.
            Err(why) => {
                problems.push(format!("{name}: {why}"));
                return None;
            }
        }
    }
    None
}

/// Why a position can't be one of this partition: a checkpoint of a hub that was created anew, or of another, must not be gone on from. The
/// error: it can't be told.
async fn misfit(source: &dyn EventSource, info: &PartitionInfo, position: &Position) -> Result<Option<String>, String> {
    let (number, last) = (position.sequence_number, info.last_enqueued_sequence_number);
    let elsewhere = "the hub was created anew, or this is the checkpoint of another one";
    if number > last {
        return Ok(Some(format!("it is at event {number}, but the partition's newest is {last}: {elsewhere}")));
    }
    if info.is_empty || number < info.beginning_sequence_number {
        // Nothing there to compare it with.
        return Ok(None);
    }
    let event = place::event(source, info, number).await?;
    Ok(event.filter(|event| event.offset != position.offset).map(|event| {
        format!(
            "it says that event {number} has the offset {}, but the hub says {}: {elsewhere}",
            position.offset, event.offset
        )
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::testing::MemoryHub;

    #[tokio::test]
    async fn a_spelling_that_does_not_fit_is_named_and_the_next_counts() {
        let hub = MemoryHub::new(1);
        for _ in 0..10 {
            hub.push("0", "body");
        }
        let info = hub.partition_info(&PartitionId::from("0")).await.unwrap();
        let event = place::event(&hub, &info, 4).await.unwrap().unwrap();
        let left = |name: &str, position| Left {
            name: name.into(),
            in_place: false,
            partition: "0".into(),
            position: Ok(position),
        };
        let stale = |n| Position { sequence_number: n, offset: "stale".into() };
        let found = async |left| {
            let (mut candidates, mut problems) = candidates(left);
            let candidates = candidates.remove(&PartitionId::from("0")).unwrap_or_default();
            (first_fit(&hub, &info, candidates, &mut problems).await, problems)
        };
        let good = || left("a", event.position());
        let (position, problems) = found(vec![left("c", stale(3)), good(), left("A", stale(400))]).await;
        assert_eq!(position, Some(event.position()));
        assert!(problems.len() == 1 && problems[0].starts_with("A: it is at event 400"), "{problems:?}");
        let (position, problems) = found(vec![good(), left("A", stale(7))]).await;
        assert_eq!(position, Some(event.position()));
        assert!(problems.len() == 1 && problems[0].contains("event 7 has the offset stale"), "{problems:?}");
        let (position, problems) = found(vec![left("A", stale(400)), left("a", stale(3))]).await;
        assert_eq!((position, problems.len()), (None, 2));
    }

    #[test]
    fn of_two_spellings_the_further_comes_first_and_the_rest_is_named() {
        let left = |name: &str, partition: &str, position: Result<i64, &str>| Left {
            name: name.into(),
            in_place: false,
            partition: partition.into(),
            position: position.map(|n| Position { sequence_number: n, offset: "1".into() }).map_err(str::to_owned),
        };
        let (candidates, problems) = candidates(vec![
            left("A/checkpoint/0", "0", Ok(5)),
            left("a/checkpoint/0", "0", Ok(3)),
            left("a:1/checkpoint/0", "0", Err("its metadata has no `offset`")),
            left("a/checkpoint/1", "1", Ok(3)),
            left("b/checkpoint/1", "1", Ok(4)),
        ]);
        let flat =
            candidates.iter().flat_map(|(id, named)| named.iter().map(move |(name, p)| (id.as_str(), &**name, p)));
        let flat: Vec<_> = flat.map(|(id, name, position)| (id, name, position.sequence_number)).collect();
        let expected = [
            ("0", "A/checkpoint/0", 5),
            ("0", "a/checkpoint/0", 3),
            ("1", "b/checkpoint/1", 4),
            ("1", "a/checkpoint/1", 3),
        ];
        assert_eq!(flat, expected);
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
