//! What of a link's events is taken into the batch: known ones are left out, a step back or a doubtful gap ends the link, a certain gap
//! is the policy's to judge.

use tokio::time::Instant;

use super::Poller;
use crate::error::Cause;
use crate::options::MissingEvents;
use crate::pump::Halt;
use crate::seams::{SourceError, SourceErrorKind};
use crate::sequence::{self, Gap};

/// Confirmed gaps after which the hub is known to have some (compaction leaves them), and each costs no new link any more.
const USUAL_GAPS: u32 = 16;

impl Poller {
    /// Takes note of the events that were appended to the batch from index `from` on, and leaves out what must not be handed on.
    /// The inner error ends the link.
    pub(super) fn take(&mut self, from: usize) -> Result<Result<(), SourceError>, Halt> {
        let fresh = self.link.as_ref().is_some_and(|link| !link.fresh);
        let found = sequence::examine(self.cutter.tail(from), self.last, fresh);
        self.cutter.remove(from + found.replayed + found.ordered..);
        self.cutter.remove(from..from + found.replayed);
        if found.replayed > 0 {
            self.seat.status.replayed.add(found.replayed as u64);
            let (after, replayed) = (self.last, found.replayed);
            tracing::warn!(seat = %self.seat, after, "the new link sent {replayed} known events again; skipped");
        }
        let doubt = match &found.gap {
            Some(gap) => self.take_to_gap(from, fresh, gap, found.missing)?,
            None => {
                self.taken(from);
                None
            }
        };
        let back = |number| format!("the link stepped back to sequence number {number}; it is replaced");
        Ok(match doubt.or(found.back.map(back)) {
            Some(detail) => Err(SourceError { kind: SourceErrorKind::Transient, detail }),
            None => Ok(()),
        })
    }

    /// Takes what is certain of events with a gap. What a link leaves out may be the link's doing; what the next one leaves out as
    /// well is gone. So a gap is believed at the beginning of a link, and elsewhere ends it: the answer says how.
    fn take_to_gap(&mut self, from: usize, fresh: bool, gap: &Gap, missing: u64) -> Result<Option<String>, Halt> {
        let mut doubtful = Some(*gap);
        let mut gone = Ok(());
        if self.confirmed_gaps >= USUAL_GAPS {
            doubtful = None;
            gone = self.missing(gap, missing);
        } else if fresh && gap.behind == 0 {
            self.confirmed_gaps += 1;
            gone = self.missing(gap, gap.last.abs_diff(gap.first) + 1);
            doubtful = sequence::examine(self.cutter.tail(from), Some(gap.last), false).gap;
        }
        if gone.is_err() {
            self.cutter.remove(from + gap.behind..);
        } else if let Some(doubtful) = doubtful {
            self.cutter.remove(from + doubtful.behind..);
        }
        self.taken(from);
        gone?;
        Ok(doubtful.map(|Gap { first, last, .. }| {
            format!("the link left out sequence numbers {first} to {last}; they are asked for again")
        }))
    }

    /// Events were appended to the batch from index `from` on.
    fn taken(&mut self, from: usize) {
        let added = self.cutter.len() > from;
        let mut troubled = self.failures > 0;
        if let Some(link) = &mut self.link {
            link.silence.broken();
            link.fresh |= added;
            troubled |= std::mem::take(&mut link.unanswered);
        }
        if !added {
            return;
        }
        if troubled {
            self.failures = 0;
            self.seat.status.recovered();
        }
        let added = self.cutter.tail(from);
        self.seat.status.take(added.len() as u64);
        self.last = added.last().map(|e| e.sequence_number);
        let weight = self.cutter.appended(from, Instant::now());
        let charge = self.budget.charge(weight);
        match &mut self.charge {
            Some(all) => all.absorb(charge),
            none => *none = Some(charge),
        }
    }

    /// Events are not there any more: says so, and goes on or stops, as the policy is.
    pub(super) fn missing(&self, gap: &Gap, count: u64) -> Result<(), Halt> {
        let Gap { first, last, .. } = *gap;
        if self.options.missing == MissingEvents::Stop {
            return Err(Halt::Failed(Cause::Missing { first, last }));
        }
        self.seat.status.missing.add(count);
        tracing::error!(
            seat = %self.seat, first, last, count,
            "events are not in the hub any more (retention or compaction) and were never processed; going on behind them"
        );
        Ok(())
    }
}
