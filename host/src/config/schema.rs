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
    /// A table of texts.
    Texts,
    /// A variable of the environment, by its name.
    Variable,
    /// Origins of URLs.
    Origins,
    /// Networks in CIDR notation.
    Networks,
    /// A table.
    Table(&'static Section),
    /// One or more tables.
    Tables(&'static Section),
    /// Tables by name.
    Named(&'static Section),
    /// A table of the user's own.
    Free,
}

mod delivery;
mod grants;
mod host;
mod processor;
mod sandbox;

use Fallback::{Described, Required};
pub(crate) use grants::GRANTS;
use host::{CHECKPOINTS, HOST, LOG, NAMESPACE};
use processor::PROCESSOR;

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
