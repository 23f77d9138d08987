//! How much of something an instance may do per second, with room for a burst. Pure: the time comes in.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds' worth that may come at once, after as many seconds of silence. A batch's lines and outputs come in one go, so with
/// less than a few seconds an even load would meet its own limit.
const BURST: u64 = 10;

/// A token bucket.
pub(super) struct Rate {
    per_second: u64,
    /// Millionths of one, so that slow rates don't lose what a short time brings.
    left: u128,
    since: Instant,
}

const WHOLE: u128 = 1_000_000;

impl Rate {
    /// Full, as after a long silence.
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        let mut rate = Self { per_second, left: 0, since: now };
        rate.left = rate.most();
        rate
    }

    fn most(&self) -> u128 {
        u128::from(self.per_second) * u128::from(BURST) * WHOLE
    }

    /// Whether `n` more are within the rate. Nothing is taken yet.
    pub(super) fn allows(&mut self, n: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed >= Duration::from_micros(1) {
            self.left = (self.left + passed.as_micros() * u128::from(self.per_second)).min(self.most());
            self.since = now;
        }
        u128::from(n) * WHOLE <= self.left
    }

    /// Takes what [`Self::allows`] allowed.
    pub(super) fn take(&mut self, n: u64) {
        self.left = self.left.saturating_sub(u128::from(n) * WHOLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_what_time_brings() {
        let start = Instant::now();
        let mut rate = Rate::new(2, start);
        assert!(!rate.allows(21, start));
        assert!(rate.allows(20, start));
        rate.take(20);
        assert!(!rate.allows(1, start + Duration::from_millis(499)));
        assert!(rate.allows(1, start + Duration::from_millis(500)));
        assert!(!rate.allows(2, start + Duration::from_millis(999)), "asking often loses nothing and gains nothing");
        assert!(rate.allows(2, start + Duration::from_secs(1)));
        assert!(rate.allows(20, start + Duration::from_secs(3600)));
        assert!(!rate.allows(21, start + Duration::from_secs(7200)), "silence saves up for one burst only");
    }

    #[test]
    fn a_clock_that_stands_or_steps_back_brings_nothing() {
        let start = Instant::now();
        let mut rate = Rate::new(1, start);
        rate.take(10);
        assert!(!rate.allows(1, start));
        assert!(rate.allows(1, start + Duration::from_secs(1)));
        rate.take(1);
        assert!(!rate.allows(1, start));
    }
}
