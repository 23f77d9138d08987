//! Publishes what came of the batches, in order, and hands their progress on only when all of it was accepted (rule
//! R12).
//!
//! Settled batches wait in a bounded queue while the guest works on the next; those that wait together are published
//! together, which makes up for a sink with a long round trip. A passing error is retried with the same outputs;
//! anything else, and an error that doesn't pass, ends the partition. [`Accepted`] can be made here only: nothing else
//! can move a checkpoint.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{mpsc, watch};

use crate::budget::Charge;
use crate::error::{Cause, Range};
use crate::history;
use crate::model::{Output, Position};
use crate::outputs::{Routes, Sinks};
use crate::pump::{Halt, Seat};
use crate::retry::{Next, RetryPolicy, chance};
use crate::seams::{Sink, SinkError};

/// Outputs of batches that are published together, and their bytes; how many at once, the sink says.
const MERGED_OUTPUTS: usize = 4096;
const MERGED_BYTES: usize = 4 << 20;

/// A batch that the guest has answered.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Outputs and dead letters.
    pub(crate) routes: Routes,
    /// What these weigh.
    pub(crate) bytes: usize,
    /// The events that stand.
    pub(crate) range: Range,
    /// The watermark, if it moved.
    pub(crate) watermark: Option<Position>,
    /// Events newly under the watermark.
    pub(crate) covered: u64,
    /// The newest version of the partition's state that this is a part of.
    pub(crate) version: u64,
    /// The events' and the outputs' share of the memory budget, given back when this is accepted.
    pub(crate) charge: Option<Charge>,
}

/// Progress whose outputs were accepted downstream.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    position: Position,
    covered: u64,
    version: u64,
}

impl Accepted {
    /// Everything up to here is finished and its outputs are durable.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// Events covered since the stage began.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// And so is everything that this version of the state stands for.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }
}

/// The stage.
pub(crate) struct Emitter<'a> {
    pub(crate) seat: &'a Seat,
    pub(crate) sinks: &'a Sinks,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
}

impl Emitter<'_> {
    /// Runs until the dispatcher has ended and everything it settled is accepted.
    pub(crate) async fn run(
        self,
        mut settled: mpsc::Receiver<Settled>,
        accepted: watch::Sender<Option<Accepted>>,
    ) -> Result<(), Halt> {
        let mut covered = 0;
        loop {
            let next = tokio::select! {
                biased;
                () = accepted.closed() => return Ok(()),
                next = settled.recv() => next,
            };
            let Some(mut next) = next else { return Ok(()) };
            while count(&next.routes) < MERGED_OUTPUTS && next.bytes < MERGED_BYTES {
                let Ok(more) = settled.try_recv() else { break };
                next.merge(more);
            }
            tokio::select! {
                biased;
                // Nobody commits any more: what would be published now could only be published again.
                () = accepted.closed() => return Ok(()),
                published = self.publish(&next) => published?,
            }
            covered += next.covered;
            if let Some(position) = next.watermark {
                history::accepted(position.sequence_number);
                accepted.send_replace(Some(Accepted { position, covered, version: next.version }));
            }
        }
    }

    /// Publishes to all sinks at once; each gets its outputs in order.
    async fn publish(&self, settled: &Settled) -> Result<(), Halt> {
        let range = settled.range;
        let all = settled.routes.iter().map(|(sink, outputs)| self.publish_to(*sink, outputs, range));
        join_all(all).await.into_iter().collect()
    }

    async fn publish_to(&self, sink: usize, outputs: &[Output], range: Range) -> Result<(), Halt> {
        let Some((name, target)) = self.sinks.get(sink) else {
            return Err(Halt::Failed(Cause::Defect(format!("there is no sink {sink}"))));
        };
        let counter = match self.sinks.is_dead_letter(sink) {
            true => &self.seat.status.dead_lettered,
            false => &self.seat.status.emitted,
        };
        for part in outputs.chunks(target.max_outputs().max(1)) {
            self.publish_part(name, &**target, part, range).await?;
            counter.add(part.len() as u64);
        }
        Ok(())
    }

    /// As much as is repeated when it fails.
    async fn publish_part(&self, name: &str, target: &dyn Sink, outputs: &[Output], range: Range) -> Result<(), Halt> {
        let mut failures = 0;
        loop {
            let done = tokio::time::timeout(self.timeout, target.publish(outputs)).await;
            let late = || Err(SinkError::Transient(format!("no answer within {:?}", self.timeout)));
            let (detail, next) = match done.unwrap_or_else(|_| late()) {
                Ok(()) => break,
                Err(SinkError::Permanent(detail)) => (detail, Next::GiveUp),
                Err(SinkError::Transient(detail)) => (detail, self.retry.after(failures + 1, None, chance())),
            };
            failures += 1;
            match next {
                Next::Again(pause) => {
                    self.seat.trouble(format!("output `{name}` did not accept (attempt {failures}): {detail}"));
                    tokio::time::sleep(pause).await;
                }
                Next::GiveUp => {
                    let (sink, attempts) = (name.to_owned(), failures);
                    return Err(Halt::Failed(Cause::Sink { sink, range, attempts, detail }));
                }
            }
        }
        if failures > 0 {
            self.seat.status.recovered();
        }
        Ok(())
    }
}

impl Settled {
    /// What the guest made of the events is held until it is accepted, like the events.
    pub(crate) fn take_charge(&mut self, events: Option<Charge>) {
        let outputs = events.as_ref().map(|charge| charge.more(self.bytes));
        self.charge = events;
        if let (Some(all), Some(outputs)) = (&mut self.charge, outputs) {
            all.absorb(outputs);
        }
    }

    /// Adds the batch that was settled next.
    pub(crate) fn merge(&mut self, next: Self) {
        for (sink, outputs) in next.routes {
            match self.routes.iter_mut().find(|(s, _)| *s == sink) {
                Some((_, all)) => all.extend(outputs),
                None => self.routes.push((sink, outputs)),
            }
        }
        self.bytes += next.bytes;
        self.range = self.range.through(next.range);
        self.watermark = next.watermark.or(self.watermark.take());
        self.covered += next.covered;
        self.version = self.version.max(next.version);
        self.charge = match (self.charge.take(), next.charge) {
            (Some(mut mine), Some(its)) => {
                mine.absorb(its);
                Some(mine)
            }
            (mine, its) => mine.or(its),
        };
    }
}

fn count(routes: &Routes) -> usize {
    routes.iter().map(|(_, outputs)| outputs.len()).sum()
}
