//! `docs/configuration.md`, made of the schema.

use super::schema::{Fallback, Kind, ROOT, Section};

/// The reference page, as Markdown. A test holds `docs/configuration.md` to it.
pub fn reference_page() -> String {
    let mut page = String::from(HEAD);
    let mut sections = vec![];
    collect(&ROOT, &mut sections);
    for section in sections {
        page.push_str(&format!("\n## `{}`\n\n{}\n\n", section.header, section.about));
        page.push_str("| key | value | default | meaning | example |\n|---|---|---|---|---|\n");
        for key in section.keys {
            let example =
                if key.example.is_empty() { String::new() } else { format!("`{} = {}`", key.name, key.example) };
            page.push_str(&format!(
                "| `{}` | {} | {} | {} | {example} |\n",
                key.name,
                kind(key.kind),
                fallback(key.fallback),
                key.meaning,
            ));
        }
    }
    page.push_str(TAIL);
    page
}

/// Sections in the order in which a reader meets them, each once.
fn collect(section: &'static Section, into: &mut Vec<&'static Section>) {
    if into.iter().any(|known| std::ptr::eq(*known, section)) {
        return;
    }
    into.push(section);
    for key in section.keys {
        if let Kind::Table(inner) | Kind::Tables(inner) | Kind::Named(inner) = key.kind {
            collect(inner, into);
        }
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Name => "name".into(),
        Kind::Host => "host name".into(),
        Kind::Endpoint => "`amqp://` or `amqps://` address".into(),
        Kind::Hub => "event hub".into(),
        Kind::Group => "consumer group".into(),
        Kind::Path => "path".into(),
        Kind::Duration(min, max) => format!("duration, {min} to {max}"),
        Kind::Size(min, max) => format!("size, {min} to {max}"),
        Kind::Count(min, i64::MAX) => format!("number from {min}"),
        Kind::Count(min, max) => format!("number, {min} to {max}"),
        Kind::Flag => "`true` or `false`".into(),
        Kind::Choice(choices) => choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(", "),
        Kind::Start => "start position".into(),
        Kind::Partitions => "partition ids".into(),
        Kind::Texts => "table of texts".into(),
        Kind::Variable => "variable's name".into(),
        Kind::Origins => "list of origins".into(),
        Kind::Networks => "list of networks".into(),
        Kind::Table(_) => "table".into(),
        Kind::Tables(_) => "list of tables".into(),
        Kind::Named(_) => "tables by name".into(),
        Kind::Free => "table".into(),
    }
}

fn fallback(fallback: Fallback) -> String {
    match fallback {
        Fallback::Required => "required".into(),
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Described(words) => words.into(),
    }
}

const HEAD: &str = "# Configuration: every key of `weir.toml`

This page is made from the table that the host itself reads by; a test keeps the two equal.

The file is TOML. A small one:

```toml
[namespace]
fully-qualified-namespace = \"fleet.servicebus.windows.net\"

[checkpoints]
directory = \"./checkpoints\"

[[processor]]
name = \"delays\"
module = \"delays.wasm\"
event-hub = \"flights\"
config = { late-by-minutes = 30 }
[processor.outputs.default]
event-hub = \"late-flights\"
[processor.dead-letter]
file = \"rejected.ndjson\"
```

How values are written:

- **Durations** have a unit: `\"250 ms\"`, `\"10 s\"`, `\"1 min 30 s\"`, `\"5 min\"`, `\"2 h\"`, `\"1 d\"`.
- **Sizes** too: `\"64 MiB\"` (powers of 1024), `\"1 MB\"` (powers of 1000); a bare number is bytes.
- **Paths** are relative to the directory of the file.
- **`${NAME}`** in a text is replaced by that variable of the environment, `$${` stands for a plain `${`. What came from the environment
  is never printed: messages show the text as it is written in the file.

Everything is checked before anything runs, and every mistake is reported at once. Keys that don't exist are mistakes.
";

const TAIL: &str = "
## How much memory a host needs

- `[host] memory` caps what the host itself holds: events gathered, with a module, or waiting for an output, and what modules made of
  them. Nothing more is read while it is used up; what is in hand by then is still finished, and may emit up to `limits.output-bytes` a call.
- What the client has prefetched comes on top, up to `prefetch` events per partition. With 300 events of 1 KiB and 32 partitions that
  is about 10 MiB; with events of 1 MiB it would be 9 GiB: lower `prefetch` for large events.
- Each partition has an instance of its module, which takes what it uses, up to `limits.memory`.
- What a module keeps in its state is in the host's memory too, up to `limits.state` per partition, and beside it what changed since the last commit,
  at most about three times as much.

An upper bound is `memory` + partitions × (1.5 × `prefetch` × event size + 3 × `limits.output-bytes` + `limits.memory`), and for modules
that keep state 4 × `limits.state` more for each partition.
";
