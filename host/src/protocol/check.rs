//! The invariants, checked at each write of a checkpoint against everything that has really happened.

use std::collections::{BTreeMap, BTreeSet};

use super::Sequence;
use super::store::{Part, Stored};

/// A checkpoint that was written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) part: Part,
    pub(super) before: Stored,
    pub(super) after: Stored,
}

/// What has happened to one partition's events.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Acknowledged by a guest.
    pub(super) acknowledged: BTreeSet<Sequence>,
    /// Outputs accepted.
    pub(super) accepted: BTreeSet<Sequence>,
    /// How often each was processed.
    pub(super) processed: BTreeMap<Sequence, u32>,
    /// Handed to a guest, per tenancy and process.
    pub(super) handed: BTreeMap<(usize, u32, u64), Vec<Sequence>>,
    /// The tenancy whose effect of an event was committed first.
    committed: BTreeMap<Sequence, u64>,
}

/// The number of the invariant that does not hold, and how.
pub(super) type Violation = (u8, String);

impl History {
    /// Checks a write. With another SDK in the group, positions may move in any way.
    pub(super) fn check(&mut self, write: &Write, foreign: bool) -> Result<(), Violation> {
        let Write { part, before, after } = write;
        let (from, to) = (before.sequence, after.sequence);
        if *part != Part::State && !foreign && to <= from {
            return Err((1, format!("the checkpoint goes back, from {from} to {to}")));
        }
        if let Some(missing) = (1..=to).find(|n| !self.acknowledged.contains(n) && !foreign) {
            return Err((2, format!("the checkpoint {to} covers {missing}, which no guest has acknowledged")));
        }
        if *part != Part::Position {
            if !after.state.starts_with(&before.state) {
                return Err((3, format!("another lineage: {:?} became {:?}", before.state, after.state)));
            }
            let complete = *part == Part::State || after.state.len() as Sequence == to;
            if !complete || (1..).zip(&after.state).any(|(n, (event, _))| *event != n) {
                return Err((3, format!("the state at {to} is {:?}", after.state)));
            }
        }
        if let Some(missing) = (1..=to).find(|n| !self.accepted.contains(n) && !foreign) {
            return Err((4, format!("the checkpoint {to} covers {missing}, whose output was not accepted")));
        }
        for (event, tenancy) in after.state.iter().filter(|(event, _)| *event <= to) {
            let first = *self.committed.entry(*event).or_insert(*tenancy);
            if first != *tenancy {
                return Err((5, format!("{event} was committed by tenancy {first}, and again by {tenancy}")));
            }
        }
        Ok(())
    }

    /// Events that were processed more than once.
    pub(super) fn repeats(&self) -> usize {
        self.processed.values().filter(|times| **times > 1).count()
    }
}
