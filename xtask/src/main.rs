//! The commands of the README: `cargo xtask demo | test | guests | bench | fuzz | headers | setup`.
//!
//! They exist so that a machine with Rust, Node.js and Python and nothing else prepared can run the demo and every test with one
//! command each. No dependencies: the first thing that a newcomer runs should build in a second. Every step says what it does
//! before it does it, and a step that fails says what to do about it.

mod bench;
mod clients;
mod fuzz;
mod guests;
mod prerequisites;
mod process;
mod suites;
mod test;

use std::env;
use std::process::ExitCode;

use process::{Failure, Outcome, Workspace, build};

const HELP: &str = "\
The commands of this repository. Each does its own set-up.

Usage: cargo xtask <COMMAND>

  demo [ARGS]     Run the flights demo: a local namespace, real events through a sandboxed processor, a table at the end.
                  Run it again to see it resume. ARGS go to the demo; `cargo xtask demo --help` lists them.
  test            Run every test: the workspace's own, and the official Python and JavaScript clients against the
                  local namespace. Needs Node.js 20 and Python 3.11.
  test --rust     Only what a bare `cargo test --workspace` runs. Needs neither Node.js nor Python.
  test --clients  Only what needs Node.js and Python: the clients, and the checkpoint store on Azurite. Add names to run
                  some: `test --clients python rhea blobs`.
  guests          Build the example processors to .wasm and print where they are.
  bench [NAMES]   Run the benchmarks, all or the named ones, in release mode. They print ratios to a baseline measured in the same run.
                  `fleet` needs Node.js 20.
  fuzz [TARGETS]  Run the fuzz targets of amqp/fuzz, all or the named ones, for 60 s each or for `--seconds N`.
                  Fetches a nightly toolchain and cargo-fuzz where they are missing.
  headers         Only make sure that OpenSSL's headers are there, for whoever calls cargo directly.
  setup           Fetch what the others need, and stop: the wasm32-wasip2 target, the client libraries.
  help            Print this.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", Default::default()),
    };
    let outcome = match command {
        "demo" => demo(rest),
        "test" => test::run(rest),
        "guests" => none_expected(command, rest).and_then(|()| guests::run()),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "headers" => none_expected(command, rest).and_then(|()| prerequisites::openssl(&Workspace::find())),
        "setup" => none_expected(command, rest).and_then(|()| setup()),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Failure::new(format!("there is no command `{other}`"), "`cargo xtask help` lists the commands")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nerror: {}\n  what to do: {}", failure.what, failure.advice);
            ExitCode::FAILURE
        }
    }
}

fn none_expected(command: &str, rest: &[String]) -> Outcome<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(Failure::new(
            format!("`{command}` takes no arguments, but got `{extra}`"),
            "`cargo xtask help` says what each command takes",
        )),
    }
}

fn setup() -> Outcome<()> {
    let workspace = Workspace::find();
    prerequisites::openssl(&workspace)?;
    prerequisites::wasm_target(&workspace)?;
    clients::javascript(&workspace)?;
    clients::python(&workspace)?;
    println!("Everything is in place.");
    Ok(())
}

fn demo(rest: &[String]) -> Outcome<()> {
    let workspace = Workspace::find();
    prerequisites::openssl(&workspace)?;
    prerequisites::wasm_target(&workspace)?;
    let guests = guests::build(&workspace)?;
    process::step("Building the host and the demo (several minutes the first time, seconds after)");
    build(&workspace, "weir-demo")?;
    let delays = guests.iter().find(|guest| guest.file_stem().is_some_and(|name| name == "delays"));
    let delays = delays.ok_or_else(|| {
        Failure::new(
            "the example processor `delays` was not built",
            "is examples/delays still a cdylib of the workspace?",
        )
    })?;
    process::step("Running the demo");
    process::Run::new(workspace.binary("weir-demo"), &workspace)
        .arg("--module")
        .arg(delays)
        .args(rest)
        .run("the message above comes from the demo; `--dir` chooses another directory, and removing it starts afresh")
}
