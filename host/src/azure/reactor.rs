//! Threads for the SDK: each client lives on one of a few single-threaded runtimes and is only ever used from there.
//!
//! `fe2o3-amqp` 0.14 notes a sent message as unsettled *after* it has handed it to the session's task. Where that task runs on
//! another thread, the answer of a near broker can come first; it is dropped, and the send waits for ever: seen within
//! seconds on a loopback connection, in sends, token requests and management requests alike. On one thread nothing
//! can come between. It also spares the wake-ups between the SDK's three tasks per link.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

/// More threads than this don't help: the SDK reads more than 100,000 events a second on one.
const MOST_THREADS: usize = 16;

/// The threads. They end when this is dropped, and every client on them with them.
#[derive(Debug)]
pub(super) struct Reactors {
    reactors: Vec<Reactor>,
    next: AtomicUsize,
    /// Dropped to stop the threads.
    _stops: Vec<oneshot::Sender<()>>,
}

/// One of the threads.
#[derive(Clone, Debug)]
pub(super) struct Reactor(Handle);

impl Reactors {
    /// Starts the threads, one per core.
    pub(super) fn start() -> std::io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let mut reactors = Vec::with_capacity(count);
        let mut stops = Vec::with_capacity(count);
        for n in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel::<()>();
            reactors.push(Reactor(runtime.handle().clone()));
            stops.push(stop);
            thread::Builder::new().name(format!("weir-azure-{n}")).spawn(move || {
                // Either end of the channel may go first; both mean stop.
                let _ = runtime.block_on(stopped);
            })?;
        }
        Ok(Self { reactors, next: AtomicUsize::new(0), _stops: stops })
    }

    /// A thread for a new client, in turn.
    pub(super) fn pick(&self) -> Reactor {
        let n = self.next.fetch_add(1, Ordering::Relaxed) % self.reactors.len();
        self.reactors[n].clone()
    }
}

impl Reactor {
    /// Runs a task on the thread, until it is done or the handle is dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.0.spawn(task))
    }
}
