//! Every key of `weir.toml`, once: type, bounds, default, meaning and an example.
//!
//! The reader takes types, bounds and defaults from here, unknown keys are told by it, and `docs/configuration.md` is made of
//! it; so neither can say anything else than what the host does.

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// How its header is written, for example `[namespace]` or `[[processor]]`.
    pub(crate) header: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fallback: Fallback,
    pub(crate) meaning: &'static str,
    /// A value, as TOML. Empty for tables, whose keys have examples of their own.
    pub(crate) example: &'static str,
}

/// What holds when a key is absent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// The key must be there.
    Required,
    /// This value, as TOML.
    Value(&'static str),
    /// Nothing, or something that only the machine knows; in words.
    Described(&'static str),
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Any non-empty text.
    Text,
    /// Letters, digits, `-`, `_`, `.`.
    Name,
    /// A fully qualified namespace.
    Host,
    /// `amqp://` or `amqps://`, host and port.
    Endpoint,
    /// An event hub.
    Hub,
    /// A consumer group.
    Group,
    /// A path, relative to the configuration's directory.
    Path,
    /// A duration between two others.
    Duration(&'static str, &'static str),
    /// A size between two others.
    Size(&'static str, &'static str),
    /// A whole number between two others.
    Count(i64, i64),
    /// `true` or `false`.
    Flag,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Where to begin.
    Start,
    /// Ids of partitions.
    Partitions,
    /// A table.
    Table(&'static Section),
    /// One or more tables.
    Tables(&'static Section),
    /// Tables by name.
    Named(&'static Section),
    /// A table of the user's own.
    Free,
}

use Fallback::{Described, Required, Value};

const fn key(name: &'static str, kind: Kind, fallback: Fallback, example: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, fallback, meaning, example }
}

const fn table(name: &'static str, section: &'static Section, fallback: Fallback, meaning: &'static str) -> Key {
    Key { name, kind: Kind::Table(section), fallback, meaning, example: "" }
}

const DEFAULTS: Fallback = Described("each key's default");

/// The file.
pub(crate) static ROOT: Section = Section {
    header: "weir.toml",
    about: "The tables of the file.",
    keys: &[
        table("namespace", &NAMESPACE, Described("each processor has its own"), "Where the event hubs are."),
        table("checkpoints", &CHECKPOINTS, Required, "Where progress is kept."),
        table("host", &HOST, DEFAULTS, "What all processors share."),
        table("log", &LOG, DEFAULTS, "What the host writes to standard error."),
        Key {
            name: "processor",
            kind: Kind::Tables(&PROCESSOR),
            fallback: Required,
            meaning: "A module and the event hub that it reads; one or more, isolated from each other.",
            example: "",
        },
    ],
};

/// `[namespace]`, also under a processor or an output.
pub(crate) static NAMESPACE: Section = Section {
    header: "[namespace]",
    about: "An Event Hubs namespace. The same table may stand under a processor, as `namespace = { … }`, and under an output or a \
            dead letter; there it replaces the outer one as a whole.",
    keys: &[
        key(
            "fully-qualified-namespace",
            Kind::Host,
            Required,
            "\"fleet.servicebus.windows.net\"",
            "Host name of the namespace. Checkpoints are filed under it.",
        ),
        key(
            "endpoint",
            Kind::Endpoint,
            Described("`amqps://` and the namespace"),
            "\"amqp://127.0.0.1:5672\"",
            "Connects elsewhere: a local namespace (`amqp://`, without TLS) or a gateway (`amqps://`).",
        ),
        key(
            "credential",
            Kind::Choice(&["default", "managed-identity", "workload-identity", "cli", "none"]),
            Value("\"default\""),
            "\"managed-identity\"",
            "Who asks for access. `default` tries the Entra ID sources of the machine in turn; `none` is for local namespaces.",
        ),
    ],
};

/// `[checkpoints]`.
pub(crate) static CHECKPOINTS: Section = Section {
    header: "[checkpoints]",
    about: "Where the host keeps how far each partition was processed: exactly one of `directory` and `container`.",
    keys: &[
        key(
            "directory",
            Kind::Path,
            Described("none"),
            "\"./checkpoints\"",
            "A directory on a local disk, used by one host at a time. Keep it: without it processing begins at `start` again.",
        ),
        key(
            "container",
            Kind::Text,
            Described("none"),
            "\"https://fleet.blob.core.windows.net/weir\"",
            "A container in Azure Blob Storage, shared by any number of hosts: its URL, or `${NAME}` for one with a shared access signature. \
             It must exist, in an account without versioning and soft delete. The layout is that of the Azure SDKs.",
        ),
        key(
            "credential",
            Kind::Choice(&["default", "managed-identity", "workload-identity", "cli"]),
            Described("`default`, unless the URL has a signature"),
            "\"managed-identity\"",
            "Who asks for access to the container; it needs the role `Storage Blob Data Contributor`.",
        ),
        key(
            "expiry",
            Kind::Duration("3 s", "1 h"),
            Described("`60 s`"),
            "\"30 s\"",
            "In a container: when an ownership that nobody renews counts as abandoned, the same on all hosts. The partitions of a host that dies \
             are taken over within one and a half times it.",
        ),
        key(
            "exclusive",
            Kind::Flag,
            Described("`false`"),
            "true",
            "In a container: only Weir hosts use these consumer groups, and all of them say so. A host then gives one sign of life for all of its \
             partitions instead of renewing each. Stop all hosts before changing it.",
        ),
    ],
};

/// `[host]`.
pub(crate) static HOST: Section = Section {
    header: "[host]",
    about: "What all processors of this process share.",
    keys: &[
        key(
            "owner",
            Kind::Name,
            Described("the machine's host name"),
            "\"host-0\"",
            "The name that this host owns partitions under. Stable over restarts, and in a fleet another one for each process.",
        ),
        key(
            "memory",
            Kind::Size("1 MiB", "1 TiB"),
            Value("\"256 MiB\""),
            "\"1 GiB\"",
            "Cap of all events in flight in the process: when it is reached, nothing more is read until a batch is finished. What \
             the client has prefetched comes on top: at most `prefetch` events per partition.",
        ),
        key(
            "shutdown-deadline",
            Kind::Duration("100 ms", "1 h"),
            Value("\"25 s\""),
            "\"25 s\"",
            "On SIGTERM or Ctrl-C: how long batches in flight may take to finish and be checkpointed. Less than the orchestrator's grace period.",
        ),
        key(
            "partitions-refresh",
            Kind::Duration("1 s", "1 d"),
            Value("\"5 min\""),
            "\"1 min\"",
            "How often each hub is asked for partitions that were added.",
        ),
        key(
            "checkpoint-writes-per-minute",
            Kind::Count(1, 1_000_000),
            Described("no limit"),
            "600",
            "The most checkpoints that this host writes a minute, over all its partitions: what is due waits for its turn, longest first. Writes at \
             shutdown, release and takeover never wait. Each busy partition needs 60 s / `checkpoint.interval`.",
        ),
        key(
            "guest-threads",
            Kind::Count(1, 1024),
            Described("one per core"),
            "2",
            "Threads that run modules. Connections, checkpoints and everything else have their own.",
        ),
        key(
            "cache",
            Kind::Path,
            Described("`weir` in the user's cache directory"),
            "\"/var/cache/weir\"",
            "Directory for compiled modules: a restart then takes milliseconds. Only this user may be able to write to it.",
        ),
    ],
};

/// `[log]`.
pub(crate) static LOG: Section = Section {
    header: "[log]",
    about: "What the host writes to standard error. The options `--log-format` and `--log-level` win over it.",
    keys: &[
        key(
            "format",
            Kind::Choice(&["text", "json"]),
            Value("\"text\""),
            "\"json\"",
            "Lines for people or for machines.",
        ),
        key(
            "level",
            Kind::Text,
            Value("\"info\""),
            "\"info,weir::guest=debug\"",
            "`error`, `warn`, `info`, `debug`, `trace`, or filters by target. What modules log has the target `weir::guest`; each step of a tenancy (began, acknowledged, accepted, committed, ended) is told under `weir::history` at `debug`.",
        ),
    ],
};

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
        table("retry", &RETRY, DEFAULTS, "What happens to a batch that the module did not finish."),
        table("publish", &PUBLISH, DEFAULTS, "How outputs and dead letters are handed on."),
        table("reconnect", &RECONNECT, DEFAULTS, "Pauses between attempts to reach the hub. These never give up."),
        table("limits", &LIMITS, DEFAULTS, "What one instance of the module may use."),
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
            Described("none: a rejected event stops its partition"),
            "Where events go that the module rejects.",
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

/// `retry`.
pub(crate) static RETRY: Section = Section {
    header: "[processor.retry]",
    about: "A batch comes again when the module asked for it or broke (trap, time, memory), in a fresh instance after a break. When the attempts \
            are used up, the partition stops with an error; nothing is skipped.",
    keys: &[
        key(
            "attempts",
            Kind::Count(1, 1_000_000),
            Value("5"),
            "3",
            "How often a batch is handed over, the first time included.",
        ),
        key(
            "backoff",
            Kind::Duration("0 ms", "1 h"),
            Value("\"200 ms\""),
            "\"1 s\"",
            "The first pause; each further one is twice as long, with jitter.",
        ),
        key("max-backoff", Kind::Duration("0 ms", "1 d"), Value("\"30 s\""), "\"1 min\"", "The longest pause."),
    ],
};

/// `publish`.
pub(crate) static PUBLISH: Section = Section {
    header: "[processor.publish]",
    about: "Outputs are accepted downstream before the checkpoint covers the events that they come from.",
    keys: &[
        key(
            "attempts",
            Kind::Count(1, 1_000_000),
            Value("10"),
            "20",
            "How often the same outputs are tried, with the pauses of `retry`, before the partition stops.",
        ),
        key(
            "timeout",
            Kind::Duration("100 ms", "1 h"),
            Value("\"60 s\""),
            "\"30 s\"",
            "How long one attempt may take.",
        ),
        key(
            "ahead",
            Kind::Count(1, 1024),
            Value("4"),
            "8",
            "Batches that the module may be ahead of the slowest output.",
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

/// `limits`.
pub(crate) static LIMITS: Section = Section {
    header: "[processor.limits]",
    about: "What one instance may use. There is one instance per partition. A call over a limit fails, and `retry` decides.",
    keys: &[
        key("memory", Kind::Size("1 MiB", "4 GiB"), Value("\"64 MiB\""), "\"256 MiB\"", "Memory of the instance."),
        key("time", Kind::Duration("1 ms", "1 d"), Value("\"10 s\""), "\"1 min\"", "Time of one call."),
        key(
            "outputs",
            Kind::Count(1, 100_000_000),
            Value("100000"),
            "1000",
            "Outputs of one call. Beyond it, the module's `emit` answers with an error.",
        ),
        key(
            "output-bytes",
            Kind::Size("1 KiB", "4 GiB"),
            Value("\"32 MiB\""),
            "\"8 MiB\"",
            "Bytes of all outputs of one call, likewise.",
        ),
        key(
            "held-events",
            Kind::Count(1, 100_000_000),
            Value("500000"),
            "10000",
            "Events that the module may hold (answer `hold`) at a time, per partition. Beyond it, the partition stops with an error.",
        ),
    ],
};

/// `outputs.NAME`.
pub(crate) static OUTPUT: Section = Section {
    header: "[processor.outputs.NAME]",
    about: "Exactly one of `event-hub`, `file` and `stdout`.",
    keys: DESTINATION,
};

/// `dead-letter`.
pub(crate) static DEAD_LETTER: Section = Section {
    header: "[processor.dead-letter]",
    about: "Exactly one of `event-hub`, `file` and `stdout`. A dead letter is the event as it came, with the reason and its origin as properties.",
    keys: DESTINATION,
};

const DESTINATION: &[Key] = &[
    key("event-hub", Kind::Hub, Described("none"), "\"late-flights\"", "A hub. The partition key is kept."),
    key("file", Kind::Path, Described("none"), "\"out.ndjson\"", "A file of newline-delimited JSON, appended to."),
    key("stdout", Kind::Flag, Described("`false`"), "true", "Standard output, as newline-delimited JSON."),
    table("namespace", &NAMESPACE, Described("the processor's"), "The hub's namespace, when it is another one."),
];
