//! A host's sign of life in a fleet, and the name that it is given under.
//!
//! The announcement in the store tells the other hosts that this one is there, and other processes that its name is taken. Each sign is a
//! conditional write that replaces the last one, so the name belongs to exactly one process: the one whose sign is there. The rule:
//!
//! - **Who starts** and finds no sign has the name. Who finds one of another process looks at it until it has not changed for five
//!   twelfths of the expiry ([`silence`]); a living process gives one every sixth or so. *It changes*: the other one lives, and this one
//!   stops with an error, having claimed nothing. *It doesn't*: the other one is gone, the name is free, and whatever it owned is claimed
//!   again at once. So a restart waits five twelfths of the expiry after its predecessor's last sign at most; after an orderly stop, which
//!   takes the sign back, and after a longer outage it waits for nothing.
//! - **A predecessor that is leaving** says so, and is waited for for as long as it gives signs.
//! - **Who finds another's sign in place of its own** was silent itself (suspended, or cut off from the store) and has lost the name: it
//!   claims nothing any more, drains what still stands, and stops with an error. The other one goes on.
//! - **Of two that start at once** one write wins; the other finds it there.
//! - **Who has given its first sign** looks once more at who is there, before it claims anything. Of two hosts whose configurations don't
//!   go together, the one that comes second at least sees the other, however close they start; who sees a misfit takes its sign back.
//!
//! In exclusive mode the sign stands for all ownerships of the host as well, and nothing else is renewed: see [`Beat`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::lease::Terms;
use crate::model::{ETag, Incarnation, OwnerId};
use crate::pump::Context;
use crate::retry::chance;
use crate::seams::{HostRecord, Listing, Part, Presence, StoreError, Written};
use crate::sharing::cycle;

/// After how long without a sign a process is gone: 25 s of 60. The longest gap with one failed sign is 23 s: a cycle of 13, 5 until it
/// counts as failed, and 5 until the next try. What is more is for the way of a request. Shorter: one failed sign costs a healthy host its
/// name (and no event), if a namesake starts just then. Longer: a restart after a crash waits.
fn silence(terms: Terms) -> Duration {
    terms.expiry * 5 / 12
}

/// A store counts a record's age in whole seconds.
const COARSE: Duration = Duration::from_secs(1);

/// How long the host's ownerships may be relied on, as far as they hang on its signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Counts the times that the signs have begun anew after a silence: whatever began under another number is over.
    pub(crate) epoch: u64,
    /// When dispatch and commits stop, unless another sign is written before. Counted from when the last one was sent.
    pub(crate) fence: Instant,
}

/// A host that gives signs of life.
pub(crate) struct Heart {
    shared: Arc<Shared>,
    beat: watch::Receiver<Beat>,
    task: AbortOnDropHandle<()>,
}

struct Shared {
    wanted: AtomicU32,
    leaving: CancellationToken,
    stop: CancellationToken,
    lost: CancellationToken,
    why: OnceLock<String>,
}

impl Shared {
    fn lose(&self, why: String) {
        // The first reason is the one.
        let _ = self.why.set(why);
        self.lost.cancel();
    }
}

impl Heart {
    /// Says how many partitions this host should have, for the next sign.
    pub(crate) fn set_wanted(&self, wanted: u32) {
        self.shared.wanted.store(wanted, Ordering::Relaxed);
    }

    /// What the signs are good for.
    pub(crate) fn beat(&self) -> watch::Receiver<Beat> {
        self.beat.clone()
    }

    /// Whether the last sign is young enough to own anything by.
    pub(crate) fn stands(&self) -> bool {
        Instant::now() < self.beat.borrow().fence
    }

    /// Waits until the name is lost; says how.
    pub(crate) async fn lost(&self) -> String {
        self.shared.lost.cancelled().await;
        self.shared.why.get().cloned().unwrap_or_default()
    }

    /// Whether a listing shows another process under this host's name. If so, the name is lost.
    pub(crate) fn is_lost(&self, listing: &Listing, owner: &OwnerId, mine: Incarnation) -> bool {
        if let Some(other) = namesake(listing, owner).filter(|host| host.presence.incarnation != Some(mine)) {
            self.shared.lose(taken_away(owner, other));
        }
        self.shared.lost.is_cancelled()
    }

    /// Tells the others to reckon without this host.
    pub(crate) fn leave(&self) {
        self.shared.leaving.cancel();
    }

    /// Takes the sign back, and ends. A sign under way is given up; taking it back may last as long as one try.
    pub(crate) async fn stop(self) {
        self.shared.stop.cancel();
        // It bounds its own wait.
        let _ = self.task.await;
    }
}

/// Begins under a host's name.
pub(crate) struct Entry {
    pub(crate) context: Arc<Context>,
    pub(crate) terms: Terms,
    /// What the signs say.
    pub(crate) presence: Presence,
    pub(crate) incarnation: Incarnation,
    pub(crate) drain: CancellationToken,
}

/// What came of it.
pub(crate) enum Entered {
    /// The name is this host's.
    Yes(Heart),
    /// It was told to stop meanwhile.
    Drained,
    /// It can't take part: why.
    Refused(String),
}

impl Entry {
    /// Takes the name, and gives the first sign: when this returns, the other hosts can see this one.
    pub(crate) async fn enter(self) -> Entered {
        let mut failures = 0;
        let mut waited = Waited::default();
        loop {
            let listing = tokio::select! {
                biased;
                () = self.drain.cancelled() => return Entered::Drained,
                listing = self.list() => listing,
            };
            let problem = match listing.map(|listing| self.judge(&listing, &mut waited)) {
                Ok(Turn::Refuse(why)) => return Entered::Refused(why),
                Ok(Turn::Wait(pause)) => {
                    tokio::select! {
                        () = self.drain.cancelled() => return Entered::Drained,
                        () = sleep(pause) => continue,
                    }
                }
                Ok(Turn::Take(expected)) => {
                    let sent = Instant::now();
                    let written = timeout(self.limit(), self.context.store.announce(&self.presence, expected.as_ref()));
                    match written.await {
                        Ok(Ok(Written::Done(etag))) => {
                            let heart = self.begin(etag, sent);
                            return self.confirm(heart).await;
                        }
                        Ok(Ok(Written::Conflict)) => continue,
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => self.no_answer(),
                    }
                }
                Err(problem) => problem,
            };
            failures += 1;
            let pause = self.failed(failures, &problem);
            tokio::select! {
                () = self.drain.cancelled() => return Entered::Drained,
                () = sleep(pause) => {}
            }
        }
    }

    /// Looks at who is there now that they can see this host too: others may have come since the last look.
    async fn confirm(self, heart: Heart) -> Entered {
        let mut failures = 0;
        let mut pause = Duration::ZERO;
        loop {
            let listing = async {
                sleep(pause).await;
                self.list().await
            };
            let listing = tokio::select! {
                biased;
                () = self.drain.cancelled() => {
                    heart.stop().await;
                    return Entered::Drained;
                }
                why = heart.lost() => return Entered::Refused(why),
                listing = listing => listing,
            };
            match listing.map(|listing| self.misfit(&listing)) {
                Ok(None) => {
                    self.context.status.set_problem(None);
                    return Entered::Yes(heart);
                }
                Ok(Some(why)) => {
                    heart.stop().await;
                    return Entered::Refused(why);
                }
                Err(problem) => {
                    failures += 1;
                    pause = self.failed(failures, &problem);
                }
            }
        }
    }

    async fn list(&self) -> Result<Listing, String> {
        let listing = timeout(self.limit(), self.context.store.list()).await;
        listing.map_err(|_| self.no_answer())?.map_err(|error| error.to_string())
    }

    /// Says what went wrong; returns how long to wait until the next try.
    fn failed(&self, failures: u32, problem: &str) -> Duration {
        let problem = format!("can't take part in the fleet of {}: {problem}", self.context.scope);
        tracing::warn!(processor = self.context.name, failures, "{problem}");
        self.context.status.set_problem(Some(problem));
        self.context.options.reconnect.pause(failures, chance())
    }

    fn limit(&self) -> Duration {
        self.context.options.store_timeout
    }

    fn no_answer(&self) -> String {
        format!("no answer within {:?}", self.limit())
    }

    fn misfit(&self, listing: &Listing) -> Option<String> {
        let why = misfit(listing, &self.presence, self.terms.expiry)?;
        Some(format!("this host can't take part in the fleet of {}: {why}", self.context.scope))
    }

    /// What a listing says of the name.
    fn judge(&self, listing: &Listing, waited: &mut Waited) -> Turn {
        let owner = &self.context.owner;
        if let Some(why) = self.misfit(listing) {
            return Turn::Refuse(why);
        }
        let Some(found) = namesake(listing, owner) else { return Turn::Take(None) };
        if found.presence.incarnation == Some(self.incarnation) {
            // It was written although nobody said so.
            return Turn::Take(Some(found.etag.clone()));
        }
        let now = Instant::now();
        let since = match &waited.seen {
            Some((etag, since)) if *etag == found.etag => *since,
            Some(_) if found.presence.part != Part::Leaving => return Turn::Refuse(occupied(owner, found, self)),
            _ => {
                waited.seen = Some((found.etag.clone(), now));
                now
            }
        };
        let by_the_store = found.age.map_or(Duration::ZERO, |age| age.saturating_sub(COARSE));
        let left = silence(self.terms).saturating_sub(by_the_store.max(now - since));
        if left.is_zero() {
            return Turn::Take(Some(found.etag.clone()));
        }
        if !std::mem::replace(&mut waited.said, true) {
            tracing::info!(
                processor = self.context.name,
                "another process was here under the name {owner} a moment ago; in {left:.1?} it is clear whether it is gone"
            );
        }
        Turn::Wait(left)
    }

    fn begin(&self, etag: ETag, sent: Instant) -> Heart {
        let shared = Arc::new(Shared {
            wanted: AtomicU32::new(self.presence.wanted),
            leaving: CancellationToken::new(),
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            why: OnceLock::new(),
        });
        let (beats, beat) = watch::channel(Beat { epoch: 0, fence: sent + self.terms.fence });
        let beating = Beating {
            context: Arc::clone(&self.context),
            terms: self.terms,
            presence: self.presence.clone(),
            incarnation: self.incarnation,
            etag: Some(etag),
            shared: Arc::clone(&shared),
            beats,
        };
        Heart { shared, beat, task: AbortOnDropHandle::new(tokio::spawn(beating.run())) }
    }
}

/// What to do about the name.
enum Turn {
    /// Write the sign over this one.
    Take(Option<ETag>),
    Wait(Duration),
    Refuse(String),
}

/// What was seen of whoever has the name.
#[derive(Default)]
struct Waited {
    /// Its sign, and since when it has been the same.
    seen: Option<(ETag, Instant)>,
    said: bool,
}

/// The task that gives the signs.
struct Beating {
    context: Arc<Context>,
    terms: Terms,
    presence: Presence,
    incarnation: Incarnation,
    /// Of the last sign.
    etag: Option<ETag>,
    shared: Arc<Shared>,
    beats: watch::Sender<Beat>,
}

/// Sees to it that the signs don't end in silence, whatever ends them.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.0.stop.is_cancelled() {
            self.0.lose("the task that gives signs of life ended; this is a defect of the host".into());
        }
    }
}

impl Beating {
    async fn run(mut self) {
        let _watch = Watch(Arc::clone(&self.shared));
        let mut pause = cycle(self.terms, chance());
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = shared.stop.cancelled() => return self.withdraw().await,
                () = shared.lost.cancelled() => return,
                () = shared.leaving.cancelled(), if self.presence.part != Part::Leaving => self.presence.part = Part::Leaving,
                () = sleep(pause) => {}
            }
            self.presence.wanted = self.shared.wanted.load(Ordering::Relaxed);
            let signed = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return self.withdraw().await,
                signed = self.sign() => signed,
            };
            pause = match signed {
                Ok(()) => cycle(self.terms, chance()),
                Err(problem) => {
                    let name = &self.context.name;
                    tracing::warn!(
                        processor = name,
                        "can't say in {} that this host is there: {problem}",
                        self.context.scope
                    );
                    self.terms.retry
                }
            };
        }
    }

    /// One sign. A refusal is looked into: an earlier sign may have been written although nobody said so.
    async fn sign(&mut self) -> Result<(), String> {
        let (context, limit) = (Arc::clone(&self.context), self.terms.retry);
        let late = || format!("no answer within {limit:?}");
        for _ in 0..2 {
            let sent = Instant::now();
            let written = timeout(limit, context.store.announce(&self.presence, self.etag.as_ref())).await;
            match written.map_err(|_| late())?.map_err(|error| error.to_string())? {
                Written::Done(etag) => {
                    self.etag = Some(etag);
                    self.beats.send_modify(|beat| {
                        // A fence that fell stays down.
                        beat.epoch += u64::from(Instant::now() >= beat.fence);
                        beat.fence = sent + self.terms.fence;
                    });
                    return Ok(());
                }
                Written::Conflict => {}
            }
            let listing = timeout(limit, context.store.list()).await.map_err(|_| late())?;
            let listing = listing.map_err(|error| error.to_string())?;
            self.etag = match namesake(&listing, &context.owner) {
                Some(other) if other.presence.incarnation != Some(self.incarnation) => {
                    self.shared.lose(taken_away(&context.owner, other));
                    return Ok(());
                }
                Some(mine) => Some(mine.etag.clone()),
                None => {
                    let (name, owner) = (&context.name, &context.owner);
                    tracing::error!(
                        processor = name,
                        "the sign of life of the host `{owner}` in {} is gone: its record was deleted; it is written again",
                        context.scope
                    );
                    None
                }
            };
        }
        Err("its record keeps changing".into())
    }

    async fn withdraw(&mut self) {
        let limit = self.terms.retry;
        let problem = match timeout(limit, self.take_back()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        tracing::warn!(processor = self.context.name, "can't take back that this host is there: {problem}");
    }

    async fn take_back(&mut self) -> Result<(), StoreError> {
        let context = Arc::clone(&self.context);
        loop {
            if let Some(etag) = self.etag.take()
                && let Written::Done(()) = context.store.withdraw(&context.owner, &etag).await?
            {
                return Ok(());
            }
            // A sign that was given up may have been written.
            let listing = context.store.list().await?;
            let found = namesake(&listing, &context.owner);
            let Some(mine) = found.filter(|host| host.presence.incarnation == Some(self.incarnation)) else {
                return Ok(());
            };
            self.etag = Some(mine.etag.clone());
        }
    }
}

/// The sign under this name.
fn namesake<'a>(listing: &'a Listing, owner: &OwnerId) -> Option<&'a HostRecord> {
    listing.hosts.iter().find(|host| host.presence.owner == *owner)
}

/// Why a host can't share a group with who is there: one half would believe records that the other doesn't renew.
pub(crate) fn misfit(listing: &Listing, me: &Presence, expiry: Duration) -> Option<String> {
    let lives = |age: Option<Duration>| age.is_none_or(|age| age < expiry);
    let other = |host: &&HostRecord| host.presence.owner != me.owner && host.presence.exclusive != me.exclusive;
    if let Some(host) = listing.hosts.iter().filter(other).find(|host| lives(host.age)) {
        let (name, theirs) = (&host.presence.owner, host.presence.exclusive);
        return Some(format!(
            "its configuration says checkpoints.exclusive = {}, and that of the host `{name}` says {theirs}; all hosts of a group must agree. \
             Stop all of them, give all the same value, and start them again (a host that was killed counts for {expiry:.0?})",
            me.exclusive
        ));
    }
    let foreign = listing.partitions.iter().filter_map(|record| {
        let ownership = record.ownership.as_ref().filter(|o| me.exclusive && o.generation == 0 && lives(o.age))?;
        ownership.owner.as_ref().map(|owner| (owner, &record.partition))
    });
    foreign.into_iter().next().map(|(owner, partition)| {
        format!(
            "its configuration says checkpoints.exclusive = true, but partition {partition} belongs to `{owner}`, which is no Weir host and would \
             take partitions whose ownership is not renewed; remove the key on all hosts, or give Weir a consumer group of its own"
        )
    })
}

fn occupied(owner: &OwnerId, other: &HostRecord, entry: &Entry) -> String {
    format!(
        "another process is at work under the name `{owner}` in {} (it runs Weir {} and gives signs of life): two hosts of one name would take \
         each other's partitions, so this one stops. Give each host a name of its own (`host.owner`, for example owner = \"${{HOSTNAME}}\"), \
         or stop the other one",
        entry.context.scope, other.presence.version
    )
}

fn taken_away(owner: &OwnerId, other: &HostRecord) -> String {
    format!(
        "another process (it runs Weir {}) has taken the name `{owner}` while this one gave no sign of life: it was suspended, or cut off from the \
         checkpoint store. The other one goes on, and this one stops. If both are meant to run, give each a name of its own (`host.owner`, \
         for example owner = \"${{HOSTNAME}}\")",
        other.presence.version
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_sign_makes_no_silence() {
        let terms = Terms::default();
        assert_eq!(silence(terms), Duration::from_secs(25));
        assert!(silence(terms) > cycle(terms, 1.0) + 2 * terms.retry);
        assert!(silence(terms) < terms.fence);
    }
}
