//! `weir dead-letters`: looks at what could not be processed (`list.rs`, `show.rs`), sends it back (`redrive.rs`), or removes it (`discard.rs`).
//!
//! Where the letters lie is `shelf.rs`; what is read of one is `letter.rs`. A letter is removed only after its event was accepted elsewhere
//! or somebody agreed to lose it, so a command that is cut short may send twice, and loses nothing.

mod discard;
mod in_hub;
mod letter;
mod list;
mod redrive;
mod shelf;
mod show;

use std::path::{Path, PathBuf};
use std::pin::pin;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use futures::StreamExt as _;

use super::failure::Failure;
use super::hub;
use crate::config::{Config, ProcessorConfig};
use letter::Head;
use shelf::{Entry, Shelf};

/// Look at the events that could not be processed, send them back, or remove them
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  weir dead-letters list weir.toml
  weir dead-letters show weir.toml flights/0/7/rejected
  weir dead-letters redrive weir.toml --all               send them back to where they came from
  weir dead-letters redrive weir.toml --all --module fixed.wasm     try a module on them first
  weir dead-letters discard weir.toml flights/0/7/rejected

Works while `weir run` is running, for dead letters in a directory, a container or an event hub.
Letters in a file can be listed, shown and sent back, but stay there.")]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Redrive(redrive::RedriveArgs),
    Discard(discard::DiscardArgs),
}

/// The letters that are meant, for what changes or sends them.
#[derive(Debug, Args)]
struct Which {
    /// The configuration
    #[arg(value_name = "WEIR.TOML")]
    config: PathBuf,
    /// The letters' ids, as `list` prints them
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All letters of the processor
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Which processor of the configuration, when it has several
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
}

/// The causes, as letters name them.
const CAUSES: [&str; 8] =
    ["rejected", "retry", "trap", "deadline", "out-of-memory", "exit", "invalid-answer", "expired"];

/// Which letters of all.
#[derive(Debug, Default, Args)]
struct Filter {
    /// Only letters from these partitions
    #[arg(long = "partition", value_name = "ID,…", value_delimiter = ',', conflicts_with = "ids")]
    partitions: Vec<String>,
    /// Only letters with these causes: rejected, retry, trap, deadline, out-of-memory, exit, invalid-answer, expired
    #[arg(long = "cause", value_name = "CAUSE,…", value_delimiter = ',', hide_possible_values = true, value_parser = PossibleValuesParser::new(CAUSES), conflicts_with = "ids")]
    causes: Vec<String>,
}

pub(crate) async fn dead_letters(args: DeadLettersArgs) -> Result<(), Failure> {
    match args.action {
        Action::List(args) => list::list(args).await,
        Action::Show(args) => show::show(args).await,
        Action::Redrive(args) => redrive::redrive(args).await,
        Action::Discard(args) => discard::discard(args).await,
    }
}

/// A processor's letters.
struct Desk {
    config: Config,
    processor: usize,
    shelf: Shelf,
}

impl Desk {
    fn find(file: &Path, processor: Option<&str>) -> Result<Self, Failure> {
        let config = Config::load(file)?;
        let chosen = hub::processor(&config, processor)?;
        let shelf = Shelf::of(chosen)?;
        let processor = config.processors.iter().position(|known| known.name == chosen.name).unwrap_or_default();
        Ok(Self { config, processor, shelf })
    }

    fn processor(&self) -> Result<&ProcessorConfig, Failure> {
        self.config.processors.get(self.processor).ok_or_else(|| Failure::failed("the processor is gone"))
    }

    /// The letters that are meant, in the order of their events, and what is wrong with others: sentences for a person. An id that no
    /// letter has is an error, before anything is done.
    async fn select(&self, ids: &[String], filter: &Filter) -> Result<(Vec<(Entry, Head)>, Vec<String>), Failure> {
        let (mut entries, mut problems) = self.shelf.entries().await.map_err(Failure::failed)?;
        entries.retain(|entry| ids.is_empty() || ids.iter().any(|id| entry.may_be(id)));
        entries.retain(|entry| {
            filter.partitions.is_empty() || filter.partitions.iter().any(|partition| entry.is_in(partition))
        });
        let mut selected = Vec::new();
        let mut letters = pin!(self.shelf.read_all(entries));
        while let Some((entry, read)) = letters.next().await {
            match read {
                Ok(Some(letter)) => selected.push((entry, Head::of(&letter.output))),
                // Sent back or removed meanwhile.
                Ok(None) => {}
                Err(why) => problems.push(why),
            }
        }
        selected.retain(|(_, head)| ids.is_empty() || ids.contains(&head.id));
        selected.retain(|(_, head)| filter.causes.is_empty() || filter.causes.contains(&head.cause));
        let missing: Vec<_> =
            ids.iter().filter(|id| !selected.iter().any(|(_, head)| head.id == **id)).map(String::as_str).collect();
        if !missing.is_empty() {
            let mut text = format!(
                "there is no letter {} of processor `{}` in {}; `weir dead-letters list` shows those that are there",
                missing.join(", "),
                self.processor()?.name,
                self.shelf
            );
            problems.iter().for_each(|problem| text.push_str(&format!("\n  {problem}")));
            return Err(Failure::failed(text));
        }
        Ok((selected, problems))
    }
}

/// All went well, or these went wrong.
fn verdict(problems: &[String]) -> Result<(), Failure> {
    if problems.is_empty() { Ok(()) } else { Err(Failure::failed(problems.join("\n  "))) }
}

/// `1 letter`, `2 letters`.
fn counted(count: usize) -> String {
    format!("{count} letter{}", if count == 1 { "" } else { "s" })
}
