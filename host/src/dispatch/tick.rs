//! Wakes a guest that asked for it, between two batches.
//!
//! A wake-up is a part of the state: it is taken out when the call begins and is there again if the call comes to nothing, it
//! outlives restarts, and moves with the partition. A tick is handed no event. So there is none that could be set aside when it fails: it
//! is tried as often as an event may be handed over, and then the partition stops.

use super::outcome::settle;
use super::*;

/// The least time between two ticks: a guest that is always due would otherwise do nothing else.
const APART: Duration = Duration::from_millis(10);

/// The wake-ups of one partition.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    clock: Clock,
    /// Whether the guest knows of wake-ups: the state may be that of another module.
    heard: bool,
    /// When the last one ended.
    last: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl Ticks {
    pub(super) fn new(clock: Clock, heard: bool) -> Self {
        Self { clock, heard, ..Self::default() }
    }

    /// Waits for a wake-up that is asked for at this time.
    pub(super) async fn due(&self, wake: Option<Timestamp>) {
        let Some(wake) = wake.filter(|_| self.heard) else { return std::future::pending().await };
        self.clock.reaches(wake).await;
        if let Some(last) = self.last {
            sleep_until(last + APART).await;
        }
    }
}

impl Dispatcher {
    /// Hands a wake-up over until it works. `false`: drained before.
    pub(super) async fn tick(
        &mut self,
        settled: &mpsc::Sender<Settled>,
        drain: &CancellationToken,
    ) -> Result<bool, Halt> {
        loop {
            if !wait(std::mem::take(&mut self.rest), drain).await || !self.open(drain).await? {
                return Ok(false);
            }
            let Some(mut instance) = self.instance.take() else { return Ok(false) };
            self.state.begin_tick();
            let result = instance.tick(self.ticks.clock.now()).await;
            if !matches!(result, Err(Failure::Trap(_))) {
                self.instance = Some(instance);
            }
            let failure = match result.and_then(|answer| self.ticked(answer)) {
                Ok(done) => {
                    self.ticks.last = Some(Instant::now());
                    if std::mem::take(&mut self.ticks.failures) > 0 {
                        self.seat.status.recovered();
                    }
                    return match done {
                        // An error: emit has ended, which `run` notices.
                        Some(done) => Ok(settled.send(done).await.is_ok()),
                        None => Ok(true),
                    };
                }
                Err(failure) => failure,
            };
            self.rest = self.unticked(failure)?;
        }
    }

    /// Settles the answer to a tick; one that breaks the contract is a failure.
    fn ticked(&mut self, answer: Answer) -> Result<Option<Settled>, Failure> {
        let Answer { ack, outputs } = answer;
        let checked = self.resolver.resolve(&[], 0, outputs, &[], 1).map_err(|refused| match refused {
            Refused::Invalid(message) => message,
            Refused::NoDeadLetter { reason, .. } => reason,
        });
        let checked = checked.and_then(|routes| Ok((routes, self.tracker.apply_to_none(&ack)?)));
        let (routes, mut settlement) = checked.map_err(|message| {
            self.instance = None;
            let cause = TrapCause::InvalidAnswer;
            Failure::Trap(TrapReport { cause, message, stderr: String::new(), backtrace: String::new() })
        })?;
        self.forget_passed();
        self.count_fates(settlement.covered);
        self.seat.status.set_held(self.tracker.held());
        let before = self.state.version();
        self.state.keep(None);
        let version = self.state.version();
        if version != before {
            // What changed is to be committed, at the event at which it stands.
            settlement.watermark = self.tracker.watermark().cloned();
        }
        Ok(settle(&[], routes, settlement, version))
    }

    /// A tick failed. The pause before the next attempt.
    fn unticked(&mut self, failure: Failure) -> Result<Duration, Halt> {
        self.state.roll_back();
        self.ticks.failures = self.ticks.failures.saturating_add(1);
        let (range, attempts) = (Range::Tick, self.ticks.failures);
        let (asked, broken) = match &failure {
            Failure::Retry { after, .. } => (*after, false),
            Failure::Fatal(_) => return Err(Halt::Failed(Cause::Guest { range, attempts, failure })),
            Failure::Trap(_) => {
                self.seat.status.traps.add(1);
                self.opening.reason = OpenReason::AfterTrap;
                (None, true)
            }
        };
        self.seat.status.retries.add(1);
        let Next::Again(pause) = self.retry.after(attempts, asked, chance()) else {
            return Err(Halt::Failed(Cause::Guest { range, attempts, failure }));
        };
        let of = self.retry.attempts.max(1);
        self.seat.trouble(format!("attempt {attempts} of {of} at {range} failed: {}", Told(&failure)));
        // A guest that broke takes along what it held.
        match broken && self.tracker.held() > 0 {
            true => Err(Halt::Rewind(pause)),
            false => Ok(pause),
        }
    }
}
