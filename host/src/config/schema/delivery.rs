//! What becomes of events and outputs: how often they are tried, and where they go.

use super::Fallback::{Described, Value};
use super::host::NAMESPACE;
use super::{Key, Kind, Section, key, table};

/// `retry`.
pub(crate) static RETRY: Section = Section {
    header: "[processor.retry]",
    about: "Events come again when the module asked for it or broke (trap, time, memory), in a fresh instance after a break. A batch at which it \
            breaks is handed over in smaller and smaller pieces, until the one event is found; `on-poison` says what becomes of that one when its \
            attempts are used up.",
    keys: &[
        key(
            "attempts",
            Kind::Count(1, 1_000_000),
            Value("5"),
            "3",
            "How often an event is handed over, the first time included, before it counts as one that the module can't process.",
        ),
        key(
            "backoff",
            Kind::Duration("0 ms", "1 h"),
            Value("\"200 ms\""),
            "\"1 s\"",
            "The first pause; each further one is twice as long, with jitter.",
        ),
        key("max-backoff", Kind::Duration("0 ms", "1 d"), Value("\"30 s\""), "\"1 min\"", "The longest pause."),
        key(
            "max-age",
            Kind::Duration("1 s", "365 d"),
            Described("no limit"),
            "\"6 h\"",
            "An event that fails when it is older than this, since the service took it in, is not tried again.",
        ),
    ],
};

/// `breaker`.
pub(crate) static BREAKER: Section = Section {
    header: "[processor.breaker]",
    about: "Tells a module that fails at everything from one that fails at an event. When so many events fail in a row, each alone, and none \
            between them works, none of them is given up: the partition rests, and then begins with the first of them again.",
    keys: &[
        key("failures", Kind::Count(2, 1_000_000), Value("10"), "3", "Events in a row that fail."),
        key(
            "rest",
            Kind::Duration("1 ms", "1 d"),
            Value("\"1 s\""),
            "\"10 s\"",
            "The first rest; each further one is twice as long, with jitter.",
        ),
        key("max-rest", Kind::Duration("1 ms", "1 d"), Value("\"5 min\""), "\"1 h\"", "The longest rest."),
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

/// `outputs.NAME`.
pub(crate) static OUTPUT: Section = Section {
    header: "[processor.outputs.NAME]",
    about: "Exactly one of `event-hub`, `file` and `stdout`.",
    keys: DESTINATION,
};

/// `dead-letter`.
pub(crate) static DEAD_LETTER: Section = Section {
    header: "[processor.dead-letter]",
    about: "Exactly one of `directory`, `container`, `event-hub`, `file` and `stdout`. A dead letter is the event as it came, with the reason \
            and its origin as properties. `weir dead-letters` lists them and sends them back ([dead letters](dead-letters.md)).",
    keys: &[
        key(
            "directory",
            Kind::Path,
            Described("none"),
            "\"dead\"",
            "A directory with a readable file for each letter. Several processors may share it.",
        ),
        key(
            "container",
            Kind::Text,
            Described("none"),
            "\"https://fleet.blob.core.windows.net/dead\"",
            "A container in Azure Blob Storage with a readable blob for each letter: its URL, or `${NAME}` for one with a shared access signature. \
             It must exist. Any number of hosts share it.",
        ),
        key(
            "credential",
            Kind::Choice(&["default", "managed-identity", "workload-identity", "cli"]),
            Described("`default`, unless the URL has a signature"),
            "\"managed-identity\"",
            "Who asks for access to the container; it needs the role `Storage Blob Data Contributor`.",
        ),
        EVENT_HUB,
        FILE,
        STDOUT,
        HUB_NAMESPACE,
    ],
};

const DESTINATION: &[Key] = &[EVENT_HUB, FILE, STDOUT, HUB_NAMESPACE];
const EVENT_HUB: Key =
    key("event-hub", Kind::Hub, Described("none"), "\"late-flights\"", "A hub. The partition key is kept.");
const FILE: Key =
    key("file", Kind::Path, Described("none"), "\"out.ndjson\"", "A file of newline-delimited JSON, appended to.");
const STDOUT: Key =
    key("stdout", Kind::Flag, Described("`false`"), "true", "Standard output, as newline-delimited JSON.");
const HUB_NAMESPACE: Key =
    table("namespace", &NAMESPACE, Described("the processor's"), "The hub's namespace, when it is another one.");
