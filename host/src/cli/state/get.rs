//! `weir state get`: one value.

use std::io::Write as _;

use clap::Args;

use super::{Which, read, verdict};
use crate::cli::failure::Failure;
use crate::cli::{print_line, say};

/// Print the value of a key
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir state get weir.toml count/AA
  weir state get weir.toml window/delays/meta --partition 3 | jq .

The value is printed as its bytes are, with a line break behind text. Without --partition all
partitions are looked through; where several have the key, name one. Exit code 1: none has it.")]
pub(super) struct GetArgs {
    #[command(flatten)]
    which: Which,
    /// The key, as a whole
    #[arg(value_name = "KEY")]
    key: String,
    /// In this partition
    #[arg(long, value_name = "ID")]
    partition: Option<String>,
}

pub(super) async fn get(args: GetArgs) -> Result<(), Failure> {
    let names: Vec<String> = args.partition.into_iter().collect();
    let (scope, found, problems) = read(&args.which, &names).await?;
    let mut values = vec![];
    for one in found {
        values.extend(one.state.get(&args.key).map(|value| (one.partition, one.position.sequence_number, value)));
    }
    match values.as_slice() {
        [] => {
            let mut text = format!("no partition of {scope} has the key {:?}; `weir state scan` lists keys", args.key);
            problems.iter().for_each(|problem| text.push_str(&format!("\n  {problem}")));
            Err(Failure::failed(text))
        }
        [(partition, event, value)] => {
            say(format_args!("partition {partition}, as of event {event}:"));
            match std::str::from_utf8(value) {
                Ok(text) => print_line(text)?,
                Err(_) => {
                    let written = std::io::stdout().lock().write_all(value);
                    written.map_err(|error| Failure::failed(format!("can't write to standard output: {error}")))?;
                }
            }
            verdict(&problems)
        }
        several => {
            let partitions: Vec<_> = several.iter().map(|(partition, ..)| partition.to_string()).collect();
            Err(Failure::failed(format!(
                "the partitions {} have the key {:?}; name one with --partition",
                partitions.join(", "),
                args.key
            )))
        }
    }
}
