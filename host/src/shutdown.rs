//! How a host ends: drain first, within a deadline, then a hard stop.
//!
//! On the signal every pump drains at once: it stops receiving, the call to the guest that is under way may end
//! (batches that wait are dropped and read again another time), what is settled is emitted and committed, and the
//! partition is released. What is not done by the deadline is dropped where it is: nothing is lost by that, but the
//! uncommitted part is processed again.
//!
//! A run with an end (`--until-caught-up`) has none of this: each partition ends by itself when all events up to the
//! newest one at the beginning of the run were handed over, answered, emitted and committed. A processor that holds
//! events back ends there too, with its checkpoint below and the number of events held in the outcome: it was given
//! everything, and only more events could move it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The host's wish to end, as its parts see it.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    drain: CancellationToken,
    began: Arc<OnceLock<Instant>>,
    deadline: Duration,
}

impl Shutdown {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self { drain: CancellationToken::new(), began: Arc::default(), deadline }
    }

    /// Begins the drain.
    pub(crate) fn begin(&self) {
        let _ = self.began.set(Instant::now());
        self.drain.cancel();
    }

    /// Cancelled when the drain begins.
    pub(crate) fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Waits for the drain to begin, then for its deadline. The time counts from the beginning, whenever one waits for it.
    pub(crate) async fn deadline(&self) {
        self.drain.cancelled().await;
        let began = self.began.get().copied().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(began + self.deadline).await;
    }
}
