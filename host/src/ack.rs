//! Tracks how far a partition is finished: the watermark, up to which every event handed over was acknowledged or
//! rejected.
//!
//! Pure. A checkpoint can only ever be a watermark (rule R6), so what an answer may mean is decided here and nowhere
//! else:
//! - `all` finishes everything handed over so far, with a redelivery everything before it.
//! - `through` may name an event of an earlier batch, or a number between two events. Below the watermark it says
//!   nothing new. Beyond what was handed over, or at or after the first event that comes again, it breaks the contract.
//! - A rejected event is finished by itself. Above a watermark that is held it waits until the prefix reaches it.
//! - With a redelivery, events from its index on were never delivered: they can't be rejected, and count again when
//!   they come.
//!
//! While a guest acknowledges everything, nothing is remembered per event; held events cost their position each.

use std::collections::VecDeque;

use bytestring::ByteString;

use crate::guest::{Ack, Progress};
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
    finished: bool,
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    /// The watermark, if it moved.
    pub(crate) watermark: Option<Position>,
    /// Events that it newly covers.
    pub(crate) covered: u64,
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
        let stands = batch.get(..standing).unwrap_or_default();
        let before = self.watermark.as_ref().map(|w| w.sequence_number);
        let covered = match ack.progress {
            Progress::All => self.finish_all(stands),
            Progress::Hold => self.finish_through(stands, ack, None),
            Progress::Through(last) => self.finish_through(stands, ack, Some(last)),
        };
        let moved = self.watermark.as_ref().filter(|w| Some(w.sequence_number) != before);
        Ok(Settlement { watermark: moved.cloned(), covered, standing })
    }

    fn finish_all(&mut self, stands: &[Event]) -> u64 {
        let covered = self.open.len() + stands.len();
        let last = stands.last().map(detached).or_else(|| self.open.pop_back().map(|open| open.position));
        self.open.clear();
        if last.is_some() {
            self.watermark = last;
        }
        covered as u64
    }

    fn finish_through(&mut self, stands: &[Event], ack: &Ack, through: Option<SequenceNumber>) -> u64 {
        let known = self.open.len();
        self.open.extend(stands.iter().map(|event| Open { position: detached(event), finished: false }));
        for rejection in &ack.rejected {
            if let Some(open) = self.open.get_mut(known + rejection.index as usize) {
                open.finished = true;
            }
        }
        let mut covered = 0;
        while let Some(open) = self.open.front() {
            if !open.finished && through.is_none_or(|last| open.position.sequence_number > last) {
                break;
            }
            self.watermark = self.open.pop_front().map(|open| open.position);
            covered += 1;
        }
        covered
    }
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
