//! Seeded fault wrappers: whatever they wrap now and then fails before it acted, after it acted, or late.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::model::{
    Checkpoint, ETag, Event, Mark, Output, OwnerId, PartitionId, PartitionInfo, StartPosition, Tenancy,
};
use crate::seams::{
    CheckpointStore, EventSource, Listing, OpenOptions, PartitionReceiver, Presence, Sink, SinkError, SourceError,
    SourceErrorKind, StoreError, Written,
};

/// How likely each fault is, `0.0..=1.0` per call.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// The call does nothing and says so.
    pub not_done: f64,
    /// The call does nothing, but only says that something went wrong.
    pub unknown_not_done: f64,
    /// The call is done, but says that something went wrong.
    pub unknown_done: f64,
    /// A write says that something went wrong and is done later, when its sender has gone on (stores only).
    pub late: f64,
    /// Each call, and each late write, takes up to this long.
    pub delay: Duration,
}

impl Faults {
    /// No faults and no delays.
    pub const NONE: Self =
        Self { not_done: 0.0, unknown_not_done: 0.0, unknown_done: 0.0, late: 0.0, delay: Duration::ZERO };

    /// A bad day: each fault once in ten calls, and delays up to 20 ms.
    pub const MANY: Self =
        Self { not_done: 0.1, unknown_not_done: 0.1, unknown_done: 0.1, late: 0.1, delay: Duration::from_millis(20) };
}

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    NotDone,
    UnknownNotDone,
    UnknownDone,
    Late(Duration),
}

#[derive(Debug)]
struct Dice {
    faults: Mutex<Faults>,
    rng: Mutex<SmallRng>,
}

impl Dice {
    fn new(seed: u64, faults: Faults) -> Self {
        Self { faults: Mutex::new(faults), rng: Mutex::new(SmallRng::seed_from_u64(seed)) }
    }

    fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    async fn throw(&self) -> Fate {
        let (fate, delay) = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let f = *self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let late = f.delay.mul_f64(1.0 + rng.random::<f64>());
            let mut x: f64 = rng.random();
            let mut fate = Fate::Fine;
            for (chance, candidate) in [
                (f.not_done, Fate::NotDone),
                (f.unknown_not_done, Fate::UnknownNotDone),
                (f.unknown_done, Fate::UnknownDone),
                (f.late, Fate::Late(late)),
            ] {
                if x < chance {
                    fate = candidate;
                    break;
                }
                x -= chance;
            }
            (fate, f.delay.mul_f64(rng.random()))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fate
    }
}

/// A checkpoint store with faults.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: Arc<S>,
    dice: Dice,
}

impl<S> FaultyStore<S> {
    /// Wraps a store.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        Self { inner: Arc::new(inner), dice: Dice::new(seed, faults) }
    }

    /// Other faults from now on.
    pub fn set(&self, faults: Faults) {
        self.dice.set(faults);
    }

    /// The store inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

fn not_done() -> StoreError {
    StoreError::Determinate("the store refused, as the test wants it".into())
}

fn unknown() -> StoreError {
    StoreError::Indeterminate("the connection ended, as the test wants it".into())
}

impl<S: CheckpointStore> FaultyStore<S> {
    async fn read<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        match self.dice.throw().await {
            Fate::Fine => call.await,
            _ => Err(not_done()),
        }
    }

    /// `call` makes the write, which begins when it is first polled.
    async fn write<T, F>(&self, call: impl FnOnce(Arc<S>) -> F + Send) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let write = call(Arc::clone(&self.inner));
        match self.dice.throw().await {
            Fate::Fine => write.await,
            Fate::NotDone => Err(not_done()),
            Fate::UnknownNotDone => Err(unknown()),
            Fate::UnknownDone => write.await.and_then(|_| Err(unknown())),
            Fate::Late(after) => {
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    write.await
                });
                Err(unknown())
            }
        }
    }
}

#[async_trait]
impl<S: CheckpointStore> CheckpointStore for FaultyStore<S> {
    async fn list(&self) -> Result<Listing, StoreError> {
        self.read(self.inner.list()).await
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        let (partition, owner, expected) = (partition.clone(), owner.clone(), expected.cloned());
        self.write(|inner| async move { inner.claim(&partition, &owner, mark, expected.as_ref()).await }).await
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        let tenancy = tenancy.clone();
        self.write(|inner| async move { inner.renew(&tenancy).await }).await
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        let tenancy = tenancy.clone();
        self.write(|inner| async move { inner.release(&tenancy).await }).await
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        let (presence, expected) = (presence.clone(), expected.cloned());
        self.write(|inner| async move { inner.announce(&presence, expected.as_ref()).await }).await
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        let (owner, expected) = (owner.clone(), expected.clone());
        self.write(|inner| async move { inner.withdraw(&owner, &expected).await }).await
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        self.read(self.inner.load(partition)).await
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let (partition, checkpoint, expected) = (partition.clone(), checkpoint.clone(), expected.cloned());
        self.write(|inner| async move { inner.commit(&partition, &checkpoint, expected.as_ref()).await }).await
    }
}

/// A sink with faults: what it reports as failed it may have accepted in part or in full.
#[derive(Debug)]
pub struct FaultySink<S> {
    inner: S,
    dice: Dice,
}

impl<S> FaultySink<S> {
    /// Wraps a sink.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        Self { inner, dice: Dice::new(seed, faults) }
    }
}

#[async_trait]
impl<S: Sink> Sink for FaultySink<S> {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        let accepted = match self.dice.throw().await {
            Fate::Fine => return self.inner.publish(outputs).await,
            Fate::NotDone | Fate::UnknownNotDone => 0,
            Fate::UnknownDone => outputs.len(),
            Fate::Late(_) => outputs.len() / 2,
        };
        self.inner.publish(outputs.get(..accepted).unwrap_or_default()).await?;
        Err(SinkError::Transient("the link to the sink ended, as the test wants it".into()))
    }

    fn max_output_bytes(&self) -> usize {
        self.inner.max_output_bytes()
    }
}

/// A source with faults: opens fail, and links end while they are read.
#[derive(Debug)]
pub struct FaultySource<S> {
    inner: S,
    dice: Arc<Dice>,
}

impl<S> FaultySource<S> {
    /// Wraps a source.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        Self { inner, dice: Arc::new(Dice::new(seed, faults)) }
    }
}

fn broken() -> SourceError {
    SourceError { kind: SourceErrorKind::Transient, detail: "as the test wants it".into() }
}

#[async_trait]
impl<S: EventSource> EventSource for FaultySource<S> {
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        match self.dice.throw().await {
            Fate::Fine => self.inner.partitions().await,
            _ => Err(broken()),
        }
    }

    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError> {
        match self.dice.throw().await {
            Fate::Fine => self.inner.partition_info(partition).await,
            _ => Err(broken()),
        }
    }

    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError> {
        match self.dice.throw().await {
            Fate::Fine => {
                let inner = self.inner.open(partition, start, options).await?;
                Ok(Box::new(FaultyReceiver { inner, dice: Arc::clone(&self.dice) }))
            }
            _ => Err(broken()),
        }
    }
}

struct FaultyReceiver {
    inner: Box<dyn PartitionReceiver>,
    dice: Arc<Dice>,
}

#[async_trait]
impl PartitionReceiver for FaultyReceiver {
    async fn receive(&mut self, max: usize, events: &mut Vec<Event>) -> Result<(), SourceError> {
        match self.dice.throw().await {
            Fate::Fine => self.inner.receive(max, events).await,
            _ => Err(broken()),
        }
    }

    async fn close(self: Box<Self>) {
        self.inner.close().await;
    }
}
