//! Single rules, told by one host that sees a layout again and again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that finds something else than it expects has failed"
)]

use std::collections::BTreeMap;

use super::table::{SECOND, Seen, presence, records, settings};
use super::*;

fn id(n: &str) -> PartitionId {
    PartitionId::from(n)
}

fn claims(decision: &Decision) -> Vec<(&str, Why)> {
    decision.claim.iter().map(|c| (c.partition.as_str(), c.why)).collect()
}

fn releases(decision: &Decision) -> Vec<&str> {
    decision.release.iter().map(|r| r.partition.as_str()).collect()
}

/// Nobody writes any record; everybody says that he is there.
fn aged(layout: &str, seconds: u32) -> Vec<Record> {
    let mut records = records(layout);
    for record in &mut records {
        record.age = Some(SECOND * seconds);
    }
    records
}

#[test]
fn a_dead_owners_partition_is_claimed_on_the_condition_that_was_seen() {
    let mut a = Seen::by('a', "a");
    for cycle in 0..6 {
        let decision = a.cycle_with(&aged("b", 3600), &BTreeMap::new(), 1);
        assert_eq!(decision.claim, [], "cycle {cycle}: the store says it is dead, it was not watched for long enough");
        assert_eq!(decision.view.foreign, [OwnerId::from("b")]);
    }
    let decision = a.cycle_with(&aged("b", 3600), &BTreeMap::new(), 1);
    let expected = Claim {
        partition: id("0"),
        expected: Some(ETag("0b".into())),
        from: Some(OwnerId::from("b")),
        why: Why::Quota,
    };
    assert_eq!(decision.claim, [expected]);
    assert_eq!(decision.view.foreign, []);
}

#[test]
fn a_record_that_changes_has_an_owner_whatever_the_stores_clock_says() {
    let mut a = Seen::by('a', "a");
    for cycle in 0..30 {
        let mut records = aged("b", 3600);
        records[0].etag = ETag(format!("{}", cycle / 3));
        assert_eq!(a.cycle_with(&records, &BTreeMap::new(), 1).claim, [], "cycle {cycle}");
    }
}

#[test]
fn a_record_that_the_store_calls_young_has_an_owner_however_long_we_watch() {
    let mut a = Seen::by('a', "a");
    for _ in 0..30 {
        assert_eq!(a.cycle_with(&aged("b", 59), &BTreeMap::new(), 1).claim, []);
    }
}

#[test]
fn nobody_owns_what_is_owned_by_nobody() {
    for owner in [None, Some(""), Some("  ")] {
        let mut records = records("b");
        records[0].owner = owner.map(OwnerId::from);
        let decision = Seen::by('a', "a").cycle_with(&records, &BTreeMap::new(), 1);
        assert_eq!(claims(&decision), [("0", Why::Quota)]);
        assert_eq!(decision.claim[0].from, None);
        assert_eq!((decision.view.hosts, &decision.view.foreign[..]), (1, &[][..]), "no phantom owner");
    }
}

#[test]
fn an_owner_is_the_same_in_any_case() {
    let mut a = Seen::by('a', "ab");
    let mut records = records("AABB");
    let decision = a.cycle_with(&records, &BTreeMap::new(), 4);
    assert_eq!(claims(&decision), [("0", Why::Restart), ("1", Why::Restart)]);
    assert_eq!((decision.view.hosts, &decision.view.foreign[..]), (2, &[][..]));
    records.truncate(1);
    let here = BTreeMap::from([(id("0"), Here::Running)]);
    assert_eq!(a.cycle_with(&records, &here, 1).lost, []);
}

#[test]
fn a_restarted_host_takes_up_its_own_records_at_once() {
    let mut a = Seen::by('a', "ab");
    let decision = a.cycle_with(&records("aabb"), &BTreeMap::new(), 4);
    assert_eq!(claims(&decision), [("0", Why::Restart), ("1", Why::Restart)]);
    assert_eq!(decision.claim[0].expected, Some(ETag("0a".into())));
    assert_eq!(decision.claim[0].from, None);
    // Too many of them: those that don't run are given up first, the others are taken up.
    let here = BTreeMap::from([(id("3"), Here::Running)]);
    let decision = Seen::by('a', "ab").cycle_with(&records("aaaa"), &here, 4);
    assert_eq!(releases(&decision), ["2", "1"]);
    assert!(decision.release.iter().all(|r| !r.running));
    assert_eq!(claims(&decision), [("0", Why::Restart)]);
}

#[test]
fn what_is_leaving_counts_as_given_up() {
    let mut a = Seen::by('a', "ab");
    let mut here: BTreeMap<_, _> = ["0", "1", "2", "3"].map(|n| (id(n), Here::Running)).into();
    let first = a.cycle_with(&records("aaaa"), &here, 4);
    assert_eq!(releases(&first), ["3", "2"]);
    assert!(first.release.iter().all(|r| r.running));
    here.insert(id("3"), Here::Leaving);
    here.insert(id("2"), Here::Leaving);
    let second = a.cycle_with(&records("aaaa"), &here, 4);
    assert_eq!(releases(&second), [] as [&str; 0], "not two more");
}

#[test]
fn what_runs_without_a_record_is_lost() {
    let here: BTreeMap<_, _> = ["0", "1", "2", "3"].map(|n| (id(n), Here::Running)).into();
    let mut records = records("ab.a");
    records.truncate(3);
    let decision = Seen::by('a', "a").cycle_with(&records, &here, 4);
    let lost = [(id("1"), Lost::To(OwnerId::from("b"))), (id("2"), Lost::Released), (id("3"), Lost::Deleted)];
    assert_eq!(decision.lost, lost);
    assert_eq!(decision.claim, [], "only when it has stopped");
    let leaving = BTreeMap::from([(id("2"), Here::Leaving)]);
    assert_eq!(Seen::by('a', "a").cycle_with(&records, &leaving, 4).lost, [], "its release was written");
}

#[test]
fn a_deleted_record_is_made_anew() {
    let decision = Seen::by('a', "a").cycle_with(&[], &BTreeMap::new(), 1);
    assert_eq!(decision.claim[0].expected, None);
}

#[test]
fn nobody_exceeds_his_limit() {
    let limited = Settings { most: Some(2), ..settings() };
    let mut a = Seen::with('a', "a", limited.clone());
    for _ in 0..20 {
        assert_eq!(claims(&a.cycle("......")).len(), 2, "even though nobody else takes them");
    }
    assert_eq!(a.cycle("aa....").view.claimable, 4);
    assert_eq!(a.cycle("aa....").claim, []);
    assert_eq!(releases(&Seen::with('a', "ab", limited).cycle("aaabbb")), ["2"]);
    // The others count on it.
    let mut b = Seen::by('b', "ab");
    b.hosts[0].part = Part::Fair { most: Some(1) };
    assert_eq!(claims(&b.cycle("a.....")).len(), 5);
}

#[test]
fn a_fixed_assignment_keeps_to_itself() {
    let listed = ["0", "3", "9"].map(id).into();
    let fixed = Settings { assignment: Some(listed), ..settings() };
    let mut a = Seen::with('a', "ab", fixed);
    assert_eq!(a.balancer.part(), Part::Fixed);
    let decision = a.cycle("...b");
    assert_eq!(
        claims(&decision),
        [("0", Why::Listed)],
        "what has an owner is waited for, what isn't listed is not touched"
    );
    assert_eq!(decision.view.absent, [id("9")]);
    for _ in 0..20 {
        assert_eq!(a.cycle("abbb").steal, None);
    }
    assert_eq!(releases(&a.cycle("aa.b")), ["1"], "from before the configuration changed");
    // The others leave it alone, and share the rest.
    let mut b = Seen::by('b', "abc");
    b.hosts[0].part = Part::Fixed;
    let view = b.cycle("aaaabbcc").view;
    assert_eq!((view.quota, view.held), (2, 2));
}

#[test]
fn a_leaving_host_counts_no_more() {
    let mut b = Seen::by('b', "ab");
    b.hosts[0].part = Part::Nothing;
    let decision = b.cycle("aa.b");
    assert_eq!(claims(&decision), [("2", Why::Quota)]);
    assert_eq!(decision.view.quota, 4);
}

/// `weir checkpoints set`, which claims a partition for a moment.
#[test]
fn a_leaving_stranger_that_holds_a_record_changes_nobodys_quota() {
    for me in ['a', 'b'] {
        let quota = |cycle: Decision| (cycle.view.quota, cycle.release.len(), cycle.claim.len(), cycle.steal);
        let mut host = Seen::by(me, "abs");
        host.hosts[2].part = Part::Nothing;
        for _ in 0..3 {
            assert_eq!(quota(host.cycle("aaasbbbb")), (4, 0, 0, None), "{me}");
        }
        let unannounced = Seen::by(me, "ab").cycle("aaasbbbb").view;
        assert!(unannounced.quota < 4, "{me}: one that says nothing would have a share");
    }
}

#[test]
fn a_foreign_owner_is_stolen_from_once_a_cycle_and_late() {
    let mut a = Seen::by('a', "a");
    for cycle in 0..3 {
        assert_eq!(a.cycle("ffff").steal, None, "cycle {cycle}");
    }
    let decision = a.cycle("ffff");
    let steal = decision.steal.expect("it was starved for three cycles");
    assert_eq!((steal.why, steal.from), (Why::Starved, Some(OwnerId::from("f"))));
    assert_eq!(decision.claim, []);
    assert_eq!(decision.view.foreign, [OwnerId::from("f")]);
    assert!(a.cycle("afff").steal.is_some(), "still below the floor: one more, a cycle later");
    for _ in 0..20 {
        assert_eq!(a.cycle("aaff").steal, None, "even");
    }
    let mut a = Seen::by('a', "a");
    for _ in 0..20 {
        assert_eq!(a.cycle("aafff").steal, None, "the luck of the extras is no reason");
    }
}

#[test]
fn one_of_ours_is_stolen_from_when_it_is_stuck() {
    let mut b = Seen::by('b', "ab");
    for cycle in 0..6 {
        assert_eq!(b.cycle("aaaa").steal, None, "cycle {cycle}");
    }
    assert!(b.cycle("aaaa").steal.is_some());
    let mut b = Seen::by('b', "ab");
    for layout in ["aaaaaaaa", "aaaaaaab", "aaaaaabb", "aaaaaaba", "aaaaabaa", "aaaaabba"] {
        assert_eq!(b.cycle(layout).steal, None, "it gives up some");
    }
}

#[test]
fn nothing_is_stolen_while_something_is_free() {
    let mut b = Seen::by('b', "ab");
    b.avoid.insert(id("4"));
    for _ in 0..6 {
        assert_eq!(b.cycle("aaaa.").claim, [], "not that one");
    }
    assert!(b.cycle("aaaa.").steal.is_some(), "what it can't run is not free for it");
}

#[test]
fn remains_of_an_earlier_fleet_don_t_count() {
    let mut a = Seen::by('a', "axyz");
    for old in &mut a.hosts[1..] {
        old.age = Some(SECOND * 86_400);
    }
    assert_eq!(a.cycle("....").claim.len(), 4);
}

#[test]
fn one_heartbeat_stands_for_all_records_of_a_host() {
    let exclusive = Settings { exclusive: true, ..settings() };
    let mut a = Seen::with('a', "ab", exclusive.clone());
    for beat in 0..30 {
        a.hosts[1].etag = ETag(format!("{beat}"));
        let decision = a.cycle_with(&aged("bb..", 3600), &BTreeMap::new(), 4);
        assert_eq!(claims(&decision), [("2", Why::Quota), ("3", Why::Quota)], "beat {beat}");
    }
    // It stops; so do they all.
    a.hosts[1].age = Some(SECOND * 70);
    for _ in 0..5 {
        assert_eq!(a.cycle_with(&aged("bb..", 3600), &BTreeMap::new(), 4).claim.len(), 2);
    }
    assert_eq!(a.cycle_with(&aged("bb..", 3600), &BTreeMap::new(), 4).claim.len(), 4);
    // Without exclusiveness, records that nobody renews are nobody's.
    let mut a = Seen::by('a', "ab");
    for _ in 0..6 {
        a.cycle_with(&aged("bb..", 3600), &BTreeMap::new(), 4);
    }
    assert!(a.cycle_with(&aged("bb..", 3600), &BTreeMap::new(), 4).claim.iter().any(|c| c.from.is_some()));
}

#[test]
fn records_of_other_partitions_mean_nothing() {
    let mut a = Seen::by('a', "a");
    let decision = a.cycle_with(&records("..xyz"), &BTreeMap::new(), 2);
    assert_eq!((decision.claim.len(), decision.view.hosts, &decision.view.foreign[..]), (2, 1, &[][..]));
    let doubled = [records("b"), records(".")].concat();
    assert_eq!(a.cycle_with(&doubled, &BTreeMap::new(), 1).claim, [], "the first of two records counts");
}

#[test]
fn added_partitions_are_shared_at_once() {
    let mut a = Seen::by('a', "ab");
    assert_eq!(a.cycle("aabb").claim, []);
    assert_eq!(claims(&a.cycle("aabb....")), [("4", Why::Quota), ("5", Why::Quota)]);
}

#[test]
fn presence_is_what_everybody_counts_on() {
    let hosts = [presence('a'), presence('b')];
    assert!(hosts.iter().all(|h| h.part == Part::Fair { most: None }));
}
