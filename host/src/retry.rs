//! How often and after how long something is tried again. Pure: chance comes in as a number, time is the caller's.

use std::time::Duration;

use crate::model::SequenceNumber;

/// The longest pause that a guest may ask for; a larger wish is cut, so that a slip (milliseconds taken for seconds)
/// doesn't put a partition to sleep for a year.
pub const LONGEST_GUEST_PAUSE: Duration = Duration::from_secs(3600);

/// Exponential pauses, doubled from `first` up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Backoff {
    /// The pause after the `failures`-th failure in a row (counted from 1). `chance` in `0.0..1.0` spreads it over its
    /// upper half, so that partitions that failed together don't come back together.
    pub fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let full = self.first.saturating_mul(doubled).min(self.max);
        full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

/// A bounded number of tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included; 0 counts as 1.
    pub attempts: u32,
    /// The first pause.
    pub backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(30) }
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this pause.
    Again(Duration),
    /// The tries are used up.
    GiveUp,
}

impl RetryPolicy {
    /// Decides after the `failures`-th failure in a row (counted from 1). `asked` is a pause that the other side named;
    /// it is kept to, up to [`LONGEST_GUEST_PAUSE`].
    pub fn after(&self, failures: u32, asked: Option<Duration>, chance: f64) -> Next {
        if failures >= self.attempts.max(1) {
            return Next::GiveUp;
        }
        let backoff = Backoff { first: self.backoff, max: self.max_backoff };
        Next::Again(asked.map_or_else(|| backoff.pause(failures, chance), |a| a.min(LONGEST_GUEST_PAUSE)))
    }
}

/// Failures in a row at the same place of a stream. The place matters: after a rewind, events that were fine before are
/// fine again, which is no progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streak {
    failures: u32,
    at: SequenceNumber,
}

impl Streak {
    /// How many there are by now.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// A failure at a batch that begins with this event; how many that makes in a row.
    pub(crate) fn failed(&mut self, first: SequenceNumber) -> u32 {
        self.at = if self.failures == 0 { first } else { self.at.max(first) };
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Events up to this one were answered for. Whether that ended a streak.
    pub(crate) fn passed(&mut self, last: SequenceNumber) -> bool {
        let over = self.failures > 0 && last >= self.at;
        if over {
            self.failures = 0;
        }
        over
    }
}

/// A number in `0.0..1.0` for [`Backoff::pause`].
pub(crate) fn chance() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { attempts: 4, backoff: Duration::from_millis(100), max_backoff: Duration::from_millis(250) };

    #[test]
    fn pauses_double_up_to_the_longest_and_tries_end() {
        let pauses: Vec<Next> = (1..=4).map(|n| POLICY.after(n, None, 1.0)).collect();
        let again = |ms| Next::Again(Duration::from_millis(ms));
        assert_eq!(pauses, [again(100), again(200), again(250), Next::GiveUp]);
    }

    #[test]
    fn chance_keeps_at_least_half_of_the_pause() {
        assert_eq!(POLICY.after(1, None, 0.0), Next::Again(Duration::from_millis(50)));
        assert_eq!(POLICY.after(1, None, 7.0), Next::Again(Duration::from_millis(100)));
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_to_within_reason() {
        assert_eq!(POLICY.after(1, Some(Duration::from_secs(60)), 0.3), Next::Again(Duration::from_secs(60)));
        assert_eq!(POLICY.after(1, Some(Duration::MAX), 0.3), Next::Again(LONGEST_GUEST_PAUSE));
        assert_eq!(POLICY.after(4, Some(Duration::from_secs(1)), 0.3), Next::GiveUp);
    }

    #[test]
    fn only_getting_past_the_failure_ends_a_streak() {
        let mut streak = Streak::default();
        assert_eq!(streak.failed(100), 1);
        assert!(!streak.passed(99), "rewound and replayed up to the failure");
        assert_eq!(streak.failed(50), 2);
        assert!(!streak.passed(60));
        assert_eq!(streak.failed(100), 3);
        assert!(streak.passed(120));
        assert_eq!(streak.failed(-5), 1);
        assert!(streak.passed(-5) && !streak.passed(7));
    }

    #[test]
    fn no_attempts_means_one_and_nothing_overflows() {
        let none = RetryPolicy { attempts: 0, ..POLICY };
        assert_eq!(none.after(1, None, 0.5), Next::GiveUp);
        let endless = Backoff { first: Duration::from_secs(1), max: Duration::MAX };
        assert!(endless.pause(u32::MAX, 0.9) > Duration::from_secs(1));
    }
}
