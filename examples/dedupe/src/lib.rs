//! Drops an event whose message id was seen before, within a horizon.
//!
//! Ids lie in the state, by the span of time (as long as the horizon) in which they were seen: `seen/SPAN/ID`. An id that counts lies in this
//! span or the one before, so one call looks it up, and what lies before can go. It goes little by little, with each batch,
//! so that no batch pays for a whole span.

use serde::{Deserialize, Serialize};
use weir_guest::state::{self, raw};
use weir_guest::{Ack, Event, Failure, Opening, Outputs, Processor, each, metrics};

/// The deployment's `config` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// For how long an id is remembered, by the time at which the service took events in.
    horizon_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { horizon_seconds: 600 }
    }
}

/// The processor.
#[derive(Debug)]
pub struct Dedupe {
    /// Milliseconds.
    horizon: i64,
}

/// Where the processor is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Progress {
    /// The greatest time of an event so far: time never runs backwards here.
    now: i64,
    /// Nothing is left of the spans before this one.
    swept: i64,
}

const PROGRESS: &str = "progress";

fn span_key(span: i64) -> String {
    format!("seen/{span:016}/")
}

impl Processor for Dedupe {
    type Config = Config;

    fn open(config: Config, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&["content-type", "message-id", "correlation-id", "properties"])?;
        if config.horizon_seconds == 0 {
            return Err(Failure::fatal("`horizon-seconds` is 0, so every event would be new; it must be 1 or more"));
        }
        Ok(Self { horizon: i64::from(config.horizon_seconds) * 1_000 })
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        let before: Progress = state::get(PROGRESS)?.unwrap_or_default();
        let mut progress = before;
        let (mut dropped, quota) = (0, 2 * events.len());
        let ack = each(events, out, |event, out| {
            let now = progress.now.max(event.enqueued_time);
            progress.now = now;
            // Without an id an event can't be told from another, and goes on.
            if let Some(id) = event.message_id() {
                let span = now.div_euclid(self.horizon);
                let [here, before] = [span, span - 1].map(|span| span_key(span) + id);
                let keys = [here, before];
                let seen: Vec<Option<i64>> = state::get_many(&keys)?;
                if seen.iter().flatten().any(|seen| now - seen < self.horizon) {
                    dropped += 1;
                    return Ok(());
                }
                state::set(&keys[0], &now)?;
            }
            out.emit(event.into());
            Ok(())
        })?;
        self.sweep(&mut progress, quota);
        if progress != before {
            state::set(PROGRESS, &progress)?;
        }
        if dropped > 0 {
            metrics::counter_add("repeats_dropped", dropped, &[]);
        }
        Ok(ack)
    }
}

impl Dedupe {
    /// Removes ids that no longer count: twice as many as a batch can add, so that the rest runs out.
    fn sweep(&self, progress: &mut Progress, quota: usize) {
        let counts = progress.now.div_euclid(self.horizon) - 1;
        if progress.swept >= counts {
            return;
        }
        let alive = span_key(counts);
        for (swept, (key, _)) in raw::scan("seen/").take_while(|(key, _)| *key < alive).enumerate() {
            if swept == quota {
                return;
            }
            raw::delete(&key);
        }
        progress.swept = counts;
    }
}

weir_guest::export!(Dedupe);
