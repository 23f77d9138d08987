//! Keeps a partition's receiver open and cuts what it delivers into batches.
//!
//! A receiver never re-attaches by itself: whatever ends it, the next one is opened right after the last event received
//! in this tenancy (rule R11). A new link that begins too early is skipped over, counted and said; a step back in
//! mid-link ends the link; a gap is said and counted, or stops the partition (`sequence.rs`). Silence is not trusted (`silence.rs`): a link that delivers nothing although there is more is
//! replaced.
//!
//! Errors by kind: what passes, and what a person must mend at the service (credentials, a missing hub), is tried again
//! with growing pauses for as long as the partition is owned, and shows in the status; a stolen link ends the tenancy;
//! a position that isn't valid stops the partition, since going on elsewhere would be a silent reset.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::batch::Cutter;
use crate::budget::{Budget, Charge};
use crate::dispatch::Pulled;
use crate::error::Cause;
use crate::model::{PartitionInfo, Position, SequenceNumber, StartPosition};
use crate::options::ProcessorOptions;
use crate::pump::{Halt, Seat};
use crate::retry::chance;
use crate::seams::{EventSource, OpenOptions, PartitionReceiver, SourceError, SourceErrorKind};
use crate::sequence::Gap;
use crate::silence::{Answer, Notice, Silence};

mod intake;

/// Events taken from a receiver at once; bounds by how much one passage of the memory gate can exceed the cap.
const TAKEN_AT_ONCE: usize = 512;
/// How long an answer of the source may take. Longer than the SDK's own attempts; a future that never ends must not end
/// the reading.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// How long a receiver may take to detach.
const DETACH: Duration = Duration::from_secs(2);
/// Attempts after which a run with an end gives up; a service never does.
pub(crate) const ATTEMPTS_OF_A_RUN: u32 = 10;
/// A checkpoint beyond the newest event is looked at so often before it is refused: the service's figures may lag
/// behind.
const SECOND_LOOKS: u32 = 3;

/// The stage.
pub(crate) struct Poller {
    seat: Arc<Seat>,
    source: Arc<dyn EventSource>,
    options: ProcessorOptions,
    budget: Arc<Budget>,
    /// For a partition without a checkpoint.
    start: StartPosition,
    /// The event after which a run with an end is done.
    target: Option<SequenceNumber>,
    /// The last event received, or what is known to lie before the first.
    last: Option<SequenceNumber>,
    link: Option<Link>,
    cutter: Cutter,
    /// For the events in the cutter.
    charge: Option<Charge>,
    failures: u32,
    opened: bool,
    /// Gaps that were there again on a link of their own.
    confirmed_gaps: u32,
}

struct Link {
    receiver: Box<dyn PartitionReceiver>,
    opened: Instant,
    /// Whether it has delivered an event that was not known.
    fresh: bool,
    /// Listened to once past the memory gate.
    silence: Silence,
    /// The last question about its silence failed, and the status says so.
    unanswered: bool,
}

/// One step of the reading.
enum Step<'a> {
    Hand(mpsc::Permit<'a, Pulled>),
    Received(Result<(), SourceError>),
    Admitted,
    Due,
    Noticed(Notice),
}

/// Why the reading of a link ended.
enum LinkEnd {
    Reached,
    Broken(SourceError),
    /// The dispatcher has ended.
    Unwanted,
}

impl Poller {
    /// Reads from `start`, or behind `after`, to the end of a run, if it has one.
    pub(crate) fn new(
        seat: Arc<Seat>,
        source: Arc<dyn EventSource>,
        options: ProcessorOptions,
        budget: Arc<Budget>,
        (start, target): (StartPosition, Option<SequenceNumber>),
        after: Option<&Position>,
    ) -> Self {
        let cutter = Cutter::new(options.batch);
        let last = after.map(|p| p.sequence_number);
        Self {
            seat,
            source,
            options,
            budget,
            start,
            target,
            last,
            link: None,
            cutter,
            charge: None,
            failures: 0,
            opened: false,
            confirmed_gaps: 0,
        }
    }

    /// Goes back to right after this event; the link and everything read ahead are dropped.
    pub(crate) async fn rewind(&mut self, after: Option<&Position>) {
        self.close().await;
        self.cutter = Cutter::new(self.options.batch);
        self.charge = None;
        self.last = after.map(|p| p.sequence_number);
    }

    /// Runs until `drain` is cancelled (what was not cut yet is dropped and read again later), the end of the run is
    /// reached (all of it is handed on), or the dispatcher has ended.
    pub(crate) async fn run(&mut self, batches: mpsc::Sender<Pulled>, drain: &CancellationToken) -> Result<(), Halt> {
        let result = tokio::select! {
            biased;
            () = drain.cancelled() => Ok(()),
            () = batches.closed() => Ok(()),
            result = self.poll(&batches) => result,
        };
        drop(batches);
        self.close().await;
        result
    }

    /// Detaches, if attached.
    pub(crate) async fn close(&mut self) {
        self.seat.status.set_attached(false);
        if let Some(link) = self.link.take()
            && timeout(DETACH, link.receiver.close()).await.is_err()
        {
            tracing::debug!(seat = %self.seat, "detaching took longer than {DETACH:?}");
        }
    }

    async fn poll(&mut self, batches: &mpsc::Sender<Pulled>) -> Result<(), Halt> {
        self.prepare().await?;
        loop {
            if self.is_past_target() {
                return self.flush(batches).await;
            }
            self.attach().await?;
            match self.read(batches).await? {
                LinkEnd::Reached => return self.flush(batches).await,
                LinkEnd::Unwanted => return Ok(()),
                LinkEnd::Broken(error) => {
                    // A link that held for a while, even if nothing came, is no failure in a row with the one before.
                    if self.link.as_ref().is_some_and(|link| link.opened.elapsed() > self.options.reconnect.max) {
                        self.failures = 0;
                    }
                    self.close().await;
                    self.troubled(error).await?;
                }
            }
        }
    }

    /// Asks the service about the partition: whether the checkpoint can be one of this partition's, and what is left of it.
    async fn prepare(&mut self) -> Result<(), Halt> {
        let mut looks = 0;
        loop {
            let info = match self.ask().await {
                Ok(info) => info,
                Err(error) => {
                    self.troubled(error).await?;
                    continue;
                }
            };
            let newest = info.last_enqueued_sequence_number;
            match self.last {
                Some(last) if last > newest => {
                    looks += 1;
                    let detail = format!(
                        "it is at sequence number {last}, but the partition's newest event is {newest}: the event hub was created \
                         anew, or the checkpoint is another hub's"
                    );
                    if looks > SECOND_LOOKS {
                        return Err(Halt::Failed(Cause::Checkpoint(detail)));
                    }
                    self.troubled(SourceError { kind: SourceErrorKind::Transient, detail }).await?;
                    continue;
                }
                _ => {}
            }
            if self.target.is_some_and(|t| info.is_empty || t < info.beginning_sequence_number) {
                self.target = Some(i64::MIN);
            }
            if let StartPosition::After(n) = self.start {
                self.last.get_or_insert(n);
            }
            // An empty partition has no first event; what is missing before the next one shows when that comes.
            let first = info.beginning_sequence_number;
            if let Some(last) = self.last.filter(|last| !info.is_empty && last.saturating_add(1) < first) {
                let gap = Gap { behind: 0, first: last.saturating_add(1), last: first - 1 };
                self.missing(&gap, first.abs_diff(gap.first))?;
                self.last = Some(first - 1);
            }
            return Ok(());
        }
    }

    async fn ask(&mut self) -> Result<PartitionInfo, SourceError> {
        let info = answer(self.source.partition_info(&self.seat.partition)).await?;
        self.seat.status.last_enqueued.set(info.last_enqueued_sequence_number);
        Ok(info)
    }

    async fn attach(&mut self) -> Result<(), Halt> {
        let options = OpenOptions { owner_level: self.options.owner_level, prefetch: self.options.prefetch };
        while self.link.is_none() {
            let start = self.last.map_or_else(|| self.start.clone(), StartPosition::After);
            match answer(self.source.open(&self.seat.partition, start.clone(), &options)).await {
                Ok(receiver) => {
                    tracing::debug!(seat = %self.seat, ?start, "attached");
                    let silence = Silence::new(self.options.stall);
                    self.seat.status.set_attached(true);
                    self.link =
                        Some(Link { receiver, opened: Instant::now(), fresh: false, silence, unanswered: false });
                    if std::mem::replace(&mut self.opened, true) {
                        self.seat.status.reattached.add(1);
                    }
                }
                Err(error) if error.kind == SourceErrorKind::InvalidPosition => {
                    return Err(Halt::Failed(Cause::Position { position: describe(&start), detail: error.detail }));
                }
                Err(error) => self.troubled(error).await?,
            }
        }
        self.seat.status.recovered();
        Ok(())
    }

    /// Says that something failed and waits before the next attempt; ends the reading if there is none.
    async fn troubled(&mut self, error: SourceError) -> Result<(), Halt> {
        match error.kind {
            SourceErrorKind::Stolen => return Err(Halt::Lost(error.to_string())),
            SourceErrorKind::InvalidPosition => {
                let position = self.last.map_or_else(|| "the start".into(), |n| describe(&StartPosition::After(n)));
                return Err(Halt::Failed(Cause::Position { position, detail: error.detail }));
            }
            SourceErrorKind::Transient | SourceErrorKind::Unauthorized | SourceErrorKind::NotFound => {}
        }
        self.failures = self.failures.saturating_add(1);
        if self.target.is_some() && self.failures >= ATTEMPTS_OF_A_RUN {
            return Err(Halt::Failed(Cause::Unreachable { attempts: self.failures, detail: error.to_string() }));
        }
        self.seat.trouble(format!("not receiving (failure {}): {error}", self.failures));
        tokio::time::sleep(self.options.reconnect.pause(self.failures, chance())).await;
        Ok(())
    }

    /// Reads a link until it ends.
    async fn read(&mut self, batches: &mpsc::Sender<Pulled>) -> Result<LinkEnd, Halt> {
        loop {
            if self.is_past_target() {
                return Ok(LinkEnd::Reached);
            }
            let before = self.cutter.len();
            match self.step(batches).await {
                Some(Step::Hand(permit)) => permit.send(self.cut()),
                Some(Step::Received(result)) => match self.take(before) {
                    Ok(taken) => {
                        if let Err(error) = taken.and(result) {
                            return Ok(LinkEnd::Broken(error));
                        }
                    }
                    Err(halt) => {
                        // What came before the gap is good.
                        self.flush(batches).await?;
                        return Err(halt);
                    }
                },
                Some(Step::Admitted) => {
                    // Its turn at the gate is good for one taking, whatever is free by then.
                    if let Some(link) = &mut self.link {
                        link.silence.listen(Instant::now());
                    }
                }
                Some(Step::Due) => {}
                Some(Step::Noticed(Notice::Long)) => self.wonder(),
                Some(Step::Noticed(Notice::Answered(answer))) => {
                    if self.conclude(answer) {
                        return Ok(LinkEnd::Reached);
                    }
                }
                Some(Step::Noticed(Notice::Dead(newest))) => {
                    let stall = self.options.stall;
                    let detail = format!(
                        "nothing received for {stall:?}, although events up to {newest} are there; the link is replaced"
                    );
                    return Ok(LinkEnd::Broken(SourceError { kind: SourceErrorKind::Transient, detail }));
                }
                None => return Ok(LinkEnd::Unwanted),
            }
        }
    }

    /// Waits for whatever comes first. `None`: the dispatcher has ended.
    async fn step<'a>(&mut self, batches: &'a mpsc::Sender<Pulled>) -> Option<Step<'a>> {
        let link = self.link.as_mut()?;
        let now = Instant::now();
        let due = self.cutter.is_due(now);
        let linger = self.cutter.due().filter(|_| !due);
        let (buffer, room) = self.cutter.buffer();
        if room > 0 && !link.silence.is_listening() && self.budget.gate().now_or_never().is_some() {
            link.silence.listen(now);
        }
        let listening = room > 0 && link.silence.is_listening();
        tokio::select! {
            biased;
            permit = batches.reserve(), if due => permit.ok().map(Step::Hand),
            result = link.receiver.receive(room.min(TAKEN_AT_ONCE), buffer), if listening => {
                Some(Step::Received(result))
            }
            () = self.budget.gate(), if room > 0 && !listening => Some(Step::Admitted),
            () = sleep_until(linger.unwrap_or(now)), if linger.is_some() => Some(Step::Due),
            notice = link.silence.notice(), if listening => Some(Step::Noticed(notice)),
        }
    }

    /// The link has been silent for long: asks what the service has.
    fn wonder(&mut self) {
        let (source, partition) = (Arc::clone(&self.source), self.seat.partition.clone());
        let question = async move { answer(source.partition_info(&partition)).await };
        if let Some(link) = &mut self.link {
            link.silence.ask(question.boxed());
        }
    }

    /// Weighs the service's answer about a silent link. `true`: nothing more belongs to this run.
    fn conclude(&mut self, answer: Answer) -> bool {
        let Some(link) = &mut self.link else { return false };
        let now = Instant::now();
        let info = match answer {
            Ok(info) => info,
            Err(error) => {
                self.seat.trouble(format!(
                    "nothing received for {:?}, and whether there is more can't be asked: {error}",
                    self.options.stall
                ));
                link.unanswered = true;
                link.silence.listen(now);
                return false;
            }
        };
        let newest = info.last_enqueued_sequence_number;
        self.seat.status.last_enqueued.set(newest);
        if std::mem::take(&mut link.unanswered) {
            self.seat.status.recovered();
        }
        let more = !info.is_empty
            && match (self.last, &self.start) {
                (Some(last), _) => last < newest,
                (None, StartPosition::EnqueuedTime(from)) => info.last_enqueued_time >= *from,
                (None, _) => true,
            };
        if more {
            link.silence.expect(newest, now);
        } else {
            link.silence.listen(now);
        }
        let expired = |target| info.is_empty || target < info.beginning_sequence_number;
        let before_start = self.last.is_none() && !more;
        self.target.is_some_and(|target| expired(target) || before_start)
    }

    fn is_past_target(&self) -> bool {
        self.target.is_some_and(|target| self.last.unwrap_or(i64::MIN) >= target)
    }

    fn cut(&mut self) -> Pulled {
        let (events, weight) = self.cutter.cut(Instant::now());
        let rest = self.cutter.len() > 0;
        let charge = match self.charge.as_mut() {
            Some(all) => all.split(weight),
            None => self.budget.charge(weight),
        };
        if !rest {
            self.charge = None;
        }
        Pulled { events, charge }
    }

    /// Hands on what is left.
    async fn flush(&mut self, batches: &mpsc::Sender<Pulled>) -> Result<(), Halt> {
        while self.cutter.len() > 0 {
            let cut = self.cut();
            if batches.send(cut).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Bounds the wait for an answer of the source.
pub(crate) async fn answer<T>(answer: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    timeout(ANSWER, answer).await.unwrap_or_else(|_| {
        Err(SourceError { kind: SourceErrorKind::Transient, detail: format!("no answer within {ANSWER:?}") })
    })
}

fn describe(start: &StartPosition) -> String {
    match start {
        StartPosition::Earliest => "the first retained event".into(),
        StartPosition::After(n) => format!("after sequence number {n}"),
        StartPosition::EnqueuedTime(t) => format!("enqueued time {t} (milliseconds since 1970)"),
    }
}
