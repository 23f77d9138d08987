//! Runs the fuzz targets of `amqp/fuzz` under libFuzzer, after its set-up: a nightly toolchain, `cargo-fuzz`, and seeds.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::prerequisites;
use crate::process::{Failure, Outcome, Run, Workspace, cargo, step};

const CARGO_FUZZ: &str = "0.13.1";
const SECONDS: u64 = 60;
/// libFuzzer's bounds: an input that takes longer (seconds), or an allocation that is larger (MiB), is a finding. The largest input
/// is 16 KiB, so both are out of all proportion.
const BOUNDS: [&str; 3] = ["-timeout=10", "-malloc_limit_mb=64", "-max_len=16384"];

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Request {
    targets: Vec<String>,
    seconds: u64,
}

pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let workspace = Workspace::find();
    let known = targets(&workspace)?;
    let request = request(arguments, &known)?;
    prerequisites::nightly(&workspace)?;
    prerequisites::cpp_compiler(&workspace)?;
    let program = cargo_fuzz(&workspace)?;
    let folder = workspace.target.join("fuzz");
    let seeds = folder.join("seeds");
    step("Writing the seeds: what the tests of the stable toolchain begin with");
    cargo(&workspace, "test")
        .args(["--quiet", "--workspace", "--test", "suite", "--", "fuzzing::"])
        .env("WEIR_FUZZ_SEEDS", &seeds)
        .run("the same inputs fail without a fuzzer: begin there")?;
    for target in &request.targets {
        step(&format!("Fuzzing `{target}` for {} s (the first build takes a minute)", request.seconds));
        let corpus = folder.join("corpus").join(target);
        let seeds = seeds.join(target);
        for path in [&corpus, &seeds] {
            fs::create_dir_all(path)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display()), "is the disk writable?"))?;
        }
        let mut options: Vec<OsString> = vec!["--target-dir".into(), folder.join("target").into()];
        options.extend([target.into(), corpus.into(), seeds.into(), "--".into()]);
        options.push(format!("-max_total_time={}", request.seconds).into());
        Run::new("rustup", &workspace)
            .within(&workspace.root.join("amqp"))
            // Set by the cargo that runs this program, and of another toolchain.
            .without("CARGO")
            .args(["run", "nightly"])
            .arg(&program)
            .arg("run")
            .args(options)
            .args(BOUNDS)
            .run(
                "the lines above name the input that broke it; mend it, and add the input to the unit tests of what it broke. \
                 What was found before goes on from here with the next run",
            )?;
    }
    println!("\nNothing found in {} s each of {}.", request.seconds, request.targets.join(", "));
    Ok(())
}

fn targets(workspace: &Workspace) -> Outcome<Vec<String>> {
    let folder = workspace.root.join("amqp/fuzz/fuzz_targets");
    let unreadable =
        |error| Failure::new(format!("{} can't be read: {error}", folder.display()), "is the clone complete?");
    let files = fs::read_dir(&folder).map_err(unreadable)?.flatten();
    let mut names: Vec<_> =
        files.filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    Ok(names)
}

fn request(arguments: &[String], known: &[String]) -> Outcome<Request> {
    let mut request = Request { targets: Vec::new(), seconds: SECONDS };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let number = arguments.next().and_then(|number| number.parse().ok()).filter(|seconds| *seconds > 0);
            request.seconds =
                number.ok_or_else(|| Failure::new("--seconds has no number", "write it like `--seconds 60`"))?;
        } else if known.contains(argument) {
            request.targets.push(argument.clone());
        } else {
            return Err(Failure::new(
                format!("there is no fuzz target `{argument}`"),
                format!("the targets are: {}", known.join(", ")),
            ));
        }
    }
    if request.targets.is_empty() {
        request.targets = known.to_vec();
    }
    Ok(request)
}

/// Installs the fuzzer's driver beside the other tools, and says where it is.
fn cargo_fuzz(workspace: &Workspace) -> Outcome<PathBuf> {
    let tools = workspace.target.join("tools");
    let program = tools.join("bin").join(format!("cargo-fuzz{}", std::env::consts::EXE_SUFFIX));
    let installed = || Run::new(&program, workspace).arg("--version").output();
    if installed().is_none_or(|version| !version.ends_with(CARGO_FUZZ)) {
        step(&format!("Installing cargo-fuzz {CARGO_FUZZ}"));
        cargo(workspace, "install")
            // Its speed does not matter, the time to compile it does.
            .args(["--quiet", "--profile", "dev", "--version", CARGO_FUZZ, "--root"])
            .arg(&tools)
            .arg("cargo-fuzz")
            .run("cargo downloads from crates.io; check the network, then try again")?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> Result<Request, String> {
        let known = ["frames".to_owned(), "value".to_owned()];
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        request(&arguments, &known).map_err(|failure| failure.what)
    }

    #[test]
    fn no_target_means_all_and_a_wrong_word_is_named() {
        let of = |targets: &[&str], seconds| {
            Ok(Request { targets: targets.iter().map(|target| (*target).to_owned()).collect(), seconds })
        };
        assert_eq!(ask(""), of(&["frames", "value"], SECONDS));
        assert_eq!(ask("value --seconds 5"), of(&["value"], 5));
        assert_eq!(ask("valu"), Err("there is no fuzz target `valu`".into()));
        assert_eq!(ask("--seconds value"), Err("--seconds has no number".into()));
    }
}
