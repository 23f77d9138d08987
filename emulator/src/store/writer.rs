//! The thread that journals, so that a slow disk delays acknowledgements and never the pushing of events.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::StoreError;
use crate::model::{Incoming, Partition, lock, now_ms};

/// Bytes that wait for the journal, of all connections together. Senders wait while it is full: too little, and a disk
/// that pauses is idle afterwards; more only delays the moment at which senders notice a disk that is too slow.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;

/// Called by the writer thread when a batch is in the journal and in the log, or neither. Must not block.
pub(crate) type Appended = Box<dyn FnOnce(Result<Range<i64>, StoreError>) + Send>;

/// Events on their way into a partition.
pub(crate) struct Batch {
    pub(crate) partition: Arc<Partition>,
    pub(crate) events: Vec<Incoming>,
    /// What they cost while they wait.
    pub(crate) bytes: usize,
    pub(crate) done: Appended,
}

impl Batch {
    /// Takes the events in and says what came of it.
    pub(crate) fn write(self) {
        (self.done)(self.partition.append(&self.events, now_ms()));
    }
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    /// Of those in the queue and of the one that is being written.
    bytes: usize,
    /// Somebody was sent away and waits for room.
    refused: bool,
    closed: bool,
}

struct Shared {
    limit: usize,
    queue: Mutex<Queue>,
    filled: Condvar,
    room: Notify,
}

/// Appends to partitions in the order of the calls, with at most `limit` bytes under way.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn start(limit: usize) -> std::io::Result<Self> {
        let (queue, filled, room) = (Mutex::default(), Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { limit, queue, filled, room });
        let thread = std::thread::Builder::new().name("weir-journal".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes the batch, or gives it back if it has to wait: then [`room`](Self::room) says when to come again. A batch
    /// that is larger than the whole queue is taken once nothing else waits.
    pub(crate) fn append(&self, batch: Batch) -> Result<(), Batch> {
        let mut queue = lock(&self.shared.queue);
        if queue.bytes > 0 && queue.bytes.saturating_add(batch.bytes) > self.shared.limit {
            queue.refused = true;
            return Err(batch);
        }
        queue.bytes += batch.bytes;
        queue.batches.push_back(batch);
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Ready once there is room. To be asked for before the [`append`](Self::append) that may be refused, or the room
    /// that is made in between is missed.
    pub(crate) fn room(&self) -> Notified<'_> {
        self.shared.room.notified()
    }
}

impl Drop for Writer {
    /// Waits until all that was asked for is written.
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(shared: &Shared) {
    loop {
        let mut queue = lock(&shared.queue);
        while queue.batches.is_empty() && !queue.closed {
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(batch) = queue.batches.pop_front() else { return };
        drop(queue);
        let bytes = batch.bytes;
        batch.write();
        let mut queue = lock(&shared.queue);
        queue.bytes -= bytes;
        // Half of it, so that those who wait come back for more than one batch.
        if queue.refused && queue.bytes <= shared.limit / 2 {
            queue.refused = false;
            drop(queue);
            shared.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::model::Retention;

    #[tokio::test]
    async fn what_finds_no_room_comes_back_and_goes_in_later() {
        let partition = Arc::new(Partition::new("h".into(), 0, Retention::default()));
        let (say, said) = mpsc::sync_channel(10);
        let batch = |bytes, done: Appended| Batch {
            partition: Arc::clone(&partition),
            events: vec![Incoming::default()],
            bytes,
            done,
        };
        let telling = |bytes| {
            let say = say.clone();
            batch(bytes, Box::new(move |result| say.send(result.unwrap()).unwrap()))
        };
        let writer = Writer::start(100).unwrap();
        // The thread is busy with the first one until it is let go; that one counts as well.
        let (go, gone) = mpsc::sync_channel::<()>(1);
        assert!(writer.append(batch(60, Box::new(move |_| assert!(gone.recv().is_err())))).is_ok());
        assert!(writer.append(telling(40)).is_ok());
        let room = writer.room();
        let third = writer.append(telling(41)).expect_err("101 bytes and more");
        drop(go);
        tokio::time::timeout(Duration::from_secs(20), room).await.expect("room in time");
        assert!(writer.append(third).is_ok());
        assert_eq!(said.recv().unwrap(), 1..2);
        assert_eq!(said.recv().unwrap(), 2..3);
        // Larger than all there can be: alone.
        loop {
            let room = writer.room();
            if writer.append(telling(1000)).is_ok() {
                break;
            }
            tokio::time::timeout(Duration::from_secs(20), room).await.expect("room in time");
        }
        drop(writer);
        assert_eq!(said.recv().unwrap(), 3..4, "what was taken is written before the end");
    }
}
