//! `weir check`: what a module is, in plain words, without running it.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::wasm;

/// Say whether a module is a processor that this host can run, and what it imports
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir check delays.wasm
  weir check delays.wasm --json | jq .digest

Reads the names in the file; nothing of it is compiled or run, so a right name with a wrong type
shows only in `weir dev` and `weir run`. Exit code 0: this host can run it; 1: it can't, and the
report says why.")]
pub(crate) struct CheckArgs {
    /// The .wasm file
    #[arg(value_name = "MODULE.wasm")]
    module: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let bytes = std::fs::read(&args.module).map_err(|error| {
        Failure::failed(format!(
            "can't read the module {}: {error}; give the .wasm file that the guest's build wrote",
            args.module.display()
        ))
    })?;
    let report = wasm::inspect(&bytes);
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::failed(format!("can't print the report: {error}")))?,
        false => report.to_string().trim_end().to_owned(),
    };
    super::print_line(&text)?;
    match report.problem() {
        None => Ok(()),
        Some(_) => Err(Failure::Reported),
    }
}
