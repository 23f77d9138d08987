//! Hands batches to the guest, one at a time and in order, and decides what its answers and failures mean.
//!
//! - `retry`: the same batch again, to the same instance, after a pause.
//! - A broken guest (trap, deadline, memory, exit, an answer that breaks the contract): a fresh instance, and the same
//!   batch again. When the broken one held events back in memory, that memory is gone: the partition rewinds to the
//!   watermark and those events come again.
//! - `redeliver`: what stands is settled, the rest comes again before anything newer.
//! - `fatal`, or the last attempt failed: the partition stops. What was settled before is still emitted and committed.
//!
//! Attempts are counted until an answer gets past the event that failed; a redelivery at index 0 is no progress and
//! counts as one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ack::{self, Tracker};
use crate::budget::Charge;
use crate::emit::Settled;
use crate::error::{Cause, Range, Told};
use crate::guest::{
    Answer, Batch, CloseReason, Failure, Instance, OpenReason, Opening, Processor, TrapCause, TrapReport,
};
use crate::history;
use crate::model::{Event, Position};
use crate::outputs::{Refused, Resolver, Routes};
use crate::pump::{Halt, Seat};
use crate::retry::{Next, RetryPolicy, Streak, chance};

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
    /// Events that the guest may hold.
    held_limit: usize,
    opening: Opening,
    tracker: Tracker,
    /// Taken out during a call, so that a call that is cancelled takes its instance along.
    instance: Option<Box<dyn Instance>>,
    streak: Streak,
}

/// What follows from an answer or a failure.
enum Step {
    /// Settled in full.
    Done(Settled),
    /// Settled up to here; the rest comes again after a pause.
    Partly(Option<Settled>, Batch, Duration),
    /// Nothing settled; the same batch again after a pause.
    Again(Duration),
}

impl Dispatcher {
    pub(crate) fn new(
        seat: Arc<Seat>,
        processor: Arc<dyn Processor>,
        resolver: Resolver,
        (retry, held_limit): (RetryPolicy, usize),
        opening: Opening,
    ) -> Self {
        let tracker = Tracker::new(opening.checkpoint.clone());
        seat.status.set_held(0);
        Self {
            seat,
            processor,
            resolver,
            retry,
            held_limit,
            opening,
            tracker,
            instance: None,
            streak: Streak::default(),
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
            let next = tokio::select! {
                biased;
                () = drain.cancelled() => None,
                next = batches.recv() => next,
            };
            let Some(Pulled { events, charge }) = next else { return Ok(()) };
            if !self.batch(Batch::new(events), charge, settled, drain).await? {
                return Ok(());
            }
        }
    }

    /// One batch to its end. `false`: drained before it was settled; it will be read again.
    async fn batch(
        &mut self,
        mut batch: Batch,
        charge: Charge,
        settled: &mpsc::Sender<Settled>,
        drain: &CancellationToken,
    ) -> Result<bool, Halt> {
        let mut charge = Some(charge);
        loop {
            if !self.open(drain).await? {
                return Ok(false);
            }
            let Some(mut instance) = self.instance.take() else { return Ok(false) };
            let result = instance.process(batch.clone()).await;
            if !matches!(result, Err(Failure::Trap(_))) {
                self.instance = Some(instance);
            }
            let step = match result {
                Ok(answer) => self.answered(&batch, answer)?,
                Err(failure) => self.failed(&batch, failure)?,
            };
            let pause = match step {
                Step::Done(mut done) => {
                    // What the guest made of the events is held until it is accepted, like the events.
                    let outputs = charge.as_ref().map(|charge| charge.more(done.bytes));
                    done.charge = charge.take();
                    if let (Some(all), Some(outputs)) = (&mut done.charge, outputs) {
                        all.absorb(outputs);
                    }
                    // An error: emit has ended, which `run` notices.
                    return Ok(settled.send(done).await.is_ok());
                }
                Step::Partly(part, rest, pause) => {
                    if let Some(mut part) = part
                        && {
                            part.charge = charge.as_ref().map(|charge| charge.more(part.bytes));
                            settled.send(part).await.is_err()
                        }
                    {
                        return Ok(false);
                    }
                    batch = rest;
                    pause
                }
                Step::Again(pause) => pause,
            };
            if !wait(pause, drain).await {
                return Ok(false);
            }
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
                Ok(instance) => self.instance = Some(instance),
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
        let checked = ack::check(events, &ack).map_err(Refused::Invalid).and_then(|standing| {
            let routes = self.resolver.resolve(events, standing, outputs, &ack.rejected, self.streak.failures() + 1)?;
            let settlement = self.tracker.apply(events, &ack).map_err(Refused::Invalid)?;
            Ok((routes, settlement))
        });
        let (routes, settlement) = match checked {
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
        let stands = events.get(..settlement.standing).unwrap_or_default();
        let status = &self.seat.status;
        status.acknowledged.add(settlement.covered);
        status.rejected.add(self.resolver.dead_letters(&routes) as u64);
        let held = self.tracker.held();
        status.set_held(held);
        if held > self.held_limit {
            return Err(Halt::Failed(Cause::Held { range: range(events), held, limit: self.held_limit }));
        }
        history::acknowledged(range(stands));
        if let Some(last) = stands.last() {
            status.handed_over.set(last.sequence_number);
            if self.streak.passed(last.sequence_number) {
                status.recovered();
            }
        }
        let settled = settle(stands, routes, settlement.watermark, settlement.covered);
        let Some(again) = ack.redeliver else {
            return Ok(Step::Done(settled.unwrap_or_else(|| nothing(range(events)))));
        };
        let rest = batch.tail(settlement.standing);
        status.redelivered.add(rest.events().len() as u64);
        let failures = if settlement.standing == 0 { self.streak.failed(first(&rest)) } else { 1 };
        let pause = match self.retry.after(failures, again.after, chance()) {
            Next::Again(pause) => pause,
            // Progress was made, so this is no failure even where a single attempt is allowed.
            Next::GiveUp if settlement.standing > 0 => again.after.unwrap_or(self.retry.backoff),
            Next::GiveUp => {
                let (range, reason) = (range(rest.events()), again.reason);
                return Err(Halt::Failed(Cause::Redelivery { range, attempts: failures, reason }));
            }
        };
        if settlement.standing == 0 {
            self.seat.trouble(format!("the guest asked for {} again: {}", range(rest.events()), again.reason));
        }
        Ok(Step::Partly(settled, rest, pause))
    }

    fn failed(&mut self, batch: &Batch, failure: Failure) -> Result<Step, Halt> {
        let broken = matches!(failure, Failure::Trap(_));
        let pause = self.count_from(first(batch), range(batch.events()), failure)?;
        self.seat.status.retries.add(1);
        if broken && self.tracker.held() > 0 {
            return Err(Halt::Rewind(pause));
        }
        Ok(Step::Again(pause))
    }

    fn count(&mut self, range: Range, failure: Failure) -> Result<Duration, Halt> {
        let next = self.tracker.watermark().map_or(i64::MIN, |w| w.sequence_number.saturating_add(1));
        self.count_from(next, range, failure)
    }

    /// Counts a failure at `first`; the pause before the next attempt.
    fn count_from(&mut self, first: i64, range: Range, failure: Failure) -> Result<Duration, Halt> {
        let attempts = self.streak.failed(first);
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

fn first(batch: &Batch) -> i64 {
    batch.events().first().map_or(i64::MIN, |e| e.sequence_number)
}
