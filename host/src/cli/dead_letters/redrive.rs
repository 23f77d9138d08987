//! `weir dead-letters redrive`: sends events back, or through a module on this machine.
//!
//! A letter is removed after its event was accepted. Whatever happens in between (a lost answer, a kill, a letter that can't be removed)
//! leaves the letter, and the next redrive sends the event a second time; `weir-redriven-from` is the same then.

use std::path::PathBuf;

use clap::Args;
use futures::stream::{self, StreamExt as _};

use super::letter::{Head, event};
use super::shelf::Entry;
use super::{Desk, Which, counted, verdict};
use crate::azure::SinkOptions;
use crate::cli::failure::Failure;
use crate::cli::hub::namespace;
use crate::cli::outgoing::{self, Input};
use crate::cli::reach::Address;
use crate::cli::{dev, say};
use crate::dead_letter::ORIGIN_NAMESPACE_PROPERTY;
use crate::ndjson;
use crate::outputs::size;
use crate::seams::Sink as _;

/// Letters that are sent, and then removed, together: as many may be sent twice when the command is cut short.
const CHUNK: usize = 100;
/// Of these, removed at a time.
const AT_ONCE: usize = 16;
/// The same as [`CHUNK`], in bytes.
const CHUNK_BYTES: usize = 4 << 20;

/// Send the events of letters back to where they came from, and remove the letters
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters redrive weir.toml flights/0/7/rejected
  weir dead-letters redrive weir.toml --all --cause deadline
  weir dead-letters redrive weir.toml --all --to-hub flights-again
  weir dead-letters redrive weir.toml --all --module fixed.wasm    try it here, remove nothing

An event goes out with its own body, key and properties; the host's are taken off, and
weir-redriven-from is the letter's id. Every processor of the hub gets it, at the end of its
partition. A letter is removed only after its event was accepted: when the command is cut short,
some events may be sent twice, and none is lost. Letters in a file stay in it; in an event hub a
further event says that they are done with.

With --module the events run through a module on this machine, with the processor's `config`,
limits and grants, and what comes out is printed, as `weir dev` does.")]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    which: Which,
    /// Send to this hub of the processor's namespace instead
    #[arg(long, value_name = "NAME")]
    to_hub: Option<String>,
    /// Run this component over the events here; nothing is sent or removed
    #[arg(long, value_name = "MODULE.wasm", conflicts_with = "to_hub")]
    module: Option<PathBuf>,
}

pub(super) async fn redrive(args: RedriveArgs) -> Result<(), Failure> {
    let desk = Desk::find(&args.which.config, args.which.processor.as_deref())?;
    let (selected, problems) = desk.select(&args.which.ids, &args.which.filter).await?;
    if selected.is_empty() {
        say(format_args!("there is no such letter in {}", desk.shelf));
        return verdict(&problems);
    }
    match args.module {
        Some(module) => offline(&desk, selected, problems, module).await,
        None => send(&desk, selected, problems, args.to_hub).await,
    }
}

async fn send(
    desk: &Desk,
    selected: Vec<(Entry, Head)>,
    mut problems: Vec<String>,
    to_hub: Option<String>,
) -> Result<(), Failure> {
    let processor = desk.processor()?;
    let hub = to_hub.clone().unwrap_or_else(|| processor.event_hub.to_string());
    let hubs = namespace(&processor.namespace)?;
    let reached = Address::of(&processor.namespace).reach().await;
    reached.map_err(|why| Failure::failed(format!("{why}; nothing was sent")))?;
    let sink = hubs.sink(&hub, SinkOptions::default());
    let limit = sink.max_output_bytes();
    let here = &*processor.namespace.fully_qualified;
    let (mut sent, mut removed) = (0, 0);
    let mut waiting = selected.into_iter().peekable();
    while waiting.peek().is_some() {
        let (mut letters, mut events, mut bytes) = (vec![], vec![], 0);
        while letters.len() < CHUNK && bytes < CHUNK_BYTES {
            let Some((entry, head)) = waiting.next() else { break };
            let letter = match desk.shelf.read(&entry).await {
                Ok(Some(letter)) => letter,
                Ok(None) => continue,
                Err(why) => {
                    problems.push(why);
                    continue;
                }
            };
            let from = super::letter::text(&letter.output, ORIGIN_NAMESPACE_PROPERTY);
            if let Some(from) = from.filter(|from| to_hub.is_none() && !from.eq_ignore_ascii_case(here)) {
                problems.push(format!(
                    "{} was not sent: it came from the namespace {from}, and the processor reads {here}; name a hub there with --to-hub",
                    head.id
                ));
                continue;
            }
            let event = event(letter.output.clone(), limit);
            if size(&event) > limit {
                problems.push(format!("{} was not sent: {hub} takes events of {limit} bytes", head.id));
                continue;
            }
            bytes += size(&event);
            events.push(event);
            letters.push((entry, head, letter));
        }
        if let Err(error) = outgoing::deliver(&sink, &events).await {
            sink.close().await;
            problems.push(format!(
                "can't send to {hub}: {error}; {} sent and {removed} removed before. Of the next {} some may have been sent: they stay, and \
                 another redrive may send them twice",
                counted(sent),
                counted(events.len())
            ));
            return verdict(&problems);
        }
        sent += letters.len();
        if !desk.shelf.gives_up_letters() {
            continue;
        }
        let how = format!("sent to {hub}");
        let removing = letters.into_iter().map(|(entry, head, letter)| {
            let how = &how;
            async move { (head, desk.shelf.remove(&entry, &letter, how).await) }
        });
        let mut removing = stream::iter(removing.collect::<Vec<_>>()).buffered(AT_ONCE);
        while let Some((head, gone)) = removing.next().await {
            match gone {
                Ok(()) => removed += 1,
                Err(why) => problems.push(format!(
                    "{} was sent, but could not be removed: {why}. Discard it; another redrive would send it twice",
                    head.id
                )),
            }
        }
    }
    sink.close().await;
    match desk.shelf.gives_up_letters() {
        true => say(format_args!("{} sent to {hub}, {removed} removed from {}", counted(sent), desk.shelf)),
        false => say(format_args!(
            "{} sent to {hub}; they stay in {}, and another redrive sends them again",
            counted(sent),
            desk.shelf
        )),
    }
    verdict(&problems)
}

/// Through a module, on this machine.
async fn offline(
    desk: &Desk,
    selected: Vec<(Entry, Head)>,
    problems: Vec<String>,
    module: PathBuf,
) -> Result<(), Failure> {
    let processor = desk.processor()?;
    let mut lines = Vec::new();
    for (entry, _) in selected {
        let Some(letter) = desk.shelf.read(&entry).await.map_err(Failure::failed)? else { continue };
        let failed = |error| Failure::failed(format!("can't write an event: {error}"));
        ndjson::write_output(&mut lines, &event(letter.output, usize::MAX)).map_err(failed)?;
    }
    let input = Input::lines("the letters' events".into(), lines);
    dev::try_over(module, processor, input).await?;
    say("nothing was sent or removed");
    verdict(&problems)
}
