//! Writes checkpoints behind the progress that emit has accepted: by time and count, one write at a time, never
//! backwards.
//!
//! Every write names the ETag of this tenancy (rule R2). A conflict, or an error that leaves the outcome open, is never
//! answered by a fresh ETag: the record is read, and only what it says decides (rule R8, [`reconcile`]). A write of this tenancy is known
//! by its mark, which no other has. A write that
//! certainly did not happen is tried again, loudly and a bounded number of times; it delays nothing but the checkpoint.
//!
//! With state, what is written is the newest version of it that the accepted progress covers, at exactly its event, which may lie behind
//! that progress (`state.rs`).
//!
//! What the cadence asks for takes its turn within the host's budget (`governor.rs`); what ends or begins a tenancy doesn't wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::emit::Accepted;
use crate::error::Cause;
use crate::governor::Governor;
use crate::history;
use crate::model::{Checkpoint, ETag, Generation, Mark, Position};
use crate::pump::{Halt, Seat};
use crate::retry::{Next, RetryPolicy, chance};
use crate::seams::{CheckpointStore, StoreError, Written};
use crate::state::{PartitionState, Pending, StateImage};

/// When a checkpoint is written: whichever comes first. A partition without progress is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Longest time that progress stays unwritten. Shorter costs writes, longer means more repeats after a crash.
    pub interval: Duration,
    /// Most events that stay unwritten.
    pub events: u64,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), events: 10_000 }
    }
}

impl Cadence {
    /// When progress over `events` events that began at `since` is to be written: at once (`None`), or at this time.
    fn due(&self, events: u64, since: Instant, now: Instant) -> Option<Instant> {
        let at = since + self.interval;
        (events < self.events.max(1) && at > now).then_some(at)
    }
}

/// The longest time that a write is tried beyond its attempts: what the guest does meanwhile is done again if it fails for good.
const INSIST: Duration = Duration::from_secs(60);

/// What the record says about a write with an open outcome.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is mine: the write took place.
    Committed(ETag),
    /// Nothing was written: the same write again.
    Again,
    /// Somebody else wrote: this tenancy is over.
    Over(String),
}

/// Decides a write of `mine` over `expected` by what is now stored. Pure. One tenancy may write twice at one position: with another state.
fn reconcile(found: Option<&(Checkpoint, ETag)>, mine: &Checkpoint, expected: Option<&ETag>) -> Verdict {
    match found {
        found if found.map(|(_, etag)| etag) == expected => Verdict::Again,
        Some((c, etag))
            if c.mark == mine.mark
                && c.position.sequence_number == mine.position.sequence_number
                && c.state == mine.state =>
        {
            Verdict::Committed(etag.clone())
        }
        Some((c, _)) => Verdict::Over(format!(
            "ownership generation {} wrote a checkpoint at {} while generation {} was here",
            c.generation, c.position.sequence_number, mine.generation
        )),
        None => Verdict::Over("the checkpoint was deleted".into()),
    }
}

/// The stage, and the right to write of one tenancy.
pub(crate) struct Committer {
    seat: Arc<Seat>,
    store: Arc<dyn CheckpointStore>,
    governor: Arc<Governor>,
    tenancy: (Generation, Mark),
    cadence: Cadence,
    retry: RetryPolicy,
    timeout: Duration,
    /// A failing write is tried for so long at least.
    insist: Duration,
    committed: Option<Position>,
    etag: Option<ETag>,
    state: PartitionState,
}

impl Committer {
    pub(crate) fn new(
        seat: Arc<Seat>,
        (store, governor): (Arc<dyn CheckpointStore>, Arc<Governor>),
        tenancy: (Generation, Mark),
        (cadence, retry, timeout): (Cadence, RetryPolicy, Duration),
        loaded: Option<(Position, ETag)>,
        state: PartitionState,
    ) -> Self {
        let (committed, etag) = loaded.unzip();
        Self { seat, store, governor, tenancy, cadence, retry, timeout, insist: Duration::ZERO, committed, etag, state }
    }

    /// Tries a write for so long at least, however few its attempts are. In a fleet that is the expiry, or [`INSIST`]: where the whole
    /// store is away, the tenancy ends before, and the partition is claimed again when the store is back. Who still holds it then is
    /// refused commits alone, which a person must look at.
    pub(crate) fn insisting(self, insist: Duration) -> Self {
        Self { insist: insist.min(INSIST), ..self }
    }

    /// Runs until emit has ended and all it accepted is written.
    pub(crate) async fn run(&mut self, mut accepted: watch::Receiver<Option<Accepted>>) -> Result<(), Halt> {
        let mut written = 0;
        let mut since = None;
        let mut more = true;
        while more {
            let pending = accepted.borrow_and_update().clone();
            let pending = pending.filter(|a| self.is_more(a));
            let Some(pending) = pending else {
                since = None;
                more = accepted.changed().await.is_ok();
                continue;
            };
            let now = Instant::now();
            match self.cadence.due(pending.covered() - written, *since.get_or_insert(now), now) {
                Some(at) => tokio::select! {
                    changed = accepted.changed() => more = changed.is_ok(),
                    () = sleep_until(at) => {}
                },
                None => {
                    let turn = tokio::select! {
                        biased;
                        () = self.governor.turn(self.cadence.interval) => true,
                        () = closed(&mut accepted) => false,
                    };
                    more = turn;
                    // What was accepted while it waited is covered by the same write.
                    let newest = accepted.borrow_and_update().clone().filter(|_| turn);
                    if let Some(newest) = newest.filter(|a| self.is_more(a)) {
                        self.commit(newest.position()).await?;
                        written = newest.covered();
                        since = None;
                    }
                }
            }
        }
        let last = accepted.borrow().clone();
        match last.filter(|a| self.is_more(a)) {
            Some(last) => self.commit(last.position()).await,
            None => Ok(()),
        }
    }

    /// Whether this gives something to write.
    fn is_more(&self, accepted: &Accepted) -> bool {
        let position = accepted.position();
        match self.state.is_kept() {
            true => self.state.accept(accepted.version(), position.sequence_number),
            false => self.is_ahead(position),
        }
    }

    fn is_ahead(&self, position: &Position) -> bool {
        self.committed.as_ref().is_none_or(|c| c.sequence_number < position.sequence_number)
    }

    /// Writes this position, or with state the newest one up to it whose state is known, and finds out what became of it.
    pub(crate) async fn commit(&mut self, position: &Position) -> Result<(), Halt> {
        let (generation, mark) = self.tenancy;
        let pending = self.state.pending().map_err(Cause::Defect).map_err(Halt::Failed)?;
        let Pending { position, image: state, version } =
            pending.unwrap_or_else(|| Pending { position: position.clone(), image: StateImage::default(), version: 0 });
        let mine = Checkpoint { position, generation, mark: Some(mark), state };
        let position = &mine.position;
        let began = Instant::now();
        let mut failures = 0;
        let mut open = false;
        let etag = loop {
            let tried = if open { self.look(&mine).await } else { self.write(&mine).await };
            let detail = match tried {
                Ok(Verdict::Committed(etag)) => break etag,
                Ok(Verdict::Over(why)) => return Err(Halt::Lost(why)),
                Ok(Verdict::Again) => {
                    open = false;
                    "nothing was written".to_owned()
                }
                Err(StoreError::Determinate(detail)) => detail,
                Err(StoreError::Indeterminate(detail)) => {
                    open = true;
                    detail
                }
                Err(StoreError::Corrupt(detail)) => return Err(Halt::Failed(Cause::Checkpoint(detail))),
            };
            failures += 1;
            let sequence_number = position.sequence_number;
            let attempts = if began.elapsed() < self.insist { u32::MAX } else { self.retry.attempts };
            match (RetryPolicy { attempts, ..self.retry }).after(failures, None, chance()) {
                Next::Again(pause) => {
                    self.seat
                        .trouble(format!("checkpoint {sequence_number} not written (attempt {failures}): {detail}"));
                    sleep(pause).await;
                }
                Next::GiveUp => {
                    return Err(Halt::Failed(Cause::Commit { sequence_number, attempts: failures, detail }));
                }
            }
        };
        if failures > 0 {
            self.seat.status.recovered();
        }
        self.etag = Some(etag);
        self.state.stored(version);
        // What a takeover writes again is no progress.
        self.seat.status.commits.add(u64::from(self.is_ahead(position)));
        self.committed = Some(position.clone());
        self.seat.status.set_checkpoint(position);
        history::committed(position.sequence_number);
        Ok(())
    }

    /// Writes. A conflict leaves everything open, like an error that may hide a success: the record decides.
    async fn write(&self, mine: &Checkpoint) -> Result<Verdict, StoreError> {
        let write = self.store.commit(&self.seat.partition, mine, self.etag.as_ref());
        let limit = patience(self.timeout, mine.state.unwritten());
        match timeout(limit, write).await {
            Ok(Ok(Written::Done(etag))) => Ok(Verdict::Committed(etag)),
            Ok(Ok(Written::Conflict)) => Err(StoreError::Indeterminate("the checkpoint's ETag has changed".into())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Indeterminate(format!("no answer within {limit:?}"))),
        }
    }

    /// Reads the record and lets it decide.
    async fn look(&self, mine: &Checkpoint) -> Result<Verdict, StoreError> {
        let limit = patience(self.timeout, mine.state.len());
        match timeout(limit, self.store.load(&self.seat.partition)).await {
            Ok(found) => Ok(reconcile(found?.as_ref(), mine, self.etag.as_ref())),
            Err(_) => Err(StoreError::Determinate(format!("no answer within {limit:?}"))),
        }
    }
}

/// How long a call to the store may take that moves so many bytes of state: a slow line is no failure.
pub(crate) fn patience(timeout: Duration, bytes: usize) -> Duration {
    /// Bytes a second: what a busy account or a poor line still does.
    const SLOW: usize = 256 << 10;
    timeout.saturating_add(Duration::from_millis((bytes / (SLOW / 1000)) as u64))
}

/// Waits until nothing more will be accepted.
async fn closed(accepted: &mut watch::Receiver<Option<Accepted>>) {
    while accepted.changed().await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::model::Incarnation;
    use crate::testing::image;

    /// A tenancy for each generation.
    fn stored(generation: u64, sequence_number: i64) -> Checkpoint {
        let mark = Some(Mark::new(Incarnation::new(1), generation));
        let position = Position { sequence_number, offset: ByteString::from("1") };
        Checkpoint { position, generation, mark, state: StateImage::default() }
    }

    #[test]
    fn the_record_decides_an_open_write() {
        let etag = |e: &str| ETag(e.into());
        let mine = stored(2, 50);
        let old = etag("old");
        let decide = |found: Option<(Checkpoint, ETag)>| reconcile(found.as_ref(), &mine, Some(&old));
        assert_eq!(decide(Some((stored(2, 50), etag("new")))), Verdict::Committed(etag("new")));
        assert_eq!(decide(Some((stored(1, 40), etag("old")))), Verdict::Again);
        assert!(matches!(decide(Some((stored(3, 40), etag("new")))), Verdict::Over(_)));
        assert!(matches!(decide(Some((stored(2, 60), etag("new")))), Verdict::Over(_)));
        assert!(matches!(decide(Some((stored(3, 50), etag("new")))), Verdict::Over(_)), "same place, other lineage");
        let namesake = Checkpoint { mark: Some(Mark::new(Incarnation::new(2), 2)), ..stored(2, 50) };
        assert!(matches!(decide(Some((namesake, etag("new")))), Verdict::Over(_)), "generations began anew");
        let unmarked = Checkpoint { mark: None, ..stored(2, 50) };
        assert!(matches!(decide(Some((unmarked, etag("new")))), Verdict::Over(_)), "nobody's");
        let ticked = Checkpoint { state: image("ticked"), ..stored(2, 50) };
        assert_eq!(decide(Some((ticked.clone(), etag("old")))), Verdict::Again, "the write before, at the same place");
        assert!(matches!(decide(Some((ticked, etag("new")))), Verdict::Over(_)), "not what was written");
        assert!(matches!(decide(None), Verdict::Over(_)));
        assert_eq!(reconcile(None, &mine, None), Verdict::Again, "there never was one");
        assert!(matches!(reconcile(Some(&(stored(1, 1), etag("x"))), &mine, None), Verdict::Over(_)));
    }

    #[test]
    fn progress_is_due_by_count_or_by_age() {
        let cadence = Cadence { interval: Duration::from_secs(10), events: 100 };
        let now = Instant::now();
        assert_eq!(cadence.due(99, now, now), Some(now + cadence.interval));
        assert_eq!(cadence.due(100, now, now), None);
        assert_eq!(cadence.due(1, now, now + cadence.interval), None);
        assert!(Cadence { events: 0, ..cadence }.due(1, now, now).is_none());
    }
}
