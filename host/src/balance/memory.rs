//! What the guards remember from cycle to cycle. All of it is this host's own observation; hosts needn't agree on it.

use std::collections::HashMap;

use super::board::{Board, Name};
use super::quota::Shares;
use super::share::Plan;
use super::{IGNORED, STARVED, STUCK, Why};
use crate::model::PartitionId;

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Earlier cycles in a row in which a partition was claimable.
    claimable: HashMap<PartitionId, u32>,
    others: HashMap<Name, Other>,
    /// Earlier cycles in a row in which this host was below the floor, and nothing free came its way.
    below: u32,
}

/// What was seen of another host.
#[derive(Debug, Default)]
struct Other {
    held: usize,
    /// Cycles in which it lacked something and let claimable partitions lie.
    ignored: u32,
    /// Cycles in a row in which it had too much and gave up nothing.
    over: u32,
}

impl Memory {
    pub(super) fn cycles_claimable(&self, partition: &PartitionId) -> u32 {
        self.claimable.get(partition).copied().unwrap_or_default()
    }

    /// Whether this host doesn't do its part when there is something to claim.
    pub(super) fn ignores_claimable(&self, host: &Name) -> bool {
        self.others.get(host).is_some_and(|other| other.ignored >= IGNORED)
    }

    /// Whether this host doesn't give up what it has too much.
    pub(super) fn is_stuck(&self, host: &Name) -> bool {
        self.others.get(host).is_some_and(|other| other.over >= STUCK)
    }

    pub(super) fn is_starved(&self) -> bool {
        self.below >= STARVED
    }

    /// Takes in a cycle, after it was decided.
    pub(super) fn cycle(&mut self, board: &Board<'_>, shares: &Shares, plan: &Plan) {
        let lying = board.claimable().any(|slot| self.claimable.contains_key(slot.id));
        let mut before = std::mem::take(&mut self.others);
        for (i, member) in board.members.iter().enumerate().filter(|(i, _)| *i != board.me) {
            let known = before.remove(&member.name);
            let quota = shares.of(i);
            let mut other = known.unwrap_or(Other { held: member.held, ignored: 0, over: 0 });
            // Who takes something does his part, and who was given up on has the same quota as holdings till then.
            if member.held > other.held || (other.ignored < IGNORED && member.held >= quota) {
                other.ignored = 0;
            } else if lying && other.ignored < IGNORED {
                other.ignored += 1;
            }
            let gives_up = member.held < other.held;
            other.over = if member.held > quota && !gives_up { other.over.saturating_add(1) } else { 0 };
            other.held = member.held;
            self.others.insert(member.name.clone(), other);
        }
        let mut before = std::mem::take(&mut self.claimable);
        for slot in board.claimable() {
            let cycles = before.remove(slot.id).unwrap_or_default().saturating_add(1);
            self.claimable.insert(slot.id.clone(), cycles);
        }
        let (held, least) = (board.held(board.me), shares.least(board.me));
        let gains = plan.claim.iter().any(|claim| claim.why != Why::Restart);
        self.below = if held < least && !gains { self.below.saturating_add(1) } else { 0 };
    }
}
