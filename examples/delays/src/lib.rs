//! Late flights, keyed by carrier.
//!
//! A body is one flight as a JSON object with the columns of `examples/data` as fields: numbers as numbers, `NA` as `null`.
//! A flight that arrived more than `late-by-minutes` late goes on, shortened; one that has no arrival delay (cancelled,
//! diverted) is not late; a body that is no such object is rejected.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use weir_guest::{Event, Failure, Opening, Outcome, Output, Outputs, Processor};

/// The deployment's `config` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// A flight is late if its arrival delay is greater than this.
    #[serde(default = "quarter_of_an_hour")]
    late_by_minutes: i32,
}

fn quarter_of_an_hour() -> i32 {
    15
}

/// What is read of a flight, and what is written of a late one. Text borrows from the event.
#[derive(Debug, Deserialize, Serialize)]
struct Flight<'a> {
    #[serde(borrow)]
    carrier: Cow<'a, str>,
    flight: u32,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    dest: Cow<'a, str>,
    #[serde(borrow)]
    time_hour: Cow<'a, str>,
    /// Minutes; negative is early. `null` stands for "none"; a missing field is a mistake (serde would let it pass by default).
    #[serde(deserialize_with = "Option::deserialize")]
    arr_delay: Option<i32>,
}

/// The processor.
#[derive(Debug)]
pub struct Delays(Config);

impl Processor for Delays {
    type Config = Config;

    fn open(config: Config, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&[])?; // the body is all it reads
        Ok(Self(config))
    }

    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        let flight: Flight<'_> = event.json()?;
        if flight.arr_delay.is_some_and(|minutes| minutes > self.0.late_by_minutes) {
            out.emit(Output::json(&flight)?.key(flight.carrier.as_ref()));
        }
        Ok(())
    }
}

weir_guest::export!(Delays);
