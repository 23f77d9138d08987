//! The `weir` command: arguments, adapters, exit codes. Everything else is the library's, and open to any other program.
//!
//! A file per command. `hub.rs` names a hub by options or by a configuration, `wire.rs` is the one place that turns a
//! configuration into a running host. Standard output is for data (events, reports, tables that were asked for), standard error for
//! everything that is said about it. A command that fails says in one line what, why and what to do, unless its report on
//! standard output has said it, and ends with a code of [`Failure`].

mod check;
mod checkpoints;
mod confirm;
mod dead_letters;
mod dev;
mod emulator;
mod failure;
mod hub;
mod logging;
mod outgoing;
mod reach;
mod run;
mod send;
mod signals;
mod state;
mod stores;
mod summary;
mod tail;
#[cfg(test)]
mod tests;
mod wire;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::Failure;
use logging::{LogArgs, Logging};

use crate::wasm::reorders;

/// Runs stream processors for Azure Event Hubs as sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "weir", bin_name = "weir", version, about, long_about = None, after_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A first round, without an Azure account (`cargo xtask guests` builds modules to try):
  weir check identity.wasm                   is this module a processor, and what does it want?
  echo '{\"body\": \"hello\"}' > in.ndjson     an event a line; `weir send --help` says more
  weir dev identity.wasm --events in.ndjson  run the module over them; outputs are printed
  weir emulator --hub flights:4              a local namespace; then, in another terminal:
  weir send --endpoint amqp://127.0.0.1:5672 --hub flights in.ndjson
  weir tail --endpoint amqp://127.0.0.1:5672 --hub flights --until-caught-up
  weir run weir.toml                         what runs in production (docs/configuration.md)
  weir checkpoints weir.toml                 how far it is
  weir dead-letters list weir.toml           what could not be processed, and why
  weir state scan weir.toml                  what processors keep

Exit codes: 0 all went well; 1 something failed, and a message says what; 2 the command line or
the configuration is wrong; 3 stopped before everything in hand was finished (nothing is lost: it
is processed again). `weir COMMAND --help` explains each command.";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Dev(dev::DevArgs),
    Emulator(emulator::EmulatorArgs),
    Send(send::SendArgs),
    Tail(tail::TailArgs),
    Check(check::CheckArgs),
    Checkpoints(checkpoints::CheckpointsArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    State(state::StateArgs),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe (`weir --help | head -1`) is no failure.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(failure::USAGE) };
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Reported) {
                say_error(&failure.to_string());
            }
            ExitCode::from(failure.code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let logging = Logging::new(&cli.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("weir-io")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the I/O threads: {error}")))?;
    let result = runtime.block_on(async {
        // `run` has to read its configuration first, which may say how to log.
        if !matches!(cli.command, Command::Run(_)) {
            logging.start(None)?;
        }
        match cli.command {
            Command::Run(args) => run::run(args, &logging).await,
            Command::Dev(args) => dev::dev(args).await,
            Command::Emulator(args) => emulator::emulator(args).await,
            Command::Send(args) => send::send(args).await,
            Command::Tail(args) => tail::tail(args).await,
            Command::Check(args) => check::check(&args),
            Command::Checkpoints(args) => checkpoints::checkpoints(args).await,
            Command::DeadLetters(args) => dead_letters::dead_letters(args).await,
            Command::State(args) => state::state(args).await,
        }
    });
    // Whatever still blocks a thread (a name lookup, a read of standard input) has nothing to finish any more.
    runtime.shutdown_background();
    result
}

/// Prints `error: …` to standard error, red where that can be seen.
fn say_error(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let coloured = stderr.is_terminal() && logging::colours_wanted();
    let (on, off) = if coloured { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    // Nowhere to say that nothing can be said.
    let _ = writeln!(stderr, "{on}error:{off} {}", text.trim_end());
}

/// Prints a line to standard error.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a line to standard output. A reader that went away (`weir tail | head`) ends the command, without a complaint.
fn print_line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Failure::failed(format!("can't write to standard output: {error}"))),
    }
}

/// Text from elsewhere for a terminal: it may hold what moves the cursor or worse.
fn harmless(text: &str, also: &[char]) -> String {
    let shown = |c: char| match (c.is_control() || reorders(c)) && !also.contains(&c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}
