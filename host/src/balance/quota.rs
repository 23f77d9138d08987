//! How many partitions each host should have.
//!
//! Everybody the same, as far as limits allow; what doesn't divide goes to those that already have most, so that nothing
//! moves for it, and then by name. Hosts that see the same compute the same.

use std::cmp::Reverse;

/// One host that shares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimant {
    /// Partitions it has.
    pub(super) held: usize,
    /// Most that it takes.
    pub(super) limit: usize,
}

/// What each should have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// In the order of the claimants.
    pub(super) quota: Vec<usize>,
    /// What a host without a limit has at least.
    pub(super) floor: usize,
}

impl Shares {
    pub(super) fn of(&self, member: usize) -> usize {
        self.quota.get(member).copied().unwrap_or_default()
    }

    /// Below this it is too little, and not just the luck of the extras.
    pub(super) fn least(&self, member: usize) -> usize {
        self.floor.min(self.of(member))
    }
}

/// Divides `total` partitions among the claimants, which are in the order of their names.
pub(super) fn shares(total: usize, claimants: &[Claimant]) -> Shares {
    let mut quota = vec![0; claimants.len()];
    let mut open: Vec<usize> = (0..claimants.len()).collect();
    let mut rest = total;
    let mut floor = 0;
    // Those whose limit is below an even share take their limit; the others divide what that leaves.
    while !open.is_empty() {
        floor = rest / open.len();
        let (full, more): (Vec<usize>, Vec<usize>) = open.iter().partition(|i| claimants[**i].limit <= floor);
        if full.is_empty() {
            break;
        }
        for i in full {
            quota[i] = claimants[i].limit;
            rest -= claimants[i].limit;
        }
        open = more;
    }
    open.sort_by_key(|i| (Reverse(claimants[*i].held), *i));
    let extras = rest.checked_rem(open.len()).unwrap_or(0);
    for (rank, i) in open.into_iter().enumerate() {
        quota[i] = floor + usize::from(rank < extras);
    }
    Shares { quota, floor }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONE: usize = usize::MAX;

    fn quota(total: usize, held_and_limit: &[(usize, usize)]) -> Vec<usize> {
        let claimants: Vec<_> =
            held_and_limit.iter().map(|(held, limit)| Claimant { held: *held, limit: *limit }).collect();
        shares(total, &claimants).quota
    }

    #[test]
    fn extras_stay_where_most_is_and_then_go_by_name() {
        assert_eq!(quota(10, &[(0, NONE), (0, NONE), (0, NONE)]), [4, 3, 3]);
        assert_eq!(quota(10, &[(3, NONE), (3, NONE), (4, NONE)]), [3, 3, 4]);
        assert_eq!(quota(2, &[(0, NONE), (1, NONE), (1, NONE)]), [0, 1, 1]);
        assert_eq!(quota(5, &[]), Vec::<usize>::new());
    }

    #[test]
    fn limits_pass_the_rest_on() {
        assert_eq!(quota(10, &[(0, 1), (0, NONE), (0, NONE)]), [1, 5, 4]);
        assert_eq!(quota(10, &[(0, 4), (0, 4), (9, 0)]), [4, 4, 0], "two partitions find nobody");
        assert_eq!(quota(9, &[(0, 3), (0, NONE), (0, NONE)]), [3, 3, 3]);
        assert_eq!(quota(10, &[(9, 3), (0, NONE), (0, NONE)]), [3, 4, 3], "an extra never exceeds a limit");
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_nothing_is_kept_back(
            total in 0usize..200,
            claimants in prop::collection::vec((0usize..50, prop_oneof![Just(NONE), 0usize..60]), 0..12)
        ) {
            let quota = quota(total, &claimants);
            let room = claimants.iter().map(|(_, limit)| *limit).fold(0usize, usize::saturating_add);
            prop_assert_eq!(quota.iter().sum::<usize>(), total.min(room));
            prop_assert!(quota.iter().zip(&claimants).all(|(q, (_, limit))| q <= limit));
            let unlimited = || quota.iter().zip(&claimants).filter(|(q, (_, limit))| *q < limit).map(|(q, _)| *q);
            if let (Some(least), Some(most)) = (unlimited().min(), unlimited().max()) {
                prop_assert!(most - least <= 1);
                prop_assert!(quota.iter().all(|q| *q <= least + 1), "who has a limit has no more than the others");
            }
        }
    }
}
