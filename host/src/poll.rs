//! Keeps a partition's receiver open and cuts what it delivers into batches.
//!
//! A receiver never re-attaches by itself: whatever ends it, the next one is opened right after the last event received
//! in this tenancy (rule R11). A new link that begins too early is skipped over, counted and said; a step back in
//! mid-link ends the link. Silence is not trusted: after a while the service is asked, and a link that delivers nothing
//! although there is more is replaced.
//!
//! Errors by kind: what passes, and what a person must mend at the service (credentials, a missing hub), is tried again
//! with growing pauses for as long as the partition is owned, and shows in the status; a stolen link ends the tenancy;
//! a position that isn't valid stops the partition, since going on elsewhere would be a silent reset.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::batch::Cutter;
use crate::budget::{Budget, Charge};
use crate::dispatch::Pulled;
use crate::error::Cause;
use crate::model::{Event, PartitionInfo, Position, SequenceNumber, StartPosition};
use crate::options::{ProcessorOptions, Start};
use crate::pump::{Halt, Seat};
use crate::retry::chance;
use crate::seams::{EventSource, OpenOptions, PartitionReceiver, SourceError, SourceErrorKind};

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

/// Where the reading of a partition begins and ends.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// For a partition without a checkpoint.
    pub(crate) start: Start,
    /// What `Latest` came to, once it was asked for: remembered for as long as the process lives, so that a tenancy
    /// that ends before its first checkpoint loses nothing.
    pub(crate) latest: Arc<OnceLock<SequenceNumber>>,
    /// The event after which a run with an end is done.
    pub(crate) target: Option<SequenceNumber>,
}

/// The stage.
pub(crate) struct Poller {
    seat: Arc<Seat>,
    source: Arc<dyn EventSource>,
    options: ProcessorOptions,
    budget: Arc<Budget>,
    course: Course,
    /// The last event received, or what is known to lie before the first.
    last: Option<SequenceNumber>,
    link: Option<Link>,
    cutter: Cutter,
    /// For the events in the cutter.
    charge: Option<Charge>,
    failures: u32,
    opened: bool,
}

struct Link {
    receiver: Box<dyn PartitionReceiver>,
    opened: Instant,
    /// Whether it has delivered an event that was not known.
    fresh: bool,
    /// Since when it is listened to without an answer, once past the memory gate.
    listening: Option<Instant>,
    /// The service says that there is more, and it has a last chance to deliver.
    suspect: bool,
}

/// One step of the reading.
enum Step<'a> {
    Hand(mpsc::Permit<'a, Pulled>),
    Received(Result<(), SourceError>),
    Admitted,
    Due,
    Quiet,
}

/// Why the reading of a link ended.
enum LinkEnd {
    Reached,
    Broken(SourceError),
    /// The dispatcher has ended.
    Unwanted,
}

impl Poller {
    pub(crate) fn new(
        seat: Arc<Seat>,
        source: Arc<dyn EventSource>,
        options: ProcessorOptions,
        budget: Arc<Budget>,
        course: Course,
        after: Option<&Position>,
    ) -> Self {
        let cutter = Cutter::new(options.batch);
        let last = after.map(|p| p.sequence_number);
        Self {
            seat,
            source,
            options,
            budget,
            course,
            last,
            link: None,
            cutter,
            charge: None,
            failures: 0,
            opened: false,
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
        if let Some(link) = self.link.take()
            && timeout(DETACH, link.receiver.close()).await.is_err()
        {
            tracing::debug!(seat = %self.seat, "detaching took longer than {DETACH:?}");
        }
    }

    async fn poll(&mut self, batches: &mpsc::Sender<Pulled>) -> Result<(), Halt> {
        let start = self.prepare().await?;
        loop {
            if self.is_past_target() {
                return self.flush(batches).await;
            }
            self.attach(&start).await?;
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

    /// Asks the service about the partition: what `Latest` means, and whether the checkpoint can be one of this
    /// partition's.
    async fn prepare(&mut self) -> Result<StartPosition, Halt> {
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
                Some(last) if info.beginning_sequence_number > last.saturating_add(1) => tracing::error!(
                    seat = %self.seat, checkpoint = last, retained_from = info.beginning_sequence_number,
                    "events after the checkpoint are no longer retained; reading goes on with the first that is"
                ),
                _ => {}
            }
            if self.course.target.is_some_and(|t| info.is_empty || t < info.beginning_sequence_number) {
                self.course.target = Some(i64::MIN);
            }
            let start = self.course.start.position();
            let start = start.unwrap_or_else(|| StartPosition::After(*self.course.latest.get_or_init(|| newest)));
            if let StartPosition::After(n) = start {
                self.last.get_or_insert(n);
            }
            return Ok(start);
        }
    }

    async fn ask(&mut self) -> Result<PartitionInfo, SourceError> {
        let info = answer(self.source.partition_info(&self.seat.partition)).await?;
        self.seat.status.last_enqueued.set(info.last_enqueued_sequence_number);
        Ok(info)
    }

    async fn attach(&mut self, start: &StartPosition) -> Result<(), Halt> {
        let options = OpenOptions { owner_level: self.options.owner_level, prefetch: self.options.prefetch };
        while self.link.is_none() {
            let start = self.last.map_or_else(|| start.clone(), StartPosition::After);
            match answer(self.source.open(&self.seat.partition, start.clone(), &options)).await {
                Ok(receiver) => {
                    tracing::debug!(seat = %self.seat, ?start, "attached");
                    self.link =
                        Some(Link { receiver, opened: Instant::now(), fresh: false, listening: None, suspect: false });
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
        if self.course.target.is_some() && self.failures >= ATTEMPTS_OF_A_RUN {
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
                Some(Step::Received(result)) => {
                    if let Err(error) = self.take(before).and(result) {
                        return Ok(LinkEnd::Broken(error));
                    }
                }
                Some(Step::Admitted) => {
                    // Its turn at the gate is good for one taking, whatever is free by then.
                    if let Some(link) = &mut self.link {
                        link.listening = Some(Instant::now());
                    }
                }
                Some(Step::Due) => {}
                Some(Step::Quiet) => match self.listen_closer().await {
                    Ok(true) => return Ok(LinkEnd::Reached),
                    Ok(false) => {}
                    Err(error) => return Ok(LinkEnd::Broken(error)),
                },
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
        if room > 0 && link.listening.is_none() && self.budget.gate().now_or_never().is_some() {
            link.listening = Some(now);
        }
        let patience = if link.suspect { self.options.stall + self.options.stall / 4 } else { self.options.stall };
        let quiet = link.listening.map(|since| since + patience);
        tokio::select! {
            biased;
            permit = batches.reserve(), if due => permit.ok().map(Step::Hand),
            result = link.receiver.receive(room.min(TAKEN_AT_ONCE), buffer), if room > 0 && quiet.is_some() => {
                Some(Step::Received(result))
            }
            () = self.budget.gate(), if room > 0 && quiet.is_none() => Some(Step::Admitted),
            () = sleep_until(linger.unwrap_or(now)), if linger.is_some() => Some(Step::Due),
            () = sleep_until(quiet.unwrap_or(now)), if room > 0 && quiet.is_some() => Some(Step::Quiet),
        }
    }

    /// Takes note of the events that were appended to the batch from index `from` on.
    fn take(&mut self, from: usize) -> Result<(), SourceError> {
        let fresh = self.link.as_ref().is_some_and(|link| link.fresh);
        let end = self.order(fresh, from);
        let added = self.cutter.len() > from;
        if let Some(link) = &mut self.link {
            link.listening = None;
            link.suspect = false;
            link.fresh |= added;
        }
        if added {
            if self.failures > 0 {
                self.failures = 0;
                self.seat.status.recovered();
            }
            let added = self.cutter.tail(from);
            self.seat.status.received.add(added.len() as u64);
            self.last = added.last().map(|e| e.sequence_number);
            let weight = self.cutter.appended(from, Instant::now());
            let charge = self.budget.charge(weight);
            match &mut self.charge {
                Some(all) => all.absorb(charge),
                none => *none = Some(charge),
            }
        }
        end
    }

    /// Removes what must not be handed on: known events at the beginning of a link, everything from a step back on.
    fn order(&mut self, fresh: bool, from: usize) -> Result<(), SourceError> {
        let known = |e: &Event| self.last.is_some_and(|last| e.sequence_number <= last);
        if !fresh {
            let replayed = self.cutter.tail(from).iter().take_while(|e| known(e)).count();
            if replayed > 0 {
                self.cutter.remove(from..from + replayed);
                self.seat.status.replayed.add(replayed as u64);
                tracing::warn!(seat = %self.seat, after = self.last, "the new link sent {replayed} known events again; skipped");
            }
        }
        let mut last = self.last;
        let back = self.cutter.tail(from).iter().position(|e| {
            let back = last.is_some_and(|last| e.sequence_number <= last);
            last = Some(e.sequence_number);
            back
        });
        let Some(back) = back else { return Ok(()) };
        let number = self.cutter.tail(from + back).first().map_or(-1, |e| e.sequence_number);
        self.cutter.remove(from + back..);
        let detail = format!("the link stepped back to sequence number {number}; it is replaced");
        Err(SourceError { kind: SourceErrorKind::Transient, detail })
    }

    /// The link has been silent. `true`: the run has reached its end all the same.
    async fn listen_closer(&mut self) -> Result<bool, SourceError> {
        let info = self.ask().await?;
        let Some(link) = &mut self.link else { return Ok(false) };
        let newest = info.last_enqueued_sequence_number;
        // With a start by time nothing tells whether what is there should have come, before the first event has.
        let by_time = self.last.is_none() && matches!(self.course.start, Start::EnqueuedTime(_));
        let more = !info.is_empty && !by_time && self.last.is_none_or(|last| last < newest);
        if more && link.suspect {
            let stall = self.options.stall;
            let detail = format!(
                "nothing received for {stall:?}, although events up to {newest} are there; the link is replaced"
            );
            return Err(SourceError { kind: SourceErrorKind::Transient, detail });
        }
        link.suspect = more;
        if !more {
            link.listening = Some(Instant::now());
        }
        Ok(self.course.target.is_some_and(|t| info.is_empty || t < info.beginning_sequence_number || by_time))
    }

    fn is_past_target(&self) -> bool {
        self.course.target.is_some_and(|target| self.last.unwrap_or(i64::MIN) >= target)
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
async fn answer<T>(answer: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
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
