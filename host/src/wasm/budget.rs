//! Time: how long a guest may compute, and how long it may wait inside the host, per call.
//!
//! Computing is counted in slices. The epoch ticks every few milliseconds; at each tick a guest that is computing loses a
//! slice and lets others have their turn. What neighbours do in between costs it nothing: its next slice begins when it runs
//! again. A call that has no slice left is interrupted where it stands, which gives a backtrace of an endless loop.
//!
//! Waiting (a guest can sleep, or poll a clock) consumes no slices, so [`Bounded`] measures it on the clock.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};
use wasmtime::UpdateDeadline;

/// The slices of one store.
pub(super) struct Slices {
    left: u64,
    per_call: u64,
    /// Set when the guest stopped to let others run, and not to wait. Shared with [`Bounded`]: the store can't be looked into
    /// while a call holds it.
    yielded: Arc<AtomicBool>,
}

impl Slices {
    /// As many as make `time`, and one more, since the first is already running when a call begins.
    pub(super) fn new(time: Duration, tick: Duration) -> Self {
        let per_call = u64::try_from(time.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(u64::MAX - 1) + 1;
        Self { left: per_call, per_call, yielded: Arc::default() }
    }

    /// A call begins.
    pub(super) fn refill(&mut self) -> Arc<AtomicBool> {
        self.left = self.per_call;
        Arc::clone(&self.yielded)
    }

    /// A tick came while the guest was computing.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return UpdateDeadline::Interrupt;
        }
        self.yielded.store(true, Ordering::Relaxed);
        UpdateDeadline::Yield(1)
    }
}

/// The call waited inside the host for longer than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WaitedTooLong;

/// A guest call whose waiting is bounded.
pub(super) struct Bounded<F> {
    call: F,
    yielded: Arc<AtomicBool>,
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<F: Future + Unpin> Bounded<F> {
    /// Bounds the waiting of `call`, whose store says in `yielded` when it doesn't wait.
    pub(super) fn new(call: F, yielded: Arc<AtomicBool>, left: Duration) -> Self {
        Self { call, yielded, left, waiting: None }
    }
}

impl<F: Future + Unpin> Future for Bounded<F> {
    type Output = Result<F::Output, WaitedTooLong>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.yielded.store(false, Ordering::Relaxed);
        if let Poll::Ready(output) = Pin::new(&mut self.call).poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Some((since, _)) = &self.waiting
            && self.yielded.load(Ordering::Relaxed)
        {
            self.left = self.left.saturating_sub(since.elapsed());
            self.waiting = None;
        }
        if self.yielded.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let left = self.left;
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        timer.as_mut().poll(cx).map(|()| Err(WaitedTooLong))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

    use std::future::{pending, poll_fn};
    use std::pin::pin;

    use super::*;

    #[test]
    fn slices_are_spent_one_a_tick_and_refilled_for_each_call() {
        let mut slices = Slices::new(Duration::from_millis(10), Duration::from_millis(5));
        let yielded = slices.refill();
        assert!(matches!(slices.tick(), UpdateDeadline::Yield(1)));
        assert!(yielded.load(Ordering::Relaxed));
        assert!(matches!(slices.tick(), UpdateDeadline::Yield(1)));
        assert!(matches!(slices.tick(), UpdateDeadline::Interrupt));
        let _ = slices.refill();
        assert!(matches!(slices.tick(), UpdateDeadline::Yield(1)));
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn waiting_is_bounded() {
        runtime().block_on(async {
            let call = Box::pin(pending::<()>());
            assert_eq!(Bounded::new(call, Arc::default(), Duration::from_millis(5)).await, Err(WaitedTooLong));
        });
    }

    #[test]
    fn yielding_is_not_waiting() {
        runtime().block_on(async {
            let yielded = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&yielded);
            let mut turns = 0;
            let call = pin!(poll_fn(move |cx| {
                turns += 1;
                flag.store(true, Ordering::Relaxed);
                cx.waker().wake_by_ref();
                if turns == 1000 { Poll::Ready(turns) } else { Poll::Pending }
            }));
            assert_eq!(Bounded::new(call, yielded, Duration::ZERO).await, Ok(1000));
        });
    }
}
