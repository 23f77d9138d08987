//! `weir send`: lines to events of a hub.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::hub::HubArgs;
use super::outgoing::{self, Input, Reading};
use super::say;

/// Send lines to an event hub
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir send --endpoint amqp://127.0.0.1:5672 --hub flights in.ndjson
  grep UA flights.csv | weir send --config weir.toml --processor delays --lines --key UA
  weir tail --config weir.toml --count 10 | weir send --endpoint amqp://127.0.0.1:5672 --hub copy

A line is a JSON object; only a body is required:
  {\"body\": {\"delay\": 42}, \"key\": \"AA\", \"properties\": {\"unit\": \"min\"}, \"message-id\": \"m-1\"}
A body that is an object or array is sent as that JSON, a string as that text, and \"body-base64\"
as those bytes. With --lines each line is a body as it is. What `weir tail` prints can be sent
again.")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// The file; - or nothing reads standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line is a body, not JSON
    #[arg(long)]
    lines: bool,
    /// Partition key, for lines without one
    #[arg(long, value_name = "KEY", conflicts_with = "partition")]
    key: Option<String>,
    /// Send everything to this partition
    #[arg(long, value_name = "ID", conflicts_with = "keep_partition")]
    partition: Option<String>,
    /// Send each line to the partition that it names
    #[arg(long)]
    keep_partition: bool,
    /// Content type, for lines without one
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

pub(crate) async fn send(args: SendArgs) -> Result<(), Failure> {
    let hub = args.hub.find()?;
    let reading = Reading {
        plain: args.lines,
        key: args.key,
        partition: args.partition,
        content_type: args.content_type,
        keep_partition: args.keep_partition,
        hint: "with --lines each line is a body as it is",
    };
    let input = Input::open(&outgoing::file_or_stdin(args.file.as_ref())).await?;
    hub.address.reach().await.map_err(|why| Failure::failed(format!("{why}; nothing was sent")))?;
    let sent = outgoing::send(input, &reading, &hub.namespace, &hub.name).await?;
    say(format_args!("sent {} to {}", outgoing::counted(sent), hub.name));
    Ok(())
}
