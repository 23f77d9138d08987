//! The right to a partition, while it lasts.
//!
//! A [`Hold`] is shared by whoever works under a tenancy and whoever keeps it alive. In a fleet the keeper renews the ownership
//! record, or in exclusive mode looks at the host's signs of life; what the times mean is decided in `lease.rs`. When the hold is over, everything that works under it stops where it is,
//! without another dispatch or commit: the record was taken, could not be renewed in time, or the pump was not well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::heart::Beat;
use crate::lease::{Ailment, Lease, Moment, Terms, Verdict};
use crate::model::{ETag, Generation, Mark, PartitionId, Tenancy};
use crate::pump::Seat;
use crate::seams::{CheckpointStore, StoreError, Written};

/// How often a pump that isn't well is looked at again.
const LOOK_AGAIN: u32 = 60;
/// How often a release is tried that meets writes of its own tenancy: a renewal, and once more for luck.
const RELEASES: u32 = 3;

/// A tenancy, and whether it still stands.
pub(crate) struct Hold {
    /// Locked for as long as a write to the record is under way: a release waits for a renewal, and knows its ETag.
    tenancy: Mutex<Tenancy>,
    partition: PartitionId,
    generation: Generation,
    mark: Mark,
    /// Whether others may take the partition when it isn't renewed.
    leased: bool,
    over: CancellationToken,
    why: OnceLock<String>,
    given_up: AtomicBool,
}

impl Hold {
    /// Begins with a claim.
    pub(crate) fn new(tenancy: Tenancy, leased: bool) -> Arc<Self> {
        let (partition, generation, mark) = (tenancy.partition.clone(), tenancy.generation, tenancy.mark);
        let (over, why) = (CancellationToken::new(), OnceLock::new());
        Arc::new(Self {
            tenancy: Mutex::new(tenancy),
            partition,
            generation,
            mark,
            leased,
            over,
            why,
            given_up: AtomicBool::new(false),
        })
    }

    pub(crate) fn partition(&self) -> &PartitionId {
        &self.partition
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether it has to be renewed.
    pub(crate) fn is_leased(&self) -> bool {
        self.leased
    }

    /// Ends it: nothing may be done under it any more.
    pub(crate) fn end(&self, why: impl Into<String>) {
        // The first reason is the one.
        let _ = self.why.set(why.into());
        self.over.cancel();
    }

    /// Ends it so that another host may try.
    fn give_up(&self, why: String) {
        self.given_up.store(true, Ordering::Relaxed);
        self.end(why);
    }

    /// Whether it ended because nothing came of it here, with the record still in this host's name.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Waits until it is over; says why.
    pub(crate) async fn ended(&self) -> String {
        self.over.cancelled().await;
        self.why.get().cloned().unwrap_or_default()
    }

    /// Gives the partition back, if it is still ours. What fails here only costs the next owner some time.
    pub(crate) async fn release(&self, store: &dyn CheckpointStore, limit: Duration, processor: &str) {
        let mut tenancy = self.tenancy.lock().await;
        self.end("it was released");
        let detail = match timeout(limit, give_back(store, &mut tenancy)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        tracing::warn!(processor, partition = %self.partition, "could not release the partition: {detail}");
    }
}

/// Releases a record. A renewal, or the release itself, may have been written although nobody said so: after whatever leaves that open
/// the record decides, and a release that met a renewal of this very tenancy is made again.
async fn give_back(store: &dyn CheckpointStore, tenancy: &mut Tenancy) -> Result<(), StoreError> {
    for _ in 0..RELEASES {
        match store.release(tenancy).await {
            Ok(Written::Done(())) => return Ok(()),
            Ok(Written::Conflict) | Err(StoreError::Indeterminate(_)) => {}
            Err(error) => return Err(error),
        }
        match look(store, tenancy).await? {
            Record::Ours(etag) => tenancy.ownership = etag,
            Record::Theirs | Record::Gone => return Ok(()),
        }
    }
    Err(StoreError::Determinate("its record keeps changing".into()))
}

/// What became of a tenancy's record.
enum Record {
    /// It still is that tenancy's.
    Ours(ETag),
    /// Somebody else has it, or nobody.
    Theirs,
    /// It was deleted.
    Gone,
}

async fn look(store: &dyn CheckpointStore, tenancy: &Tenancy) -> Result<Record, StoreError> {
    let listing = store.list().await?;
    let record = listing.partitions.into_iter().find(|record| record.partition == tenancy.partition);
    Ok(match record.and_then(|record| record.ownership) {
        None => Record::Gone,
        Some(found) if found.owner.as_ref() == Some(&tenancy.owner) && found.mark == Some(tenancy.mark) => {
            Record::Ours(found.etag)
        }
        Some(_) => Record::Theirs,
    })
}

/// Renews a hold until it is over.
pub(crate) struct Keeper {
    pub(crate) hold: Arc<Hold>,
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) seat: Seat,
    pub(crate) terms: Terms,
    /// When the claim was sent.
    pub(crate) claimed: Instant,
    /// Cancelled when nothing more is to be read.
    pub(crate) drain: CancellationToken,
    /// In exclusive mode: the signs that stand for every ownership of this host, and their epoch when the claim was sent.
    pub(crate) beat: Option<(watch::Receiver<Beat>, u64)>,
}

/// Ends a hold that nobody keeps: the keeper ends before the hold only by a defect.
struct Kept<'a>(&'a Hold);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.end("nobody renews it any more");
    }
}

impl Keeper {
    /// Runs until the hold is over. To be dropped with the pump.
    pub(crate) async fn run(self) {
        let _kept = Kept(&self.hold);
        match &self.beat {
            Some((beat, began)) => self.watch(beat, *began).await,
            None => self.keep().await,
        }
    }

    /// In exclusive mode: nothing is renewed. It ends with the host's signs of life, and is given up by itself when it isn't read.
    async fn watch(&self, beat: &watch::Receiver<Beat>, began: u64) {
        let mut read = self.claimed;
        while !self.hold.over.is_cancelled() {
            let (now, Beat { epoch, fence }) = (Instant::now(), *beat.borrow());
            if epoch != began || now >= fence {
                return self.hold.end("the store did not confirm this host's sign of life in time");
            }
            if self.ailments().is_empty() {
                read = now;
            } else if now >= read + self.terms.fence {
                let (since, ailments) = (now - read, self.ailments());
                let ailments: Vec<_> = ailments.iter().map(ToString::to_string).collect();
                return self
                    .hold
                    .give_up(format!("the partition isn't read since {since:.1?}: {}", ailments.join(", ")));
            }
            sleep_until(fence.min(now + self.terms.expiry / LOOK_AGAIN)).await;
        }
    }

    async fn keep(&self) {
        let zero = self.claimed;
        let at = |moment: Moment| zero + moment;
        let mut lease = Lease::new(self.terms, Moment::ZERO);
        // How much later than asked for the last wait ended.
        let mut overslept = Duration::ZERO;
        loop {
            let now = zero.elapsed();
            match lease.judge(now, &self.ailments()) {
                Verdict::Wait(until) => {
                    sleep_until(at(until)).await;
                    overslept = zero.elapsed().saturating_sub(until);
                }
                Verdict::Withheld { until, .. } => {
                    // It may get well any time.
                    sleep_until(at(until).min(at(now + self.terms.expiry / LOOK_AGAIN))).await;
                }
                Verdict::Fenced => {
                    let ailments: Vec<_> = self.ailments().iter().map(ToString::to_string).collect();
                    let ill = !ailments.is_empty() && overslept <= self.terms.retry;
                    let why = match ailments.as_slice() {
                        _ if overslept > self.terms.retry => {
                            format!(
                                "this process stood still for {overslept:.1?} (was it suspended, or without a CPU?)"
                            )
                        }
                        [] => "the store did not confirm it in time".to_owned(),
                        _ => format!("it is not renewed while the partition isn't read: {}", ailments.join(", ")),
                    };
                    let since = (now + self.terms.fence).saturating_sub(lease.fence());
                    let why = format!("{why}; last renewed {since:.1?} ago");
                    return if ill { self.hold.give_up(why) } else { self.hold.end(why) };
                }
                Verdict::Renew { until } => {
                    lease.sent(now);
                    let renewed = self.renew(at(until), at(lease.fence())).await;
                    overslept = zero.elapsed().saturating_sub(until + self.terms.retry);
                    match renewed {
                        Ok(true) => lease.renewed(now, zero.elapsed()),
                        Ok(false) => return self.hold.end("another host has taken the partition"),
                        Err(detail) => {
                            tracing::warn!(seat = %self.seat, "the ownership could not be renewed: {detail}")
                        }
                    }
                }
            }
            if self.hold.over.is_cancelled() {
                return;
            }
        }
    }

    fn ailments(&self) -> Vec<Ailment> {
        let is_read = self.seat.status.is_attached() || self.drain.is_cancelled();
        if is_read { Vec::new() } else { vec![Ailment::Detached] }
    }

    /// One attempt. `false`: the record is somebody else's.
    async fn renew(&self, until: Instant, fence: Instant) -> Result<bool, String> {
        let mut tenancy = self.hold.tenancy.lock().await;
        if self.hold.over.is_cancelled() {
            return Ok(true);
        }
        let late = || "no answer in time".to_owned();
        let renewed = tokio::time::timeout_at(until, self.store.renew(&tenancy)).await;
        match renewed {
            Ok(Ok(Written::Done(renewed))) => {
                *tenancy = renewed;
                return Ok(true);
            }
            Ok(Err(StoreError::Determinate(detail))) => return Err(detail),
            // An earlier attempt may have been written although nobody said so: the record decides.
            Ok(Ok(Written::Conflict) | Err(_)) => {}
            Err(_) => return Err(late()),
        }
        let until = fence.min(Instant::now() + self.terms.retry);
        let found = tokio::time::timeout_at(until, look(&*self.store, &tenancy)).await.map_err(|_| late())?;
        match found.map_err(|error| error.to_string())? {
            Record::Ours(etag) => {
                tenancy.ownership = etag;
                Err("its outcome was unknown; the record is still ours".into())
            }
            Record::Theirs => Ok(false),
            Record::Gone => {
                self.hold.end("its ownership record was deleted");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::model::{Incarnation, OwnerId};
    use crate::testing::{Faults, FaultyStore, MemoryStore};

    #[tokio::test(start_paused = true)]
    async fn a_release_finds_its_record_behind_a_renewal_that_nobody_confirmed() {
        let memory = MemoryStore::new();
        let store = FaultyStore::new(memory.clone(), 1, Faults::NONE);
        let (partition, ann) = (PartitionId::from("0"), OwnerId::from("ann"));
        let mark = |claim| Mark::new(Incarnation::new(1), claim);
        let limit = Duration::from_secs(5);
        let claim = async |n, etag: Option<&ETag>| match store.claim(&partition, &ann, mark(n), etag).await.unwrap() {
            Written::Done(tenancy) => tenancy,
            Written::Conflict => panic!("nobody else is here"),
        };
        let tenancy = claim(1, None).await;
        store.set(Faults { unknown_done: 1.0, ..Faults::NONE });
        assert!(store.renew(&tenancy).await.is_err(), "written, but nobody says so");
        store.set(Faults::NONE);
        Hold::new(tenancy, true).release(&store, limit, "test").await;
        assert_eq!(memory.owner("0"), None);

        // A record of the same owner's next tenancy is left alone.
        let etag = store.list().await.unwrap().partitions[0].ownership.as_ref().map(|o| o.etag.clone());
        let old = claim(2, etag.as_ref()).await;
        claim(3, Some(&old.ownership)).await;
        Hold::new(old, true).release(&store, limit, "test").await;
        assert_eq!(memory.owner("0"), Some(ann.clone()));
    }
}
