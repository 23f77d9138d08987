//! A guest for tests: it keeps sums in its state, and does with them what the bodies of its events say. With `count = true` in its config it obeys
//! nothing: it passes events on, counts them under `count`, and keeps each one's number under `last/` and its remainder by [`LAST`].
//!
//! | command | what happens |
//! |---|---|
//! | `add:KEY` | one more at this key; the new sum is emitted |
//! | `get:KEY` `many:KEY,KEY` | the values are emitted |
//! | `fill:KEY:N` | N bytes at this key; what the host says is emitted |
//! | `delete:KEY` | the key is gone |
//! | `scan:PREFIX` | the keys with this prefix are emitted |
//! | `wake:MS` | asks to be woken at this time; a tick emits its time and the sum `ticks` |
//! | `panic` `retry` `hold` `reject` `again` | after what came before in the batch: it breaks, or answers so (`again`: this event and those after it) |

use serde::Deserialize;
use weir_guest::state::{self, raw};
use weir_guest::{Ack, Event, Failure, Opening, Output, Outputs, Processor, Progress, export, timers};

/// Keys under `last/`: with their values more than a commit writes anew.
const LAST: i64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Config {
    count: bool,
    /// For the benchmark: so many keys are read, or written, for each event, and nothing else is done.
    reads: usize,
    writes: usize,
    work: bool,
}

struct Ledger(Config);

impl Processor for Ledger {
    type Config = Config;

    fn open(config: Config, _: &Opening) -> Result<Self, Failure> {
        Ok(Self(config))
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        if self.0.count {
            return count(events, out);
        }
        if self.0.work {
            return self.work(&events);
        }
        let mut ack = Ack::all();
        for (index, event) in (0..).zip(events) {
            let command = event.text().unwrap_or_default();
            let (verb, argument) = command.split_once(':').unwrap_or((command, ""));
            let said = match verb {
                "add" => add(argument)?.to_string(),
                "get" => text(raw::get(argument)),
                "many" => {
                    let keys: Vec<String> = argument.split(',').map(str::to_owned).collect();
                    raw::get_many(&keys).into_iter().map(text).collect::<Vec<_>>().join(",")
                }
                "fill" => {
                    let (key, bytes) = argument.split_once(':').unwrap_or((argument, "0"));
                    match raw::set(key, vec![b'x'; bytes.parse().unwrap_or_default()]) {
                        Ok(()) => "kept".into(),
                        Err(refused) => refused.to_string(),
                    }
                }
                "delete" => {
                    state::delete(argument);
                    "gone".into()
                }
                "scan" => raw::scan(argument).map(|(key, _)| key).collect::<Vec<_>>().join(","),
                "wake" => {
                    timers::wake_at(argument.parse().unwrap_or_default());
                    "asleep".into()
                }
                "panic" => panic!("asked to"),
                "retry" => return Err(Failure::retry("asked to")),
                "hold" => {
                    ack.progress = Progress::Hold;
                    continue;
                }
                "reject" => {
                    ack = ack.reject(index, "asked to");
                    continue;
                }
                "again" => return Ok(ack.redeliver(index, "asked to")),
                _ => "no such command".into(),
            };
            out.emit(Output::new(said).from_event(index));
        }
        Ok(ack)
    }

    fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        let ticks = add("ticks")?;
        out.emit(Output::new(format!("{now} {ticks}")).from_key(format!("tick/{ticks}")));
        Ok(Ack::all())
    }
}

impl Ledger {
    fn work(&self, events: &[Event]) -> Result<Ack, Failure> {
        let mut found = 0;
        for (n, event) in events.iter().enumerate() {
            for k in 0..self.0.reads {
                found += raw::get(&format!("w/{:04}", (n * 10 + k) % 1000)).map_or(0, |value| value.len());
            }
            for k in 0..self.0.writes {
                raw::set(&format!("w/{:04}", (n * 10 + k) % 1000), event.body.get(..100).unwrap_or_default())?;
            }
        }
        std::hint::black_box(found);
        Ok(Ack::all())
    }
}

export!(Ledger);

fn count(events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
    let sum = state::get::<usize>("count")?.unwrap_or_default() + events.len();
    state::set("count", &sum)?;
    for (index, event) in (0..).zip(events) {
        let number = event.sequence_number;
        raw::set(&format!("last/{:03}", number % LAST), format!("{number:>300}"))?;
        out.emit(Output::from(event).from_event(index));
    }
    Ok(Ack::all())
}

fn add(key: &str) -> Result<u64, state::Error> {
    let sum = state::get::<u64>(key)?.unwrap_or_default() + 1;
    state::set(key, &sum)?;
    Ok(sum)
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(|| "none".into(), |value| String::from_utf8_lossy(&value).into_owned())
}
