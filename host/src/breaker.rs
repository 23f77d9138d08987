//! Tells a guest that fails at everything from one that fails at an event: the circuit breaker of a partition. Pure.
//!
//! An event at which the guest fails alone is set aside first, and given up (dead-lettered, dropped) when a later one has worked, or when
//! there is nothing later in hand. Too many in a row without one that works *open* the breaker: none of those is given up, the partition
//! rests, and then begins with the first of them again. Until the guest has worked once more, nothing is given up without a later event
//! that works, so a broken guest, or a service that it needs and that is away, never empties a hub into the dead letters. What an outage
//! can cost is less than `failures` events when it begins (only where batches are shorter than that), and as many when it ends in the
//! middle of a trial: those that failed in that trial, before the first that worked.

use std::time::Duration;

use crate::retry::Backoff;

/// When a guest counts as broken, and how long its partition rests then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Events in a row at which it fails, each alone; at least 2.
    pub failures: u32,
    /// The first rest and the longest; doubled each time.
    pub rest: Backoff,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 10, rest: Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) } }
    }
}

/// The breaker of one partition.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    /// Events given up in a row.
    given_up: u32,
    /// How often it has opened in a row.
    opened: u32,
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, given_up: 0, opened: 0 }
    }

    /// Whether the guest counts as working.
    pub(crate) fn is_closed(&self) -> bool {
        self.opened == 0
    }

    /// How many failed in a row, with so many that are set aside and not yet given up.
    pub(crate) fn in_a_row(&self, aside: usize) -> u32 {
        self.given_up.saturating_add(u32::try_from(aside).unwrap_or(u32::MAX))
    }

    /// Whether that is too many.
    pub(crate) fn trips(&self, aside: usize) -> bool {
        self.in_a_row(aside) >= self.policy.failures.max(2)
    }

    /// Opens; how long to rest.
    pub(crate) fn open(&mut self, chance: f64) -> Duration {
        self.given_up = 0;
        self.opened = self.opened.saturating_add(1);
        self.policy.rest.pause(self.opened, chance)
    }

    /// So many were given up although none later has worked.
    pub(crate) fn gave_up(&mut self, events: usize) {
        self.given_up = self.in_a_row(events);
    }

    /// The guest has finished an event. Whether it counted as broken.
    pub(crate) fn worked(&mut self) -> bool {
        self.given_up = 0;
        std::mem::take(&mut self.opened) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_in_a_row_open_it_longer_each_time_and_one_that_works_closes_it() {
        let rest = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(3) };
        let mut breaker = Breaker::new(BreakerPolicy { failures: 3, rest });
        breaker.gave_up(1);
        assert!(!breaker.trips(1) && breaker.trips(2));
        let rests: Vec<Duration> = (0..3).map(|_| breaker.open(1.0)).collect();
        assert_eq!(rests, [1, 2, 3].map(Duration::from_secs));
        assert!(!breaker.is_closed() && !breaker.trips(2) && breaker.trips(3), "as many are looked at again");
        assert!(breaker.worked() && breaker.is_closed() && !breaker.worked());
        assert_eq!(breaker.open(1.0), Duration::from_secs(1));
    }
}
