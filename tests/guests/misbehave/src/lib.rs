//! A guest for tests: it does what the bodies of its events say, and what its config says of `open`, `close` and every event.
//!
//! A body that is no command is passed on as it came, and so is the event of a command that doesn't end the batch. With `first:` before it, a command is
//! obeyed only by an instance that wasn't opened after a trap, so that the batch goes through in the next one.
//!
//! | command | what happens |
//! |---|---|
//! | `panic` `exit` `abort` `recurse` `descend` `loop` `allocate` | the instance breaks; `recurse` in memory, `descend` on WebAssembly's stack |
//! | `sleep:MS` `spin:MS` | it waits, or computes, for so long |
//! | `retry` `retry:MS` `fatal` | the batch fails |
//! | `reject` `redeliver` `redeliver:MS` `hold` `through:N` | the answer says so, for this event |
//! | `reject-index:N` `redeliver-index:N` `origin-index:N` | the answer says so of some index, in the batch or not |
//! | `long-reject:N` `long-retry:N` `long-fatal:N` `long-log:N` `long-target:N` | texts of N bytes |
//! | `emit:N` `emit-bytes:N` `emit-to:NAME` | outputs, passed to the host at the end of the batch |
//! | `flood` `flood-log` `flood-print` | outputs, log lines or raw output for ever, whatever the host says |
//! | `log:N` `print:TEXT` `print-error:TEXT` `forge` `escape` | log lines and raw output |
//! | `count:NAME` `gauge:NAME` `record:NAME` `series:N` | metrics: one more, the value 2.5, or N series of one counter |
//! | `environment` | fails with what it finds of variables, arguments, files and network |

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Deserialize;
use weir_guest::{
    Ack, CloseReason, Event, Failure, OpenReason, Opening, Output, Outputs, Processor, Progress, export, info, metrics,
};

/// What to do apart from what events say.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    on_open: Option<String>,
    on_event: Option<String>,
    on_close: Option<String>,
    /// Ask for these fields only.
    select: Option<Vec<String>>,
    /// Don't pass events on.
    quiet: bool,
}

struct Misbehave {
    config: Config,
    after_trap: bool,
}

impl Processor for Misbehave {
    type Config = Config;

    fn open(config: Config, opening: &Opening) -> Result<Self, Failure> {
        if let Some(fields) = &config.select {
            opening.select_fields(&fields.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        let this = Self { config, after_trap: opening.reason == OpenReason::AfterTrap };
        if let Some(command) = &this.config.on_open {
            this.obey(command, 0, &mut Ack::all(), &mut Outputs::default())?;
        }
        Ok(this)
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        let mut ack = Ack::all();
        for (index, event) in (0..).zip(events) {
            let command = self.config.on_event.as_deref().or_else(|| event.text().ok()).unwrap_or_default().to_owned();
            let goes_on = self.obey(&command, index, &mut ack, out)?;
            if goes_on && !self.config.quiet {
                out.emit(Output::from(event).from_event(index));
            }
            if ack.redeliver.is_some() {
                break;
            }
        }
        Ok(ack)
    }

    fn close(self, _: CloseReason) {
        if let Some(command) = &self.config.on_close {
            let _ = self.obey(command, 0, &mut Ack::all(), &mut Outputs::default());
        }
    }
}

impl Misbehave {
    /// Obeys, and says whether the event is passed on.
    fn obey(&self, command: &str, index: u32, ack: &mut Ack, out: &mut Outputs) -> Result<bool, Failure> {
        let command = match command.strip_prefix("first:") {
            Some(_) if self.after_trap => return Ok(true),
            Some(command) => command,
            None => command,
        };
        let (verb, argument) = command.split_once(':').unwrap_or((command, ""));
        let number = || argument.parse::<u64>().unwrap_or_default();
        let after = || (!argument.is_empty()).then(|| Duration::from_millis(number()));
        match verb {
            "panic" => boom(),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(3),
            "recurse" => info!("{}", recurse(1)),
            "descend" => info!("{}", descend(argument.parse().unwrap_or(1_000_000_000))),
            "loop" => spin(None),
            "spin" => spin(Some(Duration::from_millis(number()))),
            "sleep" => std::thread::sleep(Duration::from_millis(number())),
            "allocate" => allocate(),
            "retry" => {
                return Err(
                    after().map_or_else(|| Failure::retry("asked to"), |after| Failure::retry_after(after, "asked to"))
                );
            }
            "fatal" => return Err(Failure::fatal("asked to")),
            "reject" => {
                *ack = std::mem::replace(ack, Ack::all()).reject(index, "asked to");
                return Ok(false);
            }
            "redeliver" => {
                let ack_so_far = std::mem::replace(ack, Ack::all());
                *ack = match after() {
                    Some(after) => ack_so_far.redeliver_after(index, after, "asked to"),
                    None => ack_so_far.redeliver(index, "asked to"),
                };
                return Ok(false);
            }
            "hold" => ack.progress = Progress::Hold,
            "through" => ack.progress = Progress::Through(argument.parse().unwrap_or(i64::MAX)),
            "reject-index" => {
                *ack = std::mem::replace(ack, Ack::all()).reject(argument.parse().unwrap_or_default(), "some index");
            }
            "redeliver-index" => {
                *ack = std::mem::replace(ack, Ack::all()).redeliver(argument.parse().unwrap_or_default(), "some index");
            }
            "origin-index" => out.emit(Output::new("some index").from_event(argument.parse().unwrap_or_default())),
            "long-reject" => {
                *ack = std::mem::replace(ack, Ack::all()).reject(index, long(argument));
                return Ok(false);
            }
            "long-retry" => return Err(Failure::retry(long(argument))),
            "long-fatal" => return Err(Failure::fatal(long(argument))),
            "long-log" => {
                let long = long(argument);
                info!(long = long; "{long}");
            }
            "long-target" => out.emit(Output::new("nowhere").to(long(argument)).from_event(index)),
            "flood" => flood(),
            "flood-log" => loop {
                info!("a line of the flood");
            },
            "flood-print" => loop {
                println!("a line of the flood");
            },
            "forge" => println!("one\r\n2026-01-01 ERROR weir_host: forged"),
            "emit" => (0..number()).for_each(|_| out.emit(Output::new("more").from_event(index))),
            "emit-bytes" => out.emit(Output::new(vec![b'x'; argument.parse().unwrap_or_default()]).from_event(index)),
            "emit-to" => out.emit(Output::new("elsewhere").to(argument).from_event(index)),
            "log" => (0..number()).for_each(|n| info!(line = n; "a line")),
            "escape" => info!("one\ntwo\u{1b}[31m"),
            "print" => println!("{argument}"),
            "print-error" => eprintln!("{argument}"),
            "count" => metrics::counter_add(argument, 1, &[("label", "value")]),
            "gauge" => metrics::gauge_set(argument, 2.5, &[]),
            "record" => metrics::histogram_record(argument, 2.5, &[]),
            "series" => (0..number()).for_each(|n| metrics::counter_add("series", 1, &[("n", &n.to_string())])),
            "environment" => return Err(Failure::fatal(environment())),
            _ => {}
        }
        Ok(true)
    }
}

/// A function of its own, so that a backtrace can name it.
#[inline(never)]
fn boom() {
    panic!("asked to")
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if frame.contains(&0) { 0 } else { recurse(depth + 1) + frame.iter().sum::<u64>() }
}

/// Recursion without anything in memory: what grows is the stack that the host gives.
#[inline(never)]
#[allow(clippy::only_used_in_recursion, reason = "this is what it is for")]
fn descend(depth: u64) -> u64 {
    if depth == 0 { 1 } else { descend(depth - 1).wrapping_mul(3) ^ depth }
}

fn long(bytes: &str) -> String {
    "x".repeat(bytes.parse().unwrap_or_default())
}

/// Outputs for ever, past the kit, which would gather them in memory.
#[cfg(target_arch = "wasm32")]
fn flood() {
    let outputs = [Output::new(vec![b'x'; 1 << 10])];
    loop {
        let _ = black_box(weir_guest::bindings::weir::processor::outputs::emit(&outputs));
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn flood() {}

/// An allocator that aborts where it is asked for this many bytes: an event of this size breaks the guest inside `cabi_realloc`, before any of its
/// own code sees the event.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "an allocator can't be written without")]
mod allocator {
    use std::alloc::{GlobalAlloc, Layout, System};

    const FATAL: usize = 77_777;

    struct Refusing;

    // SAFETY: everything is handed on to the system's allocator, or ends the instance.
    unsafe impl GlobalAlloc for Refusing {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if layout.size() == FATAL {
                core::arch::wasm32::unreachable();
            }
            // SAFETY: the caller's promise, handed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise, handed on.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static REFUSING: Refusing = Refusing;
}

#[inline(never)]
fn spin(time: Option<Duration>) {
    let began = time.map(|time| (Instant::now(), time));
    let mut n = 0u64;
    while began.is_none_or(|(began, time)| !n.is_multiple_of(4096) || began.elapsed() < time) {
        n = black_box(n + 1);
    }
}

#[inline(never)]
fn allocate() {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(black_box(vec![1; 1 << 20]));
    }
}

/// Everything that a guest must not find.
fn environment() -> String {
    let variables = std::env::vars().count();
    let arguments = std::env::args().count();
    let files = std::fs::read_dir("/").is_ok();
    let network = std::net::TcpStream::connect("127.0.0.1:80").is_ok();
    let listening = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
    let names = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 80)).is_ok();
    format!(
        "variables {variables}, arguments {arguments}, files {files}, network {network}, listening {listening}, names {names}"
    )
}

export!(Misbehave);
