//! The history of a tenancy, for whoever wants to prove what a fleet did: one line per step, under the target `weir::history` at
//! debug level, inside a span that carries partition and generation.
//!
//! A tenancy `began` behind a checkpoint, the guest `acknowledged` ranges of events, outputs were `accepted`, a position was
//! `committed`, and it `ended`. Each line is written before what depends on it can be seen outside: acknowledged before the outputs
//! are published. Lines come per batch and per commit, never per event; switched off, they cost a comparison.

use tracing::{Span, debug, debug_span};

use crate::error::Range;
use crate::hold::Hold;
use crate::pump::End;

const TARGET: &str = "weir::history";

/// What a pump runs in.
pub(crate) fn tenancy(processor: &str, hold: &Hold) -> Span {
    debug_span!(target: TARGET, "tenancy", processor, partition = %hold.partition(), generation = hold.generation())
}

/// Behind this checkpoint; none: at the configured start.
pub(crate) fn began(checkpoint: Option<i64>) {
    debug!(target: TARGET, checkpoint, "began");
}

/// These events stand, and their outputs may now be published.
pub(crate) fn acknowledged(range: Range) {
    if let Range::Events(from, to) = range {
        debug!(target: TARGET, from, to, "acknowledged");
    }
}

/// The outputs of everything up to here were accepted downstream.
pub(crate) fn accepted(to: i64) {
    debug!(target: TARGET, to, "accepted");
}

/// The checkpoint is written.
pub(crate) fn committed(to: i64) {
    debug!(target: TARGET, to, "committed");
}

/// How it ended.
pub(crate) fn ended(end: &End) {
    let how = match end {
        End::Drained => "drained",
        End::CaughtUp { .. } => "caught-up",
        End::Lost(_) => "lost",
        End::Failed(_) => "failed",
    };
    debug!(target: TARGET, how, "ended");
}
