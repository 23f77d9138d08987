//! A dead letter: an event that was not processed, as it came, with why and whence in application properties.
//!
//! The properties are documented in `docs/dead-letters.md`: they are what a person searches by, and what `weir dead-letters` reads to send
//! an event back. All of them begin with `weir-`; those of the event itself are kept as they were.

mod place;

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use crate::guest::TrapCause;
use crate::model::{Event, Output, PartitionId, Property, Scope, SequenceNumber, Value};
use crate::outputs::{Ids, size};

pub(crate) use place::write;
pub use place::{Place, read};

/// Why, in a sentence: the guest's reason, or how it broke.
pub const REASON_PROPERTY: &str = "weir-reason";
/// What kind of end it was, for filters: one of [`DeadLetterCause`]'s names.
pub const CAUSE_PROPERTY: &str = "weir-cause";
/// How often the event was handed over, as an integer.
pub const ATTEMPTS_PROPERTY: &str = "weir-attempts";
/// Digest of the module that could not process it; missing where the processor is no module.
pub const MODULE_DIGEST_PROPERTY: &str = "weir-module-digest";
/// What the guest wrote to its standard error during the last attempt; missing when nothing.
pub const STDERR_PROPERTY: &str = "weir-stderr";
/// The guest's frames where it broke, innermost first, one a line; missing when there are none.
pub const BACKTRACE_PROPERTY: &str = "weir-backtrace";
/// The namespace that the event was read from.
pub const ORIGIN_NAMESPACE_PROPERTY: &str = "weir-origin-namespace";
/// The hub that the event was read from.
pub const ORIGIN_EVENT_HUB_PROPERTY: &str = "weir-origin-event-hub";
/// The group that it was read through.
pub const ORIGIN_CONSUMER_GROUP_PROPERTY: &str = "weir-origin-consumer-group";
/// The partition that the event was read from.
pub const ORIGIN_PARTITION_PROPERTY: &str = "weir-origin-partition";
/// The event's sequence number, as an integer.
pub const ORIGIN_SEQUENCE_NUMBER_PROPERTY: &str = "weir-origin-sequence-number";
/// The event's offset.
pub const ORIGIN_OFFSET_PROPERTY: &str = "weir-origin-offset";
/// When the service took the event in, as a timestamp.
pub const ORIGIN_ENQUEUED_TIME_PROPERTY: &str = "weir-origin-enqueued-time";
/// The processor that could not process the event.
pub const ORIGIN_PROCESSOR_PROPERTY: &str = "weir-origin-processor";
/// On an event that was sent again from a dead letter: the letter's id. The event keeps it when it becomes a letter once more.
pub const REDRIVEN_FROM_PROPERTY: &str = "weir-redriven-from";
/// On an event in a hub of dead letters that is no letter, but says that one is done with: that letter's id.
pub const SETTLED_PROPERTY: &str = "weir-settled";
/// Beside it: when the last copy of the letter that is meant was taken in by the hub. One that comes later counts again.
pub const SETTLED_THROUGH_PROPERTY: &str = "weir-settled-through";

/// How the id of every letter ends, behind hub, partition and sequence number.
const LETTER_ID_END: &str = "/rejected";

/// What is kept of a reason, a backtrace, an output: enough for a sentence and a stack.
const SAID_BYTES: usize = 16 * 1024;

/// Why an event became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterCause {
    /// The guest rejected it.
    Rejected,
    /// The guest asked for it again until the attempts were used up.
    Retry,
    /// The guest broke at it alone.
    Broke(TrapCause),
    /// It was older than events may get while they are retried.
    Expired,
}

impl fmt::Display for DeadLetterCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected",
            Self::Retry => "retry",
            Self::Expired => "expired",
            Self::Broke(TrapCause::Trap) => "trap",
            Self::Broke(TrapCause::Deadline) => "deadline",
            Self::Broke(TrapCause::OutOfMemory) => "out-of-memory",
            Self::Broke(TrapCause::Exit) => "exit",
            Self::Broke(TrapCause::InvalidAnswer) => "invalid-answer",
        })
    }
}

/// What is said of an event that was not processed.
#[derive(Clone, Debug)]
pub(crate) struct Why<'a> {
    pub(crate) cause: DeadLetterCause,
    pub(crate) reason: &'a str,
    pub(crate) attempts: u32,
    pub(crate) stderr: &'a str,
    pub(crate) backtrace: &'a str,
}

/// Writes the dead letters of one partition.
pub(crate) struct Letters {
    scope: Scope,
    partition: PartitionId,
    processor: String,
    digest: Option<Arc<str>>,
}

impl Letters {
    pub(crate) fn new(scope: &Scope, partition: &PartitionId, processor: &str, digest: Option<Arc<str>>) -> Self {
        Self { scope: scope.clone(), partition: partition.clone(), processor: processor.into(), digest }
    }

    /// The event as it came, with why and whence, as far as there is room for them below the sink's `limit`: the event matters more.
    pub(crate) fn write(&self, event: &Event, why: &Why<'_>, limit: usize) -> Output {
        // A letter that was sent back and failed again says what it died of this time.
        let kept = event.properties.iter().filter(|property| !is_ours(&property.key));
        let mut letter = Output {
            id: Ids::new(&self.scope.event_hub, &self.partition, 1)
                .make([itoa::Buffer::new().format(event.sequence_number), LETTER_ID_END]),
            partition_key: event.partition_key.clone(),
            content_type: event.content_type.clone(),
            message_id: event.message_id.clone(),
            correlation_id: event.correlation_id.clone(),
            properties: kept.cloned().collect(),
            body: event.body.clone(),
        };
        let text = |text: &str| Value::Text(text.into());
        let said = |said: &str, room: usize| {
            let said = said.get(..said.floor_char_boundary(room.min(SAID_BYTES))).unwrap_or_default();
            (!said.is_empty()).then(|| text(said))
        };
        // In the order of their worth: what doesn't fit any more is left out, or cut where it is prose.
        let mut add = |key, value: &dyn Fn(usize) -> Option<Value>| {
            let room = limit.saturating_sub(size(&letter) + str::len(key));
            let property = value(room).map(|value| Property { key: ByteString::from_static(key), value });
            if let Some(property) = property.filter(|property| property.value.size() <= room) {
                letter.properties.push(property);
            }
        };
        add(ORIGIN_PARTITION_PROPERTY, &|_| Some(text(self.partition.as_str())));
        add(ORIGIN_SEQUENCE_NUMBER_PROPERTY, &|_| Some(Value::Integer(event.sequence_number)));
        add(ORIGIN_EVENT_HUB_PROPERTY, &|_| Some(text(&self.scope.event_hub)));
        add(ORIGIN_PROCESSOR_PROPERTY, &|_| Some(text(&self.processor)));
        add(CAUSE_PROPERTY, &|_| Some(text(&why.cause.to_string())));
        add(ATTEMPTS_PROPERTY, &|_| Some(Value::Integer(why.attempts.into())));
        add(ORIGIN_NAMESPACE_PROPERTY, &|_| Some(text(&self.scope.namespace)));
        add(ORIGIN_CONSUMER_GROUP_PROPERTY, &|_| Some(text(&self.scope.consumer_group)));
        add(ORIGIN_OFFSET_PROPERTY, &|_| Some(Value::Text(event.offset.clone())));
        add(ORIGIN_ENQUEUED_TIME_PROPERTY, &|_| Some(Value::Timestamp(event.enqueued_time)));
        add(MODULE_DIGEST_PROPERTY, &|_| self.digest.as_deref().map(text));
        add(REASON_PROPERTY, &|room| said(why.reason, room));
        add(BACKTRACE_PROPERTY, &|room| said(why.backtrace, room));
        add(STDERR_PROPERTY, &|room| said(why.stderr, room));
        letter
    }
}

/// Whether what has this id is a letter, whatever its properties say: they may be the event's own, and an id is always the host's.
pub(crate) fn is_letter(id: &str) -> bool {
    // The whole shape: an output that has a key may end in whatever a module likes, behind `hub/partition/key/`.
    let mut origin = id.strip_suffix(LETTER_ID_END).into_iter().flat_map(|origin| origin.split('/')).skip(2);
    origin.next().is_some_and(|number| number.parse::<SequenceNumber>().is_ok()) && origin.next().is_none()
}

/// A letter's property.
pub(crate) fn property<'a>(letter: &'a Output, key: &str) -> Option<&'a Value> {
    letter.properties.iter().find(|property| property.key == key).map(|property| &property.value)
}

/// Whether a property was put there by a host that made a dead letter of the event.
pub(crate) fn is_ours(key: &str) -> bool {
    const OURS: [&str; 14] = [
        REASON_PROPERTY,
        CAUSE_PROPERTY,
        ATTEMPTS_PROPERTY,
        MODULE_DIGEST_PROPERTY,
        STDERR_PROPERTY,
        BACKTRACE_PROPERTY,
        ORIGIN_NAMESPACE_PROPERTY,
        ORIGIN_EVENT_HUB_PROPERTY,
        ORIGIN_CONSUMER_GROUP_PROPERTY,
        ORIGIN_PARTITION_PROPERTY,
        ORIGIN_SEQUENCE_NUMBER_PROPERTY,
        ORIGIN_OFFSET_PROPERTY,
        ORIGIN_ENQUEUED_TIME_PROPERTY,
        ORIGIN_PROCESSOR_PROPERTY,
    ];
    OURS.contains(&key)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;

    use super::*;
    use crate::testing::event;

    fn write(event: &Event, limit: usize) -> Output {
        let scope = Scope { namespace: "n".into(), event_hub: "hub".into(), consumer_group: "g".into() };
        let letters = Letters::new(&scope, &PartitionId::from("3"), "delays", Some("abc".into()));
        let reason = "ä".repeat(1 << 20);
        let cause = DeadLetterCause::Broke(TrapCause::Deadline);
        letters.write(event, &Why { cause, reason: &reason, attempts: 5, stderr: "", backtrace: "main" }, limit)
    }

    /// A letter of partition 3.
    pub(crate) fn letter_of(event_hub: &str, processor: &str, event: &Event) -> Output {
        let scope = Scope { namespace: "n".into(), event_hub: event_hub.into(), consumer_group: "g".into() };
        let why =
            Why { cause: DeadLetterCause::Rejected, reason: "not a flight", attempts: 1, stderr: "", backtrace: "" };
        Letters::new(&scope, &PartitionId::from("3"), processor, None).write(event, &why, usize::MAX)
    }

    fn value(letter: &Output, key: &str) -> Option<Value> {
        letter.properties.iter().find(|p| p.key == key).map(|p| p.value.clone())
    }

    #[test]
    fn a_letter_is_the_event_with_why_and_whence() {
        let letter = write(&event(11, "second"), usize::MAX);
        assert_eq!((&*letter.id, &letter.body), ("hub/3/11/rejected", &Bytes::from_static(b"second")));
        assert_eq!(value(&letter, CAUSE_PROPERTY), Some(Value::Text("deadline".into())));
        assert_eq!(value(&letter, ORIGIN_SEQUENCE_NUMBER_PROPERTY), Some(Value::Integer(11)));
        assert_eq!(value(&letter, MODULE_DIGEST_PROPERTY), Some(Value::Text("abc".into())));
        assert_eq!(value(&letter, BACKTRACE_PROPERTY), Some(Value::Text("main".into())));
        assert_eq!(value(&letter, STDERR_PROPERTY), None, "nothing was written");
        assert!(size(&letter) < SAID_BYTES + 1024, "a reason has its limit");
    }

    #[test]
    fn what_is_said_gives_way_to_the_event() {
        for (room, told) in [(0, false), (20, false), (2000, true)] {
            let body = Bytes::from(vec![0; (1 << 20) - room]);
            let letter = write(&Event { body: body.clone(), ..event(10, "") }, 1 << 20);
            assert_eq!(letter.body, body);
            assert!(size(&letter) <= (1 << 20).max(body.len() + letter.id.len()), "{room}: {}", size(&letter));
            assert_eq!(value(&letter, REASON_PROPERTY).is_some(), told);
        }
    }

    #[test]
    fn a_second_letter_says_what_it_died_of_this_time() {
        let first = write(&event(10, ""), usize::MAX);
        let again = Event { properties: first.properties.clone(), ..event(77, "") };
        let second = write(&again, usize::MAX);
        assert_eq!(second.properties.len(), first.properties.len());
        assert_eq!(value(&second, ORIGIN_SEQUENCE_NUMBER_PROPERTY), Some(Value::Integer(77)));
    }
}
