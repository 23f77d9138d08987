//! Running other programs, and saying what to do when one fails.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

/// Something that did not work, and what the person who sees it can do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) advice: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Announces a step.
pub(crate) fn step(what: &str) {
    println!("==> {what}");
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Self {
        // As cargo says it at the moment: clones that share a target directory also share this program.
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest.parent().unwrap_or(&manifest).to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Self { root, target }
    }

    /// A binary of the development profile.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// Where the set-up of the clients is kept.
    pub(crate) fn clients(&self) -> PathBuf {
        self.target.join("clients")
    }
}

/// A program about to be run in the root of the repository.
pub(crate) struct Run {
    name: String,
    command: Command,
}

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>, workspace: &Workspace) -> Self {
        let name = Path::new(program.as_ref()).file_name().unwrap_or(program.as_ref()).to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.current_dir(&workspace.root).stdin(Stdio::null());
        Self { name, command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("`{}` could not be started: {error}", self.name), "is it installed, and on the PATH?")
    }

    /// Runs it to its end with the terminal as its own.
    pub(crate) fn run(mut self, advice: &str) -> Outcome<()> {
        let status = self.command.status().map_err(|error| self.cannot_start(&error))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("`{}` failed ({status})", self.name), advice))
    }

    /// Runs it, hands over each line of its output, and says whether it succeeded.
    pub(crate) fn lines(mut self, mut each: impl FnMut(&str)) -> Outcome<bool> {
        let mut child = self.command.stdout(Stdio::piped()).spawn().map_err(|error| self.cannot_start(&error))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                each(&String::from_utf8_lossy(&line));
            }
        }
        let status = child.wait().map_err(|error| self.cannot_start(&error))?;
        Ok(status.success())
    }

    /// Starts a server and waits until a line of its output makes `ready` answer. What it prints later is read and dropped.
    pub(crate) fn serve<T>(mut self, mut ready: impl FnMut(&str) -> Option<T>) -> Outcome<(Server, T)> {
        let mut child = self.command.stdout(Stdio::piped()).spawn().map_err(|error| self.cannot_start(&error))?;
        let stdout = child.stdout.take();
        let server = Server(child);
        let mut seen = String::new();
        if let Some(stdout) = stdout {
            let mut lines = BufReader::new(stdout).lines();
            for line in lines.by_ref().map_while(Result::ok) {
                if let Some(answer) = ready(&line) {
                    thread::spawn(move || lines.for_each(drop));
                    return Ok((server, answer));
                }
                seen = seen + "\n    " + &line;
            }
        }
        Err(Failure::new(
            format!("`{}` ended, or closed its output, before it was ready; it printed:{seen}", self.name),
            "run it by hand to see why",
        ))
    }

    /// Runs it and returns what it printed, or nothing where it is missing or fails.
    pub(crate) fn output(mut self) -> Option<String> {
        let output = self.command.stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A program that runs in the background until this is dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command of `cargo`, the one that runs this program, with the lock file as it is: what is built is what was reviewed.
pub(crate) fn cargo(workspace: &Workspace, command: &str) -> Run {
    Run::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), workspace).args([command, "--locked"])
}

/// Builds a binary as the tests do: with `--workspace`, so that dependencies get the same features and are not built twice.
pub(crate) fn build(workspace: &Workspace, binary: &str) -> Outcome<()> {
    cargo(workspace, "build").args(["--workspace", "--bin", binary]).run("the errors above say what does not compile")
}
