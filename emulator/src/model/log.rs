//! The append-only log of one partition. Pure: time comes in, nothing is awaited.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Block, StartPosition};

/// How much of a partition is kept. What is older goes, in whole blocks, when something arrives or someone looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Most bytes of encoded events a partition keeps; the newest block always stays.
    pub bytes: u64,
    /// Oldest age in milliseconds.
    pub age_ms: i64,
}

impl Default for Retention {
    /// Half a gibibyte and seven days (the service's longest in its standard tier).
    fn default() -> Self {
        Self { bytes: 512 << 20, age_ms: 7 * 24 * 3_600_000 }
    }
}

/// Counts and positions of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Sequence number of the oldest event kept; of the next event if none is kept.
    pub begin: i64,
    /// Sequence number of the newest event ever taken in; -1 before the first.
    pub last: i64,
    /// Its offset; -1 before the first.
    pub last_offset: i64,
    /// Its enqueued time in milliseconds since 1970; `None` before the first.
    pub last_enqueued_ms: Option<i64>,
    /// Bytes of encoded events kept.
    pub bytes: u64,
}

impl LogState {
    /// Whether no event is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begin > self.last
    }
}

/// Part of a block, as a read returns it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The block.
    pub block: Arc<Block>,
    /// The first event of it that is meant.
    pub from: usize,
    /// The first event behind those that are meant.
    pub to: usize,
}

/// The first offset of a partition. Not 0, so that whoever takes offsets for sequence numbers finds out.
const FIRST_OFFSET: i64 = 4096;

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    blocks: VecDeque<Arc<Block>>,
    next: i64,
    next_offset: i64,
    last_offset: i64,
    last_enqueued_ms: Option<i64>,
    bytes: u64,
    retention: Retention,
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        let blocks = VecDeque::new();
        Self {
            blocks,
            next: 0,
            next_offset: FIRST_OFFSET,
            last_offset: -1,
            last_enqueued_ms: None,
            bytes: 0,
            retention,
        }
    }

    /// Sequence number, offset and enqueued time of what is appended at `now_ms`. Time never runs backwards in a
    /// partition, whatever the clock does.
    #[must_use]
    pub fn ends(&self, now_ms: i64) -> (i64, i64, i64) {
        (self.next, self.next_offset, self.last_enqueued_ms.map_or(now_ms, |last| last.max(now_ms)))
    }

    /// Adds a block: the next one, or the first that a journal still has. What doesn't follow is refused.
    pub fn push(&mut self, block: Arc<Block>) -> bool {
        let follows = self.last_enqueued_ms.is_none() || block.first >= self.next;
        if block.is_empty() || !follows {
            return false;
        }
        self.next = block.next();
        self.next_offset = block.next_offset();
        self.last_offset = block.offset_of(block.len() - 1);
        self.last_enqueued_ms = Some(block.enqueued_ms);
        self.bytes += block.data.len() as u64;
        self.blocks.push_back(block);
        true
    }

    /// Drops what retention no longer covers, in whole blocks; returns the sequence number that is now the oldest.
    pub fn expire(&mut self, now_ms: i64) -> i64 {
        while let Some(oldest) = self.blocks.front() {
            let too_large = self.bytes > self.retention.bytes && self.blocks.len() > 1;
            let too_old = now_ms.saturating_sub(oldest.enqueued_ms) > self.retention.age_ms;
            if !too_large && !too_old {
                break;
            }
            self.bytes -= oldest.data.len() as u64;
            self.blocks.pop_front();
        }
        self.begin()
    }

    /// Counts and positions.
    #[must_use]
    pub fn state(&self) -> LogState {
        LogState {
            begin: self.begin(),
            last: self.next - 1,
            last_offset: self.last_offset,
            last_enqueued_ms: self.last_enqueued_ms,
            bytes: self.bytes,
        }
    }

    /// The sequence number that the next event will get.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The sequence number of the first event that `start` asks for, whether it has arrived or not.
    #[must_use]
    pub fn resolve(&self, start: &StartPosition) -> i64 {
        match *start {
            StartPosition::Earliest => self.begin(),
            StartPosition::Latest => self.next,
            StartPosition::Sequence { sequence, inclusive } => {
                sequence.saturating_add(i64::from(!inclusive)).max(self.begin())
            }
            StartPosition::Offset { offset, inclusive } => {
                let wanted = |at: i64| at > offset || (inclusive && at == offset);
                let index = self.blocks.partition_point(|block| !wanted(block.offset_of(block.len() - 1)));
                self.blocks.get(index).map_or(self.next, |block| {
                    let skipped = (0..block.len()).take_while(|&i| !wanted(block.offset_of(i))).count();
                    block.first.saturating_add_unsigned(skipped as u64)
                })
            }
            StartPosition::EnqueuedTime { ms, inclusive } => {
                let wanted = |time: i64| time > ms || (inclusive && time == ms);
                let index = self.blocks.partition_point(|block| !wanted(block.enqueued_ms));
                self.blocks.get(index).map_or(self.next, |block| block.first)
            }
        }
    }

    /// Up to `events` events from sequence number `from` on, appended to `runs`; returns how many. A position that
    /// retention has passed continues with the oldest event kept.
    pub fn read(&self, from: i64, events: usize, runs: &mut Vec<Run>) -> usize {
        let mut left = events;
        let index = self.blocks.partition_point(|block| block.next() <= from);
        for block in self.blocks.range(index..) {
            if left == 0 {
                break;
            }
            let start = usize::try_from(from.saturating_sub(block.first)).unwrap_or(0);
            let end = block.len().min(start + left);
            left -= end - start;
            runs.push(Run { block: Arc::clone(block), from: start, to: end });
        }
        events - left
    }

    /// The kept blocks, oldest first.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.iter()
    }

    fn begin(&self) -> i64 {
        self.blocks.front().map_or(self.next, |block| block.first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::model::Incoming;

    /// Blocks of these sizes, taken in at 1000, 2000, … milliseconds.
    fn log(sizes: &[usize], retention: Retention) -> Log {
        let mut log = Log::new(retention);
        for (at, size) in (1..).zip(sizes) {
            let (first, offset, time) = log.ends(at * 1000);
            let event = Incoming { tail: vec![0; 50].into(), ..Incoming::default() };
            assert!(log.push(Arc::new(Block::encode(first, offset, time, &vec![event; *size]))));
        }
        log
    }

    fn read(log: &Log, from: i64, events: usize) -> Vec<i64> {
        let mut runs = Vec::new();
        log.read(from, events, &mut runs);
        runs.iter().flat_map(|run| (run.from..run.to).map(|at| run.block.first + at as i64)).collect()
    }

    #[test]
    fn reads_cross_blocks_and_stop_at_the_end() {
        let log = log(&[1, 3, 2], Retention::default());
        assert_eq!(read(&log, 0, 100), [0, 1, 2, 3, 4, 5]);
        assert_eq!(read(&log, 2, 3), [2, 3, 4]);
        assert_eq!(read(&log, 5, 1), [5]);
        assert!(read(&log, 6, 10).is_empty());
        assert_eq!(read(&log, -5, 1), [0]);
        assert!(read(&log, i64::MAX, 1).is_empty());
        assert_eq!(read(&log, i64::MIN, 1), [0]);
    }

    #[test]
    fn every_start_position_finds_its_event() {
        let log = log(&[2, 3, 2], Retention::default());
        let offset = |sequence: i64| {
            let block = log.blocks().find(|block| block.next() > sequence).expect("the block");
            block.offset_of(usize::try_from(sequence - block.first).expect("an index"))
        };
        for sequence in 0..7 {
            let from = |inclusive| StartPosition::Sequence { sequence, inclusive };
            assert_eq!((log.resolve(&from(true)), log.resolve(&from(false))), (sequence, sequence + 1));
            let from = |inclusive| StartPosition::Offset { offset: offset(sequence), inclusive };
            assert_eq!((log.resolve(&from(true)), log.resolve(&from(false))), (sequence, sequence + 1));
            assert_ne!(offset(sequence), sequence);
        }
        for (ms, inclusive, first) in
            [(0, false, 0), (1000, true, 0), (1000, false, 2), (1500, true, 2), (2000, false, 5), (3000, false, 7)]
        {
            assert_eq!(log.resolve(&StartPosition::EnqueuedTime { ms, inclusive }), first, "{ms} {inclusive}");
        }
        assert_eq!(log.resolve(&StartPosition::Earliest), 0);
        assert_eq!(log.resolve(&StartPosition::Latest), 7);
        assert_eq!(log.resolve(&StartPosition::Sequence { sequence: i64::MAX, inclusive: false }), i64::MAX);
    }

    #[test]
    fn retention_drops_old_blocks_and_keeps_positions() {
        let mut log = log(&[2, 3, 2], Retention { age_ms: 1500, ..Retention::default() });
        assert_eq!(log.expire(3000), 2);
        assert_eq!(log.resolve(&StartPosition::Sequence { sequence: 0, inclusive: true }), 2);
        assert_eq!(read(&log, 0, 2), [2, 3]);
        assert_eq!(log.expire(10_000), 7);
        let state = log.state();
        assert!(state.is_empty() && state.bytes == 0);
        assert_eq!((state.begin, state.last, state.last_enqueued_ms), (7, 6, Some(3000)));
        assert_eq!(log.ends(0), (7, log.next_offset, 3000), "time does not run backwards");
    }

    #[test]
    fn the_newest_block_stays_however_large() {
        let mut log = log(&[1, 100], Retention { bytes: 10, ..Retention::default() });
        assert_eq!(log.expire(2000), 1);
        assert_eq!(log.state().last, 100);
    }
}
