//! The live state of a partition, and the way back from it: what the call in hand changed, and the versions before it. Pure.
//!
//! A version is the state as of exactly one event. Each keeps what its keys were before and became, so that what a call costs is what it
//! changed, however large the state is. The versions that an accepted watermark has passed are folded into the tail of what is stored
//! (`stored.rs`): nobody goes back behind them. When the rest costs more than it may, neighbours become one. That only makes commits and
//! rewinds coarser: there are fewer events that they may stand at.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::codec::Change;
use super::stored::{Plan, Stored};
use crate::model::{Position, SequenceNumber, Timestamp};

/// What a key counts besides itself and its value, about what it costs in memory: otherwise many small ones could cost a multiple of the
/// limit.
pub(super) const KEY: usize = 64;

/// What a step and a version cost besides.
const STEP: usize = 64;
const VERSION: usize = 160;

/// What a whole state comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) keys: usize,
    /// Keys, values, and [`KEY`] for each key.
    pub(super) size: usize,
    pub(super) wake: Option<Timestamp>,
}

impl Totals {
    pub(super) fn of(map: &BTreeMap<Arc<str>, Bytes>, wake: Option<Timestamp>) -> Self {
        Self { keys: map.len(), size: map.iter().map(|(key, value)| cost(key, value)).sum(), wake }
    }
}

fn cost(key: &str, value: &Bytes) -> usize {
    KEY + key.len() + value.len()
}

/// What a key was and became.
#[derive(Debug)]
struct Step {
    before: Option<Bytes>,
    after: Option<Bytes>,
}

impl Step {
    fn is_nothing(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }

    fn weight(&self, key: &str) -> usize {
        STEP + key.len() + self.before.as_ref().map_or(0, Bytes::len) + self.after.as_ref().map_or(0, Bytes::len)
    }
}

/// What a call changed.
type Delta = BTreeMap<Arc<str>, Step>;

/// The state as of one event.
#[derive(Clone, Debug)]
struct Boundary {
    /// Counts on; what comes later has a higher one, also at the same event.
    id: u64,
    /// `None`: before the first event that was ever handed over.
    at: Option<Position>,
    totals: Totals,
}

impl Boundary {
    fn is_by(&self, event: Option<SequenceNumber>) -> bool {
        self.at.as_ref().is_none_or(|at| event.is_some_and(|event| at.sequence_number <= event))
    }
}

#[derive(Debug)]
struct Version {
    boundary: Boundary,
    delta: Delta,
    weight: usize,
}

/// All that is known of a state.
#[derive(Debug)]
pub(super) struct Core {
    limit: usize,
    live: BTreeMap<Arc<str>, Bytes>,
    totals: Totals,
    /// What the call in hand changed; `None`: there is none.
    call: Option<Delta>,
    /// Above `base`, the oldest first.
    log: VecDeque<Version>,
    /// What the log weighs, and from where on it is thinned.
    weight: usize,
    thin_at: usize,
    /// What is absorbed by `stored`.
    base: Boundary,
    stored: Stored,
    /// The newest version that was given a number, and the newest that is in the store.
    newest: u64,
    saved: u64,
}

impl Core {
    pub(super) fn new(limit: usize, at: Option<Position>) -> Self {
        Self::found(limit, at, Stored::default(), BTreeMap::new(), None)
    }

    pub(super) fn found(
        limit: usize,
        at: Option<Position>,
        stored: Stored,
        live: BTreeMap<Arc<str>, Bytes>,
        wake: Option<Timestamp>,
    ) -> Self {
        let totals = Totals::of(&live, wake);
        Self {
            limit,
            live,
            totals,
            call: None,
            log: VecDeque::new(),
            weight: 0,
            thin_at: limit,
            base: Boundary { id: 0, at, totals },
            stored,
            newest: 0,
            saved: 0,
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        self.live.get(key).cloned()
    }

    pub(super) fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(ByteString, Bytes)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let found = self.live.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        found.map(|(key, value)| (ByteString::from(&**key), value.clone())).collect()
    }

    /// Changes a key during a call. The error is for the guest.
    pub(super) fn put(&mut self, key: &str, value: Option<Bytes>) -> Result<(), String> {
        let Some(call) = &mut self.call else {
            return Err("state can only be changed during a call of the host's".into());
        };
        let (known, old) = match self.live.get_key_value(key) {
            Some((known, old)) => (Arc::clone(known), Some(old.clone())),
            None if value.is_none() => return Ok(()),
            None => (Arc::from(key), None),
        };
        let (less, more) =
            (old.as_ref().map_or(0, |old| cost(key, old)), value.as_ref().map_or(0, |new| cost(key, new)));
        let size = self.totals.size - less + more;
        if size > self.limit && more > less {
            return Err(format!(
                "the state of this partition would come to {size} bytes, and may come to {} (`limits.state`; each key counts {KEY} bytes \
                 besides): delete what isn't needed any more, or raise the limit",
                self.limit
            ));
        }
        match &value {
            Some(value) => self.live.insert(Arc::clone(&known), value.clone()),
            None => self.live.remove(key),
        };
        let step = call.entry(known).or_insert(Step { before: old, after: None });
        step.after = value;
        if step.is_nothing() {
            // Otherwise a call that makes and removes keys would grow without end.
            call.remove(key);
        }
        self.totals = Totals { keys: self.live.len(), size, ..self.totals };
        Ok(())
    }

    /// `false`: there is no call.
    pub(super) fn set_wake(&mut self, wake: Option<Timestamp>) -> bool {
        let during = self.call.is_some();
        if during {
            self.totals.wake = wake;
        }
        during
    }

    /// Begins a call. What another one left behind is undone.
    pub(super) fn begin(&mut self) {
        self.roll_back();
        self.call = Some(Delta::new());
    }

    /// Undoes what the call changed, and ends it.
    pub(super) fn roll_back(&mut self) {
        if let Some(delta) = self.call.take() {
            self.undo(delta);
            self.totals = self.last().totals;
        }
    }

    /// Ends the call, and keeps the state as that of this event; `None`: of the one that it stood at before.
    pub(super) fn keep(&mut self, at: Option<&Position>) {
        let Some(delta) = self.call.take() else { return };
        if at.is_none() && delta.is_empty() && self.totals == self.last().totals {
            return;
        }
        let at = at.map_or_else(|| self.last().at.clone(), |at| Some(detached(at)));
        self.push(at, delta, self.totals);
    }

    /// Says that the state before the call in hand is also that of this later event, which changed nothing.
    pub(super) fn pass(&mut self, at: &Position) {
        let totals = self.last().totals;
        self.push(Some(detached(at)), Delta::new(), totals);
    }

    fn push(&mut self, at: Option<Position>, delta: Delta, totals: Totals) {
        self.newest += 1;
        let weight = VERSION + delta.iter().map(|(key, step)| step.weight(key)).sum::<usize>();
        self.log.push_back(Version { boundary: Boundary { id: self.newest, at, totals }, delta, weight });
        self.weight += weight;
        if self.weight > self.thin_at {
            while self.weight > self.limit / 2 && self.log.len() > 2 {
                self.thin();
            }
            // It doubles before it is thinned again, so that this costs each call little.
            self.thin_at = self.limit.max(self.weight.saturating_mul(2));
        }
    }

    /// Makes one of every two neighbours. Not of the oldest: it is the next that can be committed, and however far behind that lags, it must
    /// come to it.
    fn thin(&mut self) {
        let mut thinned = VecDeque::with_capacity(1 + self.log.len().div_ceil(2));
        let mut versions = std::mem::take(&mut self.log).into_iter();
        thinned.extend(versions.next());
        while let Some(mut version) = versions.next() {
            if let Some(next) = versions.next() {
                for (key, step) in next.delta {
                    version.delta.entry(key).or_insert(Step { before: step.before, after: None }).after = step.after;
                }
                version.delta.retain(|_, step| !step.is_nothing());
                version.weight = VERSION + version.delta.iter().map(|(key, step)| step.weight(key)).sum::<usize>();
                version.boundary = next.boundary;
            }
            thinned.push_back(version);
        }
        self.weight = thinned.iter().map(|version| version.weight).sum();
        self.log = thinned;
    }

    /// The newest version that was kept.
    pub(super) fn version(&self) -> u64 {
        self.last().id
    }

    fn last(&self) -> &Boundary {
        self.log.back().map_or(&self.base, |version| &version.boundary)
    }

    /// The newest event at or before this one whose state is known.
    pub(super) fn floor(&self, event: Option<SequenceNumber>) -> Option<Position> {
        let known = self.log.iter().rev().map(|version| &version.boundary);
        known.chain([&self.base]).find(|boundary| boundary.is_by(event)).and_then(|boundary| boundary.at.clone())
    }

    /// Goes back to the newest version at or before this event, and says which event that is.
    pub(super) fn rewind(&mut self, event: Option<SequenceNumber>) -> Option<Position> {
        self.roll_back();
        while let Some(version) = self.log.pop_back_if(|version| !version.boundary.is_by(event)) {
            self.weight -= version.weight;
            self.undo(version.delta);
        }
        self.totals = self.last().totals;
        self.last().at.clone()
    }

    fn undo(&mut self, delta: Delta) {
        for (key, step) in delta {
            match step.before {
                Some(value) => self.live.insert(key, value),
                None => self.live.remove(&key),
            };
        }
    }

    /// Everything up to this version and this event may be committed. Whether there is something that is not stored yet.
    pub(super) fn accept(&mut self, version: u64, event: SequenceNumber) -> bool {
        let covered = |boundary: &Boundary| boundary.id <= version && boundary.is_by(Some(event));
        while let Some(version) = self.log.pop_front_if(|version| covered(&version.boundary)) {
            self.weight -= version.weight;
            for (key, Step { before, after }) in version.delta {
                self.stored.absorb(key, before.is_some(), after);
            }
            self.base = version.boundary;
        }
        if self.log.is_empty() {
            self.thin_at = self.limit;
        }
        self.base.id > self.saved && self.base.at.is_some()
    }

    /// What has to be written before the image: its changes, and the number that a segment of them gets.
    pub(super) fn plan(&self) -> (Plan, Vec<Change>, u64) {
        let plan = self.stored.plan();
        let changes = match plan {
            Plan::Tail => Vec::new(),
            Plan::Delta => self.stored.delta(),
            Plan::Whole => self.whole(),
        };
        (plan, changes, self.stored.number())
    }

    /// The whole state as of `base`: the live one, but for what came later.
    fn whole(&self) -> Vec<Change> {
        let mut later: BTreeMap<&Arc<str>, &Option<Bytes>> = BTreeMap::new();
        for delta in self.log.iter().map(|version| &version.delta).chain(&self.call) {
            for (key, step) in delta {
                later.entry(key).or_insert(&step.before);
            }
        }
        let unchanged = self.live.iter().filter(|(key, _)| !later.contains_key(key));
        let mut whole: Vec<Change> = unchanged.map(|(key, value)| (Arc::clone(key), Some(value.clone()))).collect();
        let changed = later.into_iter().filter(|(_, before)| before.is_some());
        whole.extend(changed.map(|(key, before)| (Arc::clone(key), before.clone())));
        whole.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        whole
    }

    /// What the versions come to.
    #[cfg(test)]
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn stored_mut(&mut self) -> &mut Stored {
        &mut self.stored
    }

    /// What is to be stored, of which event and which version.
    pub(super) fn image(&self) -> Result<super::Pending, String> {
        let Boundary { id, at, totals } = self.base.clone();
        let Some(position) = at else { return Err("a state without an event can't be stored".into()) };
        let image = self.stored.image(position.sequence_number, totals)?;
        Ok(super::Pending { position, image, version: id })
    }

    pub(super) fn saved(&mut self, version: u64) {
        self.saved = self.saved.max(version);
        self.stored.written();
    }
}

/// Without a part of the buffer that an event was received in.
fn detached(position: &Position) -> Position {
    Position { sequence_number: position.sequence_number, offset: ByteString::from(position.offset.to_string()) }
}
