//! The control plane of one processor: which partitions there are, which are claimed, which pumps run. It never touches
//! an event.
//!
//! One loop, so that lifecycle changes are serialised: a *round* lists, plans (`sharing.rs`), lets go and claims; a pump's
//! end is reacted to; the shutdown is passed on. A partition whose tenancy is lost is claimed again after a growing pause. One
//! that failed stays stopped, is released, and is reported; the others go on. No error of a round ends the loop of a
//! service: it is said, shown in the status, and tried again. Only a host whose name is another process's stops (`heart.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::{Here, Role, View};
use crate::claim::Claim;
use crate::error::Cause;
use crate::heart::{self, Entered, Entry, Heart};
use crate::hold::{Hold, Keeper};
use crate::host::{PartitionEnd, PartitionOutcome, ProcessorOutcome};
use crate::model::{Incarnation, Mark, PartitionId, SequenceNumber, Tenancy};
use crate::options::Start;
use crate::poll::ATTEMPTS_OF_A_RUN;
use crate::pump::{self, Assignment, Context, Course, End, Seat};
use crate::retry::chance;
use crate::seams::{Listing, Written};
use crate::sharing::{Leftover, Sharing, Stand};
use crate::shutdown::Shutdown;
use crate::status::{FleetSnapshot, State};

/// Claims made at once.
const CLAIMS_AT_ONCE: usize = 16;

/// The coordinator of one processor.
pub(crate) struct Coordinator {
    context: Arc<Context>,
    shutdown: Shutdown,
    /// Whether each partition ends where it was at the beginning.
    has_end: bool,
    partitions: BTreeMap<PartitionId, Partition>,
    /// `None`: the partitions are not known yet.
    refreshed: Option<Instant>,
    sharing: Sharing,
    incarnation: Incarnation,
    /// Claims that were made, for their marks.
    claims: u64,
    pumps: JoinSet<(PartitionId, End)>,
    by_task: BTreeMap<tokio::task::Id, PartitionId>,
    /// Failed rounds in a row, and when to try again.
    failures: u32,
    retry_at: Option<Instant>,
    /// In a fleet: what tells the others that this host is there.
    heart: Option<Heart>,
    /// Why this host can't take part (any more).
    refused: Option<String>,
    /// In a fleet: who is there that should not be.
    misfit: Option<String>,
    /// In a fleet: when the next cycle is due, whether there is anything to do or not.
    next_cycle: Instant,
}

struct Partition {
    course: Course,
    /// Whether `course.target` is what it should be.
    aimed: bool,
    stage: Stage,
    /// Lost tenancies and failed claims in a row, without a checkpoint between them.
    losses: u32,
    /// Checkpoints written when the last tenancy began.
    commits: u64,
    was_ours: bool,
}

enum Stage {
    /// Not here; to be claimed, not before this time.
    Wanted(Instant),
    Running(Running),
    Ended(PartitionEnd),
}

/// A partition that is pumped.
struct Running {
    hold: Arc<Hold>,
    /// Lets it finish what it has.
    drain: CancellationToken,
}

impl Coordinator {
    pub(crate) fn new(context: Arc<Context>, shutdown: Shutdown, has_end: bool) -> Self {
        Self {
            sharing: Sharing::new(&context.owner, context.options.fleet.as_ref()),
            next_cycle: Instant::now(),
            incarnation: Incarnation::new(rand::random()),
            claims: 0,
            context,
            shutdown,
            has_end,
            partitions: BTreeMap::new(),
            refreshed: None,
            pumps: JoinSet::new(),
            by_task: BTreeMap::new(),
            failures: 0,
            retry_at: None,
            heart: None,
            refused: None,
            misfit: None,
        }
    }

    /// Runs until nothing is left to run, or the shutdown is done.
    pub(crate) async fn run(mut self) -> ProcessorOutcome {
        let drain = self.shutdown.drain().clone();
        self.enter().await;
        while !drain.is_cancelled() && !self.is_done() {
            let round = self.next_round();
            tokio::select! {
                biased;
                () = drain.cancelled() => {}
                why = lost(self.heart.as_ref()) => self.refuse(why),
                Some(ended) = self.pumps.join_next_with_id() => self.ended(ended).await,
                () = sleep_until(round) => self.round().await,
            }
        }
        if drain.is_cancelled() || self.refused.is_some() {
            self.drain().await;
        }
        if let Some(heart) = self.heart.take() {
            heart.stop().await;
        }
        self.outcome()
    }

    /// In a fleet: takes this host's name, and says that it is there.
    async fn enter(&mut self) {
        let (Some(presence), Some(terms)) = (self.sharing.presence(self.incarnation), self.sharing.terms()) else {
            return;
        };
        let (context, drain) = (Arc::clone(&self.context), self.shutdown.drain().clone());
        let entry = Entry { context, terms, presence, incarnation: self.incarnation, drain };
        match entry.enter().await {
            Entered::Yes(heart) => self.heart = Some(heart),
            Entered::Drained => {}
            Entered::Refused(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: String) {
        tracing::error!(processor = self.context.name, "{why}");
        self.context.status.set_problem(Some(why.clone()));
        self.refused = Some(why);
    }

    /// Lets every pump finish, then stops those that have not.
    async fn drain(&mut self) {
        // The others are to reckon without this host when they see what it releases.
        if let Some(heart) = &self.heart {
            heart.leave();
        }
        for (id, partition) in &self.partitions {
            if let Stage::Running(running) = &partition.stage {
                self.context.status.partition(id).set_state(State::Draining);
                running.drain.cancel();
            }
        }
        let (shutdown, limit) = (self.shutdown.clone(), self.context.deadline);
        let deadline = async {
            match shutdown.drain().is_cancelled() {
                true => shutdown.deadline().await,
                false => sleep(limit).await,
            }
        };
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ended = self.pumps.join_next_with_id() => match ended {
                    Some(ended) => self.ended(ended).await,
                    None => return,
                },
                () = &mut deadline => break,
            }
        }
        self.pumps.shutdown().await;
        let mut cut_off = Vec::new();
        for (id, partition) in &mut self.partitions {
            if let Stage::Running(running) = &partition.stage {
                let text =
                    "the shutdown deadline passed before it was drained; its uncommitted part is processed again";
                tracing::warn!(processor = self.context.name, partition = %id, "{text}");
                cut_off.push(Arc::clone(&running.hold));
                partition.stage = Stage::Ended(PartitionEnd::Unfinished(text.into()));
            }
        }
        futures::future::join_all(cut_off.iter().map(|hold| release(&self.context, hold))).await;
    }

    fn is_done(&self) -> bool {
        if self.refused.is_some() {
            return true;
        }
        let all_ended = self.partitions.values().all(|p| matches!(p.stage, Stage::Ended(_)));
        let gave_up = self.has_end && self.failures >= ATTEMPTS_OF_A_RUN && self.pumps.is_empty();
        gave_up || (self.refreshed.is_some() && all_ended && !self.partitions.is_empty())
    }

    /// When the next round is due.
    fn next_round(&self) -> Instant {
        if let Some(at) = self.retry_at {
            return at;
        }
        if self.sharing.terms().is_some() {
            return self.next_cycle;
        }
        let now = Instant::now();
        let refresh = self.refreshed.map_or(now, |at| at + self.context.options.partition_refresh);
        let wanted = self.partitions.values().filter_map(|p| match p.stage {
            Stage::Wanted(at) => Some(at),
            _ => None,
        });
        wanted.chain([refresh]).min().unwrap_or(now)
    }

    async fn round(&mut self) {
        match self.try_round().await {
            Ok(()) => {
                self.failures = 0;
                self.retry_at = None;
                self.context.status.set_problem(self.misfit.clone());
            }
            Err(problem) => {
                self.failures = self.failures.saturating_add(1);
                let pause = self.context.options.reconnect.pause(self.failures, chance());
                tracing::warn!(processor = self.context.name, failures = self.failures, "{problem}");
                self.context.status.set_problem(Some(problem));
                self.retry_at = Some(Instant::now() + pause);
            }
        }
    }

    /// A shutdown ends it at any time, except between a claim and its answer: what is claimed unknown to this host would not be
    /// released, and the others would have to wait for its expiry.
    async fn try_round(&mut self) -> Result<(), String> {
        let drain = self.shutdown.drain().clone();
        let claims = tokio::select! {
            biased;
            () = drain.cancelled() => return Ok(()),
            claims = self.look() => claims?,
        };
        let claims: Vec<_> = claims.into_iter().map(|claim| (claim, self.mark())).collect();
        let attempts = claims.into_iter().take_while(|_| !drain.is_cancelled());
        let attempts = attempts.map(|(claim, mark)| self.attempt(claim, mark));
        let mut attempts = futures::stream::iter(attempts).buffer_unordered(CLAIMS_AT_ONCE);
        let mut claimed = Vec::new();
        while let Some(result) = attempts.next().await {
            claimed.push(result);
        }
        drop(attempts);
        let done = claimed.iter().filter(|(_, _, result)| matches!(result, Ok(Written::Done(_))));
        let (followed, free): (Vec<_>, Vec<_>) = done.map(|(claim, ..)| claim).partition(|claim| claim.taken_over);
        let ids = |claims: Vec<&Claim>| claims.into_iter().map(|claim| claim.partition.clone()).collect::<Vec<_>>();
        self.say("takes", &ids(free));
        self.say("takes over from other hosts", &ids(followed));
        for (claim, sent, result) in claimed {
            self.claimed(claim, sent, result);
        }
        Ok(())
    }

    /// Says what changes hands. Alone, a host has everything, and nothing does.
    fn say(&self, what: &str, partitions: &[PartitionId]) {
        if self.sharing.terms().is_some() && !partitions.is_empty() {
            let mut ids: Vec<_> = partitions.iter().map(PartitionId::as_str).collect();
            ids.sort_by_key(|id| (id.len(), *id));
            tracing::info!(processor = self.context.name, partitions = ids.join(","), "this host {what}");
        }
    }

    /// Lists, plans, and lets go. What is left to be done are the claims.
    async fn look(&mut self) -> Result<Vec<Claim>, String> {
        let context = Arc::clone(&self.context);
        let pause = self.sharing.pause(chance());
        if let Some(pause) = pause {
            self.next_cycle = Instant::now() + pause;
        }
        // A cycle that takes longer than its time says nothing of now.
        let limit = pause.unwrap_or(Duration::MAX).min(context.options.store_timeout);
        self.refresh().await?;
        let asked = Instant::now();
        let stand = self.stand(asked);
        if stand.wanted.is_empty() && pause.is_none() {
            return Ok(Vec::new());
        }
        let listing = bounded(limit, context.store.list()).await;
        let listing = listing.map_err(|e| format!("can't list the checkpoints of {}: {e}", context.scope))?;
        if let Some(heart) = &self.heart
            && heart.is_lost(&listing, &context.owner, self.incarnation)
        {
            return Ok(Vec::new());
        }
        self.judge(&listing)?;
        let plan = self.sharing.plan(&context.owner, &listing, &stand, asked);
        if let (Some(heart), Some(view)) = (&self.heart, &plan.view) {
            heart.set_wanted(u32::try_from(view.quota).unwrap_or(u32::MAX));
        }
        self.show(plan.view);
        for (id, why) in plan.lost {
            if let Some(Stage::Running(running)) = self.partitions.get(&id).map(|p| &p.stage) {
                running.hold.end(why);
            }
        }
        self.say("gives up for a fair share, after draining", &plan.releases);
        for id in plan.releases {
            if let Some(Stage::Running(running)) = self.partitions.get(&id).map(|p| &p.stage) {
                context.status.partition(&id).set_state(State::Draining);
                running.drain.cancel();
            }
        }
        for Leftover { partition, generation, ownership } in plan.leftovers {
            let (owner, mark) = (context.owner.clone(), self.mark());
            let tenancy = Tenancy { partition, owner, mark, generation, ownership };
            Hold::new(tenancy, true).release(&*context.store, limit, &context.name).await;
        }
        if pause.is_some() {
            for id in stand.wanted.iter().filter(|id| !plan.claims.iter().any(|claim| claim.partition == **id)) {
                context.status.partition(id).set_state(State::Elsewhere);
            }
        }
        Ok(plan.claims)
    }

    /// What a listing says against claiming anything; and says loudly who should not be in the group.
    fn judge(&mut self, listing: &Listing) -> Result<(), String> {
        let (Some(presence), Some(terms)) = (self.sharing.presence(self.incarnation), self.sharing.terms()) else {
            return Ok(());
        };
        let misfit = heart::misfit(listing, &presence, terms.expiry);
        if let Some(why) = misfit.as_ref().filter(|_| misfit != self.misfit) {
            tracing::error!(processor = self.context.name, "{why}");
        }
        self.misfit = misfit;
        match &self.heart {
            Some(heart) if presence.exclusive && !heart.stands() => Err(format!(
                "the store of {} does not confirm this host's signs of life: it claims nothing",
                self.context.scope
            )),
            _ => Ok(()),
        }
    }

    /// How the partitions stand here.
    fn stand(&self, now: Instant) -> Stand {
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

    fn show(&self, view: Option<View>) {
        let Some(view) = view else { return };
        let fleet = FleetSnapshot {
            standby: view.role == Role::Standby,
            quota: view.quota,
            held: view.held,
            hosts: view.hosts,
            claimable: view.claimable,
            foreign: view.foreign.iter().map(ToString::to_string).collect(),
            absent: view.absent.iter().map(ToString::to_string).collect(),
        };
        self.context.status.set_fleet(fleet);
    }

    /// Reads the partitions again when it is time to.
    async fn refresh(&mut self) -> Result<(), String> {
        let context = Arc::clone(&self.context);
        let now = Instant::now();
        let due = self.refreshed.is_none_or(|at| !self.has_end && at + context.options.partition_refresh <= now);
        if due {
            let ids = bounded(crate::poll::ANSWER, context.source.partitions()).await;
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
        self.aim().await
    }

    /// Finds out where a run with an end is to end.
    async fn aim(&mut self) -> Result<(), String> {
        let source = Arc::clone(&self.context.source);
        let asked: FuturesUnordered<_> = self
            .partitions
            .iter_mut()
            .filter(|(_, p)| !p.aimed)
            .map(|(id, partition)| {
                let source = &source;
                async move {
                    let info = bounded(crate::poll::ANSWER, source.partition_info(id)).await;
                    let info = info.map_err(|e| format!("can't ask for partition {id}: {e}"))?;
                    let newest: SequenceNumber =
                        if info.is_empty { i64::MIN } else { info.last_enqueued_sequence_number };
                    partition.course.target = Some(newest);
                    partition.aimed = true;
                    Ok(())
                }
            })
            .collect();
        let results: Vec<Result<(), String>> = asked.collect().await;
        results.into_iter().collect()
    }

    /// The mark of another claim.
    fn mark(&mut self) -> Mark {
        self.claims += 1;
        Mark::new(self.incarnation, self.claims)
    }

    async fn attempt(&self, claim: Claim, mark: Mark) -> (Claim, Instant, Result<Written<Tenancy>, String>) {
        let Context { store, owner, options, .. } = &*self.context;
        let sent = Instant::now();
        let result =
            bounded(options.store_timeout, store.claim(&claim.partition, owner, mark, claim.expected.as_ref())).await;
        (claim, sent, result)
    }

    fn claimed(&mut self, claim: Claim, sent: Instant, result: Result<Written<Tenancy>, String>) {
        let context = Arc::clone(&self.context);
        let Some(partition) = self.partitions.get_mut(&claim.partition) else { return };
        let claimed = match result {
            Ok(Written::Done(tenancy)) => Ok(tenancy),
            // In a fleet others are as quick: no trouble, the next cycle sees who has it.
            Ok(Written::Conflict) if self.sharing.terms().is_some() => {
                return context.status.partition(&claim.partition).set_state(State::Elsewhere);
            }
            Ok(Written::Conflict) => Err("somebody else claimed it at the same moment".to_owned()),
            Err(why) => Err(why),
        };
        let tenancy = match claimed {
            Ok(tenancy) => tenancy,
            Err(why) => {
                let why = format!("not claimed: {why}");
                return wanted_again(&context, &claim.partition, partition, &why, self.has_end);
            }
        };
        context.status.partition(&claim.partition).recovered();
        let taken_over = claim.taken_over || partition.was_ours;
        let terms = self.sharing.terms();
        let hold = Hold::new(tenancy, terms.is_some());
        let assignment = Assignment { hold: Arc::clone(&hold), taken_over, course: partition.course.clone() };
        let keeper = terms.map(|terms| Keeper {
            hold: Arc::clone(&hold),
            store: Arc::clone(&context.store),
            seat: Seat::new(&context, &claim.partition),
            terms,
            claimed: sent,
            beat: self.heart.as_ref().filter(|_| self.sharing.is_exclusive()).map(Heart::beat),
        });
        partition.was_ours = true;
        partition.commits = context.status.partition(&claim.partition).commits.get();
        let drain = self.shutdown.drain().child_token();
        partition.stage = Stage::Running(Running { hold: Arc::clone(&hold), drain: drain.clone() });
        let task = self.pumps.spawn(async move {
            // A task of its own: whatever the pump does, the ownership is renewed, or not, in time.
            let _keeper = keeper.map(|keeper| AbortOnDropHandle::new(tokio::spawn(keeper.run())));
            let end = pump::run(&context, assignment, &drain).await;
            // Whatever the end, an ended tenancy leaves nothing behind; a lost one finds another owner there, unless it was given up.
            if !matches!(end, End::Lost(_)) || hold.is_given_up() {
                release(&context, &hold).await;
            }
            (hold.partition().clone(), end)
        });
        self.by_task.insert(task.id(), claim.partition);
    }

    async fn ended(&mut self, ended: Result<(tokio::task::Id, (PartitionId, End)), tokio::task::JoinError>) {
        let context = Arc::clone(&self.context);
        let (id, end) = match ended {
            Ok((task, (id, end))) => {
                self.by_task.remove(&task);
                (id, end)
            }
            Err(error) => {
                let Some(id) = self.by_task.remove(&error.id()) else { return };
                if let Some(Partition { stage: Stage::Running(running), .. }) = self.partitions.get(&id) {
                    release(&context, &running.hold).await;
                }
                (id, End::Failed(Cause::Defect(error.to_string())))
            }
        };
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let status = context.status.partition(&id);
        partition.stage = match end {
            End::Drained if !self.shutdown.drain().is_cancelled() => {
                status.set_state(State::Elsewhere);
                partition.was_ours = false;
                // Another host is to have it; that is for the next cycle to see.
                Stage::Wanted(Instant::now())
            }
            End::Drained => {
                status.set_state(State::Released);
                Stage::Ended(PartitionEnd::Stopped)
            }
            End::CaughtUp { held } => {
                status.set_state(State::CaughtUp);
                Stage::Ended(PartitionEnd::CaughtUp { held })
            }
            End::Failed(cause) => {
                let error = Seat::new(&context, &id).error(cause);
                tracing::error!("{error}");
                status.set_state(State::Failed(error.cause.to_string()));
                Stage::Ended(PartitionEnd::Failed(error))
            }
            End::Lost(why) => {
                if status.commits.get() > partition.commits {
                    partition.losses = 0;
                }
                let given_up = matches!(&partition.stage, Stage::Running(running) if running.hold.is_given_up());
                wanted_again(&context, &id, partition, &format!("the ownership ended: {why}"), self.has_end);
                if let (true, Some(terms)) = (given_up, self.sharing.terms()) {
                    partition.stage = Stage::Wanted(Instant::now() + terms.expiry * 2 / 3);
                }
                return;
            }
        };
    }

    fn outcome(self) -> ProcessorOutcome {
        let status = &self.context.status;
        let stopped = self.shutdown.drain().is_cancelled() || self.refused.is_some();
        let partitions = self.partitions.into_iter().map(|(partition, p)| {
            let checkpoint = status.partition(&partition).checkpoint.get();
            let end = match p.stage {
                Stage::Ended(end) => end,
                Stage::Running(_) => PartitionEnd::Unfinished("it was still running".into()),
                Stage::Wanted(_) if stopped => PartitionEnd::Stopped,
                Stage::Wanted(_) => PartitionEnd::Unfinished("it could not be claimed".into()),
            };
            PartitionOutcome { partition, checkpoint, end }
        });
        ProcessorOutcome {
            name: self.context.name.clone(),
            problem: self.refused.or_else(|| status.problem()),
            partitions: partitions.collect(),
        }
    }
}

/// Waits until the host's name is lost, if it has one; says how.
async fn lost(heart: Option<&Heart>) -> String {
    match heart {
        Some(heart) => heart.lost().await,
        None => std::future::pending().await,
    }
}

/// Puts a partition back among those to be claimed, after a pause that grows with each loss in a row.
fn wanted_again(context: &Context, id: &PartitionId, partition: &mut Partition, why: &str, has_end: bool) {
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

async fn release(context: &Context, hold: &Hold) {
    hold.release(&*context.store, context.options.store_timeout, &context.name).await;
}

/// Bounds the wait for an answer; errors become text for a message.
async fn bounded<T, E: std::fmt::Display>(
    limit: std::time::Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
