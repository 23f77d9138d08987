//! Decides which partitions to claim. Pure: what is known comes in, a plan comes out; `coordinator.rs` acts on it.
//!
//! On one host the plan is simple: everything that isn't here already. The lock of the directory store, or whoever
//! embeds the host, sees to it that no second host is at it.

use std::collections::HashMap;

use crate::model::{ETag, OwnerId, PartitionId};
use crate::seams::PartitionRecord;

/// A claim to make.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) partition: PartitionId,
    /// The condition for it.
    pub(crate) expected: Option<ETag>,
    /// Whether another owner had the partition last.
    pub(crate) taken_over: bool,
}

/// The claims that bring every one of the `wanted` partitions here.
pub(crate) fn plan(owner: &OwnerId, wanted: &[PartitionId], records: &[PartitionRecord]) -> Vec<Claim> {
    let known: HashMap<&PartitionId, &PartitionRecord> = records.iter().map(|r| (&r.partition, r)).collect();
    let claim = |partition: &PartitionId| {
        let ownership = known.get(partition).and_then(|r| r.ownership.as_ref());
        Claim {
            partition: partition.clone(),
            expected: ownership.map(|o| o.etag.clone()),
            taken_over: ownership.and_then(|o| o.owner.as_ref()).is_some_and(|o| o != owner),
        }
    };
    wanted.iter().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::Ownership;

    #[test]
    fn everything_wanted_is_claimed_on_the_condition_that_was_seen() {
        let id = |n: &str| PartitionId::from(n);
        let (me, other) = (OwnerId::from("me"), OwnerId::from("other"));
        let record = |n: &str, owner: Option<&OwnerId>| PartitionRecord {
            partition: id(n),
            ownership: Some(Ownership {
                owner: owner.cloned(),
                generation: 3,
                mark: None,
                etag: ETag(format!("e{n}")),
                age: None,
            }),
            checkpoint: None,
        };
        let records = [record("0", Some(&me)), record("1", Some(&other)), record("2", None), record("9", Some(&other))];
        let wanted = [id("0"), id("1"), id("2"), id("3")];
        let plan: Vec<_> = plan(&me, &wanted, &records)
            .into_iter()
            .map(|c| (c.partition.to_string(), c.expected.map(|e| e.0), c.taken_over))
            .collect();
        let expect = |n: &str, etag: Option<&str>, over| (n.to_owned(), etag.map(str::to_owned), over);
        let all = [
            expect("0", Some("e0"), false),
            expect("1", Some("e1"), true),
            expect("2", Some("e2"), false),
            expect("3", None, false),
        ];
        assert_eq!(plan, all);
    }
}
