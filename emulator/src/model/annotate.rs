//! Writes an event as the message that consumers get: the producer's bytes, with the service's annotations put in.
//!
//! Written by hand rather than through the codec's value tree: it runs once for every event that arrives.

use super::Incoming;

const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
const OFFSET: &str = "x-opt-offset";
const ENQUEUED_TIME: &str = "x-opt-enqueued-time";
const PARTITION_KEY: &str = "x-opt-partition-key";

/// The annotations that only the namespace writes. A producer's own values for them (a forwarded event) are replaced.
pub const SYSTEM_ANNOTATIONS: [&str; 6] =
    [SEQUENCE_NUMBER, OFFSET, ENQUEUED_TIME, PARTITION_KEY, "x-opt-publisher", "x-opt-sequence-number-epoch"];

/// Room for the section's frame, four keys and their fixed-size values.
const SYSTEM_BYTES: usize = 160;

pub(super) fn size_hint(event: &Incoming) -> usize {
    let key = event.key.as_ref().map_or(0, String::len);
    event.head.len() + event.annotations.len() + key + SYSTEM_BYTES + event.tail.len()
}

pub(super) fn write(out: &mut Vec<u8>, event: &Incoming, sequence: i64, offset: i64, enqueued_ms: i64) {
    out.extend_from_slice(&event.head);
    // described list of section 0x72 (message annotations), map32 with its size patched afterwards.
    out.extend_from_slice(&[0x00, 0x53, 0x72, 0xd1, 0, 0, 0, 0]);
    let after_size = out.len();
    let items = 6 + 2 * u32::from(event.key.is_some()) + event.annotation_items;
    out.extend_from_slice(&items.to_be_bytes());

    symbol(out, SEQUENCE_NUMBER);
    out.push(0x81);
    out.extend_from_slice(&sequence.to_be_bytes());
    symbol(out, OFFSET);
    string(out, &offset.to_string());
    symbol(out, ENQUEUED_TIME);
    out.push(0x83);
    out.extend_from_slice(&enqueued_ms.to_be_bytes());
    if let Some(key) = &event.key {
        symbol(out, PARTITION_KEY);
        string(out, key);
    }
    out.extend_from_slice(&event.annotations);

    let size = u32::try_from(out.len() - after_size).unwrap_or(u32::MAX);
    out[after_size - 4..after_size].copy_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&event.tail);
}

fn symbol(out: &mut Vec<u8>, text: &str) {
    short_or_long(out, 0xa3, 0xb3, text);
}

fn string(out: &mut Vec<u8>, text: &str) {
    short_or_long(out, 0xa1, 0xb1, text);
}

fn short_or_long(out: &mut Vec<u8>, short: u8, long: u8, text: &str) {
    if let Ok(length) = u8::try_from(text.len()) {
        out.extend_from_slice(&[short, length]);
    } else {
        out.push(long);
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}
