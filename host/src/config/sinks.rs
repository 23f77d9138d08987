//! Where outputs and dead letters go: one destination for each, and it is said when there are none or several.

use super::build::namespace;
use super::check;
use super::read::Table;
use super::{NamespaceConfig, SinkConfig};

/// Where dead letters go: where outputs may go, and two places that keep each letter by itself.
pub(super) fn dead_letter(table: &Table<'_>, outer: Option<&NamespaceConfig>) -> Option<SinkConfig> {
    let (directory, container) = (table.file("directory"), table.text("container"));
    let credential = table.choice("credential").and_then(|name| name.parse().ok());
    if table.has("credential") && !table.has("container") {
        table.note("credential", "goes with container only; remove it");
        return None;
    }
    let others = ["event-hub", "file", "stdout"].into_iter().any(|key| table.has(key));
    if table.has("namespace") && !table.has("event-hub") {
        return sink(table, outer);
    }
    match (table.has("directory"), table.has("container"), others) {
        (true, false, false) => directory.map(SinkConfig::Directory),
        (false, true, false) => {
            let sound = !table.has("credential") || credential.is_some();
            let url = container.filter(|url| check::container(table, url, credential))?;
            sound.then_some(SinkConfig::Container { url: url.with_hidden_query(), credential })
        }
        (false, false, true) => sink(table, outer),
        (false, false, false) => {
            table.note_whole(
                "has no destination; add directory = \"…\", container = \"https://…\", event-hub = \"…\", file = \"…\" or stdout = true",
            );
            None
        }
        _ => {
            let named = ["directory", "container", "event-hub", "file", "stdout"];
            let named: Vec<_> = named.into_iter().filter(|key| table.has(key)).collect();
            table.note_whole(format!("has {} destinations ({}); keep one", named.len(), named.join(", ")));
            None
        }
    }
}

/// Where outputs go.
pub(super) fn sink(table: &Table<'_>, outer: Option<&NamespaceConfig>) -> Option<SinkConfig> {
    let stdout = table.flag("stdout");
    let file = table.file("file");
    let event_hub = table.text("event-hub");
    let own = table.table("namespace");
    let namespace = if own.is_present() { namespace(&own) } else { outer.cloned() };
    let named = ["event-hub", "file", "stdout"].into_iter().filter(|key| table.has(key)).collect::<Vec<_>>();
    match *named {
        ["event-hub"] => Some(SinkConfig::EventHub { namespace: namespace?, event_hub: event_hub? }),
        _ if own.is_present() => {
            table.note("namespace", "goes with event-hub only; remove it");
            None
        }
        ["file"] => file.map(SinkConfig::File),
        ["stdout"] if stdout == Some(false) => {
            table.note("stdout", "leads nowhere; write stdout = true, or another destination");
            None
        }
        ["stdout"] => stdout.map(|_| SinkConfig::Stdout),
        [] => {
            table.note_whole("has no destination; add event-hub = \"…\", file = \"…\" or stdout = true");
            None
        }
        _ => {
            table.note_whole(format!("has {} destinations ({}); keep one", named.len(), named.join(", ")));
            None
        }
    }
}
