//! The plan of one cycle: who should have how many, and what this host does about it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::board::{Board, Slot};
use super::memory::Memory;
use super::quota::{Claimant, Shares, shares};
use super::{Claim, Here, LINGERING, ORPHANED, Part, Release, Why};
use crate::model::PartitionId;

/// What to release and to claim.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) release: Vec<Release>,
    pub(super) claim: Vec<Claim>,
    pub(super) steal: Option<Claim>,
}

/// What every member should have.
pub(super) fn quotas(board: &Board<'_>, memory: &Memory) -> Shares {
    let mut total = board.slots.len();
    let mut sharing = Vec::new();
    let mut quota = vec![0; board.members.len()];
    for (i, member) in board.members.iter().enumerate() {
        let most = match member.part {
            Part::Fair { most } => most.unwrap_or(usize::MAX),
            Part::Fixed => {
                total = total.saturating_sub(member.held);
                quota[i] = member.held;
                continue;
            }
            Part::Nothing => continue,
        };
        let idle = i != board.me && memory.ignores_claimable(&member.name);
        let limit = if idle { most.min(member.held) } else { most };
        if limit > 0 {
            sharing.push((i, Claimant { held: member.held, limit }));
        }
    }
    let claimants: Vec<Claimant> = sharing.iter().map(|(_, claimant)| *claimant).collect();
    let shared = shares(total, &claimants);
    for ((i, _), share) in sharing.iter().zip(&shared.quota) {
        quota[*i] = *share;
    }
    Shares { quota, floor: shared.floor }
}

/// An even share, with at most `most` partitions.
pub(super) fn plan(board: &Board<'_>, memory: &Memory, shares: &Shares, most: usize) -> Plan {
    let (held, quota) = (board.held(board.me), shares.of(board.me));
    let mut plan = Plan { release: release(board, held.saturating_sub(quota)), ..Plan::default() };
    let forsaken: Vec<Release> = board.slots.iter().filter(|slot| slot.forsaken).filter_map(give_up).collect();
    for release in forsaken {
        if plan.release.iter().all(|other| other.partition != release.partition) {
            plan.release.push(release);
        }
    }
    let released: BTreeSet<&PartitionId> = plan.release.iter().map(|r| &r.partition).collect();
    let dormant = board.held_by(board.me).filter(|slot| slot.open && !released.contains(slot.id));
    plan.claim = dormant.map(|slot| claim(board, slot, Why::Restart)).collect();
    if held > quota {
        return plan;
    }
    let mine = dealt(board, shares).filter(|slot| slot.open);
    let mut room = most.saturating_sub(held);
    let mut taken = BTreeSet::new();
    for slot in mine.take(room) {
        taken.insert(slot.id);
        plan.claim.push(claim(board, slot, Why::Quota));
    }
    room -= taken.len();
    let mut lingering: Vec<&Slot<'_>> = board
        .claimable()
        .filter(|slot| slot.open && !taken.contains(slot.id) && memory.cycles_claimable(slot.id) >= LINGERING)
        .collect();
    // Hosts that help out at the same time begin at different places.
    let begin = (board.me * lingering.len()).checked_div(board.members.len()).unwrap_or(0);
    lingering.rotate_left(begin);
    let help = room.min((shares.floor + 1).saturating_sub(held + taken.len()));
    let (near, far) = lingering.split_at(help.min(lingering.len()));
    plan.claim.extend(near.iter().map(|slot| claim(board, slot, Why::Lingering)));
    // One at a time, and only by who has nothing else to take: this goes beyond all quotas.
    if taken.is_empty() && near.is_empty() && room > 0 {
        let orphan = far.iter().find(|slot| memory.cycles_claimable(slot.id) >= ORPHANED);
        plan.claim.extend(orphan.map(|slot| claim(board, slot, Why::Orphaned)));
    }
    let nothing_free = !board.claimable().any(|slot| slot.open);
    if nothing_free && plan.claim.is_empty() && held < shares.least(board.me) && memory.is_starved() {
        plan.steal = steal(board, memory, shares);
    }
    plan
}

/// Exactly what the configuration lists, as far as nobody else has it.
pub(super) fn keep_to(board: &Board<'_>, listed: &BTreeSet<PartitionId>) -> Plan {
    let mut plan = Plan::default();
    for slot in &board.slots {
        let mine = slot.holder == Some(board.me);
        match listed.contains(slot.id) {
            true if slot.open && mine => plan.claim.push(claim(board, slot, Why::Restart)),
            true if slot.open && slot.holder.is_none() => plan.claim.push(claim(board, slot, Why::Listed)),
            true if slot.forsaken => plan.release.extend(give_up(slot)),
            false if mine => plan.release.extend(give_up(slot)),
            _ => {}
        }
    }
    plan
}

/// Gives up this many, counting those that are already leaving. What doesn't run costs nobody anything, so it goes first.
fn release(board: &Board<'_>, surplus: usize) -> Vec<Release> {
    let leaving = board.held_by(board.me).filter(|slot| slot.here == Some(Here::Leaving)).count();
    let mut staying: Vec<&Slot<'_>> = board.held_by(board.me).filter(|s| s.here != Some(Here::Leaving)).collect();
    staying.reverse();
    staying.sort_by_key(|slot| slot.here.is_some());
    staying.into_iter().take(surplus.saturating_sub(leaving)).filter_map(give_up).collect()
}

fn give_up(slot: &Slot<'_>) -> Option<Release> {
    let record = slot.record.filter(|_| slot.here != Some(Here::Leaving))?;
    Some(Release { partition: slot.id.clone(), running: slot.here.is_some(), expected: record.etag.clone() })
}

/// The part of what is claimable that falls to this host: the members that lack something are served in order.
fn dealt<'b, 'a>(board: &'b Board<'a>, shares: &Shares) -> impl Iterator<Item = &'b Slot<'a>> {
    let lack = |i: usize| shares.of(i).saturating_sub(board.held(i));
    let before: usize = (0..board.me).map(lack).sum();
    board.claimable().skip(before).take(lack(board.me))
}

/// A partition of whoever has most too many, if that owner won't give it up.
fn steal(board: &Board<'_>, memory: &Memory, shares: &Shares) -> Option<Claim> {
    let surplus = |i: usize| board.held(i).saturating_sub(shares.of(i));
    let (victim, _) = board
        .members
        .iter()
        .enumerate()
        .filter(|(i, member)| *i != board.me && surplus(*i) > 0 && (member.foreign || memory.is_stuck(&member.name)))
        .min_by_key(|(i, _)| (Reverse(surplus(*i)), *i))?;
    let open: Vec<&Slot<'_>> = board.held_by(victim).filter(|slot| slot.open).collect();
    // Hosts that starve at the same time begin at different places.
    let place = (board.me * open.len()).checked_div(board.members.len())?;
    open.get(place).map(|slot| claim(board, slot, Why::Starved))
}

fn claim(board: &Board<'_>, slot: &Slot<'_>, why: Why) -> Claim {
    let mine = board.members.get(board.me).map(|m| m.name.as_str());
    let last = slot.record.and_then(|record| record.owner.clone());
    let from = last.filter(|owner| {
        let name = super::board::name(owner);
        !name.is_empty() && Some(name.as_str()) != mine
    });
    Claim { partition: slot.id.clone(), expected: slot.record.map(|record| record.etag.clone()), from, why }
}
