//! Asking before something is changed that can't be changed back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::failure::Failure;

/// Asks whoever is at the terminal. `untouched` says what a "no" leaves as it is; `nobody`, what to do where nobody can answer.
pub(crate) fn confirm(question: &str, yes: bool, untouched: &str, nobody: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{untouched}: nobody is at the terminal to agree. {nobody}")));
    }
    let mut stderr = std::io::stderr();
    // Without the question, the answer is missing as well.
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::failed(format!("can't read the answer: {error}")))?;
    match &*answer.trim().to_lowercase() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed(untouched)),
    }
}
