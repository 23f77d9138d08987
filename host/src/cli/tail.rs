//! `weir tail`: events of a hub as lines.

use std::io::{ErrorKind, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::failure::Failure;
use super::hub::HubArgs;
use super::say;
use super::signals::Signals;
use crate::azure::Timeouts;
use crate::model::{Event, PartitionId, PartitionInfo, SequenceNumber, StartPosition, Timestamp};
use crate::ndjson;
use crate::seams::{EventSource, OpenOptions, SourceError, SourceErrorKind};

/// Print the events of an event hub as lines of JSON
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir tail --endpoint amqp://127.0.0.1:5672 --hub late-flights
  weir tail --config weir.toml --from latest
  weir tail --config weir.toml --from 2026-01-01T00:00:00Z --count 10 | jq .body
  weir tail --endpoint amqp://127.0.0.1:5672 --hub out --until-caught-up > out.ndjson

Reads beside whoever else reads the group: takes nothing away and writes no checkpoint. Events of
one partition come in order. Ends with Ctrl-C, after --count events, or with --until-caught-up.")]
pub(crate) struct TailArgs {
    #[command(flatten)]
    hub: HubArgs,
    /// Read through this group [default: the processor's with --config, else $default]
    #[arg(long, value_name = "GROUP")]
    consumer_group: Option<String>,
    /// Where to begin: earliest, latest, a sequence number, or a time such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "POSITION", default_value = "earliest")]
    from: From,
    /// Only this partition; repeat for more [default: all]
    #[arg(long = "partition", value_name = "ID")]
    partitions: Vec<String>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End when everything that is there now was printed
    #[arg(long)]
    until_caught_up: bool,
}

/// A place in a partition, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Earliest,
    Latest,
    Sequence(SequenceNumber),
    Time(Timestamp),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse(), OffsetDateTime::parse(text, &Rfc3339)) {
            ("earliest", ..) => Ok(Self::Earliest),
            ("latest", ..) => Ok(Self::Latest),
            (_, Ok(number), _) => Ok(Self::Sequence(number)),
            (_, _, Ok(time)) => {
                Ok(Self::Time(i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)))
            }
            _ => Err("write earliest, latest, a sequence number, or a time such as 2026-01-01T00:00:00Z".into()),
        }
    }
}

impl From {
    fn position(self, info: &PartitionInfo) -> StartPosition {
        match self {
            Self::Earliest => StartPosition::Earliest,
            Self::Latest if info.last_enqueued_sequence_number < 0 => StartPosition::Earliest,
            Self::Latest => StartPosition::After(info.last_enqueued_sequence_number),
            Self::Sequence(number) => StartPosition::After(number.saturating_sub(1)),
            Self::Time(time) => StartPosition::EnqueuedTime(time),
        }
    }

    /// The last event to print, or none at all.
    fn end(self, info: &PartitionInfo) -> Option<SequenceNumber> {
        let last = info.last_enqueued_sequence_number;
        match self {
            _ if info.is_empty => None,
            Self::Latest => None,
            Self::Sequence(first) if first > last => None,
            _ => Some(last),
        }
    }
}

pub(crate) async fn tail(args: TailArgs) -> Result<(), Failure> {
    if args.until_caught_up && matches!(args.from, From::Time(_)) {
        return Err(Failure::usage(
            "--until-caught-up needs a position that can be compared: use --from earliest or a sequence number",
        ));
    }
    let hub = args.hub.find()?;
    hub.address.reach().await.map_err(Failure::failed)?;
    let group = args.consumer_group.or(hub.consumer_group).unwrap_or_else(|| "$default".into());
    let source = Arc::new(hub.namespace.source(&hub.name, &group, Timeouts::default()));
    let signals = Signals::listen(|| {})?;
    let failed = |error: SourceError| Failure::failed(format!("can't read {} through {group}: {error}", hub.name));
    let known = source.partitions().await.map_err(failed)?;
    let wanted = chosen(&known, &args.partitions)?;

    let (lines, mut printed) = mpsc::channel::<Vec<u8>>(1024);
    let mut readers = JoinSet::new();
    for partition in wanted {
        let (source, lines, until) = (Arc::clone(&source), lines.clone(), args.until_caught_up);
        readers.spawn(async move {
            let made = |event: Event| {
                let mut line = Vec::with_capacity(event.body.len() + 256);
                // Writing to memory doesn't fail.
                let _ = ndjson::write_event(&mut line, &partition, &event);
                line
            };
            follow(&*source, &partition, args.from, until, made, &lines).await
        });
    }
    drop(lines);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut batch = Vec::new();
    while left > 0 {
        let received = tokio::select! {
            received = printed.recv_many(&mut batch, 256) => received,
            () = signals.drain.cancelled() => 0,
        };
        if received == 0 {
            break;
        }
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(received);
        left -= take as u64;
        if !print(batch.iter().take(take))? {
            break;
        }
        batch.clear();
    }
    drop(printed);
    if signals.drain.is_cancelled() || left == 0 {
        return Ok(());
    }
    while let Some(ended) = readers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error)),
            Err(error) => return Err(Failure::failed(format!("a reader ended unexpectedly: {error}"))),
        }
    }
    Ok(())
}

fn chosen(known: &[PartitionId], wanted: &[String]) -> Result<Vec<PartitionId>, Failure> {
    if wanted.is_empty() {
        return Ok(known.to_vec());
    }
    let find = |name: &String| {
        known.iter().find(|id| id.as_str() == name).cloned().ok_or_else(|| {
            let names: Vec<_> = known.iter().map(PartitionId::as_str).collect();
            Failure::usage(format!("there is no partition {name:?}; there are {}", names.join(", ")))
        })
    };
    wanted.iter().map(find).collect()
}

/// Prints whole lines. `false`: whoever read them has gone.
fn print<'a>(lines: impl Iterator<Item = &'a Vec<u8>>) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    let write = || {
        for line in lines {
            stdout.write_all(line)?;
        }
        stdout.flush()
    };
    match write() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(format!("can't write to standard output: {error}"))),
    }
}

/// Reads one partition, over lost links, until its end or until nobody listens, and hands over what is made of each event.
pub(crate) async fn follow<T>(
    source: &dyn EventSource,
    partition: &PartitionId,
    from: From,
    until_caught_up: bool,
    made: impl Fn(Event) -> T,
    taken: &mpsc::Sender<T>,
) -> Result<(), SourceError> {
    let info = source.partition_info(partition).await?;
    let mut position = from.position(&info);
    let end = from.end(&info);
    if until_caught_up && end.is_none() {
        return Ok(());
    }
    let end = end.filter(|_| until_caught_up);
    let options = OpenOptions { owner_level: None, prefetch: 300 };
    let mut pause = Duration::from_millis(200);
    loop {
        let mut read = async || {
            let mut receiver = source.open(partition, position.clone(), &options).await?;
            let mut events = Vec::new();
            loop {
                receiver.receive(256, &mut events).await?;
                pause = Duration::from_millis(200);
                for event in events.drain(..) {
                    let number = event.sequence_number;
                    position = StartPosition::After(number);
                    if taken.send(made(event)).await.is_err() || end.is_some_and(|end| number >= end) {
                        receiver.close().await;
                        return Ok(());
                    }
                }
            }
        };
        match read().await {
            Ok(()) => return Ok(()),
            Err(error @ SourceError { kind: SourceErrorKind::Transient, .. }) => {
                say(format_args!("partition {partition}: reading again after the last event ({error})"));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
            Err(error) => return Err(error),
        }
    }
}
