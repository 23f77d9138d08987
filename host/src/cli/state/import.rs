//! `weir state import`: replaces the state of partitions by what stands in a file, at the checkpoint that they have.
//!
//! The write is that of `weir checkpoints set`: under an ownership of the command's own, conditional, checkpoint and state in one. The
//! checkpoint's event stays. A state that was exported as of another event would count events twice or leave them out, so that is refused
//! unless it is asked for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Which;
use super::entry::{Line, VERSION, bytes};
use crate::cli::checkpoints::{Change, Permission, Place, write_all};
use crate::cli::confirm::confirm;
use crate::cli::failure::Failure;
use crate::cli::say;
use crate::model::{Position, Timestamp};
use crate::state::{PartitionState, StateImage};

/// Replace the state of partitions by that of a file
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir state import weir.toml state.ndjson
  weir state import weir.toml state.ndjson --yes
  weir state import weir.toml state.ndjson --at-checkpoint    from another event: read on

The lines are those that `weir state export` prints. The whole state of each partition in the file
is replaced; its checkpoint stays where it is. So the file has to be as of that very event: an
older state lacks what the events since then did, and those don't come again. A state that was
mended by hand or made elsewhere is taken all the same with --at-checkpoint.

Refuses while a host is at work on a partition. Nothing is written before you agree.")]
pub(super) struct ImportArgs {
    #[command(flatten)]
    which: Which,
    /// The lines; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Take a state of another event for that of the checkpoint
    #[arg(long)]
    at_checkpoint: bool,
    /// Write without asking
    #[arg(long)]
    yes: bool,
}

/// What the file has for one partition.
struct Given {
    /// Namespace, hub and group.
    of: String,
    partition: String,
    as_of: i64,
    keys: usize,
    wake_at: Option<Timestamp>,
    entries: BTreeMap<String, Vec<u8>>,
}

pub(super) async fn import(args: ImportArgs) -> Result<(), Failure> {
    let (config, processor) = args.which.load()?;
    let given = read(&args.file)?;
    let place = Place::find(&config, &processor, true).await?;
    let (infos, listing) = (place.partitions().await?, place.listing().await?);
    let permission = Permission { force: false, drop_state: true };
    let (mut changes, mut problems, mut keys) = (vec![], vec![], 0);
    for one in &given {
        let whose = |why: String| format!("partition {}: {why}", one.partition);
        if one.of != place.scope.to_string() {
            problems
                .push(whose(format!("the file has a state of {}, and the processor reads {}", one.of, place.scope)));
            continue;
        }
        if one.keys != one.entries.len() {
            problems.push(whose(format!(
                "the file has {} of its {} keys: it was cut off, or `keys` of the partition's head has to be corrected",
                one.entries.len(),
                one.keys
            )));
            continue;
        }
        let Some(info) = infos.iter().find(|info| info.id.as_str() == one.partition).cloned() else {
            problems.push(whose(format!("the hub {} has no such partition", processor.event_hub)));
            continue;
        };
        // Without a checkpoint that can be read, nobody knows its event.
        let before = match place.load(&info.id).await {
            Ok(Some(before)) => before,
            Ok(None) => {
                problems.push(whose("it has no checkpoint; `weir checkpoints set` writes one".into()));
                continue;
            }
            Err(why) => {
                problems.push(whose(why));
                continue;
            }
        };
        let at = before.position.clone();
        if at.sequence_number != one.as_of && !args.at_checkpoint {
            problems.push(whose(format!(
                "the file has its state as of event {}, and its checkpoint is at {}; export it anew, or add --at-checkpoint to take it all the \
                 same",
                one.as_of, at.sequence_number
            )));
            continue;
        }
        match image(one, &at, processor.limits.state) {
            Ok(state) => {
                let owner = place.owner(&listing, &info.id);
                let change = Change { owner, info, before: Some(before), after: at, state };
                problems.extend(change.obstacles(permission).into_iter().map(whose));
                changes.push(change);
                keys += one.entries.len();
            }
            Err(why) => problems.push(whose(why)),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::failed(format!("nothing was written: {}", problems.join("\n  "))));
    }
    let question = format!("Replace the state of {} partitions by {keys} keys?", changes.len());
    confirm(&question, args.yes, "nothing was written", "Add --yes to write, or look with `weir state scan`")?;
    match write_all(&place, &changes, permission).await {
        problems if problems.is_empty() => {
            say(format_args!("{keys} keys imported"));
            Ok(())
        }
        problems => Err(Failure::failed(problems.join("\n  "))),
    }
}

/// The state as it is stored. The error is a clause for a person.
fn image(given: &Given, at: &Position, limit: usize) -> Result<StateImage, String> {
    let state = PartitionState::new(limit, None);
    state.begin();
    for (key, value) in &given.entries {
        state.set(key, value.clone().into()).map_err(|why| format!("the key {key:?}: {why}"))?;
    }
    if let Some(at) = given.wake_at {
        state.wake_at(at);
    }
    state.keep(Some(at));
    state.accept(state.version(), at.sequence_number);
    Ok(state.pending()?.map(|pending| pending.image).unwrap_or_default())
}

fn read(file: &Path) -> Result<Vec<Given>, Failure> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let wrong =
        |number: usize, why: &str| Failure::failed(format!("{name}, line {number}: {why}; nothing was written"));
    let lines: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(BufReader::new(std::io::stdin())),
        false => {
            let file = std::fs::File::open(file);
            Box::new(BufReader::new(file.map_err(|error| Failure::failed(format!("can't read {name}: {error}")))?))
        }
    };
    let mut all: Vec<Given> = vec![];
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.map_err(|error| wrong(number, &format!("can't be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|_| {
            wrong(number, "is no line of `weir state export` (a partition's head, or a key with its value)")
        })?;
        let (key, value) = match line {
            Line::Head { weir_state, .. } if weir_state != VERSION => {
                return Err(wrong(number, &format!("it is of version {weir_state}, and this Weir reads {VERSION}")));
            }
            Line::Head { partition, .. } if all.iter().any(|one| one.partition == partition) => {
                return Err(wrong(number, &format!("partition {partition} begins a second time")));
            }
            Line::Head { of, partition, sequence_number, keys, wake_at, .. } => {
                all.push(Given { of, partition, as_of: sequence_number, keys, wake_at, entries: BTreeMap::new() });
                continue;
            }
            Line::Text { key, value } => (key, value.into_bytes()),
            Line::Bytes { key, value_base64 } => (key, bytes(&value_base64).map_err(|why| wrong(number, &why))?),
        };
        let Some(one) = all.last_mut() else {
            return Err(wrong(number, "comes before the head of its partition"));
        };
        match one.entries.entry(key) {
            Entry::Vacant(place) => drop(place.insert(value)),
            Entry::Occupied(known) => {
                return Err(wrong(number, &format!("the key {:?} comes a second time", known.key())));
            }
        }
    }
    if all.is_empty() {
        return Err(Failure::failed(format!("{name} holds no state; nothing was written")));
    }
    Ok(all)
}
