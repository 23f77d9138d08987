//! Events that the guest fails at, each alone: set aside, then given up, or handed over again when it is the guest that is broken.

use super::outcome::{range, settle};
use super::*;
use crate::dead_letter::Why;

/// An event that was set aside.
#[derive(Debug)]
pub(super) struct Suspect {
    event: Event,
    attempts: u32,
    failure: Failure,
    /// Whether it was given up for its age, before its attempts were used up.
    expired: bool,
    /// Whether it was given up already, above a watermark that a rewind went back to.
    told: bool,
}

/// What an event that failed alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was set aside.
    Aside,
    /// There were too many in a row: it is the guest.
    Broken,
}

impl Suspect {
    pub(super) fn is_told(&self) -> bool {
        self.told
    }
}

impl Dispatcher {
    pub(super) fn is_suspect(&self, event: &Event) -> bool {
        self.suspects.iter().any(|suspect| suspect.event.sequence_number == event.sequence_number)
    }

    /// The batch from its first event on that was not set aside.
    pub(super) fn without_suspects(&self, batch: Batch) -> Batch {
        match batch.events().iter().take_while(|event| self.is_suspect(event)).count() {
            0 => batch,
            aside => batch.tail(aside),
        }
    }

    /// Puts what was set aside and not given up before the batch again.
    pub(super) fn with_suspects(&mut self, batch: &Batch) -> Batch {
        let again = self.suspects.extract_if(.., |suspect| !suspect.told).map(|suspect| suspect.event);
        let mut events: Vec<Event> = again.collect();
        // The event that was set aside last is still in the batch.
        let last = events.last().map_or(i64::MIN, |event| event.sequence_number);
        events.extend(batch.events().iter().filter(|event| event.sequence_number > last).cloned());
        Batch::new(events)
    }

    /// An event has failed alone, as often as it may: sets it aside, unless the policy is to stop, or opens the breaker.
    pub(super) fn set_aside(&mut self, event: &Event, attempts: u32, failure: Failure) -> Result<Verdict, Halt> {
        self.isolation.end();
        self.streak = Streak::default();
        let range = Range::Events(event.sequence_number, event.sequence_number);
        let placed = match self.delivery.on_poison {
            OnPoison::DeadLetter => self.resolver.has_dead_letter(),
            OnPoison::Drop => true,
            OnPoison::Stop => false,
        };
        if !placed {
            return Err(Halt::Failed(Cause::Guest { range, attempts, failure }));
        }
        let expired = attempts < self.retry.attempts.max(1);
        let text = failure.to_string();
        self.failed_at = self.failed_at.max(event.sequence_number);
        let place = self.suspects.partition_point(|known| known.event.sequence_number < event.sequence_number);
        self.suspects.insert(place, Suspect { event: event.clone(), attempts, failure, expired, told: false });
        let undecided = self.suspects.iter().filter(|suspect| !suspect.told);
        let (aside, first) = (undecided.clone().count(), undecided.map(|suspect| suspect.event.sequence_number).next());
        if !self.breaker.trips(aside) {
            self.seat.trouble(format!("set {range} aside after {attempts} attempt(s), going on behind it: {text}"));
            return Ok(Verdict::Aside);
        }
        let failed = self.breaker.in_a_row(aside);
        let range = Range::Events(first.unwrap_or(event.sequence_number), event.sequence_number);
        if self.has_end {
            let failure = self.suspects.remove(place).failure;
            return Err(Halt::Failed(Cause::Broken { range, failed, failure }));
        }
        self.rest = self.breaker.open(chance());
        self.failed_at = first.map_or(self.failed_at, |first| first.saturating_sub(1));
        self.seat.trouble(format!(
            "the guest fails at everything: {failed} events in a row up to {range}, and none between them worked. None of {range} is given \
             up; the partition rests for {:.1?} and tries again from there. Mend the module or what it needs (`breaker` sets the limits): {text}",
            self.rest
        ));
        Ok(Verdict::Broken)
    }

    /// A batch has ended, at this event, in events that were set aside. While the guest counts as working they are given up; otherwise
    /// they wait for a later one that works, and are tried again when none comes.
    pub(super) fn nothing_later(&mut self, last: SequenceNumber) -> Result<Option<Settled>, Halt> {
        let undecided = |suspect: &&Suspect| !suspect.told && suspect.event.sequence_number <= last;
        let undecided = self.suspects.iter().filter(undecided).count();
        if undecided > 0 && !self.breaker.is_closed() {
            self.again = Some(self.breaker.open(chance()));
            return Ok(None);
        }
        self.breaker.gave_up(undecided);
        let settled = self.give_up(last)?;
        self.seat.status.recovered();
        Ok(settled)
    }

    /// Settles what was set aside up to this event, in order: whatever comes behind it may follow.
    pub(super) fn give_up(&mut self, through: SequenceNumber) -> Result<Option<Settled>, Halt> {
        let later = self.suspects.partition_point(|suspect| suspect.event.sequence_number <= through);
        let later = self.suspects.split_off(later);
        let given_up = std::mem::replace(&mut self.suspects, later);
        let mut all: Option<Settled> = None;
        for mut suspect in given_up {
            let routes = if suspect.told { Routes::new() } else { self.routes(&suspect)? };
            suspect.told = true;
            let settlement = self.tracker.set_aside(&suspect.event);
            self.count_fates(settlement.covered);
            self.seat.status.set_held(self.tracker.held());
            self.seat.status.handed_over.set(suspect.event.sequence_number);
            let stands = std::slice::from_ref(&suspect.event);
            history::acknowledged(range(stands));
            // The state before the call in hand, whose events come later, is that of this event as well.
            self.state.pass(&suspect.event.position());
            let settled = settle(stands, routes, settlement, self.state.version());
            all = match (all, settled) {
                (Some(mut all), Some(next)) => {
                    all.merge(next);
                    Some(all)
                }
                (all, next) => all.or(next),
            };
            if self.tracker.held() > 0 {
                self.given_up.push(suspect);
            }
        }
        Ok(all)
    }

    /// Forgets what the partition never goes back behind.
    pub(super) fn forget_passed(&mut self) {
        if !self.given_up.is_empty() {
            let reached = self.reached();
            let passed = match self.state.is_kept() {
                true => self.state.floor(reached).map(|position| position.sequence_number),
                false => reached,
            };
            self.given_up.retain(|suspect| Some(suspect.event.sequence_number) > passed);
        }
    }

    /// The partition goes back to this event: what was given up above it is not handed over again, nor told again.
    pub(super) fn set_aside_again(&mut self, back: Option<&Position>) {
        let watermark = back.map_or(i64::MIN, |position| position.sequence_number);
        let mut all = std::mem::take(&mut self.given_up);
        all.append(&mut self.suspects);
        all.retain(|suspect| suspect.event.sequence_number > watermark);
        all.sort_by_key(|suspect| suspect.event.sequence_number);
        self.suspects = all;
    }

    /// The dead letter of an event, or a loud word that there is none.
    fn routes(&self, suspect: &Suspect) -> Result<Routes, Halt> {
        let Suspect { event, attempts, failure, expired, told: _ } = suspect;
        let (seat, sequence_number) = (&self.seat, event.sequence_number);
        let empty = String::new();
        let (cause, reason, stderr, backtrace) = match failure {
            Failure::Retry { reason, .. } | Failure::Fatal(reason) => (DeadLetterCause::Retry, reason, &empty, &empty),
            Failure::Trap(report) => {
                (DeadLetterCause::Broke(report.cause), &report.message, &report.stderr, &report.backtrace)
            }
        };
        let cause = if *expired { DeadLetterCause::Expired } else { cause };
        if self.delivery.on_poison == OnPoison::Drop {
            tracing::error!(%seat, sequence_number, attempts, %cause, "DROPPED an event that the guest can't process (`on-poison = \"drop\"`): {reason}");
            return Ok(Routes::new());
        }
        tracing::warn!(%seat, sequence_number, attempts, %cause, "an event that the guest can't process goes to the dead letters: {reason}");
        let why = Why { cause, reason, attempts: *attempts, stderr, backtrace };
        self.resolver
            .dead_letter(event, &why)
            .ok_or_else(|| Halt::Failed(Cause::NoDeadLetter { sequence_number, reason: reason.clone() }))
    }
}
