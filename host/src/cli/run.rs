//! `weir run`: the processors of a configuration, until a signal or until caught up.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::logging::Logging;
use super::reach::Address;
use super::signals::Signals;
use super::{say_error, summary, wire};
use crate::config::{Config, format_duration};
use crate::host::{Outcome, PartitionEnd};

/// Run the processors of a configuration
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir run weir.toml
  weir run weir.toml --until-caught-up       a batch job: what is there now, then the end
  weir run weir.toml --log-format json       for a container's log

SIGTERM or Ctrl-C: finishes what is in hand within [host] shutdown-deadline, writes the
checkpoints, and ends. A second signal ends at once; what was not checkpointed is processed again
after the restart. At the end a table of all partitions is printed to standard error. A processor
that fails never stops its neighbours; it shows in the table and in the exit code: 0 all well, 1 a
processor or partition failed, 2 the configuration is wrong, 3 not everything in hand was
finished. Every key of the file: docs/configuration.md.")]
pub(crate) struct RunArgs {
    /// The configuration
    #[arg(value_name = "WEIR.TOML", default_value = "weir.toml")]
    config: PathBuf,
    /// End when everything that was enqueued when the run began is processed
    ///
    /// Each partition ends once its events up to there were handed to the module, their outputs are published and the checkpoint
    /// is written. Events that a module holds back then are not committed: a warning says how many, the exit code is 0 all the
    /// same, and the next run hands them over again. A hub that stays out of reach ends
    /// such a run, after some attempts, with exit code 1; without this option it is tried for ever.
    #[arg(long)]
    until_caught_up: bool,
}

pub(crate) async fn run(args: RunArgs, logging: &Logging) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    logging.start(Some(&config.log))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let deadline = format_duration(config.host.shutdown_deadline);
    let signals = Signals::listen(move || {
        tracing::info!("stopping: finishing what is in hand, for up to {deadline}; a second signal stops at once");
    })?;
    const AT_ONCE: &str =
        "stopped at once by a second signal; what was not checkpointed is processed again after the restart";
    let wired = tokio::select! {
        wired = wire::wire(&config, args.until_caught_up) => wired?,
        () = signals.stop.cancelled() => return Err(Failure::Unfinished(AT_ONCE.into())),
    };
    for start in &wired.starts {
        tracing::info!("{start}");
    }
    for broken in &wired.broken {
        say_error(broken);
    }
    let Some(host) = wired.host else {
        return Err(Failure::failed("no processor can run; the reasons stand above"));
    };
    // Said once and early, with the place; the host tries on and says so itself.
    let addresses: BTreeSet<_> = config.processors.iter().map(|processor| Address::of(&processor.namespace)).collect();
    for address in addresses {
        tokio::spawn(async move {
            if let Err(why) = address.reach().await {
                tracing::warn!("{why}; trying on");
            }
        });
    }
    let status = host.status();
    let outcome = tokio::select! {
        outcome = host.run(signals.drain.cancelled_owned()) => Some(outcome),
        () = signals.stop.cancelled() => None,
    };
    let json = logging.is_json(Some(&config.log));
    summary::show(&status.snapshot(), json);
    summary::measured(&wired.metrics, json);
    match outcome {
        None => Err(Failure::Unfinished(AT_ONCE.into())),
        Some(outcome) => verdict(&outcome, &wired.broken),
    }
}

/// What the end of the run means for who started it. What modules hold back is no failure, but said.
pub(super) fn verdict(outcome: &Outcome, broken: &[String]) -> Result<(), Failure> {
    for processor in &outcome.processors {
        for partition in &processor.partitions {
            if let PartitionEnd::CaughtUp { held: held @ 1.. } = partition.end {
                let (name, partition) = (&processor.name, &partition.partition);
                tracing::warn!(
                    "processor `{name}`, partition {partition}: the module holds {held} events; they are not committed, and the \
                     next run hands them over again"
                );
            }
        }
    }
    let problems = outcome.to_string();
    let failed = outcome.processors.iter().any(|processor| {
        processor.problem.is_some()
            || processor.partitions.iter().any(|partition| matches!(partition.end, PartitionEnd::Failed(_)))
    });
    let text = broken.iter().map(String::as_str).chain(problems.lines()).collect::<Vec<_>>().join("\n");
    match (outcome.is_success() && broken.is_empty(), failed || !broken.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::failed(text)),
        (false, false) => Err(Failure::Unfinished(text)),
    }
}
