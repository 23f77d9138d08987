//! Delays of flights by the hour and the airport that they left from.
//!
//! A body is one flight as `examples/delays` has it. A flight counts in the window of its scheduled departure, also when it comes out of
//! order; each window and origin gives one result. One without an arrival delay (cancelled, diverted) counts as a flight, and has no delay.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weir_guest::window::{Aggregate, Item, Spec, Window, Windows};
use weir_guest::{Ack, BodyError, Event, Failure, Opening, Output, Outputs, Problem, Processor};

/// The deployment's `config` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    window_minutes: u64,
    /// How far flights are out of order.
    out_of_orderness_minutes: u64,
    /// How much longer a window waits for stragglers.
    allowed_lateness_minutes: u64,
    /// Closes what is open when nothing has come for so long.
    idle_timeout_seconds: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_minutes: 60,
            out_of_orderness_minutes: 60,
            allowed_lateness_minutes: 0,
            idle_timeout_seconds: None,
        }
    }
}

/// What is read of a flight.
#[derive(Debug, Deserialize)]
struct Flight<'a> {
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    time_hour: Cow<'a, str>,
    minute: u8,
    /// Minutes; `null` stands for "none", and a missing field is a mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    arr_delay: Option<i64>,
}

/// What a window adds up: whole minutes, so that no order of the flights makes a difference.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Delays {
    arrived: u64,
    total: i64,
    least: Option<i64>,
    greatest: Option<i64>,
}

impl Aggregate for Delays {
    type Input = Option<i64>;

    fn add(&mut self, delay: &Option<i64>) {
        if let Some(delay) = *delay {
            self.merge(Self { arrived: 1, total: delay, least: Some(delay), greatest: Some(delay) });
        }
    }

    fn merge(&mut self, other: Self) {
        self.arrived += other.arrived;
        self.total += other.total;
        self.least = self.least.into_iter().chain(other.least).min();
        self.greatest = self.greatest.max(other.greatest);
    }
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Row<'a> {
    origin: &'a str,
    from: String,
    to: String,
    flights: u64,
    arrived: u64,
    total_delay: i64,
    mean_delay: Option<f64>,
    least_delay: Option<i64>,
    greatest_delay: Option<i64>,
}

fn row(window: &Window<'_>, delays: &Delays) -> Result<Option<Output>, BodyError> {
    let row = Row {
        origin: window.key,
        from: text(window.start),
        to: text(window.end),
        flights: window.events,
        arrived: delays.arrived,
        total_delay: delays.total,
        mean_delay: (delays.arrived > 0).then(|| delays.total as f64 / delays.arrived as f64),
        least_delay: delays.least,
        greatest_delay: delays.greatest,
    };
    Ok(Some(Output::json(&row)?.key(window.key)))
}

fn text(millis: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{millis} ms"))
}

/// When a flight should have left, in milliseconds since 1970.
fn departure(flight: &Flight<'_>) -> Result<i64, Problem> {
    let hour = OffsetDateTime::parse(&flight.time_hour, &Rfc3339)
        .map_err(|why| Problem::reject(format!("`time_hour` is {:?}, and no time: {why}", flight.time_hour)))?;
    Ok((hour.unix_timestamp() + i64::from(flight.minute) * 60) * 1_000)
}

/// The processor.
#[derive(Debug)]
pub struct DelayWindows(Windows<Delays>);

impl Processor for DelayWindows {
    type Config = Config;

    fn open(config: Config, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&[])?; // the body is all it reads
        let minutes = |minutes: u64| Duration::from_secs(minutes.saturating_mul(60));
        let mut spec = Spec::tumbling("delays", minutes(config.window_minutes))
            .out_of_orderness(minutes(config.out_of_orderness_minutes))
            .allowed_lateness(minutes(config.allowed_lateness_minutes))
            .late_to("late");
        if let Some(seconds) = config.idle_timeout_seconds {
            spec = spec.idle_timeout(Duration::from_secs(seconds));
        }
        Ok(Self(spec.results(row)?))
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        self.0.process(events, out, |event| {
            let flight: Flight<'_> = event.json()?;
            Ok(Some(Item::new(departure(&flight)?, flight.origin, flight.arr_delay)))
        })
    }

    fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        self.0.tick(now, out)
    }
}

weir_guest::export!(DelayWindows);
