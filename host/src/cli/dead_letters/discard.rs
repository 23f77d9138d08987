//! `weir dead-letters discard`: removes letters that nobody wants back.

use clap::Args;

use super::{Desk, Which, counted, verdict};
use crate::cli::confirm::confirm;
use crate::cli::failure::Failure;
use crate::cli::say;

/// Remove letters for good
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir dead-letters discard weir.toml flights/0/7/rejected
  weir dead-letters discard weir.toml --all --cause rejected
  weir dead-letters discard weir.toml --all --yes

The events of the letters are lost, unless they are still in the hub that they came from. Nothing
is removed before you agree. In an event hub of dead letters a further event says that a letter
is done with; the letter itself goes with the hub's retention.")]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    which: Which,
    /// Remove without asking
    #[arg(long)]
    yes: bool,
}

pub(super) async fn discard(args: DiscardArgs) -> Result<(), Failure> {
    let desk = Desk::find(&args.which.config, args.which.processor.as_deref())?;
    if !desk.shelf.gives_up_letters() {
        return Err(Failure::usage(format!(
            "letters can't be taken out of {}, which a host appends to: stop the host and edit or remove the file, or have letters in a \
             directory, a container or an event hub",
            desk.shelf
        )));
    }
    let (selected, mut problems) = desk.select(&args.which.ids, &args.which.filter).await?;
    if !selected.is_empty() {
        let question = format!("Remove {} from {} for good?", counted(selected.len()), desk.shelf);
        confirm(
            &question,
            args.yes,
            "nothing was removed",
            "Add --yes to remove, or look with `weir dead-letters list`",
        )?;
    }
    let mut count = 0;
    for (entry, head) in selected {
        let removed = async {
            match desk.shelf.read(&entry).await? {
                Some(letter) => desk.shelf.remove(&entry, &letter, "discarded").await.map(|()| true),
                None => Ok(false),
            }
        };
        match removed.await {
            Ok(removed) => count += usize::from(removed),
            Err(why) => problems.push(format!("{} was not removed: {why}", head.id)),
        }
    }
    say(format_args!("{} removed", counted(count)));
    verdict(&problems)
}
