//! `weir dead-letters list`: a line for each letter.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::letter::Head;
use super::{CAUSES, Desk, Filter, counted, verdict};
use crate::cli::failure::Failure;
use crate::cli::harmless;
use crate::cli::{print_line, say, summary};

/// How much of a reason stands in a line.
const REASON: usize = 80;

/// List the letters with when, why and whose
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters list weir.toml
  weir dead-letters list weir.toml --partition 0,3 --cause trap,deadline
  weir dead-letters list weir.toml --json | jq 'group_by(.cause) | map({(.[0].cause): length})'

In the order of partitions and events; a file in its own order. The time is when the event was
enqueued, not when it became a letter.")]
pub(super) struct ListArgs {
    /// The configuration
    #[arg(value_name = "WEIR.TOML", default_value = "weir.toml")]
    config: PathBuf,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
    /// Only letters from these partitions
    #[arg(long = "partition", value_name = "ID,…", value_delimiter = ',')]
    partitions: Vec<String>,
    /// Only letters with these causes: rejected, retry, trap, deadline, out-of-memory, exit, invalid-answer, expired
    #[arg(long = "cause", value_name = "CAUSE,…", value_delimiter = ',', hide_possible_values = true, value_parser = PossibleValuesParser::new(CAUSES))]
    causes: Vec<String>,
    /// Print an array as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn list(args: ListArgs) -> Result<(), Failure> {
    let desk = Desk::find(&args.config, args.processor.as_deref())?;
    let filter = Filter { partitions: args.partitions, causes: args.causes };
    let (selected, problems) = desk.select(&[], &filter).await?;
    let heads: Vec<_> = selected.into_iter().map(|(_, head)| head).collect();
    if args.json {
        let text = serde_json::to_string_pretty(&heads);
        print_line(&text.map_err(|error| Failure::failed(format!("can't print: {error}")))?)?;
    } else if !heads.is_empty() {
        print_line(&table(&heads))?;
    }
    say(format_args!("{} in {}", counted(heads.len()), desk.shelf));
    verdict(&problems)
}

fn table(heads: &[Head]) -> String {
    let mut table = summary::plain(["id", "enqueued", "cause", "attempts", "processor", "reason"], 3..4);
    for head in heads {
        let reason = harmless(&head.reason, &[]);
        let cut: String = reason.chars().take(REASON).collect();
        let more = if cut.len() < reason.len() { "…" } else { "" };
        table.add_row([
            head.id.clone(),
            head.enqueued_time.clone().unwrap_or_else(|| "-".into()),
            harmless(&head.cause, &[]),
            head.attempts.map_or("-".into(), |attempts| attempts.to_string()),
            head.processor.clone().unwrap_or_else(|| "-".into()),
            format!("{cut}{more}"),
        ]);
    }
    summary::text(&table)
}
