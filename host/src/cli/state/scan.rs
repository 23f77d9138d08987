//! `weir state scan`: which keys there are.

use clap::Args;
use serde_json::json;

use super::{Which, entries, read, verdict};
use crate::cli::failure::Failure;
use crate::cli::{harmless, print_line, say, summary};

/// Characters of a value in the table.
const SHOWN: usize = 60;

/// List keys, with the sizes and beginnings of their values
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir state scan weir.toml
  weir state scan weir.toml window/ --partition 3 --limit 20
  weir state scan weir.toml --json | jq '.[] | .keys | length'

Keys are in the order of their bytes. Standard error says how much each partition keeps, as of
which event, and when its processor wants to be woken.")]
pub(super) struct ScanArgs {
    #[command(flatten)]
    which: Which,
    /// Only keys that begin with this
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// In these partitions
    #[arg(long = "partition", value_name = "ID,…", value_delimiter = ',')]
    partitions: Vec<String>,
    /// At most so many keys of each partition
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Print an array of partitions as JSON, without values
    #[arg(long)]
    json: bool,
}

pub(super) async fn scan(args: ScanArgs) -> Result<(), Failure> {
    let (scope, found, problems) = read(&args.which, &args.partitions).await?;
    let mut table = summary::plain(["partition", "key", "bytes", "value"], 2..3);
    let (mut rows, mut all) = (0, vec![]);
    for one in &found {
        let mut keys = entries(&one.state, &args.prefix);
        let matching = keys.len();
        keys.truncate(args.limit);
        say(format_args!(
            "partition {}: {} keys, {} bytes, as of event {}{}{}",
            one.partition,
            one.state.keys(),
            one.state.size(),
            one.position.sequence_number,
            one.state.wake().map(|at| format!(", to be woken at {at} ms")).unwrap_or_default(),
            if matching > keys.len() { format!("; {} of {matching} are shown", keys.len()) } else { String::new() }
        ));
        if args.json {
            let keys: Vec<_> = keys.iter().map(|(key, value)| json!({ "key": &**key, "bytes": value.len() })).collect();
            all.push(json!({
                "partition": one.partition.as_str(),
                "sequence-number": one.position.sequence_number,
                "wake-at": one.state.wake(),
                "keys": keys,
            }));
            continue;
        }
        for (key, value) in keys {
            table.add_row([one.partition.to_string(), harmless(&key, &[]), value.len().to_string(), beginning(&value)]);
            rows += 1;
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&all);
        print_line(&text.map_err(|error| Failure::failed(format!("can't print: {error}")))?)?;
    } else if rows > 0 {
        print_line(&summary::text(&table))?;
    } else if problems.is_empty() {
        say(format_args!("no such key in {scope}"));
    }
    verdict(&problems)
}

fn beginning(value: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(value) else { return "(not text)".into() };
    let mut text = harmless(text, &[]);
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}
