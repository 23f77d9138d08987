//! `weir checkpoints`: how far each partition is. It only reads, and takes no lock, so it works beside running hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::ShowArgs;
use crate::azure::Timeouts;
use crate::cli::failure::Failure;
use crate::cli::hub::namespace;
use crate::cli::reach::Address;
use crate::cli::stores::Stores;
use crate::cli::wire::scope;
use crate::cli::{print_line, summary};
use crate::config::{Config, ProcessorConfig};
use crate::model::{Checkpoint, PartitionId, PartitionInfo};
use crate::seams::{EventSource as _, Ownership, StoreError};

/// What is known of a processor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Progress {
    processor: String,
    namespace: String,
    event_hub: String,
    consumer_group: String,
    /// Why some of it is missing.
    problem: Option<String>,
    partitions: Vec<Partition>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Partition {
    partition: String,
    checkpoint: Option<i64>,
    offset: Option<String>,
    owner: Option<String>,
    generation: Option<u64>,
    first_retained: Option<i64>,
    last_enqueued: Option<i64>,
    lag: Option<u64>,
    /// Why its checkpoint can't be used.
    problem: Option<String>,
}

pub(super) async fn show(args: ShowArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let stores = Stores::new(&config.checkpoints).map_err(Failure::failed)?;
    let mut all = vec![];
    for processor in &config.processors {
        all.push(progress(&stores, processor).await?);
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&all).map_err(|error| Failure::failed(format!("can't print: {error}")))?,
        false => table(&all),
    };
    print_line(&text)?;
    let problems: Vec<_> =
        all.iter().filter_map(|p| Some(format!("processor `{}`: {}", p.processor, p.problem.as_ref()?))).collect();
    if problems.is_empty() { Ok(()) } else { Err(Failure::failed(problems.join("\n"))) }
}

async fn progress(stores: &Stores, processor: &ProcessorConfig) -> Result<Progress, Failure> {
    let scope = scope(processor);
    let store = stores.look(&scope);
    let listing = store.list().await.map_err(|error| {
        Failure::failed(format!("can't read the checkpoints of processor `{}`: {error}", processor.name))
    })?;
    let (infos, unreached) = match enqueued(processor).await {
        Ok(infos) => (infos, None),
        Err(why) => (BTreeMap::new(), Some(why)),
    };
    let records = listing.partitions.into_iter().map(|record| (record.partition.clone(), record));
    let mut records: BTreeMap<_, _> = records.collect();
    let mut ids: Vec<_> = infos.keys().chain(records.keys()).cloned().collect();
    ids.sort_by_key(|id| (id.as_str().len(), id.clone()));
    ids.dedup();
    let mut partitions = vec![];
    for id in &ids {
        let (ownership, listed) =
            records.remove(id).map_or((None, None), |record| (record.ownership, record.checkpoint));
        // The list leaves out what can't be read; only loading says why.
        let loaded = match listed {
            Some(checkpoint) => Ok(Some(checkpoint)),
            None => store.load(id).await.map(|found| found.map(|(checkpoint, _)| checkpoint)),
        };
        partitions.push(partition(id, ownership, loaded, infos.get(id)));
    }
    let broken = partitions.iter().filter_map(|p| Some(format!("partition {}: {}", p.partition, p.problem.as_ref()?)));
    let problems: Vec<_> = unreached.into_iter().chain(broken).collect();
    Ok(Progress {
        processor: processor.name.to_string(),
        namespace: scope.namespace,
        event_hub: scope.event_hub,
        consumer_group: scope.consumer_group,
        problem: (!problems.is_empty()).then(|| problems.join("\n  ")),
        partitions,
    })
}

/// What the hub says, in seconds or not at all.
async fn enqueued(processor: &ProcessorConfig) -> Result<BTreeMap<PartitionId, PartitionInfo>, String> {
    let hubs = namespace(&processor.namespace).map_err(|error| error.to_string())?;
    let timeouts = Timeouts { manage: Duration::from_secs(10), ..Timeouts::default() };
    let source = hubs.source(&processor.event_hub, &processor.consumer_group, timeouts);
    Address::of(&processor.namespace).reach().await?;
    let failed = |error| format!("what was last enqueued is not known: {error}");
    let mut infos = BTreeMap::new();
    for id in source.partitions().await.map_err(failed)? {
        let info = source.partition_info(&id).await.map_err(failed)?;
        infos.insert(id, info);
    }
    Ok(infos)
}

fn partition(
    id: &PartitionId,
    ownership: Option<Ownership>,
    loaded: Result<Option<Checkpoint>, StoreError>,
    info: Option<&PartitionInfo>,
) -> Partition {
    let (checkpoint, problem) = match loaded {
        Ok(checkpoint) => (checkpoint, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let done = checkpoint.as_ref().map(|checkpoint| checkpoint.position.sequence_number);
    Partition {
        partition: id.to_string(),
        checkpoint: done,
        offset: checkpoint.map(|checkpoint| checkpoint.position.offset.to_string()),
        generation: ownership.as_ref().map(|ownership| ownership.generation),
        owner: ownership.and_then(|ownership| Some(ownership.owner?.to_string())),
        first_retained: info.map(|info| info.beginning_sequence_number),
        last_enqueued: info.map(|info| info.last_enqueued_sequence_number),
        lag: info.filter(|_| problem.is_none()).map(|info| info.lag(done)),
        problem,
    }
}

fn table(all: &[Progress]) -> String {
    let columns = ["processor", "event hub", "partition", "checkpoint", "last enqueued", "lag", "owner"];
    let mut table = summary::plain(columns, 2..6);
    for progress in all {
        for partition in &progress.partitions {
            let number = |number: Option<i64>| number.map_or("-".into(), |number| number.to_string());
            table.add_row([
                progress.processor.clone(),
                format!("{}/{}", progress.event_hub, progress.consumer_group),
                partition.partition.clone(),
                if partition.problem.is_some() { "unreadable".into() } else { number(partition.checkpoint) },
                number(partition.last_enqueued),
                partition.lag.map_or("-".into(), |lag| lag.to_string()),
                partition.owner.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
    }
    summary::text(&table)
}
