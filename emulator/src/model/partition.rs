//! A partition as connections share it: its log, the readers that wait at its end, who owns it.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::{Incoming, Log, LogState, Readers, Retention, Run, StartPosition, lock};
use crate::store::{Journal, StoreError};

/// Something that waits for events and can be told that there are some. Called with a lock held: must not block.
pub trait Wake: Send + Sync {
    /// Events have arrived for the reader `link` of this connection.
    fn wake(&self, link: u64);
}

/// A partition of a hub.
#[derive(Debug)]
pub struct Partition {
    /// The hub it belongs to.
    pub hub: Arc<str>,
    /// Its number, which is also its name.
    pub id: u32,
    /// Serialises appends, so that encoding happens beside the log's lock and readers never wait for it.
    journal: Mutex<Option<Journal>>,
    shared: Mutex<Shared>,
    readers: Mutex<Readers>,
}

struct Shared {
    log: Log,
    waiting: Vec<(Arc<dyn Wake>, u64)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("log", &self.log.state()).field("waiting", &self.waiting.len()).finish()
    }
}

impl Partition {
    /// An empty partition in memory.
    #[must_use]
    pub fn new(hub: Arc<str>, id: u32, retention: Retention) -> Self {
        Self::with(hub, id, Log::new(retention), None)
    }

    /// A partition that goes on from what its journal held.
    #[must_use]
    pub(crate) fn with(hub: Arc<str>, id: u32, log: Log, journal: Option<Journal>) -> Self {
        let shared = Mutex::new(Shared { log, waiting: Vec::new() });
        Self { hub, id, journal: Mutex::new(journal), shared, readers: Mutex::default() }
    }

    /// Takes events in: journal first, then the log, then the waiting readers. Returns their sequence numbers.
    ///
    /// # Errors
    /// The journal could not be written: nothing was taken in.
    pub fn append(&self, events: &[Incoming], now_ms: i64) -> Result<Range<i64>, StoreError> {
        let mut journal = lock(&self.journal);
        // Only the holder of the journal's lock appends: the ends read here stay true until the push.
        let (first, offset, enqueued_ms) = lock(&self.shared).log.ends(now_ms);
        if events.is_empty() {
            return Ok(first..first);
        }
        let block = Arc::new(super::Block::encode(first, offset, enqueued_ms, events));
        if let Some(journal) = journal.as_mut() {
            journal.append(&block)?;
        }
        let next = block.next();
        let (begin, waiting) = {
            let mut shared = lock(&self.shared);
            shared.log.push(block);
            (shared.log.expire(now_ms), std::mem::take(&mut shared.waiting))
        };
        for (wake, link) in waiting {
            wake.wake(link);
        }
        if let Some(journal) = journal.as_mut() {
            journal.forget_before(begin);
        }
        Ok(first..next)
    }

    /// Up to `events` events from sequence number `from` on. If there are none, `link` of `wake` is told when there are.
    pub fn read_or_wait(
        &self,
        from: i64,
        events: usize,
        runs: &mut Vec<Run>,
        wake: &Arc<dyn Wake>,
        link: u64,
    ) -> usize {
        let mut shared = lock(&self.shared);
        let read = shared.log.read(from, events, runs);
        if read == 0 && events > 0 {
            shared.waiting.push((Arc::clone(wake), link));
        }
        read
    }

    /// Up to `events` events from sequence number `from` on.
    pub fn read(&self, from: i64, events: usize, runs: &mut Vec<Run>) -> usize {
        lock(&self.shared).log.read(from, events, runs)
    }

    /// `link` waits no longer; every link that goes away says so, for the list is otherwise only emptied by an append.
    pub fn stop_waiting(&self, wake: &Arc<dyn Wake>, link: u64) {
        lock(&self.shared).waiting.retain(|(other, id)| *id != link || !Arc::ptr_eq(other, wake));
    }

    /// Where a receiver that asks for `start` begins.
    #[must_use]
    pub fn resolve(&self, start: &StartPosition, now_ms: i64) -> i64 {
        let mut shared = lock(&self.shared);
        shared.log.expire(now_ms);
        shared.log.resolve(start)
    }

    /// Counts and positions, after retention.
    #[must_use]
    pub fn state(&self, now_ms: i64) -> LogState {
        let mut shared = lock(&self.shared);
        shared.log.expire(now_ms);
        shared.log.state()
    }

    /// The receivers attached to it, by consumer group.
    pub(crate) fn with_readers<T>(&self, act: impl FnOnce(&mut Readers) -> T) -> T {
        act(&mut lock(&self.readers))
    }
}
