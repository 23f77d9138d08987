//! Tracks how far a partition is finished: the watermark, up to which every event handed over was acknowledged or
//! rejected.
//!
//! Pure. A checkpoint can only ever be a watermark (rule R6), so what an answer may mean is decided here and nowhere
//! else:
//! - `all` finishes everything handed over so far, with a redelivery everything before it.
//! - `through` may name an event of an earlier batch, or a number between two events. Below the watermark it says
//!   nothing new. Beyond what was handed over, or at or after the first event that comes again, it breaks the contract.
//! - A rejected event is finished by itself. Above a watermark that is held it waits until the prefix reaches it.
//! - An event that the guest failed at and that is given up counts like a rejected one.
//! - With a redelivery, events from its index on were never delivered: they can't be rejected, and count again when
//!   they come.
//!
//! While a guest acknowledges everything, nothing is remembered per event; held events cost their position each.

use std::collections::VecDeque;

use bytestring::ByteString;

use crate::guest::{Ack, Progress, Rejection};
use crate::model::{Event, Position, SequenceNumber};

/// The tracker of one partition, for as long as its guest's memory is continuous.
#[derive(Debug)]
pub(crate) struct Tracker {
    watermark: Option<Position>,
    /// Delivered above the watermark, in order; the first is unfinished.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    position: Position,
    /// How it ended by itself; `None`: not yet.
    ended: Option<Fate>,
}

/// How an event ends that the guest did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Rejected,
    SetAside,
}

/// Events that the watermark has passed, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    /// The guest finished them.
    pub(crate) acknowledged: u64,
    /// The guest rejected them.
    pub(crate) rejected: u64,
    /// The guest failed at them, and they were given up.
    pub(crate) set_aside: u64,
}

impl Fates {
    /// All of them.
    pub(crate) fn all(self) -> u64 {
        self.acknowledged + self.rejected + self.set_aside
    }

    fn count(&mut self, ended: Option<Fate>) {
        *match ended {
            None => &mut self.acknowledged,
            Some(Fate::Rejected) => &mut self.rejected,
            Some(Fate::SetAside) => &mut self.set_aside,
        } += 1;
    }
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    /// The watermark, if it moved.
    pub(crate) watermark: Option<Position>,
    /// Events that it newly covers.
    pub(crate) covered: Fates,
    /// Events of the batch that stand: all, or those before the redelivery.
    pub(crate) standing: usize,
}

impl Tracker {
    /// Starts right after `checkpoint`.
    pub(crate) fn new(checkpoint: Option<Position>) -> Self {
        Self { watermark: checkpoint, open: VecDeque::new() }
    }

    /// Everything up to here is finished.
    pub(crate) fn watermark(&self) -> Option<&Position> {
        self.watermark.as_ref()
    }

    /// Events that were delivered but are not covered by the watermark.
    pub(crate) fn held(&self) -> usize {
        self.open.len()
    }

    /// Applies the answer to a batch. An error says how the answer breaks the contract; then nothing has changed.
    pub(crate) fn apply(&mut self, batch: &[Event], ack: &Ack) -> Result<Settlement, String> {
        let standing = check(batch, ack)?;
        Ok(self.finish(batch.get(..standing).unwrap_or_default(), ack, standing))
    }

    fn finish(&mut self, stands: &[Event], ack: &Ack, standing: usize) -> Settlement {
        let before = self.watermark.as_ref().map(|w| w.sequence_number);
        let covered = match ack.progress {
            Progress::All => self.finish_all(stands, ack),
            Progress::Hold => self.finish_through(stands, ack, None),
            Progress::Through(last) => self.finish_through(stands, ack, Some(last)),
        };
        let moved = self.watermark.as_ref().filter(|w| Some(w.sequence_number) != before);
        Settlement { watermark: moved.cloned(), covered, standing }
    }

    /// Applies an answer to a call that handed over no event. An error says how it breaks the contract; then nothing has changed.
    pub(crate) fn apply_to_none(&mut self, ack: &Ack) -> Result<Settlement, String> {
        if let Some(rejection) = ack.rejected.first() {
            return Err(format!("it rejects index {}, but was handed no event", rejection.index));
        }
        if let Some(again) = &ack.redeliver {
            return Err(format!("it asks for redelivery from index {}, but was handed no event", again.index));
        }
        let newest = self.open.back().map(|open| &open.position).or(self.watermark.as_ref());
        let newest = newest.map_or(-1, |position| position.sequence_number);
        if let Progress::Through(last) = ack.progress
            && last > newest
        {
            return Err(format!("it finishes through {last}, but was handed only events up to {newest}"));
        }
        Ok(self.finish(&[], ack, 0))
    }

    /// The next event is given up: it is finished by itself, and waits for what is held before it.
    pub(crate) fn set_aside(&mut self, event: &Event) -> Settlement {
        let before = self.watermark.as_ref().map(|w| w.sequence_number);
        self.open.push_back(Open { position: detached(event), ended: Some(Fate::SetAside) });
        let covered = self.advance(None);
        let moved = self.watermark.as_ref().filter(|w| Some(w.sequence_number) != before);
        Settlement { watermark: moved.cloned(), covered, standing: 1 }
    }

    fn finish_all(&mut self, stands: &[Event], ack: &Ack) -> Fates {
        let mut covered = Fates::default();
        let last = stands.last().map(detached).or_else(|| self.open.back().map(|open| open.position.clone()));
        for open in self.open.drain(..) {
            covered.count(open.ended);
        }
        let rejected = distinct(&ack.rejected, stands.len());
        covered.rejected += rejected;
        covered.acknowledged += stands.len() as u64 - rejected;
        if last.is_some() {
            self.watermark = last;
        }
        covered
    }

    fn finish_through(&mut self, stands: &[Event], ack: &Ack, through: Option<SequenceNumber>) -> Fates {
        let known = self.open.len();
        self.open.extend(stands.iter().map(|event| Open { position: detached(event), ended: None }));
        for rejection in &ack.rejected {
            if let Some(open) = self.open.get_mut(known + rejection.index as usize) {
                open.ended = Some(Fate::Rejected);
            }
        }
        self.advance(through)
    }

    /// Moves the watermark over what has ended, and over everything up to `through`.
    fn advance(&mut self, through: Option<SequenceNumber>) -> Fates {
        let mut covered = Fates::default();
        while let Some(open) = self.open.front() {
            if open.ended.is_none() && through.is_none_or(|last| open.position.sequence_number > last) {
                break;
            }
            covered.count(open.ended);
            self.watermark = self.open.pop_front().map(|open| open.position);
        }
        covered
    }
}

/// Events that are rejected, each once, whatever the guest says twice.
fn distinct(rejected: &[Rejection], events: usize) -> u64 {
    if rejected.is_empty() {
        return 0;
    }
    let mut seen = vec![false; events];
    for rejection in rejected {
        if let Some(seen) = seen.get_mut(rejection.index as usize) {
            *seen = true;
        }
    }
    seen.into_iter().filter(|seen| *seen).count() as u64
}

/// The position of an event that stays behind: its offset in a buffer of its own, so that holding it doesn't hold the
/// event's.
fn detached(event: &Event) -> Position {
    Position { sequence_number: event.sequence_number, offset: ByteString::from(event.offset.to_string()) }
}

/// Checks an answer against the contract; returns how many events of the batch stand.
pub(crate) fn check(batch: &[Event], ack: &Ack) -> Result<usize, String> {
    let len = batch.len();
    let standing = match &ack.redeliver {
        Some(again) if again.index as usize >= len => {
            return Err(format!("it asks for redelivery from index {}, but the batch has {len} events", again.index));
        }
        Some(again) => again.index as usize,
        None => len,
    };
    for rejection in &ack.rejected {
        let index = rejection.index as usize;
        if index >= len {
            return Err(format!("it rejects index {index}, but the batch has {len} events"));
        }
        if index >= standing {
            return Err(format!("it rejects index {index} and asks for its redelivery (from index {standing})"));
        }
    }
    if let Progress::Through(last) = ack.progress {
        match batch.get(standing) {
            Some(first) if last >= first.sequence_number => {
                let first = first.sequence_number;
                return Err(format!(
                    "it finishes through {last}, but asks for redelivery from sequence number {first}"
                ));
            }
            None if batch.last().is_none_or(|e| last > e.sequence_number) => {
                let newest = batch.last().map_or(-1, |e| e.sequence_number);
                return Err(format!("it finishes through {last}, but was handed only events up to {newest}"));
            }
            _ => {}
        }
    }
    Ok(standing)
}

#[cfg(test)]
mod tests;
