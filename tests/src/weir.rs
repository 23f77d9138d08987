//! The `weir` command as a process: started, watched, signalled, killed.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the command is: cargo builds it beside the test, from the same library and with the same features as `weir`.
///
/// # Panics
/// When it isn't there: a test can't go on without it.
pub fn binary() -> PathBuf {
    // …/target/<profile>/deps/<test>-<hash>
    let test = env::current_exe().unwrap_or_else(|error| panic!("where is this test? {error}"));
    let built =
        test.ancestors().nth(2).map(|directory| directory.join(format!("weir-under-test{}", env::consts::EXE_SUFFIX)));
    built.filter(|file| file.is_file()).unwrap_or_else(|| panic!("no weir-under-test beside {}", test.display()))
}

/// The command with arguments, apart from the surroundings of whoever runs the tests.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("WEIR_LOG_LEVEL")
        .env_remove("WEIR_LOG_FORMAT")
        .env("NO_COLOR", "1");
    command
}

/// Runs the command to its end.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    Weir::start(&mut command(arguments)).end()
}

/// Runs the command to its end with this text as its standard input.
///
/// # Panics
/// When the text can't be written.
pub fn run_with_input<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, input: &str) -> Ended {
    let mut weir = Weir::start(command(arguments).stdin(Stdio::piped()));
    if let Some(mut stdin) = weir.child.stdin.take() {
        stdin.write_all(input.as_bytes()).unwrap_or_else(|error| panic!("weir did not read its input: {error}"));
    }
    weir.end()
}

/// A running `weir`. Dropping it kills it.
pub struct Weir {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// How it ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` after a kill.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// The same, if the exit code is this.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Weir {
    /// Starts a command made by [`command`].
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not start weir: {error}"));
        let stdout = Lines::of(child.stdout.take());
        let stderr = Lines::of(child.stderr.take());
        Self { child, stdout, stderr }
    }

    /// Waits until a line of standard output contains the text, and answers the line.
    #[track_caller]
    pub fn wait_stdout(&self, text: &str) -> String {
        self.stdout.wait(text, &self.stderr)
    }

    /// Waits until a line of standard error contains the text, and answers the line.
    #[track_caller]
    pub fn wait_stderr(&self, text: &str) -> String {
        self.stderr.wait(text, &self.stdout)
    }

    /// Waits until standard output has at least this many lines, and answers them.
    #[track_caller]
    pub fn wait_lines(&self, count: usize) -> Vec<String> {
        self.stdout
            .until(&self.stderr, &format!("{count} lines"), |lines| (lines.len() >= count).then(|| lines.to_vec()))
    }

    /// The lines of standard output so far.
    pub fn stdout_lines(&self) -> Vec<String> {
        lock(&self.stdout.shared.0).lines.clone()
    }

    /// The lines of standard error so far.
    pub fn stderr_lines(&self) -> Vec<String> {
        lock(&self.stderr.shared.0).lines.clone()
    }

    /// Sends a signal, such as `libc::SIGTERM`.
    ///
    /// # Panics
    /// When the process is gone.
    #[cfg(unix)]
    #[allow(unsafe_code, reason = "there is no safe way to send a signal other than SIGKILL")]
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap_or_else(|error| panic!("no process id: {error}"));
        // SAFETY: kill() touches no memory; the child was not waited for, so its id is still its own.
        let sent = unsafe { libc::kill(id, signal) };
        assert_eq!(sent, 0, "could not send signal {signal}: {}", std::io::Error::last_os_error());
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(mut self) -> Ended {
        // An error means that it has ended already.
        let _ = self.child.kill();
        self.end()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time; it is killed then.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                other => {
                    let _ = self.child.kill();
                    panic!("weir did not end ({other:?}):\n{}\n{}", self.stdout.text(), self.stderr.text());
                }
            }
        };
        Ended { code: status.code(), stdout: self.stdout.finish(), stderr: self.stderr.finish() }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// The lines of a pipe, read by a thread.
struct Lines {
    shared: Arc<(Mutex<Said>, Condvar)>,
}

impl Lines {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let shared: Arc<(Mutex<Said>, Condvar)> = Arc::default();
        let writer = Arc::clone(&shared);
        thread::spawn(move || {
            for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(Result::ok) {
                lock(&writer.0).lines.push(line);
                writer.1.notify_all();
            }
            lock(&writer.0).ended = true;
            writer.1.notify_all();
        });
        Self { shared }
    }

    #[track_caller]
    fn wait(&self, text: &str, other: &Lines) -> String {
        self.until(other, text, |lines| lines.iter().find(|line| line.contains(text)).cloned())
    }

    #[track_caller]
    fn until<T>(&self, other: &Lines, what: &str, found: impl Fn(&[String]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut said = lock(&self.shared.0);
        loop {
            if let Some(found) = found(&said.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if said.ended || left.is_zero() {
                panic!(
                    "waited in vain for {what:?} in:\n{}\nbeside it was said:\n{}",
                    said.lines.join("\n"),
                    other.text()
                );
            }
            said = self.shared.1.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self) -> String {
        lock(&self.shared.0).lines.join("\n")
    }

    /// All of it, once the pipe is closed.
    fn finish(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = lock(&self.shared.0);
        while !said.ended && Instant::now() < deadline {
            said =
                self.shared.1.wait_timeout(said, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
        said.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
