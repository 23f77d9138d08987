//! What a module is granted beyond computing, logging, measuring and emitting.

use super::Fallback::{Described, Required, Value};
use super::{Key, Kind, Section, key, table};

/// `grants`.
pub(crate) static GRANTS: Section = Section {
    header: "[processor.grants]",
    about: "What the module may use beyond computing, logging, measuring and emitting. Nothing, unless it stands here: a module that imports \
            more is refused when it is loaded, with the list of what to grant (`weir check MODULE.wasm` tells it beforehand). See \
            [capabilities.md](capabilities.md).",
    keys: &[
        key("clocks", Kind::Flag, Value("false"), "true", "The time, and waiting for it."),
        key(
            "random",
            Kind::Flag,
            Value("false"),
            "true",
            "Random numbers. Many languages seed their hash tables with them.",
        ),
        key(
            "environment",
            Kind::Texts,
            Described("no variables"),
            "{ REGION = \"west\", TENANT = \"${TENANT}\" }",
            "Environment variables that the module sees.",
        ),
        key(
            "directories",
            Kind::Texts,
            Described("no directories"),
            "{ \"/airports\" = \"./airports\" }",
            "Directories that the module may read, under the path that it sees.",
        ),
        Key {
            name: "secrets",
            kind: Kind::Named(&SECRET),
            fallback: Described("no secrets"),
            meaning: "Secrets that the module may ask for, by name.",
            example: "",
        },
        table("http", &HTTP, Described("no HTTP"), "Outgoing HTTP."),
    ],
};

/// `secrets`, each.
static SECRET: Section = Section {
    header: "[processor.grants.secrets.NAME]",
    about: "Where a secret comes from: one of the two. Its value is never printed.",
    keys: &[
        key("env", Kind::Variable, Described("–"), "\"API_TOKEN\"", "This variable of the host's environment."),
        key(
            "file",
            Kind::Path,
            Described("–"),
            "\"/run/secrets/api-token\"",
            "This file, at most 64 KiB, read whenever the module asks: a rotated secret needs no restart.",
        ),
    ],
};

/// `http`.
static HTTP: Section = Section {
    header: "[processor.grants.http]",
    about: "Where the module may send HTTP requests. Redirects are handed to the module, and where they lead is checked like any request. Proxies are not \
            used.",
    keys: &[
        key(
            "allow",
            Kind::Origins,
            Required,
            "[\"https://api.example.com\", \"http://10.1.2.3:8080\", \"https://*.example.org\"]",
            "Scheme, host and port that requests may go to; a host alone means `https`. `*.` stands for every host under a domain.",
        ),
        key(
            "networks",
            Kind::Networks,
            Value("[]"),
            "[\"10.1.0.0/16\"]",
            "Networks that the names in `allow` may resolve to, besides the public internet. Private, link-local and metadata addresses are \
             blocked unless they are listed here, or stand in `allow` as such.",
        ),
        key(
            "timeout",
            Kind::Duration("1 ms", "1 h"),
            Value("\"10 s\""),
            "\"2 s\"",
            "From the request to the end of the answer. The module waits within `limits.time`.",
        ),
        key(
            "request-bytes",
            Kind::Size("0", "1 GiB"),
            Value("\"1 MiB\""),
            "\"64 KiB\"",
            "The largest body of a request.",
        ),
        key(
            "response-bytes",
            Kind::Size("0", "1 GiB"),
            Value("\"8 MiB\""),
            "\"1 MiB\"",
            "The largest body of an answer.",
        ),
        key(
            "concurrent",
            Kind::Count(1, 1000),
            Value("16"),
            "4",
            "Requests under way at a time, per partition. Four times as many may wait for their turn; more are refused.",
        ),
    ],
};
