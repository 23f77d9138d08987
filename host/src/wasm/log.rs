//! A guest's lines in the host's log: those of the `logging` import, and what it writes to stderr and stdout.
//!
//! Each says whose it is: processor, partition, the events in hand and the module's digest. None can look like another one:
//! control characters are escaped, and raw output is written line by line. And there are only so many of them per call and per
//! second, so that a hundred partitions can't fill a disk; what is beyond is counted, and said once a period and at the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::instance::ProcessorOptions;
use super::rate::Rate;
use super::text::{clean, size};
use crate::model::{Event, PartitionId, SequenceNumber};

/// Bytes of one log line's message, and of all its fields.
const LINE: usize = 4 << 10;
/// Between two lines that say how much was dropped.
const PERIOD: Duration = Duration::from_secs(10);

/// One instance's log.
pub(super) struct GuestLog {
    options: Arc<ProcessorOptions>,
    partition: PartitionId,
    /// The first characters of the module's digest.
    module: Box<str>,
    /// What the call in hand is about; `None` in `open` and `close`.
    events: Option<Range>,
    volume: Volume,
}

/// Sequence numbers of a batch, both ends included.
struct Range(SequenceNumber, SequenceNumber);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, last) = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl GuestLog {
    pub(super) fn new(options: Arc<ProcessorOptions>, partition: PartitionId, digest: &str, now: Instant) -> Self {
        let module = digest.get(..12).unwrap_or(digest).into();
        let volume = Volume::new(&options, now);
        Self { options, partition, module, events: None, volume }
    }

    /// A call about these events begins.
    pub(super) fn begin(&mut self, events: &[Event]) {
        let end = |event: Option<&Event>| event.map(|event| event.sequence_number);
        self.events = end(events.first()).zip(end(events.last())).map(|(first, last)| Range(first, last));
        self.volume.begin();
    }

    /// A line of the `logging` import.
    pub(super) fn line(&mut self, level: tracing::Level, message: &str, fields: &[(String, String)], now: Instant) {
        self.write(level, None, message, fields, now);
    }

    /// What the guest wrote to a stream, cleaned already: a line of the log for each of its lines.
    pub(super) fn output(&mut self, stream: &'static str, text: &str, now: Instant) {
        for line in text.lines() {
            self.write(tracing::Level::INFO, Some(stream), line, &[], now);
        }
    }

    fn write(
        &mut self,
        level: tracing::Level,
        stream: Option<&'static str>,
        message: &str,
        fields: &[(String, String)],
        now: Instant,
    ) {
        let Self { options, partition, module, events, volume } = self;
        let processor = &options.name;
        let events = events.as_ref().map(tracing::field::display);
        // A level is part of a call site, so each needs one. A line that nobody listens to costs nothing of the volume.
        macro_rules! line {
            ($level:expr) => {
                if tracing::enabled!(target: "weir::guest", $level) {
                    let message = clean(message, LINE, false);
                    let fields = pairs(fields);
                    if volume.admits(message.len() + fields.as_ref().map_or(0, String::len), now) {
                        tracing::event!(target: "weir::guest", $level, %processor, %partition, events, %module, stream, fields, "{message}");
                    }
                }
            };
        }
        match level {
            tracing::Level::TRACE => line!(tracing::Level::TRACE),
            tracing::Level::DEBUG => line!(tracing::Level::DEBUG),
            tracing::Level::INFO => line!(tracing::Level::INFO),
            tracing::Level::WARN => line!(tracing::Level::WARN),
            _ => line!(tracing::Level::ERROR),
        }
    }

    /// A call ended: says what was dropped, if it is time to.
    pub(super) fn flush(&mut self, now: Instant) {
        if let Some(dropped) = self.volume.due(now) {
            self.say(&dropped);
        }
    }

    /// Something of the host's own about this instance that is worth a person's look.
    pub(super) fn warn(&self, message: &str) {
        let Self { options, partition, module, .. } = self;
        tracing::warn!(target: "weir::guest", processor = %options.name, %partition, %module, "{message}");
    }

    fn say(&self, dropped: &Dropped) {
        let limits = &self.options.limits;
        self.warn(&format!(
            "{} log lines ({}) were dropped; limits.log-lines allows {} a call, limits.log-lines-per-second {} and \
             limits.log-bytes-per-second {} on average",
            dropped.lines,
            size(dropped.bytes),
            limits.log_lines,
            limits.log_lines_per_second,
            size(usize::try_from(limits.log_bytes_per_second).unwrap_or(usize::MAX)),
        ));
    }
}

impl Drop for GuestLog {
    /// However the instance ends: what it lost since the last time is said.
    fn drop(&mut self) {
        if self.volume.dropped.lines > 0 {
            self.say(&self.volume.dropped);
        }
    }
}

/// `key=value` pairs, as many as fit. `None`: there are none.
fn pairs(fields: &[(String, String)]) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    let mut text = String::new();
    for (key, value) in fields {
        if text.len() > LINE {
            text.push_str(" …");
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&clean(key, LINE, false));
        text.push('=');
        text.push_str(&clean(value, LINE, false));
    }
    Some(text)
}

/// What was not written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dropped {
    lines: u64,
    bytes: usize,
}

/// How much an instance may write, and what was too much. Pure.
struct Volume {
    per_call: u64,
    /// Of the call in hand.
    lines_of_call: u64,
    lines: Rate,
    bytes: Rate,
    dropped: Dropped,
    said: Option<Instant>,
}

impl Volume {
    fn new(options: &ProcessorOptions, now: Instant) -> Self {
        let limits = &options.limits;
        Self {
            per_call: limits.log_lines,
            lines_of_call: 0,
            lines: Rate::new(limits.log_lines_per_second, now),
            bytes: Rate::new(limits.log_bytes_per_second, now),
            dropped: Dropped::default(),
            said: None,
        }
    }

    fn begin(&mut self) {
        self.lines_of_call = 0;
    }

    fn admits(&mut self, bytes: usize, now: Instant) -> bool {
        let weight = bytes as u64;
        let admitted =
            self.lines_of_call < self.per_call && self.lines.allows(1, now) && self.bytes.allows(weight, now);
        if admitted {
            self.lines_of_call += 1;
            self.lines.take(1);
            self.bytes.take(weight);
        } else {
            self.dropped.lines += 1;
            self.dropped.bytes = self.dropped.bytes.saturating_add(bytes);
        }
        admitted
    }

    /// What is to be said now: at once for the first, then once a period.
    fn due(&mut self, now: Instant) -> Option<Dropped> {
        let waits = self.said.is_some_and(|said| now.saturating_duration_since(said) < PERIOD);
        if self.dropped.lines == 0 || waits {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::Limits;

    fn volume(limits: Limits, now: Instant) -> Volume {
        Volume::new(&ProcessorOptions { limits, ..ProcessorOptions::new("story") }, now)
    }

    #[test]
    fn lines_are_bounded_per_call_and_over_time_and_the_loss_is_said_once_a_period() {
        let start = Instant::now();
        let limits = Limits { log_lines: 3, log_lines_per_second: 1, log_bytes_per_second: 1000, ..Limits::default() };
        let mut volume = volume(limits, start);
        let call = |volume: &mut Volume, now| {
            volume.begin();
            (0..5).filter(|_| volume.admits(10, now)).count()
        };
        assert_eq!(call(&mut volume, start), 3, "a call's own limit");
        assert_eq!(volume.due(start), Some(Dropped { lines: 2, bytes: 20 }));
        assert_eq!((call(&mut volume, start), call(&mut volume, start)), (3, 3));
        assert_eq!(call(&mut volume, start), 1, "ten seconds' worth are used up");
        assert_eq!(call(&mut volume, start), 0);
        assert_eq!(volume.due(start + Duration::from_secs(9)), None, "said a moment ago");
        let later = start + PERIOD;
        assert_eq!(volume.due(later), Some(Dropped { lines: 13, bytes: 130 }));
        assert_eq!(volume.due(later + PERIOD), None, "nothing was dropped since");
        assert_eq!(call(&mut volume, later), 3);
    }

    #[test]
    fn few_long_lines_are_as_bounded_as_many_short_ones() {
        let start = Instant::now();
        let mut volume = volume(Limits { log_bytes_per_second: 100, ..Limits::default() }, start);
        assert!(volume.admits(999, start));
        assert!(!volume.admits(2, start));
        assert!(volume.admits(1, start));
        assert_eq!(volume.due(start), Some(Dropped { lines: 1, bytes: 2 }));
    }

    #[test]
    fn fields_are_escaped_and_bounded() {
        let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs(&[]), None);
        assert_eq!(pairs(&[field("a", "b\nc"), field("\u{1b}", "d")]).as_deref(), Some("a=b\\nc \\u{1b}=d"));
        let long = "x".repeat(1 << 20);
        let text = pairs(&[field(&long, &long), field("never", "seen")]).unwrap_or_default();
        assert!(text.len() < 3 * LINE && text.ends_with('…'), "{} bytes", text.len());
    }
}
