//! A guest for tests: it does what the bodies of its events say, and what its config says of `open`, `close` and every event.
//!
//! A body that is no command is passed on as it came, and so is the event of a command that doesn't end the batch. With `first:` before it, a command is
//! obeyed only by an instance that wasn't opened after a trap, so that the batch goes through in the next one.
//!
//! | command | what happens |
//! |---|---|
//! | `panic` `exit` `abort` `recurse` `loop` `allocate` | the instance breaks |
//! | `sleep:MS` `spin:MS` | it waits, or computes, for so long |
//! | `retry` `retry:MS` `fatal` | the batch fails |
//! | `reject` `redeliver` `redeliver:MS` `hold` `through:N` | the answer says so, for this event |
//! | `reject-beyond` `redeliver-beyond` `origin-beyond` | the answer breaks the contract |
//! | `emit:N` `emit-bytes:N` `emit-to:NAME` | outputs, passed to the host at the end of the batch |
//! | `log:N` `print:TEXT` `print-error:TEXT` `escape` | log lines and raw output |
//! | `environment` | fails with what it finds of variables, arguments, files and network |

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Deserialize;
use weir_guest::{
    Ack, CloseReason, Event, Failure, OpenReason, Opening, Output, Outputs, Processor, Progress, export, info,
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
            "reject-beyond" => *ack = std::mem::replace(ack, Ack::all()).reject(1_000_000, "beyond"),
            "redeliver-beyond" => *ack = std::mem::replace(ack, Ack::all()).redeliver(1_000_000, "beyond"),
            "origin-beyond" => out.emit(Output::new("beyond").from_event(1_000_000)),
            "emit" => (0..number()).for_each(|_| out.emit(Output::new("more").from_event(index))),
            "emit-bytes" => out.emit(Output::new(vec![b'x'; argument.parse().unwrap_or_default()]).from_event(index)),
            "emit-to" => out.emit(Output::new("elsewhere").to(argument).from_event(index)),
            "log" => (0..number()).for_each(|n| info!(line = n; "a line")),
            "escape" => info!("one\ntwo\u{1b}[31m"),
            "print" => println!("{argument}"),
            "print-error" => eprintln!("{argument}"),
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
