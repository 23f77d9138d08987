//! A live guest: one task on the guest runtime that owns the store and takes one call at a time.
//!
//! The caller lives on another runtime. A batch goes over through a channel of one place and the answer comes back through a
//! oneshot, so a hop costs two wake-ups per batch, whatever its size.
//!
//! What ends an instance: a trap or an answer that breaks the contract (the task reports and ends), `close`, and the caller's
//! loss of interest. Dropping the [`Instance`], or a call's future, stops the guest where it next lets others run, at most a
//! tick later, and frees its memory. Nothing of it survives.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::context::Shared;
use super::grants::{Grants, Ready};
use super::live::Live;
use super::metrics::Metrics;
use super::module::Module;
use crate::guest::{Answer, Batch, CloseReason, Failure, Instance, Opening, Processor, TrapCause, TrapReport};
use crate::model::Timestamp;

/// What a processor is called, what it may use, and where its outputs may go.
#[derive(Clone, Debug)]
pub struct ProcessorOptions {
    /// Its name in logs and errors.
    pub name: Arc<str>,
    /// Bounds of each instance.
    pub limits: Limits,
    /// The deployment's outputs. A guest that names no target means `default`.
    pub targets: Vec<String>,
    /// Where the measurements of its instances are added up.
    pub metrics: Metrics,
    /// What it may use beyond computing, logging and emitting.
    pub grants: Grants,
}

impl ProcessorOptions {
    /// A processor of this name with the usual limits, the output `default`, and no grants.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            limits: Limits::default(),
            targets: vec!["default".into()],
            metrics: Metrics::default(),
            grants: Grants::default(),
        }
    }
}

/// What an instance may use. A call that goes beyond memory or time ends the instance; one that emits too much is told so.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of linear memory and tables.
    pub memory: usize,
    /// Elements of all tables. (Functions that are called through pointers have one each.)
    pub table_elements: usize,
    /// For each call: computing, and apart from that waiting. Neighbours' turns don't count.
    pub time: Duration,
    /// Outputs of one call.
    pub outputs: usize,
    /// Bytes of all outputs of one call.
    pub output_bytes: usize,
    /// Outputs per second on average, with room for ten seconds' worth at once. `None`: no limit.
    pub outputs_per_second: Option<u64>,
    /// Bytes that the guest may have the host copy at once, with one host call or one answer.
    pub host_call_bytes: usize,
    /// Log lines of one call.
    pub log_lines: u64,
    /// Log lines per second on average, with room for ten seconds' worth at once.
    pub log_lines_per_second: u64,
    /// Their bytes, likewise.
    pub log_bytes_per_second: u64,
    /// Series that a processor's measurements may have, over all its instances.
    pub metric_series: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            table_elements: 100_000,
            time: Duration::from_secs(10),
            outputs: 100_000,
            output_bytes: 32 << 20,
            outputs_per_second: None,
            host_call_bytes: 64 << 20,
            log_lines: 1000,
            log_lines_per_second: 100,
            log_bytes_per_second: 64 << 10,
            metric_series: 1000,
        }
    }
}

/// [`Processor`] for a component.
pub(super) struct ComponentProcessor {
    module: Module,
    shared: Shared,
}

impl ComponentProcessor {
    pub(super) fn new(module: Module, options: ProcessorOptions, grants: Ready) -> Self {
        Self { module, shared: Shared { options: Arc::new(options), grants: Arc::new(grants) } }
    }
}

#[async_trait]
impl Processor for ComponentProcessor {
    async fn open(&self, opening: Opening) -> Result<Box<dyn Instance>, Failure> {
        let (calls, inbox) = mpsc::channel(1);
        let (reply, opened) = oneshot::channel();
        // Whoever opens it is on the runtime that I/O is done on.
        let io = Handle::current();
        let task = run(self.module.clone(), self.shared.clone(), opening, io, reply, inbox);
        let task = Task(self.module.engine.guests().spawn(task).abort_handle());
        answer(opened).await??;
        Ok(Box::new(Caller { calls, _task: task }))
    }

    fn uses_state(&self) -> bool {
        self.module.report().keeps_state
    }

    fn digest(&self) -> Option<Arc<str>> {
        Some(self.module.digest().into())
    }
}

/// Ends the task with its owner.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Call {
    Process(Batch, oneshot::Sender<Result<Answer, Failure>>),
    Tick(Timestamp, oneshot::Sender<Result<Answer, Failure>>),
    Close(CloseReason, oneshot::Sender<()>),
}

/// The caller's end of an instance.
struct Caller {
    calls: mpsc::Sender<Call>,
    _task: Task,
}

#[async_trait]
impl Instance for Caller {
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure> {
        let (reply, answered) = oneshot::channel();
        self.calls.send(Call::Process(batch, reply)).await.map_err(|_| gone())?;
        answer(answered).await?
    }

    async fn tick(&mut self, now: Timestamp) -> Result<Answer, Failure> {
        let (reply, answered) = oneshot::channel();
        self.calls.send(Call::Tick(now, reply)).await.map_err(|_| gone())?;
        answer(answered).await?
    }

    async fn close(self: Box<Self>, reason: CloseReason) {
        let (reply, closed) = oneshot::channel();
        // One that has ended already needs no good-bye.
        if self.calls.send(Call::Close(reason, reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

async fn answer<T>(reply: oneshot::Receiver<T>) -> Result<T, Failure> {
    reply.await.map_err(|_| gone())
}

/// The task is no longer there: it ended with an earlier trap, or its runtime is stopping.
fn gone() -> Failure {
    Failure::Trap(TrapReport {
        cause: TrapCause::Trap,
        message: "the instance is gone: it ended with an earlier failure, or the host is stopping".to_owned(),
        stderr: String::new(),
        backtrace: String::new(),
    })
}

/// An instance's life.
async fn run(
    module: Module,
    shared: Shared,
    opening: Opening,
    io: Handle,
    opened: oneshot::Sender<Result<(), Failure>>,
    mut calls: mpsc::Receiver<Call>,
) {
    let mut live = match Live::open(&module, shared, &opening, io).await {
        Ok(live) => live,
        Err(failure) => {
            let _ = opened.send(Err(failure));
            return;
        }
    };
    drop(opening);
    if opened.send(Ok(())).is_err() {
        return;
    }
    while let Some(call) = calls.recv().await {
        match call {
            Call::Process(batch, reply) => {
                // The caller may want to free or cut the batch as soon as it has the answer: it is dropped before.
                let work = async |live: &mut Live| {
                    let answer = live.process(&batch).await;
                    drop(batch);
                    answer
                };
                if !answered(&mut live, reply, work).await {
                    return;
                }
            }
            Call::Tick(now, reply) => {
                if !answered(&mut live, reply, async |live: &mut Live| live.tick(now).await).await {
                    return;
                }
            }
            Call::Close(reason, reply) => {
                live.close(reason).await;
                let _ = reply.send(());
                return;
            }
        }
    }
}

/// One call, for as long as the caller waits for it. Whether the instance lives on.
async fn answered(
    live: &mut Live,
    mut reply: oneshot::Sender<Result<Answer, Failure>>,
    work: impl AsyncFnOnce(&mut Live) -> Result<Answer, Failure>,
) -> bool {
    let answer = tokio::select! {
        biased;
        answer = work(live) => answer,
        () = reply.closed() => return false,
    };
    let ended = matches!(answer, Err(Failure::Trap(_)));
    reply.send(answer).is_ok() && !ended
}
