//! What values mean for each other. Every refusal names the consequence: a rule that one can't see the point of is worked around.

use std::collections::BTreeMap;

use super::build::Draft;
use super::read::Table;
use super::units::{format_duration, format_size};
use super::{BackoffConfig, Credential, Given, HostConfig, NamespaceConfig, ProcessorConfig, SinkConfig};
use crate::azure::ContainerError;

/// Endpoint and credential. `false`: a mistake was noted.
pub(super) fn namespace(table: &Table<'_>, namespace: &NamespaceConfig) -> bool {
    let plain = namespace.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("amqp://"));
    let why = match (namespace.credential, plain) {
        (Credential::None, true) => return true,
        (Credential::None, false) => {
            "only goes with a plain endpoint: a real namespace refuses who doesn't identify itself; \
             choose \"default\" or another credential, or add endpoint = \"amqp://127.0.0.1:5672\" for a local namespace"
        }
        (_, true) => {
            "would send this machine's token unencrypted over the plain endpoint; \
             write credential = \"none\" for a local namespace, or an \"amqps://\" endpoint"
        }
        (_, false) => return true,
    };
    table.note("credential", why);
    false
}

/// The container's URL and credential. `false`: a mistake was noted.
pub(super) fn container(table: &Table<'_>, url: &Given<String>, credential: Option<Credential>) -> bool {
    let Err(error) = crate::azure::BlobContainer::check_url(url, credential) else { return true };
    let why = match error {
        ContainerError::Url(_) => {
            "is not the URL of a container; write it like \"https://fleet.blob.core.windows.net/weir\""
        }
        ContainerError::Name(_) => {
            "names a container that can't exist; its name has 3 to 63 lower-case letters, digits and single hyphens"
        }
        ContainerError::Exposed(_) => {
            "has no TLS: what authorises the requests would be readable on the wire; write \"https://\" (Azurite's development account \
             may go without)"
        }
        ContainerError::Both(..) => "carries a signature beside the credential; keep one of them",
        ContainerError::Anonymous(_) | ContainerError::Credential(..) => {
            "can't be reached without a credential; choose one, or give the URL a signature"
        }
    };
    table.note("container", why);
    false
}

pub(super) fn backoff(table: &Table<'_>, backoff: BackoffConfig) -> bool {
    let fits = backoff.first <= backoff.max;
    if !fits {
        let (first, max) = (format_duration(backoff.first), format_duration(backoff.max));
        let why =
            format!("is longer than the longest pause, max-backoff ({max}); write at least max-backoff = \"{first}\"");
        table.note("backoff", why);
    }
    fits
}

/// Everything that concerns more than one section. Mistakes are noted, the answer is the warnings.
pub(super) fn across(drafts: &[Draft<'_>], host: Option<&HostConfig>, host_table: &Table<'_>) -> Vec<String> {
    let read: Vec<_> = drafts.iter().filter_map(|draft| Some((&draft.table, draft.config.as_ref()?))).collect();
    names(drafts);
    groups(&read);
    loops(&read);
    files(&read);
    let mut warnings = vec![];
    for (table, config) in &read {
        sizes(table, config);
        if let Some(host) = host {
            warnings.extend(timing(table, config, host));
        }
        if config.dead_letter.is_none() {
            warnings.push(format!(
                "{}.dead-letter is not set: the first event that the module rejects stops its partition. \
                 Add a dead letter, for example dead-letter = {{ file = \"rejected.ndjson\" }}, unless the module rejects nothing.",
                table.path()
            ));
        }
    }
    if let Some(host) = host {
        memory(&read, host, host_table);
    }
    warnings
}

/// By the raw tables: a name is taken even when the rest of its processor is wrong.
fn names(drafts: &[Draft<'_>]) {
    let mut seen = BTreeMap::new();
    for draft in drafts {
        let Some(name) = draft.table.peek_text("name") else { continue };
        if let Some(line) = seen.insert(name, draft.table.line()) {
            draft.table.note("name", format!("is taken by the processor on line {line}: logs and checkpoints could not be told apart; choose another"));
        }
    }
}

type Read<'a, 'b> = [(&'b Table<'a>, &'b ProcessorConfig)];

/// What tells hubs apart: the service's names don't distinguish case.
fn hub_of(namespace: &NamespaceConfig, event_hub: &str) -> (String, String) {
    (namespace.fully_qualified.to_lowercase(), event_hub.to_lowercase())
}

fn groups(read: &Read<'_, '_>) {
    let mut seen = BTreeMap::new();
    for (table, config) in read {
        let hub = hub_of(&config.namespace, &config.event_hub);
        if let Some(other) = seen.insert((hub, config.consumer_group.to_lowercase()), &config.name) {
            table.note(
                "consumer-group",
                format!(
                    "and this event-hub are read by the processor {other} already: both would write the same checkpoints, and each would \
                     skip what the other finished; give this one a consumer-group of its own"
                ),
            );
        }
    }
}

fn loops(read: &Read<'_, '_>) {
    for (table, config) in read {
        let input = hub_of(&config.namespace, &config.event_hub);
        let outputs = config.outputs.iter().map(|(name, sink)| (format!("outputs.{name}"), sink));
        let dead = config.dead_letter.iter().map(|sink| ("dead-letter".to_owned(), sink));
        for (name, sink) in outputs.chain(dead) {
            if let SinkConfig::EventHub { namespace, event_hub } = sink
                && hub_of(namespace, event_hub) == input
            {
                table.note(
                    "event-hub",
                    format!("is also where {name} goes: the processor would read its own outputs, endlessly; choose another hub for {name}"),
                );
            }
        }
    }
}

/// Two processors that append to one file would tear each other's lines; one processor may share a file among its outputs.
fn files(read: &Read<'_, '_>) {
    let mut seen: BTreeMap<_, (usize, String)> = BTreeMap::new();
    for (index, (table, config)) in read.iter().enumerate() {
        for sink in config.outputs.values().chain(&config.dead_letter) {
            let SinkConfig::File(path) = sink else { continue };
            match seen.get(&**path) {
                Some((other, name)) if *other != index => table.note_whole(format!(
                    "writes to the file {path:?} as the processor {name} does: after a crash neither could tell its own last line; \
                     give each its own file"
                )),
                Some(_) => {}
                None => drop(seen.insert((**path).clone(), (index, config.name.to_string()))),
            }
        }
    }
}

fn sizes(table: &Table<'_>, config: &ProcessorConfig) {
    let (bytes, memory) = (config.batch.bytes as u64, config.limits.memory as u64);
    if bytes.saturating_mul(2) > memory {
        let batch = table.table("batch");
        let unwritten = if batch.has("bytes") { String::new() } else { format!("({}) ", format_size(bytes)) };
        batch.note(
            "bytes",
            format!(
                "{unwritten}is more than half of limits.memory ({}): a batch is copied into the instance, beside the module's own data, and a full \
                 one would end as out of memory each time; write at most batch.bytes = \"{}\", or at least limits.memory = \"{}\"",
                format_size(memory),
                format_size(memory / 2),
                format_size(bytes.saturating_mul(2)),
            ),
        );
    }
}

fn timing(table: &Table<'_>, config: &ProcessorConfig, host: &HostConfig) -> Option<String> {
    let (call, deadline) = (config.limits.time, host.shutdown_deadline);
    (call > deadline).then(|| {
        format!(
            "{}.limits.time ({}) is longer than host.shutdown-deadline ({}): a call that is running at shutdown may be cut off, and its batch \
             is processed again after the restart.",
            table.path(),
            format_duration(call),
            format_duration(deadline),
        )
    })
}

/// Every partition keeps one batch with its module while it gathers the next, so less than that can't keep even one going.
fn memory(read: &Read<'_, '_>, host: &HostConfig, table: &Table<'_>) {
    let needed: u64 =
        read.iter().map(|(_, config)| (config.batch.bytes as u64).saturating_mul(2)).fold(0, u64::saturating_add);
    let memory = host.memory as u64;
    if memory < needed {
        let unwritten = if table.has("memory") { String::new() } else { format!("({}) ", format_size(memory)) };
        table.note(
            "memory",
            format!(
                "{unwritten}is too small for the batches: a partition holds one batch while it gathers the next, so one partition of each \
                 processor already needs {}; write at least memory = \"{}\" (about {} × the number of partitions is comfortable), or a smaller batch.bytes",
                format_size(needed),
                format_size(needed),
                format_size(needed),
            ),
        );
    }
}
