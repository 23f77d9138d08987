//! What a fleet did, from what could be seen of it, and what it must never have done. Pure: evidence in, violations out.
//!
//! The evidence has three sources that know nothing of each other: the hosts' own logs (`weir::history`), the checkpoint records as
//! somebody else polls them, and the events that arrived in the output hub.

use std::collections::{BTreeMap, BTreeSet};

/// A partition of the hub that is read.
pub type Partition = u32;

/// A step of a tenancy, as its host told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The process: its owner name and which life of it.
    pub host: String,
    /// Which partition.
    pub partition: Partition,
    /// Which tenancy of it.
    pub generation: u64,
    /// What happened.
    pub step: Step,
}

/// What a host tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It reads on behind this checkpoint; -1: from the first event.
    Began(i64),
    /// The guest finished these events, both ends included.
    Acknowledged(i64, i64),
    /// Their outputs are in the hub.
    Accepted(i64),
    /// The checkpoint was written.
    Committed(i64),
    /// As planned, with everything committed.
    Drained,
    /// The ownership was lost, or something failed.
    Broken,
}

/// Something that was seen from outside, in the order in which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The output of this event has arrived.
    Output(Partition, i64),
    /// The checkpoint's record: generation and sequence number. Outputs that arrived before it was read stand before it.
    Checkpoint(Partition, u64, i64),
}

/// All evidence.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// How many events were published to each partition; their sequence numbers begin at 0.
    pub published: BTreeMap<Partition, i64>,
    /// The logs of all processes, each in its order.
    pub told: Vec<Told>,
    /// What was seen.
    pub seen: Vec<Seen>,
    /// The processes that were killed or suspended: only they may leave a tenancy without its end.
    pub harmed: BTreeSet<String>,
}

/// What the history comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What must not be, in sentences.
    pub violations: Vec<String>,
    /// Outputs that arrived again, all of them as the protocol allows if there are no violations.
    pub repeats: usize,
    /// Tenancies that were lost by hosts that nobody had harmed: allowed, but not planned.
    pub lost_unharmed: usize,
    /// All tenancies.
    pub tenancies: usize,
}

/// One tenancy, put together.
#[derive(Default)]
struct Tenancy<'a> {
    hosts: BTreeSet<&'a str>,
    began: Option<i64>,
    acknowledged: Option<i64>,
    accepted: Option<i64>,
    committed: Option<i64>,
    end: Option<Step>,
}

impl History {
    /// Judges a run that has come to its end: all that was published is processed and every host has stopped.
    pub fn judge(&self) -> Findings {
        let mut findings = Findings::default();
        for (&partition, &published) in &self.published {
            let tenancies = self.tenancies(partition, &mut findings);
            findings.tenancies += tenancies.len();
            self.judge_lineage(partition, &tenancies, &mut findings);
            self.judge_arrivals(partition, published, &tenancies, &mut findings);
        }
        findings
    }

    /// Each tenancy by itself: in order, without a gap, committing only what was accepted.
    fn tenancies(&self, partition: Partition, findings: &mut Findings) -> BTreeMap<u64, Tenancy<'_>> {
        let mut tenancies = BTreeMap::<u64, Tenancy<'_>>::new();
        for told in self.told.iter().filter(|told| told.partition == partition) {
            let tenancy = tenancies.entry(told.generation).or_default();
            tenancy.hosts.insert(&told.host);
            let mut wrong = |what: String| {
                let Told { host, generation, .. } = told;
                findings.violations.push(format!("partition {partition}, generation {generation} of {host}: {what}"));
            };
            if let Some(end) = tenancy.end {
                wrong(format!("{:?} after its end, {end:?}", told.step));
            }
            match told.step {
                Step::Began(checkpoint) => {
                    if let Some(before) = tenancy.began {
                        wrong(format!("it began twice, behind {before} and {checkpoint}"));
                    }
                    tenancy.began = Some(checkpoint);
                    (tenancy.acknowledged, tenancy.accepted) = (Some(checkpoint), Some(checkpoint));
                }
                Step::Acknowledged(from, to) => {
                    if tenancy.acknowledged.is_none_or(|last| from != last + 1) {
                        wrong(format!("acknowledged {from}..={to} after {:?}", tenancy.acknowledged));
                    }
                    tenancy.acknowledged = Some(to);
                }
                Step::Accepted(to) => {
                    if tenancy.acknowledged.is_none_or(|last| to > last) {
                        wrong(format!("{to} was accepted, but acknowledged up to {:?}", tenancy.acknowledged));
                    }
                    tenancy.accepted = Some(to);
                }
                Step::Committed(to) => {
                    if tenancy.accepted.is_none_or(|last| to > last) {
                        wrong(format!("committed {to}, but accepted up to {:?}", tenancy.accepted));
                    }
                    if tenancy.committed.or(tenancy.began).is_none_or(|last| to < last) {
                        wrong(format!("committed {to} after {:?}", tenancy.committed.or(tenancy.began)));
                    }
                    tenancy.committed = Some(to);
                }
                Step::Drained => {
                    let all = tenancy.committed.or(tenancy.began);
                    if all != tenancy.acknowledged {
                        wrong(format!("drained with {all:?} committed and {:?} acknowledged", tenancy.acknowledged));
                    }
                    tenancy.end = Some(Step::Drained);
                }
                Step::Broken => tenancy.end = Some(Step::Broken),
            }
        }
        tenancies
    }

    /// The tenancies after each other: one line, in which each goes on where the record stood.
    fn judge_lineage(&self, partition: Partition, tenancies: &BTreeMap<u64, Tenancy<'_>>, findings: &mut Findings) {
        let (mut committed, mut acknowledged, mut lost) = (-1, -1, 0);
        for (generation, tenancy) in tenancies {
            let mut wrong = |what: String| {
                findings.violations.push(format!("partition {partition}, generation {generation}: {what}"));
            };
            if tenancy.hosts.len() != 1 {
                wrong(format!("more than one host had it: {:?}", tenancy.hosts));
            }
            let harmed = tenancy.hosts.iter().any(|host| self.harmed.contains(*host));
            if tenancy.end.is_none() && !harmed {
                wrong("it has no end, although nobody harmed its host".into());
            }
            lost += usize::from(tenancy.end == Some(Step::Broken) && !harmed);
            // What a tenancy did before it knew its beginning is nothing.
            let Some(began) = tenancy.began else { continue };
            // One that committed nothing may have found the last owner's write in its way; it has moved nothing.
            if began < committed && tenancy.committed.is_some() {
                wrong(format!("it began behind {began}, but {committed} was committed before it"));
            }
            if began > acknowledged {
                wrong(format!("it began behind {began}, but only {acknowledged} was ever acknowledged"));
            }
            committed = committed.max(tenancy.committed.unwrap_or(began));
            acknowledged = acknowledged.max(tenancy.acknowledged.unwrap_or(began));
        }
        findings.lost_unharmed += lost;
    }

    /// What arrived, and the checkpoints between: nothing lost, nothing ahead of its outputs, no repeat without its reason.
    fn judge_arrivals(
        &self,
        partition: Partition,
        published: i64,
        tenancies: &BTreeMap<u64, Tenancy<'_>>,
        findings: &mut Findings,
    ) {
        let mut arrived = BTreeMap::<i64, usize>::new();
        // Everything up to here has arrived.
        let mut whole = -1;
        let mut last = (0, -1);
        let mut wrong = |what: String| findings.violations.push(format!("partition {partition}: {what}"));
        for seen in &self.seen {
            match *seen {
                Seen::Output(of, number) if of == partition => {
                    if number > whole + 1 && !arrived.contains_key(&number) {
                        wrong(format!("the output of {number} came before that of {}", whole + 1));
                    }
                    *arrived.entry(number).or_default() += 1;
                    while arrived.contains_key(&(whole + 1)) {
                        whole += 1;
                    }
                }
                Seen::Checkpoint(of, generation, number) if of == partition => {
                    if generation < last.0 || number < last.1 {
                        wrong(format!("the checkpoint went back from {last:?} to {:?}", (generation, number)));
                    }
                    if number > whole {
                        wrong(format!("the checkpoint is at {number}, but outputs have arrived up to {whole} only"));
                    }
                    last = (generation, number);
                }
                _ => {}
            }
        }
        let missing: Vec<_> = (0..published).filter(|number| !arrived.contains_key(number)).collect();
        if let (Some(first), count) = (missing.first(), missing.len()) {
            wrong(format!("{count} of {published} events have no output, the first is {first}"));
        }
        if last.1 != published - 1 {
            wrong(format!("the last checkpoint is {}, but {published} events were published", last.1));
        }
        for (&number, &times) in &arrived {
            let by = |t: &Tenancy<'_>| {
                t.began.is_some_and(|began| began < number) && t.acknowledged.is_some_and(|last| number <= last)
            };
            let takers: Vec<_> = tenancies.iter().filter(|(_, tenancy)| by(tenancy)).collect();
            if times > takers.len() {
                let generations: Vec<_> = takers.iter().map(|(generation, _)| *generation).collect();
                wrong(format!("the output of {number} came {times} times, processed by generations {generations:?}"));
            }
            for (generation, tenancy) in takers.iter().rev().skip(1) {
                if tenancy.end == Some(Step::Drained) {
                    wrong(format!("{number} was processed again although generation {generation} ended as planned"));
                }
            }
        }
        findings.repeats += arrived.values().map(|times| times - 1).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(host: &str, generation: u64, steps: &[Step]) -> Vec<Told> {
        steps.iter().map(|step| Told { host: host.into(), partition: 0, generation, step: *step }).collect()
    }

    /// `a` hands over to `b` as planned, `b` is killed with two events uncommitted, `c` takes over.
    fn good() -> History {
        use Step::{Accepted, Acknowledged, Began, Committed, Drained};
        let mut all = told("a", 1, &[Began(-1), Acknowledged(0, 1), Accepted(1), Committed(1), Drained]);
        all.extend(told("b", 2, &[Began(1), Committed(1), Acknowledged(2, 3), Accepted(3), Acknowledged(4, 5)]));
        all.extend(told("c", 3, &[Began(3), Committed(3), Acknowledged(4, 6), Accepted(6), Committed(6), Drained]));
        let mut seen = outputs(0..=1);
        seen.push(Seen::Checkpoint(0, 1, 1));
        seen.extend(outputs(2..=5));
        seen.push(Seen::Checkpoint(0, 3, 3));
        seen.extend(outputs(4..=6));
        seen.push(Seen::Checkpoint(0, 3, 6));
        History { published: [(0, 7)].into(), told: all, seen, harmed: ["b".to_owned()].into() }
    }

    fn outputs(numbers: std::ops::RangeInclusive<i64>) -> Vec<Seen> {
        numbers.map(|number| Seen::Output(0, number)).collect()
    }

    /// The violations after one change to the good history.
    fn after(change: impl FnOnce(&mut History)) -> String {
        let mut history = good();
        change(&mut history);
        history.judge().violations.join("\n")
    }

    fn replace(history: &mut History, from: Step, to: Step) {
        let told = history.told.iter_mut().rev().find(|told| told.step == from).unwrap();
        told.step = to;
    }

    #[track_caller]
    fn says(violations: &str, sentence: &str) {
        assert!(violations.contains(sentence), "{sentence:?} is not in {violations:?}");
    }

    #[test]
    fn a_good_history_is_found_good() {
        let findings = good().judge();
        assert_eq!(findings, Findings { repeats: 2, tenancies: 3, ..Findings::default() });
    }

    #[test]
    fn what_is_lost_is_found() {
        says(&after(|h| h.seen.retain(|seen| *seen != Seen::Output(0, 6))), "1 of 7 events have no output");
        says(&after(|h| h.published = [(0, 8)].into()), "the last checkpoint is 6, but 8");
    }

    #[test]
    fn a_checkpoint_that_goes_back_or_runs_ahead_is_found() {
        says(&after(|h| h.seen.push(Seen::Checkpoint(0, 3, 5))), "went back from (3, 6) to (3, 5)");
        says(&after(|h| h.seen.push(Seen::Checkpoint(0, 2, 6))), "went back from (3, 6) to (2, 6)");
        says(&after(|h| h.seen.insert(0, Seen::Checkpoint(0, 1, 1))), "at 1, but outputs have arrived up to -1");
        says(&after(|h| replace(h, Step::Committed(6), Step::Committed(7))), "committed 7, but accepted up to Some(6)");
        says(&after(|h| replace(h, Step::Accepted(6), Step::Accepted(7))), "7 was accepted, but acknowledged up to");
        says(&after(|h| replace(h, Step::Committed(6), Step::Committed(2))), "committed 2 after Some(3)");
    }

    #[test]
    fn a_fork_of_the_lineage_is_found() {
        says(&after(|h| h.told[5].host = "x".into()), "more than one host had it");
        says(&after(|h| replace(h, Step::Began(3), Step::Began(0))), "began behind 0, but 1 was committed before it");
        says(&after(|h| replace(h, Step::Began(3), Step::Began(6))), "only 5 was ever acknowledged");
        says(
            &after(|h| replace(h, Step::Acknowledged(4, 6), Step::Acknowledged(5, 6))),
            "acknowledged 5..=6 after Some(3)",
        );
        // The zombie's commit comes after the next owner has begun.
        says(
            &after(|h| h.told.extend(told("b", 2, &[Step::Accepted(5), Step::Committed(5)]))),
            "5 was committed before",
        );
    }

    #[test]
    fn a_repeat_without_its_reason_is_found() {
        says(&after(|h| h.seen.push(Seen::Output(0, 6))), "the output of 6 came 2 times, processed by generations [3]");
        says(&after(|h| h.harmed.clear()), "it has no end, although nobody harmed its host");
        let planned = after(|h| h.told.extend(told("b", 2, &[Step::Drained])));
        says(&planned, "drained with Some(1) committed and Some(5) acknowledged");
        says(&planned, "4 was processed again although generation 2 ended as planned");
    }

    #[test]
    fn an_output_out_of_order_is_found() {
        let swapped = after(|h| {
            let at = |h: &History, number| h.seen.iter().position(|seen| *seen == Seen::Output(0, number)).unwrap();
            let (third, fourth) = (at(h, 2), at(h, 3));
            h.seen.swap(third, fourth);
        });
        assert_eq!(swapped, "partition 0: the output of 3 came before that of 2");
    }

    #[test]
    fn a_step_after_the_end_is_found() {
        // The first tenancy's, as planned, and one that was lost.
        let late = after(|h| h.told.extend(told("a", 1, &[Step::Acknowledged(2, 2)])));
        says(&late, "generation 1 of a: Acknowledged(2, 2) after its end, Drained");
        let lost = after(|h| h.told.extend(told("b", 2, &[Step::Broken, Step::Accepted(5)])));
        assert_eq!(lost, "partition 0, generation 2 of b: Accepted(5) after its end, Broken");
    }

    #[test]
    fn a_tenancy_that_begins_twice_is_found() {
        // Right behind its own checkpoint, where what follows would fit.
        let twice = after(|h| h.told.insert(6, h.told[5].clone()));
        assert_eq!(twice, "partition 0, generation 2 of b: it began twice, behind 1 and 1");
    }

    #[test]
    fn a_loss_that_nobody_caused_is_counted() {
        let mut history = good();
        history.told.extend(told("b", 2, &[Step::Broken]));
        history.harmed.clear();
        assert_eq!(history.judge().lost_unharmed, 1);
    }
}
