//! What one pass decides, layout by layout: letters own, `.` is claimable, every named host is present.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that finds something else than it expects has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn settings() -> Settings {
    Settings { expiry: 60 * SECOND, most: None, assignment: None, exclusive: false }
}

pub(super) fn ids(count: usize) -> Vec<PartitionId> {
    (0..count).map(|i| PartitionId::from(i.to_string().as_str())).collect()
}

pub(super) fn records(layout: &str) -> Vec<Record> {
    let owner = |c: char| (c != '.').then(|| OwnerId::from(c.to_string().as_str()));
    let record = |(i, c)| Record {
        partition: PartitionId::from(format!("{i}").as_str()),
        owner: owner(c),
        etag: ETag(format!("{i}{c}")),
        age: Some(SECOND),
    };
    layout.chars().enumerate().map(record).collect()
}

pub(super) fn presence(host: char) -> Presence {
    let owner = OwnerId::from(host.to_string().as_str());
    Presence { owner, part: Part::Fair { most: None }, etag: ETag("1".into()), age: Some(SECOND) }
}

/// A layout, seen by one host again and again. What is in its name runs.
pub(super) struct Seen {
    pub(super) balancer: Balancer,
    pub(super) me: char,
    pub(super) hosts: Vec<Presence>,
    pub(super) avoid: BTreeSet<PartitionId>,
    pub(super) cycle: u32,
}

impl Seen {
    pub(super) fn by(me: char, hosts: &str) -> Self {
        Self::with(me, hosts, settings())
    }

    pub(super) fn with(me: char, hosts: &str, settings: Settings) -> Self {
        let balancer = Balancer::new(OwnerId::from(me.to_string().as_str()), settings);
        Self { balancer, me, hosts: hosts.chars().map(presence).collect(), avoid: BTreeSet::new(), cycle: 0 }
    }

    pub(super) fn cycle(&mut self, layout: &str) -> Decision {
        let mine = layout.chars().enumerate().filter(|(_, c)| *c == self.me);
        let here = mine.map(|(i, _)| (PartitionId::from(i.to_string().as_str()), Here::Running)).collect();
        self.cycle_with(&records(layout), &here, layout.len())
    }

    pub(super) fn cycle_with(
        &mut self,
        records: &[Record],
        here: &BTreeMap<PartitionId, Here>,
        partitions: usize,
    ) -> Decision {
        let snapshot = Snapshot {
            now: 10 * SECOND * self.cycle,
            partitions: &ids(partitions),
            records,
            hosts: &self.hosts,
            here,
            avoid: &self.avoid,
        };
        self.cycle += 1;
        self.balancer.step(&snapshot)
    }
}

/// Who claims how many, and releases how many.
type Moves = (char, (usize, usize));

/// What every host decides in its first pass.
fn first_pass(layout: &str, hosts: &str) -> BTreeMap<char, (usize, usize)> {
    let decide = |me: char| {
        let decision = Seen::by(me, hosts).cycle(layout);
        assert_eq!(decision.steal, None, "{layout} {me}");
        assert_eq!(decision.lost, [], "{layout} {me}");
        (me, (decision.claim.len(), decision.release.len()))
    };
    hosts.chars().map(decide).filter(|(_, what)| *what != (0, 0)).collect()
}

#[test]
fn every_row() {
    let claims = |n| (n, 0);
    let releases = |n| (0, n);
    let rows: &[(&str, &str, &[Moves])] = &[
        ("....", "a", &[('a', claims(4))]),
        ("a..a", "ab", &[('b', claims(2))]),
        ("aaaa", "ab", &[('a', releases(2))]),
        ("aabb", "abc", &[('b', releases(1))]),
        ("aaabb", "ab", &[]),
        ("aabbc", "abc", &[]),
        ("aaaabb", "ab", &[('a', releases(1))]),
        ("aaabbbcccd", "abcd", &[('c', releases(1))]),
        ("aaaabbc", "abc", &[('a', releases(1))]),
        ("aa.bb", "ab", &[('a', claims(1))]),
        // The last one is `a`'s by its quota; should `a` not take it, see below.
        ("aaaabbbb....c", "abc", &[('a', claims(1)), ('c', claims(3))]),
        ("ab", "abc", &[]),
        ("aaaaaaaabbbbbbbb", "abc", &[('a', releases(2)), ('b', releases(3))]),
    ];
    for (layout, hosts, expected) in rows {
        assert_eq!(first_pass(layout, hosts), expected.iter().copied().collect(), "{layout} seen by {hosts}");
    }
}

#[test]
fn what_one_host_lets_lie_another_takes_after_two_cycles() {
    let mut b = Seen::by('b', "ab");
    for cycle in 0..2 {
        assert_eq!(b.cycle("aa.bb").claim, [], "cycle {cycle}");
    }
    let claims = b.cycle("aa.bb").claim;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].why, Why::Lingering);
    let mut b = Seen::by('b', "ab");
    for layout in ["aa.bb", "aa.bb", "aaabb", "aa.bb", "aa.bb"] {
        assert_eq!(b.cycle(layout).claim, [], "it was taken in between");
    }
}

#[test]
fn the_guard_hands_out_the_last() {
    let mut b = Seen::by('b', "abc");
    for layout in ["aaaabbbb....c", "aaaabbbb.cccc"] {
        assert_eq!(b.cycle(layout).claim, []);
    }
    let claims = b.cycle("aaaabbbb.cccc").claim;
    assert_eq!(claims.iter().map(|c| (c.partition.as_str(), c.why)).collect::<Vec<_>>(), [("8", Why::Lingering)]);
}

#[test]
fn hosts_that_see_the_same_claim_different_partitions() {
    let layout = "..........a.........b";
    let mut claimed = BTreeMap::new();
    for me in "abcd".chars() {
        for claim in Seen::by(me, "abcd").cycle(layout).claim {
            assert_eq!(claimed.insert(claim.partition, me), None);
        }
    }
    assert_eq!(claimed.len(), 19, "all of them, in one pass");
}

#[test]
fn one_host_more_than_partitions_stands_by() {
    let view = Seen::by('c', "abc").cycle("ab").view;
    assert_eq!((view.role, view.quota, view.hosts), (Role::Standby, 0, 3));
    let view = Seen::by('a', "abc").cycle("ab").view;
    assert_eq!((view.role, view.quota, view.held), (Role::Active, 1, 1));
    let waiting = Seen::by('b', "ab").cycle("aaaa").view;
    assert_eq!((waiting.role, waiting.quota), (Role::Active, 2));
}
