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
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::balance::{Role, View};
use crate::claim::Claim;
use crate::error::Cause;
use crate::heart::{self, Beat, Entered, Entry, Heart};
use crate::hold::{Hold, Keeper};
use crate::host::{PartitionEnd, ProcessorOutcome};
use crate::model::{Incarnation, Mark, PartitionId, Tenancy};
use crate::poll::ATTEMPTS_OF_A_RUN;
use crate::pump::{self, Assignment, Context, End, Seat};
use crate::retry::chance;
use crate::roster::{Partition, Roster, Running, Stage, bounded, wanted_again};
use crate::seams::{Listing, Written};
use crate::sharing::{Leftover, Sharing};
use crate::shutdown::Shutdown;
use crate::status::{FleetSnapshot, State};

/// Claims made at once.
const CLAIMS_AT_ONCE: usize = 16;

/// The coordinator of one processor.
pub(crate) struct Coordinator {
    context: Arc<Context>,
    shutdown: Shutdown,
    roster: Roster,
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
    /// In a fleet: whether there are other hosts, as of the last cycle.
    others: bool,
    /// In a fleet: who is there that should not be.
    misfit: Option<String>,
    /// In a fleet: when the next cycle is due, whether there is anything to do or not.
    next_cycle: Instant,
}

/// A claim, and what came of it.
struct Attempt {
    claim: Claim,
    sent: Instant,
    /// In exclusive mode: the host's signs of life, and their epoch when it was sent.
    beat: Option<(watch::Receiver<Beat>, u64)>,
    result: Result<Written<Tenancy>, String>,
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
            roster: Roster::new(has_end),
            pumps: JoinSet::new(),
            by_task: BTreeMap::new(),
            failures: 0,
            retry_at: None,
            heart: None,
            refused: None,
            others: false,
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
        if drain.is_cancelled() {
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
        // The whole host, whose name it is: what supervises it sees that it ended, and may start it again.
        self.shutdown.begin();
    }

    /// Lets every pump finish, then stops those that have not.
    async fn drain(&mut self) {
        // The others are to reckon without this host when they see what it releases.
        if let Some(heart) = &self.heart {
            heart.leave();
        }
        for (id, partition) in &self.roster.partitions {
            if matches!(partition.stage, Stage::Running(_)) {
                self.context.status.partition(id).set_state(State::Draining);
            }
        }
        let shutdown = self.shutdown.clone();
        let deadline = shutdown.deadline();
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
        for (id, partition) in &mut self.roster.partitions {
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
        let gave_up = self.roster.has_end() && self.failures >= ATTEMPTS_OF_A_RUN && self.pumps.is_empty();
        gave_up || self.roster.is_done()
    }

    /// When the next round is due.
    fn next_round(&self) -> Instant {
        if let Some(at) = self.retry_at {
            return at;
        }
        if self.sharing.terms().is_some() {
            return self.next_cycle;
        }
        self.roster.next_change(self.context.options.partition_refresh)
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
        let done = claimed.iter().filter(|attempt: &&Attempt| matches!(attempt.result, Ok(Written::Done(_))));
        let (followed, free): (Vec<_>, Vec<_>) = done.map(|done| &done.claim).partition(|claim| claim.taken_over);
        let ids = |claims: Vec<&Claim>| claims.into_iter().map(|claim| claim.partition.clone()).collect::<Vec<_>>();
        self.say("takes", &ids(free));
        self.say("takes over from other hosts", &ids(followed));
        claimed.into_iter().for_each(|attempt| self.claimed(attempt));
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
        self.roster.refresh(&context).await?;
        let asked = Instant::now();
        let stand = self.roster.stand(asked);
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
            if let Some(Stage::Running(running)) = self.roster.partitions.get(&id).map(|p| &p.stage) {
                running.hold.end(why);
            }
        }
        self.say("gives up for a fair share, after draining", &plan.releases);
        for id in plan.releases {
            if let Some(Stage::Running(running)) = self.roster.partitions.get(&id).map(|p| &p.stage) {
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

    fn show(&mut self, view: Option<View>) {
        let Some(view) = view else { return };
        self.others = view.hosts > 1;
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

    /// The mark of another claim.
    fn mark(&mut self) -> Mark {
        self.claims += 1;
        Mark::new(self.incarnation, self.claims)
    }

    async fn attempt(&self, claim: Claim, mark: Mark) -> Attempt {
        let Context { store, owner, options, .. } = &*self.context;
        let beat = self.heart.as_ref().filter(|_| self.sharing.is_exclusive()).map(Heart::beat);
        let beat = beat.map(|beat| {
            let epoch = beat.borrow().epoch;
            (beat, epoch)
        });
        let sent = Instant::now();
        let result =
            bounded(options.store_timeout, store.claim(&claim.partition, owner, mark, claim.expected.as_ref())).await;
        Attempt { claim, sent, beat, result }
    }

    fn claimed(&mut self, attempt: Attempt) {
        let Attempt { claim, sent, beat, result } = attempt;
        let context = Arc::clone(&self.context);
        let has_end = self.roster.has_end();
        let Some(partition) = self.roster.partitions.get_mut(&claim.partition) else { return };
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
                return wanted_again(&context, &claim.partition, partition, &why, has_end);
            }
        };
        context.status.partition(&claim.partition).recovered();
        let taken_over = claim.taken_over || partition.was_ours;
        let terms = self.sharing.terms();
        let hold = Hold::new(tenancy, terms.is_some());
        let assignment = Assignment { hold: Arc::clone(&hold), taken_over, course: partition.course.clone() };
        let drain = self.shutdown.drain().child_token();
        let keeper = terms.map(|terms| Keeper {
            hold: Arc::clone(&hold),
            store: Arc::clone(&context.store),
            seat: Seat::new(&context, &claim.partition),
            terms,
            claimed: sent,
            drain: drain.clone(),
            beat,
        });
        partition.was_ours = true;
        partition.commits = context.status.partition(&claim.partition).commits.get();
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
                if let Some(Partition { stage: Stage::Running(running), .. }) = self.roster.partitions.get(&id) {
                    release(&context, &running.hold).await;
                }
                (id, End::Failed(Cause::Defect(error.to_string())))
            }
        };
        let has_end = self.roster.has_end();
        let Some(partition) = self.roster.partitions.get_mut(&id) else { return };
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
                wanted_again(&context, &id, partition, &format!("the ownership ended: {why}"), has_end);
                // Another host may reach it; where there is none, this one tries on.
                if let (true, true, Some(terms)) = (given_up, self.others, self.sharing.terms()) {
                    partition.stage = Stage::Wanted(Instant::now() + terms.expiry * 2 / 3);
                }
                return;
            }
        };
    }

    fn outcome(self) -> ProcessorOutcome {
        let status = &self.context.status;
        let stopped = self.shutdown.drain().is_cancelled();
        ProcessorOutcome {
            name: self.context.name.clone(),
            problem: self.refused.or_else(|| status.problem()),
            partitions: self.roster.outcomes(status, stopped),
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

async fn release(context: &Context, hold: &Hold) {
    hold.release(&*context.store, context.options.store_timeout, &context.name).await;
}
