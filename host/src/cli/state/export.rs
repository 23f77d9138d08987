//! `weir state export`: the whole state as lines of JSON.

use std::io::{BufWriter, Write as _};

use clap::Args;

use super::entry::{Line, VERSION};
use super::{Which, entries, read, verdict};
use crate::cli::failure::Failure;
use crate::cli::say;

/// Print the whole state, a line of JSON for each key
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir state export weir.toml > state.ndjson
  weir state export weir.toml --partition 3 | grep '\"key\":\"count/'

For each partition a line says where it is, the event that its state is as of, and when its
processor wants to be woken; then come its keys. The same state always gives the same lines.")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    which: Which,
    /// Of these partitions
    #[arg(long = "partition", value_name = "ID,…", value_delimiter = ',')]
    partitions: Vec<String>,
}

pub(super) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let (scope, found, problems) = read(&args.which, &args.partitions).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut keys = 0;
    let mut write = |line: &Line| -> std::io::Result<()> {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")
    };
    let mut all = || {
        for one in &found {
            write(&Line::Head {
                weir_state: VERSION,
                of: scope.to_string(),
                partition: one.partition.to_string(),
                sequence_number: one.position.sequence_number,
                keys: one.state.keys(),
                wake_at: one.state.wake(),
            })?;
            for (key, value) in entries(&one.state, "") {
                keys += 1;
                write(&Line::entry(&key, &value))?;
            }
        }
        Ok(())
    };
    let written = all().and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
        written => written.map_err(|error| Failure::failed(format!("can't write to standard output: {error}")))?,
    }
    say(format_args!("{keys} keys of {} partitions", found.len()));
    verdict(&problems)
}
