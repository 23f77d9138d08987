//! How many checkpoints a host writes a minute, at most.
//!
//! Checkpoints dominate what a fleet asks of its storage account: one per busy partition and interval. The governor is a token bucket
//! that all partitions of a host share. It delays the writes that a cadence asks for, and nothing else: the writes that end a tenancy
//! or begin one (drain, release, shutdown, takeover, the first "latest") are never kept waiting, since whoever waits for them would
//! repeat events or stand still. Nor do they use the budget up.
//!
//! - The partition that has waited longest is the next, so that none is passed over for ever.
//! - A write that waits loses nothing: what it covers grows meanwhile, and one write covers it all. What a tight budget costs is
//!   repeats after a crash.
//! - A host may write as much at once as the budget gives in a second (at least one): in no minute more than the budget and that.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A time on this host's monotonic clock, counted from any moment that stays the same while the process lives.
type Moment = Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// What may be saved up for later.
const SAVED: Duration = Duration::from_secs(1);

/// A host's budget of checkpoint writes, and how it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BudgetSnapshot {
    /// Writes a minute, at most.
    pub writes_per_minute: u32,
    /// Partitions whose checkpoint is due and waits for its turn now.
    pub waiting: usize,
    /// How long the first of these has waited, in milliseconds.
    pub longest_wait_ms: u64,
    /// Writes that had to wait, since the start.
    pub delayed: u64,
}

/// Whether a write may take place.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Now; it is paid for.
    Now,
    /// It is the next, at this time.
    At(Moment),
    /// Others are before it.
    Behind,
}

/// The bucket and the queue before it. Pure: time comes in.
#[derive(Debug)]
struct Bucket {
    /// The time that pays for a write.
    price: Duration,
    /// Time that may pay for writes, as of `at`.
    saved: Duration,
    at: Moment,
    queue: VecDeque<Waiting>,
    tickets: u64,
    delayed: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    since: Moment,
    /// Whether it was told to wait.
    waited: bool,
    /// To be told when it is the next.
    next: Arc<Notify>,
}

impl Bucket {
    fn new(per_minute: u32) -> Self {
        let price = MINUTE / per_minute.max(1);
        let saved = price.max(SAVED);
        Self { price, saved, at: Moment::ZERO, queue: VecDeque::new(), tickets: 0, delayed: 0 }
    }

    /// Joins the queue.
    fn ask(&mut self, now: Moment) -> (u64, Arc<Notify>) {
        self.tickets += 1;
        let next = Arc::new(Notify::new());
        self.queue.push_back(Waiting { ticket: self.tickets, since: now, waited: false, next: Arc::clone(&next) });
        (self.tickets, next)
    }

    /// Whose turn it is. The first takes its write, pays and leaves.
    fn turn(&mut self, ticket: u64, now: Moment) -> Turn {
        let Some(first) = self.queue.front_mut().filter(|first| first.ticket == ticket) else {
            if let Some(waiting) = self.queue.iter_mut().find(|waiting| waiting.ticket == ticket) {
                waiting.waited = true;
            }
            return Turn::Behind;
        };
        let earned = now.saturating_sub(self.at);
        self.saved = (self.saved + earned).min(self.price.max(SAVED));
        self.at = self.at.max(now);
        match self.saved.checked_sub(self.price) {
            Some(rest) => {
                self.saved = rest;
                self.delayed += u64::from(first.waited);
                self.leave(ticket);
                Turn::Now
            }
            None => {
                first.waited = true;
                Turn::At(self.at + (self.price - self.saved))
            }
        }
    }

    /// Leaves the queue, if it is still in it. Those behind move up.
    fn leave(&mut self, ticket: u64) {
        let Some(place) = self.queue.iter().position(|waiting| waiting.ticket == ticket) else { return };
        self.queue.remove(place);
        if place == 0
            && let Some(first) = self.queue.front()
        {
            first.next.notify_one();
        }
    }

    fn longest_wait(&self, now: Moment) -> Duration {
        self.queue.front().map_or(Duration::ZERO, |first| now.saturating_sub(first.since))
    }
}

/// A host's budget of checkpoint writes.
#[derive(Debug)]
pub(crate) struct Governor {
    /// `None`: no limit.
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    per_minute: u32,
    zero: Instant,
    bucket: Mutex<Bucket>,
    /// Whether it was said that the budget is too small.
    warned: AtomicBool,
}

impl Governor {
    /// `None`: writes as they are due.
    pub(crate) fn new(per_minute: Option<u32>) -> Arc<Self> {
        let limit = per_minute.map(|per_minute| Limit {
            per_minute,
            zero: Instant::now(),
            bucket: Mutex::new(Bucket::new(per_minute)),
            warned: AtomicBool::new(false),
        });
        Arc::new(Self { limit })
    }

    /// Waits until a write that is due now may take place; whoever drops the future gives its place up. `interval`: how often the
    /// partition would write, for the warning when it has to wait longer than that.
    pub(crate) async fn turn(&self, interval: Duration) {
        let Some(limit) = &self.limit else { return };
        let (ticket, next) = limit.bucket().ask(limit.now());
        let asked = limit.now();
        let place = Place { limit, ticket };
        loop {
            let turn = limit.bucket().turn(place.ticket, limit.now());
            match turn {
                Turn::Now => break,
                Turn::At(at) => sleep_until(limit.zero + at).await,
                Turn::Behind => next.notified().await,
            }
        }
        let waited = limit.now().saturating_sub(asked);
        if waited > interval && !limit.warned.swap(true, Relaxed) {
            tracing::warn!(
                "checkpoints wait for their turn, one of them for {waited:.1?}, longer than its interval ({interval:?}): this host may write {} \
                 a minute ([host] checkpoint-writes-per-minute). Nothing is lost, but after a crash more is processed again. Allow at least \
                 60 s / `checkpoint.interval` for each busy partition, lengthen `checkpoint.interval`, or add hosts",
                limit.per_minute
            );
        }
    }

    pub(crate) fn snapshot(&self) -> Option<BudgetSnapshot> {
        let limit = self.limit.as_ref()?;
        let bucket = limit.bucket();
        Some(BudgetSnapshot {
            writes_per_minute: limit.per_minute,
            waiting: bucket.queue.len(),
            longest_wait_ms: u64::try_from(bucket.longest_wait(limit.now()).as_millis()).unwrap_or(u64::MAX),
            delayed: bucket.delayed,
        })
    }
}

impl Limit {
    fn now(&self) -> Moment {
        self.zero.elapsed()
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when it is dropped.
struct Place<'a> {
    limit: &'a Limit,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.limit.bucket().leave(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    #[test]
    fn a_minute_has_no_more_writes_than_the_budget_and_a_second_of_it() {
        for per_minute in [1, 6, 60, 600, 6000] {
            let mut bucket = Bucket::new(per_minute);
            let mut writes = Vec::new();
            let mut now = Moment::ZERO;
            // Always somebody waiting.
            while now < 3 * MINUTE {
                let (ticket, _) = bucket.ask(now);
                match bucket.turn(ticket, now) {
                    Turn::Now => writes.push(now),
                    Turn::At(at) => {
                        assert!(at > now, "it goes on");
                        bucket.leave(ticket);
                        now = at;
                    }
                    Turn::Behind => panic!("nobody else is there"),
                }
            }
            let at_once = (per_minute / 60).max(1);
            for first in &writes {
                let within = writes.iter().filter(|at| (*first..*first + MINUTE).contains(*at)).count();
                assert!(within <= (per_minute + at_once) as usize, "{within} of {per_minute}");
            }
            assert!(writes.len() >= 3 * per_minute as usize, "nothing of the budget is wasted: {}", writes.len());
        }
    }

    #[test]
    fn who_has_waited_longest_is_next_and_those_who_leave_cost_nothing() {
        let mut bucket = Bucket::new(6);
        let tickets: Vec<u64> = (0..4).map(|_| bucket.ask(seconds(0)).0).collect();
        assert_eq!(bucket.turn(tickets[1], seconds(0)), Turn::Behind);
        assert_eq!(bucket.turn(tickets[0], seconds(0)), Turn::Now);
        assert_eq!(bucket.turn(tickets[2], seconds(10)), Turn::Behind, "although it asked first this time");
        assert_eq!(bucket.turn(tickets[1], seconds(4)), Turn::At(seconds(10)));
        bucket.leave(tickets[1]);
        assert_eq!(bucket.turn(tickets[2], seconds(10)), Turn::Now, "in the place of the one that left");
        assert_eq!(bucket.turn(tickets[2], seconds(11)), Turn::Behind, "it has had its turn");
        assert_eq!(bucket.turn(tickets[3], seconds(15)), Turn::At(seconds(20)));
        assert_eq!((bucket.longest_wait(seconds(15)), bucket.delayed), (seconds(15), 1));
    }

    #[test]
    fn what_is_not_used_is_not_saved_up_for_longer_than_a_second() {
        let mut bucket = Bucket::new(120);
        let mut at_once = |now| {
            let mut writes = 0;
            loop {
                let (ticket, _) = bucket.ask(now);
                if bucket.turn(ticket, now) != Turn::Now {
                    bucket.leave(ticket);
                    return writes;
                }
                writes += 1;
            }
        };
        assert_eq!(at_once(seconds(0)), 2);
        assert_eq!(at_once(seconds(3600)), 2);
        assert_eq!(at_once(seconds(3600)), 0);
    }

    /// The clock runs: asking for a turn takes time as well, and is no wait.
    #[tokio::test]
    async fn a_turn_that_is_free_is_not_a_delayed_one() {
        let governor = Governor::new(Some(6000));
        for _ in 0..50 {
            governor.turn(MINUTE).await;
        }
        assert_eq!(governor.snapshot().map(|s| s.delayed), Some(0));
        let governor = Governor::new(Some(600));
        for _ in 0..11 {
            governor.turn(MINUTE).await;
        }
        assert_eq!(governor.snapshot().map(|s| s.delayed), Some(1), "only ten are saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_and_without_a_limit_at_once() {
        let start = Instant::now();
        Governor::new(None).turn(MINUTE).await;
        assert_eq!(Governor::new(None).snapshot(), None);
        let governor = Governor::new(Some(6));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..4)
            .map(|n| {
                let (governor, order) = (Arc::clone(&governor), Arc::clone(&order));
                tokio::spawn(async move {
                    governor.turn(MINUTE).await;
                    order.lock().unwrap_or_else(PoisonError::into_inner).push((n, start.elapsed().as_secs()));
                })
            })
            .collect();
        tokio::time::sleep(seconds(5)).await;
        // Whoever ends meanwhile gives its place up.
        waiting[2].abort();
        let expected = BudgetSnapshot { writes_per_minute: 6, waiting: 2, longest_wait_ms: 5000, delayed: 0 };
        tokio::task::yield_now().await;
        assert_eq!(governor.snapshot(), Some(expected));
        for task in waiting {
            let _ = task.await;
        }
        let order = order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(order, [(0, 0), (1, 10), (3, 20)]);
        assert_eq!(governor.snapshot().map(|s| (s.waiting, s.delayed)), Some((0, 2)));
    }
}
