//! What becomes of events and outputs: how often they are tried, and where they go.

use super::Fallback::{Described, Value};
use super::host::NAMESPACE;
use super::{Key, Kind, Section, key, table};

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
