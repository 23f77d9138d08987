//! The two blobs of a partition, and what a request does to them.

use super::check::Write;
use super::rules::{Rule, Rules};
use super::{Sequence, State};
use crate::lease::Moment;

/// An ownership blob. ETag 0: there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership {
    pub(super) etag: u64,
    pub(super) owner: Option<usize>,
    pub(super) generation: u64,
    pub(super) written: Moment,
}

/// A checkpoint blob. ETag 0: there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    pub(super) etag: u64,
    pub(super) sequence: Sequence,
    /// Who wrote it; another SDK leaves no mark.
    pub(super) generation: Option<u64>,
    /// The mark of the tenancy that wrote it.
    pub(super) mark: u64,
    pub(super) state: State,
    /// Of which event the state says it is.
    pub(super) state_number: Sequence,
}

/// A condition: the ETag that must be there. `None`: whatever is there.
pub(super) type Condition = Option<u64>;

/// A request of a host.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Claim(Condition),
    Renew(Condition),
    Release(Condition),
    Read,
    /// The same content, in a new name.
    Fence {
        condition: Condition,
        generation: u64,
        mark: u64,
    },
    Commit {
        condition: Condition,
        generation: u64,
        mark: u64,
        sequence: Sequence,
        state: State,
        part: Part,
    },
}

/// What a commit writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Both,
    State,
    Position,
}

/// The store's answer.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Claimed { etag: u64, generation: u64 },
    Written(u64),
    Conflict,
    Found(Stored),
}

/// One partition's blobs.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) ownership: Ownership,
    pub(super) checkpoint: Stored,
    writes: u64,
}

fn meets(condition: Condition, etag: u64) -> bool {
    condition.is_none_or(|expected| expected == etag)
}

impl Store {
    /// Does what `host` asks for. Writes of checkpoints are reported, to be checked.
    pub(super) fn apply(
        &mut self,
        host: usize,
        request: &Request,
        rules: Rules,
        now: Moment,
    ) -> (Reply, Option<Write>) {
        let before = &self.checkpoint;
        match request {
            Request::Claim(condition) | Request::Renew(condition) | Request::Release(condition) => {
                if !meets(*condition, self.ownership.etag) {
                    return (Reply::Conflict, None);
                }
                self.writes += 1;
                let old = &self.ownership;
                let floor = match request {
                    Request::Claim(_) if rules.on(Rule::GenerationAbove) => before.generation.unwrap_or_default(),
                    _ => 0,
                };
                let generation = match request {
                    Request::Claim(_) => old.generation.max(floor) + 1,
                    _ => old.generation,
                };
                let owner = (!matches!(request, Request::Release(_))).then_some(host);
                let etag = self.writes;
                self.ownership = Ownership { etag, owner, generation, written: now };
                match request {
                    Request::Claim(_) => (Reply::Claimed { etag, generation }, None),
                    _ => (Reply::Written(etag), None),
                }
            }
            Request::Read => (Reply::Found(before.clone()), None),
            Request::Fence { condition, .. } | Request::Commit { condition, .. } if !meets(*condition, before.etag) => {
                (Reply::Conflict, None)
            }
            Request::Fence { generation, mark, .. } => {
                self.writes += 1;
                self.checkpoint.etag = self.writes;
                self.checkpoint.generation = Some(*generation);
                self.checkpoint.mark = *mark;
                (Reply::Written(self.writes), None)
            }
            Request::Commit { generation, mark, sequence, state, part, .. } => {
                self.writes += 1;
                let mut after = Stored { etag: self.writes, ..before.clone() };
                if *part != Part::State {
                    after.sequence = *sequence;
                    after.generation = Some(*generation);
                    after.mark = *mark;
                }
                if *part != Part::Position {
                    after.state = state.clone();
                    after.state_number = *sequence;
                }
                let write = Write { part: *part, before: before.clone(), after: after.clone() };
                self.checkpoint = after;
                (Reply::Written(self.writes), Some(write))
            }
        }
    }

    /// Another SDK goes on by so many events: position only, on no condition, and our marks are gone.
    pub(super) fn foreign_commit(&mut self, sequence: Sequence) {
        self.writes += 1;
        let state = std::mem::take(&mut self.checkpoint.state);
        let state_number = self.checkpoint.state_number;
        self.checkpoint = Stored { etag: self.writes, sequence, generation: None, mark: 0, state, state_number };
    }

    /// Somebody deletes the ownership record.
    pub(super) fn forget_owner(&mut self) {
        self.ownership = Ownership::default();
    }
}
