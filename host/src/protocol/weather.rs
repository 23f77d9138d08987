//! What a story is made of: how long things take, and what goes wrong. Everything is drawn from the seed.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// What kind of story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Hosts come and go in good order; nothing fails.
    Calm,
    /// One host dies; nothing else fails.
    Death,
    /// A fleet, with everything that fails in one.
    Storm,
    /// Ownership changes hands at any moment, whatever a fleet would do.
    Wild,
    /// The same, with another SDK in the group.
    Foreign,
    /// Ownership records are deleted again and again, and who had them stands still meanwhile.
    Deleted,
}

impl Mood {
    pub(super) fn of(seed: u64) -> Self {
        match seed % 16 {
            0 => Self::Calm,
            1 => Self::Death,
            2..=3 => Self::Storm,
            4 => Self::Foreign,
            5 => Self::Deleted,
            _ => Self::Wild,
        }
    }

    /// Whether balancers say who claims.
    pub(super) fn is_fleet(self) -> bool {
        matches!(self, Self::Calm | Self::Death | Self::Storm)
    }

    fn is_lossy(self) -> bool {
        matches!(self, Self::Storm | Self::Wild | Self::Foreign | Self::Deleted)
    }
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A host claims, whoever has it.
    Steal,
    /// A host releases.
    Drain,
    /// A host leaves in good order.
    Leave,
    Crash,
    /// A process stands still, and goes on later as if nothing had been.
    Freeze,
    DropLink,
    StepBack,
    DeleteOwnership,
    ForeignCommit,
}

/// How long things take, and how often they fail.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) mood: Mood,
    pub(super) hosts: usize,
    pub(super) partitions: usize,
    /// Events per partition.
    pub(super) events: i64,
    /// Usual and longest way of a message.
    pub(super) latency: Duration,
    pub(super) slow: Duration,
    /// How long a host waits for an answer.
    pub(super) timeout: Duration,
    pub(super) work: Duration,
    pub(super) cadence: Duration,
    pub(super) tick: Duration,
    pub(super) expiry: Duration,
    /// Between two troubles.
    pub(super) pause: Duration,
    /// When the weather clears.
    pub(super) clears: Duration,
    /// When everything must be done.
    pub(super) horizon: Duration,
    /// Of 100 messages, how many are slow or lost.
    pub(super) percent_slow: u32,
    pub(super) percent_lost: u32,
    /// Of 100 answers of a guest, how many finish nothing yet.
    pub(super) percent_hold: u32,
    /// Hosts renew nothing: their signs stand for all of their ownerships.
    pub(super) exclusive: bool,
}

impl Weather {
    pub(super) fn draw(mood: Mood, rng: &mut SmallRng) -> Self {
        let lossy = mood.is_lossy();
        let rate = |rng: &mut SmallRng, most| if lossy { rng.random_range(0..=most) } else { 0 };
        let unit = if mood.is_fleet() { Duration::from_secs(1) } else { Duration::from_millis(10) };
        Self {
            mood,
            hosts: rng.random_range(2..=3),
            partitions: if mood.is_fleet() { rng.random_range(1..=3) } else { 1 },
            events: rng.random_range(3..=10),
            latency: unit / 20,
            slow: if mood.is_fleet() { unit * 40 } else { unit * 150 },
            timeout: unit * 8,
            work: if mood.is_fleet() { unit * 3 } else { unit * 2 },
            cadence: unit * rng.random_range(2..=10),
            tick: unit,
            expiry: unit * 60,
            pause: if mood.is_fleet() { unit * 20 } else { unit * rng.random_range(4..=20) },
            clears: unit * 200,
            horizon: unit * 800,
            percent_slow: rate(rng, 30),
            percent_lost: rate(rng, 15),
            percent_hold: rate(rng, 30),
            exclusive: mood.is_fleet() && rng.random_bool(0.5),
        }
    }

    pub(super) fn troubles(&self) -> &'static [Trouble] {
        use Trouble::{Crash, DeleteOwnership, Drain, DropLink, ForeignCommit, Freeze, Leave, Steal, StepBack};
        match self.mood {
            Mood::Calm => &[Leave],
            Mood::Death => &[],
            Mood::Storm => &[Crash, Freeze, DropLink, DropLink, StepBack, Leave, DeleteOwnership],
            Mood::Wild => &[Steal, Steal, Steal, Drain, Crash, Freeze, DropLink, DropLink, StepBack, DeleteOwnership],
            Mood::Deleted => &[Steal, Steal, Freeze, Freeze, DeleteOwnership],
            Mood::Foreign => &[Steal, Steal, Steal, Drain, Crash, DropLink, ForeignCommit],
        }
    }

    /// The way of a message.
    pub(super) fn way(&self, rng: &mut SmallRng, clear: bool) -> Duration {
        let slow = !clear && rng.random_range(0..100) < self.percent_slow;
        below(rng, if slow { self.slow } else { self.latency * 2 })
    }

    pub(super) fn loses(&self, rng: &mut SmallRng, clear: bool) -> bool {
        !clear && rng.random_range(0..100) < self.percent_lost
    }
}

/// Any time up to this one, in whole milliseconds, and never none.
pub(super) fn below(rng: &mut SmallRng, most: Duration) -> Duration {
    Duration::from_millis(rng.random_range(1..=most.as_millis().max(1) as u64))
}
