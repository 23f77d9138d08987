//! The thread that journals, so that a slow disk delays acknowledgements and never the pushing of events.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::StoreError;
use crate::model::{Incoming, Partition, lock, now_ms};

/// Called by the writer thread when a batch is in the journal and in the log, or neither. Must not block.
pub(crate) type Appended = Box<dyn FnOnce(Result<Range<i64>, StoreError>) + Send>;

struct Request {
    partition: Arc<Partition>,
    events: Vec<Incoming>,
    done: Appended,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// Appends to partitions in the order of the calls. The queue is bounded by its callers: a connection stops reading
/// while too many bytes of its own are under way.
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
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::Builder::new().name("weir-journal".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(crate) fn append(&self, partition: Arc<Partition>, events: Vec<Incoming>, done: Appended) {
        lock(&self.shared.queue).requests.push_back(Request { partition, events, done });
        self.shared.filled.notify_one();
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
        while queue.requests.is_empty() && !queue.closed {
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let requests = std::mem::take(&mut queue.requests);
        if requests.is_empty() {
            return;
        }
        drop(queue);
        for Request { partition, events, done } in requests {
            done(partition.append(&events, now_ms()));
        }
    }
}
