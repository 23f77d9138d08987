//! Hands batches to the guest, one at a time and in order, and decides what its answers and failures mean.
//!
//! - `retry`: the same batch again, to the same instance, after a pause.
//! - A broken guest (trap, deadline, memory, exit, an answer that breaks the contract): a fresh instance, and less of the batch, until the
//!   one event is found at which it breaks (`isolate.rs`). When the broken one held events back in memory, that memory is gone: the
//!   partition rewinds to the watermark, or with state to the last event before it whose state is known, and those events come again.
//! - `redeliver`: what stands is settled, the rest comes again before anything newer.
//! - An event that was handed over as often as it may, the last time alone, is *set aside*. It is given up (dead-lettered or dropped, as
//!   the policy says) as soon as a later event has worked, or nothing later is in hand; `breaker.rs` tells when it is the guest instead.
//!   It is settled before any later event, so order and checkpoints are as if it had been rejected.
//! - `fatal`: the partition stops. What was settled before is still emitted and committed.
//!
//! A redelivery at index 0 is no progress and counts as a failed attempt.

mod aside;
mod outcome;
mod tick;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ack::{self, Fates, Settlement, Tracker};
use crate::breaker::Breaker;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::dead_letter::DeadLetterCause;
use crate::emit::Settled;
use crate::error::{Cause, Range, Told};
use crate::guest::{
    Answer, Batch, CloseReason, Failure, Instance, OpenReason, Opening, Processor, TrapCause, TrapReport,
};
use crate::history;
use crate::isolate::{Found, Isolation};
use crate::model::{Event, Position, SequenceNumber, Timestamp};
use crate::options::{Delivery, OnPoison, ProcessorOptions};
use crate::outputs::{Refused, Resolver, Routes};
use crate::pump::{Halt, Seat};
use crate::retry::{Next, RetryPolicy, Streak, chance};
use crate::state::PartitionState;
use aside::{Suspect, Verdict};
use tick::Ticks;

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
    /// What the guest keeps in the host. A call changes it, and what becomes of the call becomes of the change.
    state: PartitionState,
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
    unopened: u32,
    /// The most events of a call. Halved when a guest breaks that holds events, which come again then, in calls of that size.
    most: usize,
    /// Until the watermark has passed this event.
    broke_at: SequenceNumber,
    /// How long to wait before the next call.
    rest: Duration,
    /// When to try again what was set aside, if nothing later comes.
    again: Option<Duration>,
    ticks: Ticks,
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
        let ticks = Ticks::new(options.clock, processor.uses_state());
        seat.status.set_held(0);
        Self {
            seat,
            processor,
            resolver,
            retry: options.retry,
            delivery: options.delivery,
            has_end,
            held_limit: options.held_events,
            state: opening.state.clone(),
            opening,
            tracker,
            instance: None,
            streak: Streak::default(),
            isolation: Isolation::default(),
            breaker: Breaker::new(options.delivery.breaker),
            suspects: Vec::new(),
            given_up: Vec::new(),
            failed_at: SequenceNumber::MIN,
            unopened: 0,
            most: usize::MAX,
            broke_at: SequenceNumber::MIN,
            rest: Duration::ZERO,
            again: None,
            ticks,
        }
    }

    /// Where this tenancy's settled progress stands.
    pub(crate) fn watermark(&self) -> Option<&Position> {
        self.tracker.watermark()
    }

    fn reached(&self) -> Option<SequenceNumber> {
        self.tracker.watermark().map(|position| position.sequence_number)
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
            let until = Instant::now() + again.unwrap_or_default();
            let next = tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(()),
                // Before a batch that is there as well; the next one is never due at once.
                () = self.ticks.due(self.state.wake()) => {
                    if !self.tick(settled, drain).await? {
                        return Ok(());
                    }
                    self.again = again.map(|_| until.saturating_duration_since(Instant::now()));
                    continue;
                }
                next = batches.recv() => next,
                () = sleep_until(until), if again.is_some() => {
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
            self.state.begin();
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
            self.state.begin();
            let opened = tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(false),
                opened = self.processor.open(self.opening.clone()) => opened,
            };
            match opened {
                Ok(instance) => {
                    self.state.keep(None);
                    self.unopened = 0;
                    self.instance = Some(instance);
                }
                Err(failure) => {
                    self.state.roll_back();
                    let pause = self.unopened(failure)?;
                    if !wait(pause, drain).await {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Counts a failure to open; the pause before the next attempt.
    fn unopened(&mut self, failure: Failure) -> Result<Duration, Halt> {
        self.unopened = self.unopened.saturating_add(1);
        let (range, attempts) = (Range::Opening, self.unopened);
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

    /// Forgets what the guest held in memory: everything above the watermark comes again, to a fresh instance. With state it is everything
    /// above the newest event up to there whose state is known.
    pub(crate) fn rewind(&mut self) {
        let back = match self.state.is_kept() {
            true => self.state.rewind(self.reached()),
            false => self.tracker.watermark().cloned(),
        };
        self.set_aside_again(back.as_ref());
        self.tracker = Tracker::new(back);
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

/// Waits. `false`: drained meanwhile. No pause costs nothing: a timer of zero would still take until its next tick.
pub(crate) async fn wait(pause: Duration, drain: &CancellationToken) -> bool {
    if pause.is_zero() {
        return !drain.is_cancelled();
    }
    tokio::select! {
        biased;
        () = drain.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
