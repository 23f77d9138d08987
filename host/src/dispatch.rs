//! Hands batches to the guest, one at a time and in order, and decides what its answers and failures mean.
//!
//! - `retry`: the same batch again, to the same instance, after a pause.
//! - A broken guest (trap, deadline, memory, exit, an answer that breaks the contract): a fresh instance, and less of the batch, until the
//!   one event is found at which it breaks (`isolate.rs`). When the broken one held events back in memory, that memory is gone: the
//!   partition rewinds to the watermark and those events come again.
//! - `redeliver`: what stands is settled, the rest comes again before anything newer.
//! - An event that was handed over as often as it may, the last time alone, is *set aside*. It is given up (dead-lettered or dropped, as
//!   the policy says) as soon as a later event has worked, or nothing later is in hand; `breaker.rs` tells when it is the guest instead.
//!   It is settled before any later event, so order and checkpoints are as if it had been rejected.
//! - `fatal`: the partition stops. What was settled before is still emitted and committed.
//!
//! A redelivery at index 0 is no progress and counts as a failed attempt.

mod aside;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ack::{self, Fates, Tracker};
use crate::breaker::Breaker;
use crate::budget::Charge;
use crate::dead_letter::DeadLetterCause;
use crate::emit::Settled;
use crate::error::{Cause, Range, Told};
use crate::guest::{
    Answer, Batch, CloseReason, Failure, Instance, OpenReason, Opening, Processor, TrapCause, TrapReport,
};
use crate::history;
use crate::isolate::{Found, Isolation};
use crate::model::{Event, Position, SequenceNumber};
use crate::options::{Delivery, OnPoison, ProcessorOptions};
use crate::outputs::{Refused, Resolver, Routes};
use crate::pump::{Halt, Seat};
use crate::retry::{Next, RetryPolicy, Streak, chance};
use aside::{Suspect, Verdict};

/// How long a guest may take to say good-bye.
const CLOSING: Duration = Duration::from_secs(5);

/// A batch as it was cut.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) events: Vec<Event>,
    pub(crate) charge: Charge,
}

/// The stage, and the guest of one tenancy.
pub(crate) struct Dispatcher {
    seat: Arc<Seat>,
    processor: Arc<dyn Processor>,
    resolver: Resolver,
    retry: RetryPolicy,
    delivery: Delivery,
    /// Whether the run has an end: then a broken guest is its end, too.
    has_end: bool,
    /// Events that the guest may hold.
    held_limit: usize,
    opening: Opening,
    tracker: Tracker,
    /// Taken out during a call, so that a call that is cancelled takes its instance along.
    instance: Option<Box<dyn Instance>>,
    streak: Streak,
    isolation: Isolation,
    breaker: Breaker,
    /// Events that were set aside, in order.
    suspects: Vec<Suspect>,
    /// Events that were given up above the watermark.
    given_up: Vec<Suspect>,
    /// The last event that was set aside: what passes up to there proves nothing new of the guest.
    failed_at: SequenceNumber,
    /// Failures to open in a row.
    unopened: Streak,
    /// The most events of a call. Halved when a guest breaks that holds events, which come again then, in calls of that size.
    most: usize,
    /// How long to wait before the next call.
    rest: Duration,
    /// When to try again what was set aside, if nothing later comes.
    again: Option<Duration>,
}

/// What follows from an answer or a failure.
enum Step {
    /// Settled in full.
    Done(Settled),
    /// So many events are settled; the rest comes again after a pause.
    Partly(Option<Settled>, usize, Duration),
    /// Nothing settled; the same events again (or fewer of them) after a pause.
    Again(Duration),
    /// The first event was set aside.
    Aside(Option<Settled>),
    /// The guest counts as broken: everything that was set aside comes again after a rest.
    Broken(Option<Settled>),
    /// The partition stops, with what is settled.
    Stop(Option<Settled>, Halt),
}

impl Dispatcher {
    pub(crate) fn new(
        seat: Arc<Seat>,
        processor: Arc<dyn Processor>,
        resolver: Resolver,
        options: &ProcessorOptions,
        has_end: bool,
        opening: Opening,
    ) -> Self {
        let tracker = Tracker::new(opening.checkpoint.clone());
        seat.status.set_held(0);
        Self {
            seat,
            processor,
            resolver,
            retry: options.retry,
            delivery: options.delivery,
            has_end,
            held_limit: options.held_events,
            opening,
            tracker,
            instance: None,
            streak: Streak::default(),
            isolation: Isolation::default(),
            breaker: Breaker::new(options.delivery.breaker),
            suspects: Vec::new(),
            given_up: Vec::new(),
            failed_at: SequenceNumber::MIN,
            unopened: Streak::default(),
            most: usize::MAX,
            rest: Duration::ZERO,
            again: None,
        }
    }

    /// Where this tenancy's settled progress stands.
    pub(crate) fn watermark(&self) -> Option<&Position> {
        self.tracker.watermark()
    }

    /// Events that the guest holds back.
    pub(crate) fn held(&self) -> u64 {
        self.tracker.held() as u64
    }

    /// Runs until there are no more batches, or `drain` is cancelled: then the call under way is the last.
    pub(crate) async fn run(
        &mut self,
        mut batches: mpsc::Receiver<Pulled>,
        settled: mpsc::Sender<Settled>,
        drain: &CancellationToken,
    ) -> Result<(), Halt> {
        // When emit has ended, nothing that the guest does can count any more.
        let emit_ended = settled.clone();
        tokio::select! {
            result = self.batches(&mut batches, &settled, drain) => result,
            () = emit_ended.closed() => Ok(()),
        }
    }

    async fn batches(
        &mut self,
        batches: &mut mpsc::Receiver<Pulled>,
        settled: &mpsc::Sender<Settled>,
        drain: &CancellationToken,
    ) -> Result<(), Halt> {
        if !self.open(drain).await? {
            return Ok(());
        }
        loop {
            // Nothing later came by which to judge what was set aside while the guest counts as broken: it is tried again.
            let again = self.again.take();
            let next = tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(()),
                next = batches.recv() => next,
                () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {
                    let batch = self.with_suspects(&Batch::new(Vec::new()));
                    if !self.batch(batch, None, settled, drain).await? {
                        return Ok(());
                    }
                    continue;
                }
            };
            let Some(Pulled { events, charge }) = next else { return Ok(()) };
            if !self.batch(Batch::new(events), Some(charge), settled, drain).await? {
                return Ok(());
            }
        }
    }

    /// One batch to its end. `false`: drained before it was settled; it will be read again.
    async fn batch(
        &mut self,
        mut batch: Batch,
        mut charge: Option<Charge>,
        settled: &mpsc::Sender<Settled>,
        drain: &CancellationToken,
    ) -> Result<bool, Halt> {
        let last = batch.events().last().map_or(SequenceNumber::MIN, |event| event.sequence_number);
        loop {
            batch = self.without_suspects(batch);
            if batch.events().is_empty() {
                let Some(mut done) = self.nothing_later(last)? else { return Ok(true) };
                done.take_charge(charge.take());
                return Ok(settled.send(done).await.is_ok());
            }
            if !wait(std::mem::take(&mut self.rest), drain).await || !self.open(drain).await? {
                return Ok(false);
            }
            let piece = batch.head(self.next(batch.events()));
            let is_last = piece.events().len() == batch.events().len();
            let Some(mut instance) = self.instance.take() else { return Ok(false) };
            let result = instance.process(piece.clone()).await;
            if !matches!(result, Err(Failure::Trap(_))) {
                self.instance = Some(instance);
            }
            let step = match result {
                Ok(answer) => self.answered(&piece, answer)?,
                Err(failure) => self.failed(&piece, failure)?,
            };
            let (part, rest) = match step {
                Step::Done(mut done) if is_last => {
                    done.take_charge(charge.take());
                    // An error: emit has ended, which `run` notices.
                    return Ok(settled.send(done).await.is_ok());
                }
                Step::Done(done) => (Some(done), batch.tail(piece.events().len())),
                Step::Partly(part, standing, pause) => {
                    self.rest = pause;
                    (part, batch.tail(standing))
                }
                Step::Again(pause) => {
                    self.rest = pause;
                    continue;
                }
                Step::Aside(part) => (part, batch.clone()),
                Step::Broken(part) => (part, self.with_suspects(&batch)),
                Step::Stop(part, halt) => {
                    // An error: emit has ended, which has its own reason.
                    if let Some(part) = part
                        && settled.send(part).await.is_err()
                    {
                        return Ok(false);
                    }
                    return Err(halt);
                }
            };
            if let Some(mut part) = part {
                part.charge = charge.as_ref().map(|charge| charge.more(part.bytes));
                if settled.send(part).await.is_err() {
                    return Ok(false);
                }
            }
            batch = rest;
        }
    }

    /// Makes sure that there is a live instance. `false`: drained meanwhile.
    async fn open(&mut self, drain: &CancellationToken) -> Result<bool, Halt> {
        while self.instance.is_none() {
            self.opening.checkpoint = self.tracker.watermark().cloned();
            let opened = tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(false),
                opened = self.processor.open(self.opening.clone()) => opened,
            };
            match opened {
                Ok(instance) => {
                    self.unopened = Streak::default();
                    self.instance = Some(instance);
                }
                Err(failure) => {
                    let pause = self.count(Range::Opening, failure)?;
                    if !wait(pause, drain).await {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn answered(&mut self, batch: &Batch, answer: Answer) -> Result<Step, Halt> {
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
        if held == 0 {
            self.most = usize::MAX;
        }
        history::acknowledged(range(stands));
        if let Some(last) = stands.last() {
            self.worked(last);
        }
        let mut settled = settle(stands, routes, settlement.watermark, settlement.covered.all());
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
        let rest = batch.tail(settlement.standing);
        let Some(first) = rest.events().first() else {
            return Ok(Step::Partly(settled, settlement.standing, Duration::ZERO));
        };
        self.seat.status.redelivered.add(rest.events().len() as u64);
        let failures = if settlement.standing == 0 { self.streak.failed(first.sequence_number) } else { 1 };
        let pause = match self.retry.after(failures, again.after, chance()) {
            Next::Again(pause) if settlement.standing > 0 || !self.has_expired(first) => pause,
            // Progress was made, so this is no failure even where a single attempt is allowed.
            _ if settlement.standing > 0 => again.after.unwrap_or(self.retry.backoff),
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
        if settlement.standing == 0 {
            self.seat.trouble(format!("the guest asked for {} again: {}", range(rest.events()), again.reason));
        }
        Ok(Step::Partly(settled, settlement.standing, pause))
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
    fn failed(&mut self, piece: &Batch, failure: Failure) -> Result<Step, Halt> {
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
        Err(Halt::Rewind(pause.max(self.retry.backoff)))
    }

    /// How many of these events to hand over next.
    fn next(&self, events: &[Event]) -> usize {
        let suspect = |event: &Event| self.is_suspect(event);
        let before = if self.suspects.is_empty() { None } else { events.iter().position(suspect) };
        self.isolation.cut(events).min(before.unwrap_or(events.len())).min(self.most)
    }

    fn has_expired(&self, event: &Event) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = u64::try_from(event.enqueued_time).map_or(now, |t| now.saturating_sub(Duration::from_millis(t)));
        self.delivery.max_age.is_some_and(|most| age > most)
    }

    fn count_fates(&self, fates: Fates) {
        let status = &self.seat.status;
        status.acknowledged.add(fates.acknowledged);
        status.rejected.add(fates.rejected);
        match self.delivery.on_poison {
            OnPoison::Drop => status.dropped.add(fates.set_aside),
            OnPoison::DeadLetter | OnPoison::Stop => status.poisoned.add(fates.set_aside),
        }
        status.finish(fates.all());
    }

    /// Counts a failure to open; the pause before the next attempt.
    fn count(&mut self, range: Range, failure: Failure) -> Result<Duration, Halt> {
        let next = self.tracker.watermark().map_or(i64::MIN, |w| w.sequence_number.saturating_add(1));
        let attempts = self.unopened.failed(next);
        let after = match &failure {
            Failure::Retry { after, .. } => *after,
            Failure::Fatal(_) => return Err(Halt::Failed(Cause::Guest { range, attempts, failure })),
            Failure::Trap(_) => {
                self.seat.status.traps.add(1);
                self.opening.reason = OpenReason::AfterTrap;
                None
            }
        };
        match self.retry.after(attempts, after, chance()) {
            Next::Again(pause) => {
                let of = self.retry.attempts.max(1);
                self.seat.trouble(format!("attempt {attempts} of {of} at {range} failed: {}", Told(&failure)));
                Ok(pause)
            }
            Next::GiveUp => Err(Halt::Failed(Cause::Guest { range, attempts, failure })),
        }
    }

    /// Forgets what the guest held in memory: everything above the watermark comes again, to a fresh instance.
    pub(crate) fn rewind(&mut self) {
        self.set_aside_again();
        self.tracker = Tracker::new(self.tracker.watermark().cloned());
        self.seat.status.set_held(0);
        self.instance = None;
    }

    /// Says good-bye to the guest, if it is in a state to hear it.
    pub(crate) async fn close(&mut self, reason: CloseReason) {
        if let Some(instance) = self.instance.take()
            && tokio::time::timeout(CLOSING, instance.close(reason)).await.is_err()
        {
            tracing::warn!(seat = %self.seat, "the guest took longer than {CLOSING:?} to close and was dropped");
        }
    }
}

/// Waits. `false`: drained meanwhile.
pub(crate) async fn wait(pause: Duration, drain: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = drain.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

fn settle(stands: &[Event], routes: Routes, watermark: Option<Position>, covered: u64) -> Option<Settled> {
    if stands.is_empty() && routes.is_empty() && watermark.is_none() {
        return None;
    }
    let range = if stands.is_empty() { Range::Opening } else { range(stands) };
    let bytes = crate::outputs::bytes(&routes);
    Some(Settled { routes, bytes, range, watermark, covered, charge: None })
}

fn nothing(range: Range) -> Settled {
    Settled { routes: Routes::new(), bytes: 0, range, watermark: None, covered: 0, charge: None }
}

fn range(events: &[Event]) -> Range {
    match (events.first(), events.last()) {
        (Some(first), Some(last)) => Range::Events(first.sequence_number, last.sequence_number),
        _ => Range::Opening,
    }
}
