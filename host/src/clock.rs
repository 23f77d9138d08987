//! What time it is, for what is promised in time: a processor's wake-ups.
//!
//! The system's clock may be set while somebody waits for it, so nobody waits long without looking again.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use crate::model::Timestamp;

/// The longest time without a look at the clock.
const LOOK: Duration = Duration::from_secs(10);

/// A clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Of a clock that follows tokio's: what it showed, and when.
    follows: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// One that shows this time now and goes on as tokio's does, for tests whose time is virtual.
    pub fn virtual_from(now: Timestamp) -> Self {
        Self { follows: Some((now, Instant::now())) }
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        let millis = |passed: Duration| Timestamp::try_from(passed.as_millis()).unwrap_or(Timestamp::MAX);
        match self.follows {
            Some((shown, at)) => shown.saturating_add(millis(at.elapsed())),
            None => millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        }
    }

    /// Waits until it shows this time or a later one.
    pub(crate) async fn reaches(&self, at: Timestamp) {
        while let Ok(left @ 1..) = u64::try_from(at.saturating_sub(self.now())) {
            sleep(Duration::from_millis(left).min(LOOK)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_reached_exactly_then() {
        let clock = Clock::virtual_from(-500);
        clock.reaches(-500).await;
        clock.reaches(Timestamp::MIN).await;
        assert_eq!(clock.now(), -500);
        clock.reaches(100_000).await;
        assert_eq!(clock.now(), 100_000);
    }

    #[test]
    fn the_systems_clock_shows_milliseconds_of_this_century() {
        assert!((1_700_000_000_000..4_000_000_000_000).contains(&Clock::default().now()));
    }
}
