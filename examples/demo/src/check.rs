//! Reads back what came out, and compares it with what the CSV says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_host::azure::{Namespace, Timeouts};
use weir_host::model::{Event, OUTPUT_ID_PROPERTY, PartitionId, PartitionInfo, StartPosition, Value};
use weir_host::seams::{EventSource, OpenOptions};

use crate::flights::{Late, late_flight};
use crate::{Error, FLIGHTS, LATE_FLIGHTS};

/// How long the namespace may take to hand over the next event.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where each partition of a hub ends now.
pub(crate) async fn ends(namespace: &Namespace, hub: &str) -> Result<BTreeMap<PartitionId, PartitionInfo>, Error> {
    let source = namespace.source(hub, "$default", Timeouts::default());
    let mut ends = BTreeMap::new();
    for partition in source.partitions().await? {
        let info = source.partition_info(&partition).await?;
        ends.insert(partition, info);
    }
    Ok(ends)
}

/// What was found in the hub of outputs.
pub(crate) struct Found {
    /// The flights of this lot, each once.
    pub(crate) late: Late,
    /// Outputs that came more than once, told by their ids.
    pub(crate) repeats: usize,
}

/// Reads the outputs that came since `outputs_before` and keeps those whose origin lies past `inputs_before`.
pub(crate) async fn found(
    namespace: &Namespace,
    inputs_before: &BTreeMap<PartitionId, PartitionInfo>,
    outputs_before: &BTreeMap<PartitionId, PartitionInfo>,
) -> Result<Found, Error> {
    let mut found = Found { late: Late::new(), repeats: 0 };
    let mut ids = BTreeSet::new();
    let source = namespace.source(LATE_FLIGHTS, "$default", Timeouts::default());
    for (partition, end) in ends(namespace, LATE_FLIGHTS).await? {
        let before = outputs_before.get(&partition).map_or(-1, |info| info.last_enqueued_sequence_number);
        let last = end.last_enqueued_sequence_number;
        if last <= before {
            continue;
        }
        let options = OpenOptions { owner_level: None, prefetch: 1000 };
        let mut receiver = source.open(&partition, StartPosition::After(before), &options).await?;
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Event| event.sequence_number < last) {
            tokio::time::timeout(PATIENCE, receiver.receive(1000, &mut events))
                .await
                .map_err(|_| Error::new(format!("no output came from partition {partition} for {PATIENCE:?}")))??;
        }
        receiver.close().await;
        for event in &events {
            let id = id(event).ok_or_else(|| Error::new("an output without an id"))?;
            if !is_of_this_lot(&id, inputs_before) {
                continue;
            }
            if !ids.insert(id) {
                found.repeats += 1;
                continue;
            }
            let flight = late_flight(&event.body).ok_or_else(|| Error::new("an output that is no flight"))?;
            *found.late.entry(flight).or_default() += 1;
        }
    }
    Ok(found)
}

fn id(event: &Event) -> Option<String> {
    event.properties.iter().find(|property| property.key == OUTPUT_ID_PROPERTY).and_then(|property| {
        match &property.value {
            Value::Text(text) => Some(text.to_string()),
            _ => None,
        }
    })
}

/// An id is `hub/partition/sequence number/n`.
fn is_of_this_lot(id: &str, inputs_before: &BTreeMap<PartitionId, PartitionInfo>) -> bool {
    let mut parts = id.split('/');
    let (Some(hub), Some(partition), Some(number)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let before = inputs_before.get(&PartitionId::from(partition)).map_or(-1, |info| info.last_enqueued_sequence_number);
    hub == FLIGHTS && number.parse::<i64>().is_ok_and(|number| number > before)
}
