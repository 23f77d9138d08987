//! A processor: what it reads, and in what portions.

use super::Fallback::{Described, Required, Value};
use super::delivery::{BREAKER, DEAD_LETTER, OUTPUT, PUBLISH, RETRY};
use super::grants::GRANTS;
use super::host::NAMESPACE;
use super::sandbox::LIMITS;
use super::{DEFAULTS, Key, Kind, Section, key, table};

/// `[[processor]]`.
pub(crate) static PROCESSOR: Section = Section {
    header: "[[processor]]",
    about: "One module reading one event hub. Processors share nothing but the process: one that fails does not stop its neighbours.",
    keys: &[
        key("name", Kind::Name, Required, "\"delays\"", "What logs, errors and tables call it. Unique in the file."),
        key(
            "module",
            Kind::Path,
            Required,
            "\"delays.wasm\"",
            "The component to run (`weir check` tells whether it fits).",
        ),
        key("event-hub", Kind::Hub, Required, "\"flights\"", "The hub to read."),
        key(
            "consumer-group",
            Kind::Group,
            Value("\"$default\""),
            "\"weir\"",
            "The group to read it through; one processor per hub and group.",
        ),
        key(
            "start",
            Kind::Start,
            Value("\"earliest\""),
            "{ enqueued-time = \"2026-01-01T00:00:00Z\" }",
            "Where a partition without a checkpoint begins: `\"earliest\"`, `\"latest\"`, `{ sequence-number = 42 }` (that event is the \
             first) or `{ enqueued-time = \"…\" }`. Once there is a checkpoint, it wins. What `\"latest\"` comes to is written as the \
             first checkpoint before anything is read. Partitions that are added while a host runs are read from their first event.",
        ),
        key(
            "max-partitions",
            Kind::Count(1, 1_000_000),
            Described("no limit"),
            "8",
            "The most partitions that this host takes. Others of the group get the rest.",
        ),
        key(
            "partitions",
            Kind::Partitions,
            Described("a fair share"),
            "[\"0\", \"3\"]",
            "Take exactly these partitions, whatever other hosts of the group do, instead of a fair share.",
        ),
        key(
            "on-missing-events",
            Kind::Choice(&["continue", "stop"]),
            Value("\"continue\""),
            "\"stop\"",
            "What to do when events after the checkpoint are not in the hub any more (older than its retention, or removed by compaction): go on \
             with the first that is there, said as an error and counted; or stop the partition.",
        ),
        key(
            "prefetch",
            Kind::Count(1, 100_000),
            Value("300"),
            "1000",
            "Events that may wait in the client, per partition. They come on top of the memory cap.",
        ),
        key(
            "owner-level",
            Kind::Count(0, i64::MAX),
            Described("none: the group may have other readers"),
            "0",
            "AMQP owner level (\"epoch\"), by which the service turns other readers of a partition away. **Without effect for now:** the official SDK \
             does not send it. Checkpoints and ownership do not depend on it.",
        ),
        key(
            "stall-timeout",
            Kind::Duration("1 s", "1 h"),
            Value("\"20 s\""),
            "\"1 min\"",
            "How long a link may be silent before the hub is asked whether there is more, and the link is rebuilt if so.",
        ),
        table("batch", &BATCH, DEFAULTS, "When a batch is handed to the module."),
        table("checkpoint", &CHECKPOINT, DEFAULTS, "When progress is written down."),
        table("retry", &RETRY, DEFAULTS, "What happens to events that the module did not finish."),
        key(
            "on-poison",
            Kind::Choice(&["dead-letter", "stop", "drop"]),
            Value("\"dead-letter\""),
            "\"stop\"",
            "What to do with an event that the module can't process (it breaks or asks for a retry each time, the last time at this event alone): \
             to the dead letters, and without a `dead-letter` the partition stops; always stop the partition; or drop the event, said as an error \
             and counted.",
        ),
        table("breaker", &BREAKER, DEFAULTS, "When it is the module that is broken, and not an event."),
        table("publish", &PUBLISH, DEFAULTS, "How outputs and dead letters are handed on."),
        table("reconnect", &RECONNECT, DEFAULTS, "Pauses between attempts to reach the hub. These never give up."),
        table("limits", &LIMITS, DEFAULTS, "What one instance of the module may use."),
        table(
            "grants",
            &GRANTS,
            Described("nothing"),
            "What the module may use beyond computing, logging, measuring and emitting.",
        ),
        Key {
            name: "config",
            kind: Kind::Free,
            fallback: Described("an empty table"),
            meaning: "The module's own settings, handed to it as JSON when it is opened. Its strings may hold `${NAME}` too.",
            example: "{ late-by-minutes = 30 }",
        },
        Key {
            name: "outputs",
            kind: Kind::Named(&OUTPUT),
            fallback: Described("none: a module that emits fails"),
            meaning: "Where outputs go, by the name that the module gives them; `default` for those without one.",
            example: "",
        },
        table(
            "dead-letter",
            &DEAD_LETTER,
            Described("none: such an event stops its partition"),
            "Where events go that the module rejects or can't process.",
        ),
        table(
            "namespace",
            &NAMESPACE,
            Described("the file's `[namespace]`"),
            "The namespace that this processor reads, and writes to.",
        ),
    ],
};

/// `batch`.
pub(crate) static BATCH: Section = Section {
    header: "[processor.batch]",
    about: "A batch is cut when it has enough events or bytes, or has waited long enough.",
    keys: &[
        key("events", Kind::Count(1, 100_000), Value("500"), "100", "At most this many events."),
        key(
            "bytes",
            Kind::Size("1 KiB", "256 MiB"),
            Value("\"1 MiB\""),
            "\"256 KiB\"",
            "At most this many bytes; a single larger event makes a batch of its own. Beyond about 1 MiB nothing is gained.",
        ),
        key(
            "linger",
            Kind::Duration("0 ms", "1 h"),
            Value("\"50 ms\""),
            "\"10 ms\"",
            "How long the first event of a batch may wait for company.",
        ),
    ],
};

/// `checkpoint`.
pub(crate) static CHECKPOINT: Section = Section {
    header: "[processor.checkpoint]",
    about: "A checkpoint is written after this time or this many events, whichever comes first, and at shutdown. After a crash at most what \
            lies behind it is processed again.",
    keys: &[
        key("interval", Kind::Duration("10 ms", "1 d"), Value("\"10 s\""), "\"1 s\"", "Time since the last one."),
        key("events", Kind::Count(1, 1_000_000_000), Value("10000"), "1000", "Finished events since the last one."),
        key(
            "attempts",
            Kind::Count(1, 1_000_000),
            Value("10"),
            "5",
            "How often a write is tried, with the pauses of `retry`, before the partition stops.",
        ),
        key(
            "timeout",
            Kind::Duration("100 ms", "1 h"),
            Value("\"15 s\""),
            "\"5 s\"",
            "How long one write may take before its outcome is looked up.",
        ),
    ],
};

/// `reconnect`.
pub(crate) static RECONNECT: Section = Section {
    header: "[processor.reconnect]",
    about: "How patiently a hub that can't be reached is tried again.",
    keys: &[
        key(
            "backoff",
            Kind::Duration("1 ms", "1 h"),
            Value("\"200 ms\""),
            "\"1 s\"",
            "The first pause; each further one is twice as long, with jitter.",
        ),
        key("max-backoff", Kind::Duration("1 ms", "1 d"), Value("\"30 s\""), "\"1 min\"", "The longest pause."),
    ],
};
