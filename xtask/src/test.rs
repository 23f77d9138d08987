//! `cargo xtask test`: every test there is, and one line at the end that counts them.
//!
//! The Rust tests are those of a bare `cargo test --workspace`, which needs neither Node.js nor Python. What needs them is run
//! from here only, and here a missing interpreter is an error: nothing is skipped.

use crate::clients;
use crate::guests;
use crate::prerequisites;
use crate::process::{Failure, Outcome, Workspace, build, cargo, step};
use crate::suites;

/// How many passed, and what failed.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Count {
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let workspace = Workspace::find();
    let (rust, names) = match arguments.split_first() {
        None => (true, Some(Default::default())),
        Some((flag, [])) if flag == "--rust" => (true, None),
        Some((flag, names)) if flag == "--clients" => (false, Some(names)),
        Some((other, _)) => {
            return Err(Failure::new(
                format!("`test` does not know `{other}`"),
                "the choices are `--rust` and `--clients [NAMES]`; nothing means everything",
            ));
        }
    };
    // Set up first, so that what is missing is said before the long part.
    prerequisites::openssl(&workspace)?;
    prerequisites::wasm_target(&workspace)?;
    let clients = match names {
        Some(names) => Some((names, clients::javascript(&workspace)?, clients::python(&workspace)?)),
        None => None,
    };
    let mut count = Count::default();
    if rust {
        guests::build(&workspace)?;
        count.add(&cargo_test(&workspace)?);
    }
    if let Some((names, javascript, python)) = clients {
        step("Building the weir command");
        build(&workspace, "weir")?;
        count.add(&suites::run(&workspace, &javascript, &python, names)?);
    }
    println!("\n{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 {
        return Err(Failure::new(
            "some tests failed",
            "the lines above that say `FAILED`, `FAIL` or `panicked` name them",
        ));
    }
    Ok(())
}

fn cargo_test(workspace: &Workspace) -> Outcome<Count> {
    step("Running the Rust tests (a cold machine first compiles for several minutes)");
    let mut count = Count::default();
    let succeeded = cargo(workspace, "test").args(["--workspace", "--no-fail-fast"]).lines(|line| {
        println!("{line}");
        count.add(&summary(line));
    })?;
    if !succeeded && count.failed == 0 {
        return Err(Failure::new("the Rust tests did not run to their end", "the messages above say why"));
    }
    Ok(count)
}

/// The numbers in `test result: ok. 3 passed; 0 failed; …`.
pub(crate) fn summary(line: &str) -> Count {
    let number = |what: &str| {
        let before = line.strip_prefix("test result: ")?.split(what).next()?;
        before.trim_end().rsplit([' ', ';']).next()?.parse().ok()
    };
    Count { passed: number(" passed;").unwrap_or(0), failed: number(" failed;").unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_line_is_counted_and_others_are_not() {
        let count = summary("test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!((count.passed, count.failed), (12, 3));
        let count = summary("test a_test_of_4 passed; ... ok");
        assert_eq!((count.passed, count.failed), (0, 0));
    }
}
