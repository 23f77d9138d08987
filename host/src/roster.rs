//! The partitions of a hub as they stand at this host: which there are, where each is to begin and to end, what is done with each.
//! The coordinator's memory; it decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::balance::Here;
use crate::error::Cause;
use crate::hold::Hold;
use crate::host::{PartitionEnd, PartitionOutcome};
use crate::model::{PartitionId, SequenceNumber};
use crate::options::Start;
use crate::poll::{ANSWER, ATTEMPTS_OF_A_RUN};
use crate::pump::{Context, Course, Seat};
use crate::retry::chance;
use crate::sharing::Stand;
use crate::status::{ProcessorStatus, State};

/// All partitions of the hub.
pub(crate) struct Roster {
    pub(crate) partitions: BTreeMap<PartitionId, Partition>,
    /// Whether each partition ends where it was at the beginning.
    has_end: bool,
    /// `None`: the partitions are not known yet.
    refreshed: Option<Instant>,
}

/// A partition, and what is done with it here.
pub(crate) struct Partition {
    pub(crate) course: Course,
    /// Whether `course.target` is what it should be.
    pub(crate) aimed: bool,
    pub(crate) stage: Stage,
    /// Lost tenancies and failed claims in a row, without a checkpoint between them.
    pub(crate) losses: u32,
    /// Checkpoints written when the last tenancy began.
    pub(crate) commits: u64,
    pub(crate) was_ours: bool,
}

pub(crate) enum Stage {
    /// Not here; to be claimed, not before this time.
    Wanted(Instant),
    Running(Running),
    Ended(PartitionEnd),
}

/// A partition that is pumped.
pub(crate) struct Running {
    pub(crate) hold: Arc<Hold>,
    /// Lets it finish what it has.
    pub(crate) drain: CancellationToken,
}

impl Roster {
    pub(crate) fn new(has_end: bool) -> Self {
        Self { partitions: BTreeMap::new(), has_end, refreshed: None }
    }

    pub(crate) fn has_end(&self) -> bool {
        self.has_end
    }

    /// Whether nothing is left to run.
    pub(crate) fn is_done(&self) -> bool {
        let all_ended = self.partitions.values().all(|p| matches!(p.stage, Stage::Ended(_)));
        self.refreshed.is_some() && all_ended && !self.partitions.is_empty()
    }

    /// When a partition is wanted next, or the hub is to be asked for its partitions again.
    pub(crate) fn next_change(&self, refresh: Duration) -> Instant {
        let now = Instant::now();
        let refresh = self.refreshed.map_or(now, |at| at + refresh);
        let wanted = self.partitions.values().filter_map(|p| match p.stage {
            Stage::Wanted(at) => Some(at),
            _ => None,
        });
        wanted.chain([refresh]).min().unwrap_or(now)
    }

    /// How the partitions stand here.
    pub(crate) fn stand(&self, now: Instant) -> Stand {
        let mut stand = Stand { partitions: self.partitions.keys().cloned().collect(), ..Stand::default() };
        for (id, partition) in &self.partitions {
            match &partition.stage {
                Stage::Wanted(at) if *at <= now => stand.wanted.push(id.clone()),
                Stage::Wanted(_) | Stage::Ended(_) => {
                    stand.avoid.insert(id.clone());
                }
                Stage::Running(Running { drain, .. }) => {
                    let here = if drain.is_cancelled() { Here::Leaving } else { Here::Running };
                    stand.here.insert(id.clone(), here);
                }
            }
        }
        stand
    }

    /// Reads the partitions again when it is time to.
    pub(crate) async fn refresh(&mut self, context: &Context) -> Result<(), String> {
        let now = Instant::now();
        let due = self.refreshed.is_none_or(|at| !self.has_end && at + context.options.partition_refresh <= now);
        if due {
            let ids = bounded(ANSWER, context.source.partitions()).await;
            let ids = ids.map_err(|e| format!("can't list the partitions of {}: {e}", context.scope.event_hub))?;
            if ids.is_empty() {
                return Err(format!("{} has no partitions", context.scope.event_hub));
            }
            let added = self.refreshed.is_some();
            for id in ids {
                if self.partitions.contains_key(&id) {
                    continue;
                }
                if added {
                    tracing::info!(processor = context.name, partition = %id, "the hub has a new partition");
                }
                // A partition that was added while the host was there has no past to skip.
                let start = if added { Start::Earliest } else { context.options.start };
                let course = Course { start, target: None };
                context.status.partition(&id);
                let stage = Stage::Wanted(now);
                self.partitions.insert(
                    id,
                    Partition { course, aimed: !self.has_end, stage, losses: 0, commits: 0, was_ours: false },
                );
            }
            self.refreshed = Some(now);
        }
        self.aim(context).await
    }

    /// Finds out where a run with an end is to end.
    async fn aim(&mut self, context: &Context) -> Result<(), String> {
        let source = &context.source;
        let asked: FuturesUnordered<_> = self
            .partitions
            .iter_mut()
            .filter(|(_, p)| !p.aimed)
            .map(|(id, partition)| async move {
                let info = bounded(ANSWER, source.partition_info(id)).await;
                let info = info.map_err(|e| format!("can't ask for partition {id}: {e}"))?;
                let newest: SequenceNumber = if info.is_empty { i64::MIN } else { info.last_enqueued_sequence_number };
                partition.course.target = Some(newest);
                partition.aimed = true;
                Ok(())
            })
            .collect();
        let results: Vec<Result<(), String>> = asked.collect().await;
        results.into_iter().collect()
    }

    /// How each ended. `stopped`: because it was told to.
    pub(crate) fn outcomes(self, status: &ProcessorStatus, stopped: bool) -> Vec<PartitionOutcome> {
        let outcomes = self.partitions.into_iter().map(|(partition, p)| {
            let checkpoint = status.partition(&partition).known_checkpoint().map(|position| position.sequence_number);
            let end = match p.stage {
                Stage::Ended(end) => end,
                Stage::Running(_) => PartitionEnd::Unfinished("it was still running".into()),
                Stage::Wanted(_) if stopped => PartitionEnd::Stopped,
                Stage::Wanted(_) => PartitionEnd::Unfinished("it could not be claimed".into()),
            };
            PartitionOutcome { partition, checkpoint, end }
        });
        outcomes.collect()
    }
}

/// Puts a partition back among those to be claimed, after a pause that grows with each loss in a row.
pub(crate) fn wanted_again(context: &Context, id: &PartitionId, partition: &mut Partition, why: &str, has_end: bool) {
    partition.losses = partition.losses.saturating_add(1);
    let seat = Seat::new(context, id);
    if has_end && partition.losses >= ATTEMPTS_OF_A_RUN {
        let error = seat.error(Cause::Unreachable { attempts: partition.losses, detail: why.into() });
        tracing::error!("{error}");
        seat.status.set_state(State::Failed(error.cause.to_string()));
        partition.stage = Stage::Ended(PartitionEnd::Failed(error));
        return;
    }
    let pause = context.options.reconnect.pause(partition.losses, chance());
    let next = match context.options.fleet {
        Some(_) => "the fleet decides who goes on".to_owned(),
        None => format!("it is claimed again in {pause:.1?}"),
    };
    seat.trouble(format!("{why}; {next}"));
    partition.stage = Stage::Wanted(Instant::now() + pause);
}

/// Bounds the wait for an answer; errors become text for a message.
pub(crate) async fn bounded<T, E: std::fmt::Display>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
