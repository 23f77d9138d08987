//! What the whole process has: namespaces, checkpoints, the host, its log.

use super::Fallback::{Described, Required, Value};
use super::{Kind, Section, key};

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
            "guest-stack",
            Kind::Size("64 KiB", "64 MiB"),
            Value("\"1 MiB\""),
            "\"4 MiB\"",
            "Stack of each module's calls. Deeper recursion ends the instance. (What its compiler keeps in the module's memory besides, its linker sets.)",
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
