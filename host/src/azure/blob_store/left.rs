//! What other processors left in a container: checkpoints in the shared layout, under names that Weir itself doesn't read.
//!
//! All clients write `<namespace>/<event hub>/<consumer group>/checkpoint/<partition>`, and not all of them alike: the Rust SDK keeps the
//! case of the names, the Python one adds a custom port to the namespace (`localhost:5672`). Event Hubs itself ignores case, so
//! that here names are one when they differ by these alone.

use std::collections::BTreeSet;

use super::body;
use super::container::{BlobContainer, Listed};
use super::layout::{self, Layout};
use crate::model::{PartitionId, Position, Scope};
use crate::seams::StoreError;
use crate::state::TAIL_BYTES;

/// What a container holds of a scope.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// The scope's checkpoints, under whatever spelling of its name, in the order of their names.
    pub found: Vec<Left>,
    /// Other scopes that have checkpoints there, as they are spelt.
    pub others: BTreeSet<String>,
}

/// A checkpoint that somebody left.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// The blob.
    pub name: String,
    /// Whether it lies where Weir itself reads and writes this partition's checkpoint.
    pub in_place: bool,
    /// The partition.
    pub partition: PartitionId,
    /// Where it is, or why that can't be understood.
    pub position: Result<Position, String>,
}

impl BlobContainer {
    /// Looks through the whole container for checkpoints of a scope. Only reads.
    pub async fn leftovers(&self, scope: &Scope) -> Result<Leftovers, StoreError> {
        let layout = Layout::new(scope);
        let mut leftovers = Leftovers::default();
        for blob in self.list("").await? {
            let Some((owner, partition)) = parse(&blob.name) else { continue };
            if !is_of(owner, &layout) {
                leftovers.others.insert(owner.to_owned());
                continue;
            }
            let partition = PartitionId::from(partition);
            let in_place = blob.name == layout.checkpoint(&partition);
            let position = self.position(&blob).await?;
            leftovers.found.push(Left { name: blob.name, in_place, partition, position });
        }
        Ok(leftovers)
    }

    async fn position(&self, blob: &Listed) -> Result<Result<Position, String>, StoreError> {
        let marked = match layout::read_checkpoint(&blob.metadata) {
            Ok(marked) => marked,
            Err(why) => return Ok(Err(why)),
        };
        if marked.generation.is_none() {
            return Ok(Ok(marked.position));
        }
        // Weir's own, from elsewhere: a processor's state does not come along.
        let Some(found) = self.get(&blob.name, TAIL_BYTES).await? else { return Ok(Err("it is gone".into())) };
        Ok(match body::read(&marked, &found.body, &blob.name) {
            Ok((_, state)) if state.is_empty() => Ok(marked.position),
            Ok(_) => Err("it carries state of a processor, which can't be imported".into()),
            Err(why) => Err(why),
        })
    }
}

/// Splits the name of a checkpoint into its scope and partition.
fn parse(name: &str) -> Option<(&str, &str)> {
    let (rest, partition) = name.rsplit_once('/')?;
    let (scope, kind) = rest.rsplit_once('/')?;
    (kind.eq_ignore_ascii_case("checkpoint") && !partition.is_empty()).then_some((scope, partition))
}

/// Whether a scope is this layout's, but for case and for the namespace's port.
fn is_of(scope: &str, layout: &Layout) -> bool {
    let own = layout.prefix.strip_suffix('/').unwrap_or(&layout.prefix);
    folded(scope).is_some_and(|scope| Some(scope) == folded(own))
}

/// A scope in lower case and without its namespace's port.
fn folded(scope: &str) -> Option<String> {
    let (namespace, rest) = scope.split_once('/')?;
    let namespace = match namespace.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => host,
        _ => namespace,
    };
    Some(format!("{namespace}/{rest}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_recognised_however_it_is_spelt() {
        let scope = |namespace: &str| Scope {
            namespace: namespace.into(),
            event_hub: "Flights".into(),
            consumer_group: "$Default".into(),
        };
        // As it is asked for, with a port or without.
        let layouts = ["Fleet.servicebus.windows.net", "Fleet.servicebus.windows.net:5672"];
        let layouts = layouts.map(|namespace| Layout::new(&scope(namespace)));
        for (name, of_it, partition) in [
            ("fleet.servicebus.windows.net/flights/$default/checkpoint/0", true, "0"),
            ("Fleet.servicebus.windows.net/Flights/$Default/checkpoint/12", true, "12"),
            ("fleet.servicebus.windows.net:5671/flights/$default/Checkpoint/0", true, "0"),
            ("fleet.servicebus.windows.net:/flights/$default/checkpoint/0", false, "0"),
            ("fleet.servicebus.windows.net/flights/audit/checkpoint/0", false, "0"),
            ("flights/$default/checkpoint/0", false, "0"),
        ] {
            for layout in &layouts {
                let found = parse(name).map(|(scope, id)| (is_of(scope, layout), id));
                assert_eq!(found, Some((of_it, partition)), "{name} for {}", layout.prefix);
            }
        }
        for other in ["fleet.servicebus.windows.net/flights/$default/ownership/0", "checkpoint/0", "a/checkpoint/", "x"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
