//! Waking up without an event: ask with [`wake_at`], answer in [`Processor::tick`](crate::Processor::tick).
//!
//! There is one request at a time. The earliest of several wins, and a tick uses it up: whoever waits for more asks again in that tick.
//! The request is part of the state. It outlives restarts, and a call that fails takes back what it asked for. Times are
//! milliseconds since 1970, as everywhere in the contract.
//!
//! ```
//! # use std::time::Duration;
//! use weir_guest::timers;
//! timers::wake_after(Duration::from_secs(30));
//! timers::wake_at(timers::now() + 30_000); // the same
//! ```

use std::time::{Duration, SystemTime};

use crate::ack::millis;
use crate::host;

/// Asks for one tick at or after this time.
pub fn wake_at(at: i64) {
    host::wake_at(at);
}

/// Asks for one tick at or after this much time.
pub fn wake_after(after: Duration) {
    wake_at(later(now(), after));
}

/// The host's clock. Two runs over the same events see different times, so what is computed from it is not repeatable: take an event's
/// own time where there is one. In a [`Harness`](crate::testing::Harness) it stands still until it is advanced.
pub fn now() -> i64 {
    host::now()
}

/// As the contract has times.
pub fn timestamp(time: SystemTime) -> i64 {
    let millis = |distance: Duration| i64::try_from(distance.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// This time and that much more.
pub(crate) fn later(time: i64, by: Duration) -> i64 {
    time.saturating_add_unsigned(millis(by))
}
