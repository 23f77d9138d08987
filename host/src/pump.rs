//! One partition from claim to release: composes the stages, and is the only place that knows them all.
//!
//! The stages run concurrently in one task and are joined by bounded channels, so each works while the next one does,
//! and a slow one holds back those before it up to the broker. What ends a pump flows through the same channels:
//! - *Drain*: the poller stops, and every stage ends when the one before it has, with everything settled, accepted and
//!   committed.
//! - *A failure* in one stage ends those before it; those after it still finish what they have, within the shutdown
//!   deadline.
//! - *A lost tenancy* drops all stages where they are, with their buffers, the call to the guest and the right to write
//!   (rule R10).
//! - *A rewind* (a guest that held events broke) finishes like a failure and goes on in the same tenancy, from its
//!   settled watermark.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::begin::{Beginning, Found};
use crate::budget::Budget;
use crate::checkpoint::Committer;
use crate::dead_letter::Letters;
use crate::dispatch::{Dispatcher, wait};
use crate::emit::Emitter;
use crate::error::{Cause, PartitionError};
use crate::governor::Governor;
use crate::guest::{CloseReason, OpenReason, Opening, Processor};
use crate::history;
use crate::hold::Hold;
use crate::model::{OwnerId, PartitionId, Position, Scope, SequenceNumber, StartPosition};
use crate::options::{ProcessorOptions, Start};
use crate::outputs::{Resolver, Sinks};
use crate::poll::Poller;
use crate::seams::{CheckpointStore, EventSource};
use crate::state::PartitionState;
use crate::status::{PartitionStatus, ProcessorStatus, State};

/// What all pumps of a processor share.
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) owner: OwnerId,
    pub(crate) source: Arc<dyn EventSource>,
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) processor: Arc<dyn Processor>,
    pub(crate) sinks: Sinks,
    pub(crate) options: ProcessorOptions,
    pub(crate) budget: Arc<Budget>,
    pub(crate) governor: Arc<Governor>,
    pub(crate) status: Arc<ProcessorStatus>,
    pub(crate) deadline: Duration,
}

/// Where a pump sits: for its messages and figures.
pub(crate) struct Seat {
    pub(crate) processor: String,
    pub(crate) event_hub: String,
    pub(crate) partition: PartitionId,
    pub(crate) status: Arc<PartitionStatus>,
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}/{}", self.processor, self.event_hub, self.partition)
    }
}

impl Seat {
    pub(crate) fn new(context: &Context, partition: &PartitionId) -> Self {
        Self {
            processor: context.name.clone(),
            event_hub: context.scope.event_hub.clone(),
            partition: partition.clone(),
            status: context.status.partition(partition),
        }
    }

    /// Says that something failed and is tried again.
    pub(crate) fn trouble(&self, what: String) {
        tracing::warn!(processor = self.processor, event_hub = self.event_hub, partition = %self.partition, "{what}");
        self.status.set_state(State::Retrying(what));
    }

    pub(crate) fn error(&self, cause: Cause) -> PartitionError {
        let (processor, event_hub) = (self.processor.clone(), self.event_hub.clone());
        PartitionError { processor, event_hub, partition: self.partition.clone(), cause }
    }
}

/// What stops a stage, and with it the stages before it.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A person must act.
    Failed(Cause),
    /// The tenancy is over.
    Lost(String),
    /// Start again after the watermark, after this pause.
    Rewind(Duration),
}

/// How a pump ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Drained on request; everything that was settled is committed.
    Drained,
    /// Reached the end of the run; the guest holds so many events back.
    CaughtUp { held: u64 },
    /// The tenancy is over: why.
    Lost(String),
    /// Stopped until a person acts.
    Failed(Cause),
}

/// Where the reading of a partition begins and ends.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// For a partition without a checkpoint.
    pub(crate) start: Start,
    /// The event after which a run with an end is done.
    pub(crate) target: Option<SequenceNumber>,
}

/// A partition to be pumped.
pub(crate) struct Assignment {
    pub(crate) hold: Arc<Hold>,
    /// Whether another owner had it before.
    pub(crate) taken_over: bool,
    pub(crate) course: Course,
}

/// Pumps a partition until it is drained, caught up, lost or failed. Dropping the future stops everything at once.
pub(crate) async fn run(context: &Context, assignment: Assignment, drain: &CancellationToken) -> End {
    let tenancy = history::tenancy(&context.name, &assignment.hold);
    let lived = async {
        let end = live(context, assignment, drain).await;
        history::ended(&end);
        end
    };
    lived.instrument(tenancy).await
}

async fn live(context: &Context, assignment: Assignment, drain: &CancellationToken) -> End {
    let seat = Arc::new(Seat::new(context, assignment.hold.partition()));
    let begun = begin(context, seat, assignment, drain).await;
    let mut pump = match begun {
        Ok(Some(pump)) => pump,
        Ok(None) => return End::Drained,
        Err(halt) => return halt.into(),
    };
    let in_hand = InHand(Arc::clone(&pump.seat.status));
    let end = pump.run(context, drain).await;
    drop(in_hand);
    let reason = match end {
        End::Lost(_) => CloseReason::LostOwnership,
        End::Drained => CloseReason::Shutdown,
        End::CaughtUp { .. } | End::Failed(_) => CloseReason::Released,
    };
    // A tenancy that was lost left both where they were.
    let Pump { poller, dispatcher, .. } = &mut pump;
    tokio::join!(poller.close(), dispatcher.close(reason));
    end
}

/// Finds out where to begin. `None`: drained meanwhile.
async fn begin(
    context: &Context,
    seat: Arc<Seat>,
    assignment: Assignment,
    drain: &CancellationToken,
) -> Result<Option<Pump>, Halt> {
    let has_end = assignment.course.target.is_some();
    let beginning = Beginning { context, seat: &seat, hold: &assignment.hold, has_end, drain };
    let Some(found) = beginning.checkpoint().await? else { return Ok(None) };
    history::began(found.as_ref().map(|(checkpoint, _)| checkpoint.position.sequence_number));
    if let Some((checkpoint, _)) = &found {
        let position = checkpoint.position.clone();
        let leased = assignment.hold.is_leased();
        let state = beginning.state(Some(checkpoint), None)?;
        let mut pump = Pump::new(context, Arc::clone(&seat), assignment, found, (None, state));
        if leased {
            // The same again, in this tenancy's name (rule R4): nothing of the last owner's that is still under way can win any more.
            return Ok(pump.commit(&position, drain).await?.then_some(pump));
        }
        return Ok(Some(pump));
    }
    beginning.has_not_lost_state()?;
    let place = match (beginning.anew(assignment.course.start), assignment.course.start) {
        (Some(remembered), _) => Some(remembered),
        (None, Start::Latest) => beginning.latest().await?,
        (None, _) => {
            let state = beginning.state(None, None)?;
            return Ok(Some(Pump::new(context, Arc::clone(&seat), assignment, None, (None, state))));
        }
    };
    let Some(place) = place else { return Ok(None) };
    let state = beginning.state(None, Some(&place))?;
    let mut pump = Pump::new(context, Arc::clone(&seat), assignment, None, (Some(place.clone()), state));
    Ok(pump.commit(&place, drain).await?.then_some(pump))
}

impl From<Halt> for End {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Failed(cause) => Self::Failed(cause),
            Halt::Lost(why) => Self::Lost(why),
            Halt::Rewind(_) => Self::Lost("the partition has to be read again".into()),
        }
    }
}

/// However a pump ends, be it in mid-air: what it had in hand and did not finish is read again.
struct InHand(Arc<PartitionStatus>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

struct Pump {
    seat: Arc<Seat>,
    hold: Arc<Hold>,
    poller: Poller,
    dispatcher: Dispatcher,
    committer: Committer,
}

impl Pump {
    /// Begins behind the checkpoint that was found, or at what "latest" came to, with this state.
    fn new(
        context: &Context,
        seat: Arc<Seat>,
        assignment: Assignment,
        found: Option<Found>,
        (latest, state): (Option<Position>, PartitionState),
    ) -> Self {
        let Context { name, scope, options, sinks, .. } = context;
        let Assignment { hold, taken_over, course } = assignment;
        let found = found.map(|(checkpoint, etag)| (checkpoint.position, etag));
        let checkpoint = found.as_ref().map(|(position, _)| position.clone()).or(latest);
        let reason = match &found {
            None => OpenReason::FirstStart,
            Some(_) if taken_over => OpenReason::Claimed,
            Some(_) => OpenReason::Restart,
        };
        let opening = Opening {
            scope: scope.clone(),
            partition: seat.partition.clone(),
            reason,
            checkpoint: checkpoint.clone(),
            config: Arc::clone(&options.config),
            state: state.clone(),
        };
        let letters = Letters::new(scope, &seat.partition, name, context.processor.digest());
        let resolver = Resolver::new(letters, scope, &seat.partition, sinks.clone());
        let source = Arc::clone(&context.source);
        // Only "latest" has no position, and that is a checkpoint by now.
        let start = course.start.position().unwrap_or(StartPosition::Earliest);
        let budget = Arc::clone(&context.budget);
        let store = (Arc::clone(&context.store), Arc::clone(&context.governor));
        let policies = (options.checkpoint, options.store_retry, options.store_timeout);
        let committer = Committer::new(seat.clone(), store, (hold.generation(), hold.mark()), policies, found, state);
        let expiry = options.fleet.as_ref().map(|fleet| fleet.expiry);
        Self {
            poller: Poller::new(
                seat.clone(),
                source,
                options.clone(),
                budget,
                (start, course.target),
                checkpoint.as_ref(),
            ),
            dispatcher: Dispatcher::new(
                seat.clone(),
                context.processor.clone(),
                resolver,
                options,
                course.target.is_some(),
                opening,
            ),
            committer: committer.insisting(expiry.unwrap_or_default()),
            hold,
            seat,
        }
    }

    async fn run(&mut self, context: &Context, drain: &CancellationToken) -> End {
        loop {
            match self.stages(context, drain).await {
                Ok(()) if drain.is_cancelled() => return End::Drained,
                Ok(()) => return End::CaughtUp { held: self.dispatcher.held() },
                Err(Halt::Rewind(pause)) => {
                    self.dispatcher.rewind();
                    self.seat.status.give_back();
                    self.poller.rewind(self.dispatcher.watermark()).await;
                    if !wait(pause, drain).await {
                        return End::Drained;
                    }
                }
                Err(halt) => return halt.into(),
            }
        }
    }

    /// Writes a first checkpoint, before there are stages. `false`: drained meanwhile.
    async fn commit(&mut self, position: &Position, drain: &CancellationToken) -> Result<bool, Halt> {
        tokio::select! {
            biased;
            why = self.hold.ended() => Err(Halt::Lost(why)),
            () = drain.cancelled() => Ok(false),
            committed = self.committer.commit(position) => committed.map(|()| true),
        }
    }

    /// Runs all stages until each has ended, or the tenancy has.
    async fn stages(&mut self, context: &Context, drain: &CancellationToken) -> Result<(), Halt> {
        let options = &context.options;
        let (batches, pulled) = mpsc::channel(1);
        let (settled, to_emit) = mpsc::channel(options.emit_ahead.max(1));
        let (accepted, to_commit) = watch::channel(None);
        let emitter = Emitter {
            seat: &self.seat,
            sinks: &context.sinks,
            retry: options.sink_retry,
            timeout: options.sink_timeout,
        };
        let stages: [BoxFuture<'_, Result<(), Halt>>; 4] = [
            self.poller.run(batches, drain).boxed(),
            self.dispatcher.run(pulled, settled, drain).boxed(),
            emitter.run(to_emit, accepted).boxed(),
            self.committer.run(to_commit).boxed(),
        ];
        let mut stages: FuturesUnordered<_> = stages.into_iter().collect();
        let mut first = None;
        let mut cut_off = Instant::now();
        loop {
            let ended = tokio::select! {
                ended = stages.next() => ended,
                why = self.hold.ended() => return Err(Halt::Lost(why)),
                () = sleep_until(cut_off), if first.is_some() => {
                    tracing::warn!(seat = %self.seat, "what was settled before the failure could not be finished in time");
                    // A rewind goes on behind what was settled, so all of that must have been accepted. Otherwise the next
                    // tenancy begins, and it begins at the checkpoint.
                    if let Some(Halt::Rewind(_)) = first {
                        first = Some(Halt::Lost("outputs could not be published in time; reading again from the checkpoint".into()));
                    }
                    None
                }
            };
            match ended {
                Some(Ok(())) => {}
                Some(Err(lost @ Halt::Lost(_))) => return Err(lost),
                Some(Err(halt)) => {
                    if first.is_none() {
                        cut_off = Instant::now() + context.deadline;
                    }
                    // A failure outweighs a rewind, whichever came first.
                    first = match first {
                        Some(Halt::Rewind(_)) | None => Some(halt),
                        other => other,
                    };
                }
                None => return first.map_or(Ok(()), Err),
            }
        }
    }
}
