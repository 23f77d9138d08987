//! A sink in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::Output;
use crate::seams::{Sink, SinkError};

/// A sink that records what it accepts. It can be corked: then it accepts nothing and answers nothing. Clones are the
/// same sink.
#[derive(Clone, Debug)]
pub struct MemorySink {
    inner: Arc<Mutex<Inner>>,
    corked: Arc<watch::Sender<bool>>,
    /// What each output takes, and the most of one publish.
    pace: (Duration, usize),
}

#[derive(Debug, Default)]
struct Inner {
    accepted: Vec<Output>,
    publishes: usize,
    failures: VecDeque<SinkError>,
}

impl Default for MemorySink {
    fn default() -> Self {
        Self { inner: Arc::default(), corked: Arc::new(watch::Sender::new(false)), pace: (Duration::ZERO, 4096) }
    }
}

impl MemorySink {
    /// An empty sink, not corked.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same sink, but each output takes this long, and a publish takes so many at most.
    pub fn paced(self, each: Duration, at_once: usize) -> Self {
        Self { pace: (each, at_once), ..self }
    }

    /// Corks it, or opens it again; what waited then goes through.
    pub fn cork(&self, corked: bool) {
        self.corked.send_replace(corked);
    }

    /// Lets the next publish fail like this; several are used up in order.
    pub fn fail(&self, error: SinkError) {
        self.lock().failures.push_back(error);
    }

    /// Everything accepted so far, in order, repeats included.
    pub fn accepted(&self) -> Vec<Output> {
        self.lock().accepted.clone()
    }

    /// The ids of everything accepted so far, in order, repeats included.
    pub fn ids(&self) -> Vec<String> {
        self.lock().accepted.iter().map(|o| o.id.to_string()).collect()
    }

    /// How many publishes were tried.
    pub fn publishes(&self) -> usize {
        self.lock().publishes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        self.lock().publishes += 1;
        let mut corked = self.corked.subscribe();
        // The sender lives as long as this sink.
        let _ = corked.wait_for(|corked| !corked).await;
        if !self.pace.0.is_zero() {
            tokio::time::sleep(self.pace.0 * u32::try_from(outputs.len()).unwrap_or(u32::MAX)).await;
        }
        let mut inner = self.lock();
        if let Some(error) = inner.failures.pop_front() {
            return Err(error);
        }
        inner.accepted.extend_from_slice(outputs);
        Ok(())
    }

    fn max_output_bytes(&self) -> usize {
        1 << 20
    }

    fn max_outputs(&self) -> usize {
        self.pace.1
    }
}
