//! What a module may use.

use super::Fallback::Value;
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
            "held-events",
            Kind::Count(1, 100_000_000),
            Value("500000"),
            "10000",
            "Events that the module may hold (answer `hold`) at a time, per partition. Beyond it, the partition stops with an error.",
        ),
    ],
};
