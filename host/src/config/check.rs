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

pub(super) fn backoff(table: &Table<'_>, backoff: BackoffConfig, keys: (&'static str, &'static str)) -> bool {
    let fits = backoff.first <= backoff.max;
    if !fits {
        let (first, max) = (format_duration(backoff.first), format_duration(backoff.max));
        let longest = keys.1;
        let why =
            format!("is longer than the longest pause, {longest} ({max}); write at least {longest} = \"{first}\"");
        table.note(keys.0, why);
    }
    fits
}

/// Everything that concerns more than one section. What is right is compared even where its processor has mistakes, so that
/// correcting them brings no new ones up. Mistakes are noted, the answer is the warnings.
pub(super) fn across(drafts: &[Draft<'_>], host: Option<&HostConfig>, host_table: &Table<'_>) -> Vec<String> {
    names(drafts);
    groups(drafts);
    loops(drafts);
    files(drafts);
    drafts.iter().for_each(sizes);
    if let Some(host) = host {
        memory(drafts, host, host_table);
    }
    // Only a file without mistakes gets as far as its warnings.
    let mut warnings = vec![];
    for (table, config) in drafts.iter().filter_map(|draft| Some((&draft.table, draft.config.as_ref()?))) {
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
    warnings.extend(same_ids(drafts));
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

/// What tells hubs apart: the service's names don't distinguish case.
fn hub_of(namespace: &NamespaceConfig, event_hub: &str) -> (String, String) {
    (namespace.fully_qualified.to_lowercase(), event_hub.to_lowercase())
}

/// What a processor is called in a sentence about another one.
fn name_of(draft: &Draft<'_>) -> String {
    draft.known.name.as_ref().map_or_else(|| draft.table.path().to_owned(), ToString::to_string)
}

fn groups(drafts: &[Draft<'_>]) {
    let mut seen = BTreeMap::new();
    for draft in drafts {
        let (Some((namespace, hub)), Some(group)) = (&draft.known.input, &draft.known.consumer_group) else { continue };
        if let Some(other) = seen.insert((hub_of(namespace, hub), group.to_lowercase()), draft) {
            draft.table.note(
                "consumer-group",
                format!(
                    "and this event-hub are read by the processor {} already: both would write the same checkpoints, and each would \
                     skip what the other finished; give this one a consumer-group of its own",
                    name_of(other)
                ),
            );
        }
    }
}

fn loops(drafts: &[Draft<'_>]) {
    for Draft { table, known, .. } in drafts {
        let Some((namespace, hub)) = &known.input else { continue };
        let input = hub_of(namespace, hub);
        let outputs = known.outputs.iter().map(|(name, sink)| (format!("outputs.{name}"), sink));
        let dead = known.dead_letter.iter().map(|sink| ("dead-letter".to_owned(), sink));
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

/// An output's id is made of the event that it comes from, not of the processor. A warning, not a mistake: modules that key
/// their outputs by different names may share a hub, and no configuration tells.
fn same_ids(drafts: &[Draft<'_>]) -> Vec<String> {
    let mut seen: BTreeMap<_, (usize, &Draft<'_>)> = BTreeMap::new();
    let mut warnings = vec![];
    for (index, draft) in drafts.iter().enumerate() {
        let Some((_, input)) = &draft.known.input else { continue };
        for (name, sink) in &draft.known.outputs {
            let SinkConfig::EventHub { namespace, event_hub } = sink else { continue };
            // The namespace that is read is no part of an id either.
            let (first, other) =
                seen.entry((input.to_lowercase(), hub_of(namespace, event_hub))).or_insert((index, draft));
            if *first != index {
                warnings.push(format!(
                    "{}.outputs.{name} goes to the hub {event_hub}, as outputs of the processor {} do, and both read a hub named {input}: \
                     outputs for the same event get the same id (hub/partition/sequence number/n), and a consumer that drops ids it has seen \
                     loses one of them. Give each its own hub, unless the modules key their outputs differently.",
                    draft.table.path(),
                    name_of(other)
                ));
            }
        }
    }
    warnings
}

/// Two processors that append to one file would tear each other's lines; one processor may share a file among its outputs.
fn files(drafts: &[Draft<'_>]) {
    let mut seen: BTreeMap<_, (usize, &Draft<'_>)> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        for sink in draft.known.outputs.values().chain(&draft.known.dead_letter) {
            let SinkConfig::File(path) = sink else { continue };
            let (first, other) = seen.entry(&**path).or_insert((index, draft));
            if *first != index {
                draft.table.note_whole(format!(
                    "writes to the file {path:?} as the processor {} does: after a crash neither could tell its own last line; \
                     give each its own file",
                    name_of(other)
                ));
            }
        }
    }
}

fn sizes(draft: &Draft<'_>) {
    let (Some(bytes), Some(memory)) = (draft.known.batch_bytes, draft.known.memory) else { return };
    if bytes.saturating_mul(2) > memory {
        let batch = draft.table.table("batch");
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
fn memory(drafts: &[Draft<'_>], host: &HostConfig, table: &Table<'_>) {
    let batches = drafts.iter().filter_map(|draft| draft.known.batch_bytes);
    let needed: u64 = batches.map(|bytes| bytes.saturating_mul(2)).fold(0, u64::saturating_add);
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
