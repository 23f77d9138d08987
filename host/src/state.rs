//! The state that a processor keeps in the host: keys and values of one partition, which move with it.
//!
//! **A commit pairs a checkpoint with the state as of exactly that event.** A guest's answer may finish less than it was handed (`hold`,
//! `through`), and the state then already holds the effect of events that come again after a crash. So the state is kept in
//! versions: one for the last event of each answered call, or the last before a redelivery. A checkpoint is written for the newest
//! version that the accepted watermark covers, and lags behind it where it must; a partition that is read again goes on from such a version
//! as well. A call that fails leaves no trace.
//!
//! What a call costs is what it changes; what a commit costs, `stored.rs` says. All of it is memory and arithmetic; stores
//! (`seams.rs`) move a [`StateImage`] and don't look into it. [`PartitionState`] is the handle that the host and the guest share.

mod codec;
mod image;
mod stored;
mod versions;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;

pub use image::{Digest, MOST_SEGMENTS, Segment, StateImage, TAIL_BYTES};

use crate::model::{Position, SequenceNumber, Timestamp};
use stored::{Plan, Stored};
use versions::Core;

/// The state of one partition for as long as this host has it, and of one event: cheap to clone, and each clone is the same.
///
/// A guest reads at any time, and changes it during a call. The host says when a call begins, and what becomes of its changes. The
/// two alternate; the lock is there for the commit, which takes the changes of finished calls away while the next one runs.
#[derive(Clone, Default)]
pub struct PartitionState {
    /// `None`: the processor keeps none.
    core: Option<Arc<Mutex<Core>>>,
}

/// What a commit writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The event that the state is as of.
    pub position: Position,
    /// The state.
    pub image: StateImage,
    /// Which version it is: what [`PartitionState::stored`] is told when it is written.
    pub version: u64,
}

/// For guests.
impl PartitionState {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.lock()?.get(key)
    }

    /// The values of these keys, in their order.
    pub fn get_many<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Vec<Option<Bytes>> {
        let core = self.lock();
        keys.into_iter().map(|key| core.as_ref()?.get(key)).collect()
    }

    /// Gives a key a value. The error is a sentence for the guest: over the limit, or not during a call.
    pub fn set(&self, key: &str, value: Bytes) -> Result<(), String> {
        match self.lock() {
            Some(mut core) => core.put(key, Some(value)),
            None => Err("this processor keeps no state".into()),
        }
    }

    /// Removes a key, if it is there. Outside of a call nothing is removed.
    pub fn delete(&self, key: &str) {
        if let Some(mut core) = self.lock() {
            // The only error is that there is no call.
            let _ = core.put(key, None);
        }
    }

    /// Keys that begin with `prefix` and come after `after`, with their values, in the order of the keys' bytes; at most `limit`.
    pub fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(ByteString, Bytes)> {
        self.lock().map(|core| core.scan(prefix, after, limit)).unwrap_or_default()
    }

    /// Asks for one tick at or after this time; the earliest of several wins. It is a part of the state. Outside of a call it is nothing.
    pub fn wake_at(&self, at: Timestamp) {
        if let Some(mut core) = self.lock() {
            let wake = core.totals().wake.map_or(at, |wake| wake.min(at));
            core.set_wake(Some(wake));
        }
    }
}

/// For the host.
impl PartitionState {
    /// The state of a processor that keeps none: nothing can be changed, and nothing is ever stored.
    pub fn none() -> Self {
        Self::default()
    }

    /// An empty state, as of this event (`None`: before all). Keys, values and a flat sum for each key may come to `limit` bytes.
    pub fn new(limit: usize, at: Option<Position>) -> Self {
        Self::of(Core::new(limit, at))
    }

    /// A state that was stored, with all its segments at hand, with the checkpoint at this event. The error is a clause that says what is
    /// wrong: whatever is not exactly what was written, and written for this event, is refused.
    pub fn load(limit: usize, at: Position, image: StateImage) -> Result<Self, String> {
        let (stored, (live, wake)) = Stored::read(image, at.sequence_number)?;
        Ok(Self::of(Core::found(limit, Some(at), stored, live, wake)))
    }

    fn of(core: Core) -> Self {
        Self { core: Some(Arc::new(Mutex::new(core))) }
    }

    /// `None`: there is no state.
    fn lock(&self) -> Option<MutexGuard<'_, Core>> {
        Some(self.core.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the processor keeps state.
    pub fn is_kept(&self) -> bool {
        self.core.is_some()
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.lock().map_or(0, |core| core.totals().keys)
    }

    /// What all keys and values come to, as it counts for the limit.
    pub fn size(&self) -> usize {
        self.lock().map_or(0, |core| core.totals().size)
    }

    /// When the guest wants to be woken.
    pub fn wake(&self) -> Option<Timestamp> {
        self.lock()?.totals().wake
    }

    /// A call begins: what is changed from now on is kept or rolled back as one.
    pub fn begin(&self) {
        if let Some(mut core) = self.lock() {
            core.begin();
        }
    }

    /// A call begins that is the wake-up asked for: nothing more is asked for, unless the call fails or asks again.
    pub fn begin_tick(&self) {
        if let Some(mut core) = self.lock() {
            core.begin();
            core.set_wake(None);
        }
    }

    /// The call failed, or its answer counts for nothing: all is as it was when it began.
    pub fn roll_back(&self) {
        if let Some(mut core) = self.lock() {
            core.roll_back();
        }
    }

    /// The call ended in an answer: this is the state as of the last event that stands. `None`: it was handed none, or none stands, and what
    /// it changed belongs to the event before.
    pub fn keep(&self, at: Option<&Position>) {
        if let Some(mut core) = self.lock() {
            core.keep(at);
        }
    }

    /// An event was given up that no call has finished: it changed nothing. It lies before the events of the call in hand, if there is one,
    /// whose changes are none of it.
    pub fn pass(&self, at: &Position) {
        if let Some(mut core) = self.lock() {
            core.pass(at);
        }
    }

    /// The newest version that was kept. It may be stored when all that was emitted up to it is accepted.
    pub fn version(&self) -> u64 {
        self.lock().map_or(0, |core| core.version())
    }

    /// The newest event at or before this one whose state is known: where a partition goes on that goes back to `event`.
    pub fn floor(&self, event: Option<SequenceNumber>) -> Option<Position> {
        self.lock()?.floor(event)
    }

    /// Goes back to the state as of the newest event at or before this one that is known, and says which event that is.
    pub fn rewind(&self, event: Option<SequenceNumber>) -> Option<Position> {
        self.lock()?.rewind(event)
    }

    /// All outputs up to this version are accepted, and all events up to this one are finished. Whether that gives something to store. From
    /// now on nobody may go back behind the newest version of which both is true.
    pub fn accept(&self, version: u64, event: SequenceNumber) -> bool {
        self.lock().is_some_and(|mut core| core.accept(version, event))
    }

    /// The newest version that was accepted, as it is to be stored. One at a time: until [`stored`](Self::stored) it is the same one, or
    /// a later one in its place. `None`: there is no state.
    pub fn pending(&self) -> Result<Option<Pending>, String> {
        let Some((plan, changes, number)) = self.lock().map(|core| core.plan()) else { return Ok(None) };
        if plan != Plan::Tail {
            // Without the lock: it may be some megabytes, and the guest need not wait for it. Nothing is accepted meanwhile.
            let segment = stored::segment(&changes, number)?;
            let tail = if segment.is_none() { changes } else { Vec::new() };
            if let Some(mut core) = self.lock() {
                core.stored_mut().seal(&plan, segment, tail);
            }
        }
        self.lock().map(|core| core.image()).transpose()
    }

    /// This version is in the store.
    pub fn stored(&self, version: u64) {
        if let Some(mut core) = self.lock() {
            core.saved(version);
        }
    }
}

impl fmt::Debug for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock().map(|core| core.totals()) {
            Some(totals) => write!(f, "{} keys, {} bytes, wake-up {:?}", totals.keys, totals.size, totals.wake),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests;
