//! A hub in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::event;
use crate::model::{Event, PartitionId, PartitionInfo, SequenceNumber, StartPosition};
use crate::seams::{EventSource, OpenOptions, PartitionReceiver, SourceError, SourceErrorKind};

/// A hub in memory. Clones are the same hub.
#[derive(Clone, Debug)]
pub struct MemoryHub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    partitions: Mutex<BTreeMap<PartitionId, Partition>>,
    refusing: Mutex<Refusing>,
    /// Bumped with every change; receivers wait on it.
    changed: watch::Sender<u64>,
}

/// Questions that fail.
#[derive(Debug, Default)]
struct Refusing {
    listing: Option<SourceErrorKind>,
    information: Option<SourceErrorKind>,
}

#[derive(Debug, Default)]
struct Partition {
    events: Vec<Event>,
    faults: VecDeque<Fault>,
    opens: Vec<StartPosition>,
    attached: usize,
    detached: usize,
}

/// What goes wrong with one partition's next links; faults are used up in the order they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next attempt to open fails.
    Open(SourceErrorKind),
    /// The next link ends like this after it delivered so many events.
    EndAfter(usize, SourceErrorKind),
    /// The next link delivers so many events and then nothing, without ending.
    StallAfter(usize),
    /// The next link begins so many events earlier than asked.
    Replay(usize),
    /// The next link delivers so many events, and leaves out the one after them.
    LoseAfter(usize),
    /// The next link delivers so many events, then steps back to the partition's first.
    StepBackAfter(usize),
}

impl MemoryHub {
    /// A hub with partitions `"0"` to `count - 1`.
    pub fn new(count: usize) -> Self {
        let hub = Self {
            inner: Arc::new(Inner {
                partitions: Mutex::default(),
                refusing: Mutex::default(),
                changed: watch::Sender::new(0),
            }),
        };
        hub.add_partitions(count);
        hub
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> usize {
        self.partitions_mut().len()
    }

    /// Adds partitions.
    pub fn add_partitions(&self, count: usize) {
        let mut partitions = self.partitions_mut();
        for n in (partitions.len()..).take(count) {
            partitions.insert(PartitionId::from(n.to_string().as_str()), Partition::default());
        }
    }

    /// Enqueues an event at the end of a partition; returns its sequence number. Sequence numbers begin at 0.
    pub fn push(&self, partition: &str, body: impl Into<Bytes>) -> SequenceNumber {
        let number = self.change(partition, |p| {
            let number = p.events.last().map_or(0, |e| e.sequence_number + 1);
            p.events.push(event(number, body));
            number
        });
        number.unwrap_or(-1)
    }

    /// Enqueues an event as it is; its sequence number should be above the last one's.
    pub fn push_event(&self, partition: &str, event: Event) {
        self.change(partition, |p| p.events.push(event));
    }

    /// Drops a partition's oldest events.
    pub fn expire(&self, partition: &str, count: usize) {
        self.change(partition, |p| p.events.drain(..count.min(p.events.len())).count());
    }

    /// Adds a fault for a partition's next link.
    pub fn fault(&self, partition: &str, fault: Fault) {
        self.change(partition, |p| p.faults.push_back(fault));
    }

    /// Lets every listing of partitions fail from now on, or not any more.
    pub fn fail_listing(&self, kind: Option<SourceErrorKind>) {
        self.refusing().listing = kind;
    }

    /// Lets every question about a partition fail from now on, or not any more.
    pub fn fail_information(&self, kind: Option<SourceErrorKind>) {
        self.refusing().information = kind;
    }

    fn refusing(&self) -> MutexGuard<'_, Refusing> {
        self.inner.refusing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where receivers were attached so far, in order.
    pub fn opens(&self, partition: &str) -> Vec<StartPosition> {
        self.partitions_mut().get(&PartitionId::from(partition)).map(|p| p.opens.clone()).unwrap_or_default()
    }

    /// How many receivers are attached to a partition now.
    pub fn attached(&self, partition: &str) -> usize {
        self.partitions_mut().get(&PartitionId::from(partition)).map_or(0, |p| p.attached)
    }

    /// How many receivers of a partition were closed, as they all should be in the end, rather than just dropped.
    pub fn detached(&self, partition: &str) -> usize {
        self.partitions_mut().get(&PartitionId::from(partition)).map_or(0, |p| p.detached)
    }

    fn change<T>(&self, partition: &str, change: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let result = self.partitions_mut().get_mut(&PartitionId::from(partition)).map(change);
        self.inner.changed.send_modify(|n| *n += 1);
        result
    }

    fn partitions_mut(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Partition>> {
        self.inner.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn error(kind: SourceErrorKind) -> SourceError {
    SourceError { kind, detail: "as the test wants it".into() }
}

fn unknown(partition: &PartitionId) -> SourceError {
    SourceError { kind: SourceErrorKind::NotFound, detail: format!("no partition {partition}") }
}

#[async_trait]
impl EventSource for MemoryHub {
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        if let Some(kind) = self.refusing().listing {
            return Err(error(kind));
        }
        Ok(self.partitions_mut().keys().cloned().collect())
    }

    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError> {
        if let Some(kind) = self.refusing().information {
            return Err(error(kind));
        }
        let partitions = self.partitions_mut();
        let events = &partitions.get(partition).ok_or_else(|| unknown(partition))?.events;
        let last = events.last().map_or(-1, |e| e.sequence_number);
        Ok(PartitionInfo {
            id: partition.clone(),
            beginning_sequence_number: events.first().map_or(last + 1, |e| e.sequence_number),
            last_enqueued_sequence_number: last,
            last_enqueued_offset: events.last().map_or_else(|| "-1".into(), |e| e.offset.clone()),
            last_enqueued_time: events.last().map_or(0, |e| e.enqueued_time),
            is_empty: events.is_empty(),
        })
    }

    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        _options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError> {
        let mut partitions = self.partitions_mut();
        let p = partitions.get_mut(partition).ok_or_else(|| unknown(partition))?;
        p.opens.push(start.clone());
        let fault = p.faults.pop_front();
        if let Some(Fault::Open(kind)) = fault {
            return Err(error(kind));
        }
        let mut next = p.events.partition_point(|e| match start {
            StartPosition::Earliest => false,
            StartPosition::After(n) => e.sequence_number <= n,
            StartPosition::EnqueuedTime(t) => e.enqueued_time < t,
        });
        if let Some(Fault::Replay(back)) = fault {
            next = next.saturating_sub(back);
        }
        // Positions are kept as numbers, not indices: events may expire under a receiver.
        let from = p.events.get(next).or(p.events.last()).map_or(0, |e| e.sequence_number);
        let from = if next >= p.events.len() && !p.events.is_empty() { from + 1 } else { from };
        p.attached += 1;
        let changed = self.inner.changed.subscribe();
        Ok(Box::new(Receiver {
            hub: self.clone(),
            partition: partition.clone(),
            next: from,
            delivered: 0,
            fault,
            changed,
        }))
    }
}

struct Receiver {
    hub: MemoryHub,
    partition: PartitionId,
    next: SequenceNumber,
    delivered: usize,
    fault: Option<Fault>,
    changed: watch::Receiver<u64>,
}

impl Receiver {
    /// Appends what is at hand; how many events that is.
    fn take(&mut self, max: usize, events: &mut Vec<Event>) -> Result<usize, SourceError> {
        let room = match self.fault {
            Some(Fault::EndAfter(n, kind)) if self.delivered >= n => return Err(error(kind)),
            Some(Fault::StallAfter(n)) if self.delivered >= n => return Ok(0),
            Some(Fault::StepBackAfter(n)) if self.delivered >= n => {
                self.fault = None;
                self.next = i64::MIN;
                max
            }
            Some(Fault::LoseAfter(n)) if self.delivered >= n => {
                self.fault = None;
                self.next += 1;
                max
            }
            Some(Fault::EndAfter(n, _) | Fault::LoseAfter(n) | Fault::StallAfter(n) | Fault::StepBackAfter(n)) => {
                max.min(n - self.delivered)
            }
            _ => max,
        };
        let partitions = self.hub.partitions_mut();
        let Some(p) = partitions.get(&self.partition) else { return Err(unknown(&self.partition)) };
        let from = p.events.partition_point(|e| e.sequence_number < self.next);
        let before = events.len();
        events.extend(p.events.iter().skip(from).take(room).cloned());
        let taken = events.len() - before;
        if let Some(last) = events.last().filter(|_| taken > 0) {
            self.next = last.sequence_number + 1;
            self.delivered += taken;
        }
        Ok(taken)
    }
}

#[async_trait]
impl PartitionReceiver for Receiver {
    async fn receive(&mut self, max: usize, events: &mut Vec<Event>) -> Result<(), SourceError> {
        loop {
            self.changed.mark_unchanged();
            if self.take(max, events)? > 0 {
                return Ok(());
            }
            // The hub holds a sender for as long as this receiver holds the hub.
            let _ = self.changed.changed().await;
        }
    }

    async fn close(self: Box<Self>) {
        if let Some(p) = self.hub.partitions_mut().get_mut(&self.partition) {
            p.detached += 1;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(p) = self.hub.partitions_mut().get_mut(&self.partition) {
            p.attached -= 1;
        }
    }
}
