//! What a module may use.

use super::Fallback::{Described, Value};
use super::{Kind, Section, key};

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
            "outputs-per-second",
            Kind::Count(1, 100_000_000),
            Described("no limit"),
            "1000",
            "Outputs per second on average, with room for ten seconds' worth at once. Beyond it, `emit` answers with an error too.",
        ),
        key(
            "table-elements",
            Kind::Count(1, 10_000_000),
            Value("100000"),
            "1000000",
            "Elements of all tables of the instance: one for each function that is called through a pointer.",
        ),
        key(
            "host-call-bytes",
            Kind::Size("64 KiB", "4 GiB"),
            Value("\"64 MiB\""),
            "\"16 MiB\"",
            "What the module may have the host copy with one call or answer. An output counts with about 300 bytes; what it says is under \
             `output-bytes`.",
        ),
        key(
            "log-lines",
            Kind::Count(0, 1_000_000),
            Value("1000"),
            "100",
            "Log lines of one call. What is beyond is dropped and counted.",
        ),
        key(
            "log-lines-per-second",
            Kind::Count(0, 1_000_000),
            Value("100"),
            "10",
            "Log lines per second on average, with room for ten seconds' worth at once, likewise.",
        ),
        key(
            "log-bytes-per-second",
            Kind::Size("0", "1 GiB"),
            Value("\"64 KiB\""),
            "\"4 KiB\"",
            "Bytes of log lines per second, likewise.",
        ),
        key(
            "metric-series",
            Kind::Count(0, 100_000),
            Value("1000"),
            "100",
            "Series (a name with its labels) that the module's metrics may have, over all partitions. What is beyond is dropped and counted.",
        ),
        key(
            "held-events",
            Kind::Count(1, 100_000_000),
            Value("500000"),
            "10000",
            "Events that the module may hold (answer `hold`) at a time, per partition. Beyond it, the partition stops with an error.",
        ),
        key(
            "state",
            Kind::Size("1 KiB", "1 GiB"),
            Value("\"16 MiB\""),
            "\"64 MiB\"",
            "What the module may keep in its state, per partition: keys, values, and 64 bytes for each key. Beyond it, its `set` answers with an \
             error. The host has all of it in memory.",
        ),
    ],
};
