//! A guest in plain Rust that does as the story says and remembers what it saw.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::guest::{Answer, Batch, CloseReason, Failure, Instance, Opening, Processor};
use crate::model::Timestamp;
use crate::state::PartitionState;

type Act = dyn Fn(&Call<'_>) -> Result<Answer, Failure> + Send + Sync;
type Wake = dyn Fn(&PartitionState, Timestamp) -> Result<Answer, Failure> + Send + Sync;

/// What a guest is asked.
pub(super) struct Call<'a> {
    pub(super) batch: &'a Batch,
    /// Which call of this processor it is, from 0.
    pub(super) nth: usize,
    pub(super) partition: &'a str,
    /// What it keeps in the host, if it does.
    pub(super) state: &'a PartitionState,
}

#[derive(Clone)]
pub(super) struct TestGuest {
    act: Arc<Act>,
    keeps_state: bool,
    wake: Option<Arc<Wake>>,
    takes: Duration,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
pub(super) struct Log {
    pub(super) openings: Vec<Opening>,
    /// Partition and sequence numbers of each call.
    pub(super) calls: Vec<(String, Vec<i64>)>,
    pub(super) closed: Vec<CloseReason>,
    /// When it was woken.
    pub(super) ticks: Vec<Timestamp>,
}

impl TestGuest {
    pub(super) fn new(act: impl Fn(&Call<'_>) -> Result<Answer, Failure> + Send + Sync + 'static) -> Self {
        Self { act: Arc::new(act), keeps_state: false, wake: None, takes: Duration::ZERO, log: Arc::default() }
    }

    /// The same, with state.
    pub(super) fn keeping_state(self) -> Self {
        Self { keeps_state: true, ..self }
    }

    /// The same, with state, and so when it is woken.
    pub(super) fn waking(
        self,
        wake: impl Fn(&PartitionState, Timestamp) -> Result<Answer, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self { keeps_state: true, wake: Some(Arc::new(wake)), ..self }
    }

    /// The same, with calls that take this long.
    pub(super) fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    pub(super) fn log<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&self.log.lock().unwrap())
    }

    /// The first and last sequence number of each call.
    pub(super) fn calls(&self) -> Vec<(i64, i64)> {
        self.log(|log| log.calls.iter().map(|(_, n)| (n[0], n[n.len() - 1])).collect())
    }

    /// Every sequence number handed over, repeats included.
    pub(super) fn seen(&self) -> Vec<i64> {
        self.log(|log| log.calls.iter().flat_map(|(_, n)| n.clone()).collect())
    }
}

#[async_trait]
impl Processor for TestGuest {
    async fn open(&self, opening: Opening) -> Result<Box<dyn Instance>, Failure> {
        let (partition, state) = (opening.partition.to_string(), opening.state.clone());
        self.log.lock().unwrap().openings.push(opening);
        Ok(Box::new(TestInstance { guest: self.clone(), partition, state }))
    }

    fn uses_state(&self) -> bool {
        self.keeps_state
    }
}

struct TestInstance {
    guest: TestGuest,
    partition: String,
    state: PartitionState,
}

#[async_trait]
impl Instance for TestInstance {
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure> {
        let nth = {
            let mut log = self.guest.log.lock().unwrap();
            log.calls.push((self.partition.clone(), batch.events().iter().map(|e| e.sequence_number).collect()));
            log.calls.len() - 1
        };
        if !self.guest.takes.is_zero() {
            tokio::time::sleep(self.guest.takes).await;
        }
        (self.guest.act)(&Call { batch: &batch, nth, partition: &self.partition, state: &self.state })
    }

    async fn tick(&mut self, now: Timestamp) -> Result<Answer, Failure> {
        self.guest.log.lock().unwrap().ticks.push(now);
        let wake = self.guest.wake.as_ref().expect("it never asked");
        wake(&self.state, now)
    }

    async fn close(self: Box<Self>, reason: CloseReason) {
        self.guest.log.lock().unwrap().closed.push(reason);
    }
}
