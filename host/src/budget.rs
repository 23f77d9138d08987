//! One cap, for the whole process, on the bytes of events that are in flight: received, but not yet settled downstream.
//!
//! A pump passes the gate before it takes anything from its receiver; what it took is charged afterwards, when its
//! weight is known. So the cap can be exceeded by what was taken through one passage per pump, and in return an idle
//! partition holds nothing, one event larger than the cap still passes, and nothing can dead-lock: whoever holds bytes
//! never needs more to give them back. The gate is first come, first served: a busy partition can't starve a quiet one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// The process-wide cap.
#[derive(Debug)]
pub(crate) struct Budget {
    cap: usize,
    /// Bytes that are free.
    free: Semaphore,
    /// Bytes charged beyond the cap: paid before anything becomes free again.
    debt: Mutex<usize>,
}

/// Bytes in flight; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(cap: usize) -> Arc<Self> {
        let cap = cap.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { cap, free: Semaphore::new(cap), debt: Mutex::new(0) })
    }

    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    /// Bytes in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        let debt = self.debt();
        self.cap - self.free.available_permits().min(self.cap) + *debt
    }

    /// Waits for its turn and for at least one free byte. Reserves nothing.
    pub(crate) async fn gate(&self) {
        // Never closed, so the only outcome is a permit, which goes back at once.
        let _turn = self.free.acquire().await;
    }

    /// Charges what was taken, beyond the cap if need be.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let mut debt = self.debt();
        *debt += bytes - self.free.forget_permits(bytes);
        Charge { budget: Arc::clone(self), bytes }
    }

    fn debt(&self) -> MutexGuard<'_, usize> {
        self.debt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Charge {
    /// Charges as much more, beyond the cap if need be.
    pub(crate) fn more(&self, bytes: usize) -> Self {
        self.budget.charge(bytes)
    }

    /// Moves up to `bytes` of this charge to a charge of their own.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    /// Adds another charge to this one.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut debt = self.budget.debt();
        let paid = self.bytes.min(*debt);
        *debt -= paid;
        self.budget.free.add_permits(self.bytes - paid);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_charge_beyond_the_cap_closes_the_gate_until_the_debt_is_paid() {
        let budget = Budget::new(100);
        let first = budget.charge(60);
        assert!(budget.gate().now_or_never().is_some());
        let huge = budget.charge(1000);
        assert_eq!(budget.in_flight(), 1060);
        assert!(budget.gate().now_or_never().is_none());
        drop(first);
        assert!(budget.gate().now_or_never().is_none(), "1000 of 100 are still in flight");
        drop(huge);
        assert_eq!(budget.in_flight(), 0);
        assert!(budget.gate().now_or_never().is_some());
    }

    #[test]
    fn charges_split_and_join_without_loss() {
        let budget = Budget::new(100);
        let mut all = budget.charge(80);
        let part = all.split(30);
        drop(part);
        assert_eq!(budget.in_flight(), 50);
        all.absorb(budget.charge(70));
        assert_eq!(budget.in_flight(), 120);
        let rest = all.split(usize::MAX);
        drop(all);
        assert_eq!(budget.in_flight(), 120);
        drop(rest);
        assert_eq!(budget.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_serves_in_order_so_a_busy_pump_cant_starve_a_quiet_one() {
        let budget = Budget::new(10);
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = budget.charge(10);
        let mut waiting = Vec::new();
        for name in ["quiet", "busy", "busy again"] {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                budget.gate().await;
                order.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            }));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(held);
        for task in waiting {
            assert!(task.await.is_ok());
        }
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), ["quiet", "busy", "busy again"]);
    }
}
