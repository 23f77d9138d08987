//! What a call came to: an answer is checked, resolved and settled; a failure is retried, narrowed down, or set aside.

use super::*;

impl Dispatcher {
    pub(super) fn answered(&mut self, batch: &Batch, answer: Answer) -> Result<Step, Halt> {
        let Answer { ack, outputs } = answer;
        let events = batch.events();
        let attempts = self.isolation.failures().max(self.streak.failures()).saturating_add(1);
        let checked = ack::check(events, &ack).map_err(Refused::Invalid).and_then(|standing| {
            let routes = self.resolver.resolve(events, standing, outputs, &ack.rejected, attempts)?;
            Ok((routes, standing))
        });
        let (routes, standing) = match checked {
            Ok(checked) => checked,
            Err(Refused::Invalid(message)) => {
                self.instance = None;
                let cause = TrapCause::InvalidAnswer;
                let report = TrapReport { cause, message, stderr: String::new(), backtrace: String::new() };
                return self.failed(batch, Failure::Trap(report));
            }
            Err(Refused::NoDeadLetter { sequence_number, reason }) => {
                return Err(Halt::Failed(Cause::NoDeadLetter { sequence_number, reason }));
            }
        };
        // The guest works: what failed before these events did so by itself, and is settled before them.
        let before = match events.first() {
            Some(first) if standing > 0 => self.give_up(first.sequence_number.saturating_sub(1))?,
            _ => None,
        };
        let settlement = self.tracker.apply(events, &ack).map_err(Cause::Defect).map_err(Halt::Failed)?;
        self.forget_passed();
        let stands = events.get(..settlement.standing).unwrap_or_default();
        self.count_fates(settlement.covered);
        let held = self.tracker.held();
        self.seat.status.set_held(held);
        if self.tracker.watermark().is_some_and(|watermark| watermark.sequence_number >= self.broke_at) {
            self.most = usize::MAX;
        }
        history::acknowledged(range(stands));
        if let Some(last) = stands.last() {
            self.worked(last);
        }
        // Where nothing of the batch stands, what it changed is a matter of the event before.
        self.state.keep(stands.last().map(Event::position).as_ref());
        let standing = settlement.standing;
        let mut settled = settle(stands, routes, settlement, self.state.version());
        if let Some(mut first) = before {
            if let Some(settled) = settled {
                first.merge(settled);
            }
            settled = Some(first);
        }
        if held > self.held_limit {
            let halt = Halt::Failed(Cause::Held { range: range(events), held, limit: self.held_limit });
            return Ok(Step::Stop(settled, halt));
        }
        let Some(again) = ack.redeliver else {
            return Ok(Step::Done(settled.unwrap_or_else(|| nothing(range(events)))));
        };
        let rest = batch.tail(standing);
        let Some(first) = rest.events().first() else {
            return Ok(Step::Partly(settled, standing, Duration::ZERO));
        };
        self.seat.status.redelivered.add(rest.events().len() as u64);
        let failures = if standing == 0 { self.streak.failed(first.sequence_number) } else { 1 };
        let pause = match self.retry.after(failures, again.after, chance()) {
            Next::Again(pause) if standing > 0 || !self.has_expired(first) => pause,
            // Progress was made, so this is no failure even where a single attempt is allowed.
            _ if standing > 0 => again.after.unwrap_or(self.retry.backoff),
            _ => {
                // The guest says itself at which event it can't go on.
                let failure = Failure::Retry { after: again.after, reason: again.reason };
                // Keyed outputs stand, and so does what was held before this batch.
                return Ok(match self.set_aside(first, failures, failure) {
                    Ok(Verdict::Aside) => Step::Aside(settled),
                    Ok(Verdict::Broken) => Step::Broken(settled),
                    Err(halt) => Step::Stop(settled, halt),
                });
            }
        };
        if standing == 0 {
            self.seat.trouble(format!("the guest asked for {} again: {}", range(rest.events()), again.reason));
        }
        Ok(Step::Partly(settled, standing, pause))
    }

    /// An event was finished, or held by a guest that is alive.
    fn worked(&mut self, last: &Event) {
        let status = &self.seat.status;
        status.handed_over.set(last.sequence_number);
        let searched = self.isolation.is_on();
        self.isolation.passed(last.sequence_number);
        // What comes again after a rewind proves nothing of what comes behind it.
        let closed = last.sequence_number > self.failed_at && self.breaker.worked();
        let recovered = self.streak.passed(last.sequence_number) || closed;
        if recovered || searched && !self.isolation.is_on() {
            status.recovered();
        }
    }

    /// A call failed. What is next: a pause, a smaller piece, or the event that it was.
    pub(super) fn failed(&mut self, piece: &Batch, failure: Failure) -> Result<Step, Halt> {
        self.state.roll_back();
        let events = piece.events();
        let Some(first) = events.first() else { return Ok(Step::Again(Duration::ZERO)) };
        let (asked, broken) = match &failure {
            Failure::Retry { after, .. } => (*after, false),
            Failure::Fatal(_) => {
                let (range, attempts) = (range(events), self.streak.failures() + 1);
                return Err(Halt::Failed(Cause::Guest { range, attempts, failure }));
            }
            Failure::Trap(_) => {
                self.seat.status.traps.add(1);
                self.opening.reason = OpenReason::AfterTrap;
                (None, true)
            }
        };
        self.seat.status.retries.add(1);
        let (tries, expired) = (self.retry.attempts.max(1), self.has_expired(first));
        // A guest that asks for the whole batch again gets it as often as it may.
        if !broken && !self.isolation.is_on() && !expired {
            let attempts = self.streak.failed(first.sequence_number);
            if let Next::Again(pause) = self.retry.after(attempts, asked, chance()) {
                self.seat.trouble(format!(
                    "attempt {attempts} of {tries} at {} failed: {}",
                    range(events),
                    Told(&failure)
                ));
                return Ok(Step::Again(pause));
            }
        }
        let before = self.streak.failures().saturating_sub(u32::from(!broken));
        let pause = match self.isolation.failed(events, before) {
            Found::Alone(attempts) if attempts >= tries || expired => {
                let verdict = self.set_aside(first, attempts, failure)?;
                if broken && self.tracker.held() > 0 {
                    if verdict == Verdict::Broken {
                        self.suspects.retain(Suspect::is_told);
                    }
                    return Err(Halt::Rewind(self.retry.backoff));
                }
                return Ok(match verdict {
                    Verdict::Aside => Step::Aside(None),
                    Verdict::Broken => Step::Broken(None),
                });
            }
            Found::Alone(attempts) => {
                self.seat.trouble(format!(
                    "attempt {attempts} of {tries} at {} failed: {}",
                    range(events),
                    Told(&failure)
                ));
                match self.retry.after(attempts, asked, chance()) {
                    Next::Again(pause) => pause,
                    Next::GiveUp => Duration::ZERO,
                }
            }
            Found::Narrowed => {
                let next = self.isolation.cut(events);
                let what = format!(
                    "{} failed, looking for the event in smaller pieces (of {next} now): {}",
                    range(events),
                    Told(&failure)
                );
                self.seat.trouble(what);
                asked.unwrap_or_default()
            }
        };
        if !broken || self.tracker.held() == 0 {
            return Ok(Step::Again(pause));
        }
        // A guest that broke takes along what it held: that comes again first, in smaller calls, since it may have been their size.
        self.most = self.most.min(events.len() / 2).max(1);
        self.broke_at = events.last().map_or(self.broke_at, |last| self.broke_at.max(last.sequence_number));
        Err(Halt::Rewind(pause.max(self.retry.backoff)))
    }

    /// How many of these events to hand over next.
    pub(super) fn next(&self, events: &[Event]) -> usize {
        let suspect = |event: &Event| self.is_suspect(event);
        let before = if self.suspects.is_empty() { None } else { events.iter().position(suspect) };
        self.isolation.cut(events).min(before.unwrap_or(events.len())).min(self.most)
    }

    fn has_expired(&self, event: &Event) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = u64::try_from(event.enqueued_time).map_or(now, |t| now.saturating_sub(Duration::from_millis(t)));
        self.delivery.max_age.is_some_and(|most| age > most)
    }

    pub(super) fn count_fates(&self, fates: Fates) {
        let status = &self.seat.status;
        status.acknowledged.add(fates.acknowledged);
        status.rejected.add(fates.rejected);
        match self.delivery.on_poison {
            OnPoison::Drop => status.dropped.add(fates.set_aside),
            OnPoison::DeadLetter | OnPoison::Stop => status.poisoned.add(fates.set_aside),
        }
        status.finish(fates.all());
    }
}

pub(super) fn settle(stands: &[Event], routes: Routes, settlement: Settlement, version: u64) -> Option<Settled> {
    let (watermark, covered) = (settlement.watermark, settlement.covered.all());
    if stands.is_empty() && routes.is_empty() && watermark.is_none() {
        return None;
    }
    let range = range(stands);
    let bytes = crate::outputs::bytes(&routes);
    Some(Settled { routes, bytes, range, watermark, covered, version, charge: None })
}

pub(super) fn nothing(range: Range) -> Settled {
    Settled { routes: Routes::new(), bytes: 0, range, watermark: None, covered: 0, version: 0, charge: None }
}

pub(super) fn range(events: &[Event]) -> Range {
    match (events.first(), events.last()) {
        (Some(first), Some(last)) => Range::Events(first.sequence_number, last.sequence_number),
        _ => Range::Opening,
    }
}
