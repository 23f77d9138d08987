//! Weir inside a service of your own: `cargo run -p weir-host --example embed`.
//!
//! The host is a library. It reads from any [`EventSource`], remembers in any [`CheckpointStore`] and publishes to any [`Sink`];
//! the adapters for Event Hubs and for directories are only the ones that come with it. Here all three are this file's own, and
//! so is the processor: a plain Rust type where a service would load a component, with
//! `Engine::new(…)?.load(ModuleSource::File(path)).await?.processor(…)`.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use weir_host::guest::{
    Ack, Answer, Batch, CloseReason, Failure, GuestOutput, Instance, Opening, Origin, Processor, Progress,
};
use weir_host::host::{Host, ProcessorSpec};
use weir_host::model::{
    Checkpoint, ETag, Event, Mark, Output, OwnerId, PartitionId, PartitionInfo, Scope, StartPosition, Tenancy,
};
use weir_host::options::ProcessorOptions;
use weir_host::seams::{
    CheckpointStore, EventSource, HostRecord, Listing, OpenOptions, Ownership, PartitionReceiver, PartitionRecord,
    Presence, Sink, SinkError, SourceError, SourceErrorKind, StoreError, Written,
};
use weir_host::state::StateImage;

/// A source: two sensors, one partition each, whose readings are all there already.
struct Sensors(BTreeMap<PartitionId, Vec<Event>>);

impl Sensors {
    fn new() -> Self {
        let readings = |sensor: i64| (0..100).map(|number| reading(number, (sensor + 1) * number)).collect();
        Self([("0".into(), readings(0)), ("1".into(), readings(1))].into())
    }

    fn of(&self, partition: &PartitionId) -> Result<&Vec<Event>, SourceError> {
        let missing =
            || SourceError { kind: SourceErrorKind::NotFound, detail: format!("there is no sensor {partition}") };
        self.0.get(partition).ok_or_else(missing)
    }
}

fn reading(sequence_number: i64, degrees: i64) -> Event {
    Event {
        sequence_number,
        offset: sequence_number.to_string().into(),
        enqueued_time: 0,
        partition_key: None,
        content_type: None,
        message_id: None,
        correlation_id: None,
        properties: Vec::new(),
        body: Bytes::from(degrees.to_string()),
    }
}

#[async_trait]
impl EventSource for Sensors {
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(self.0.keys().cloned().collect())
    }

    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError> {
        let events = self.of(partition)?;
        Ok(PartitionInfo {
            id: partition.clone(),
            beginning_sequence_number: 0,
            last_enqueued_sequence_number: events.last().map_or(-1, |event| event.sequence_number),
            last_enqueued_offset: events.last().map_or_else(|| "-1".into(), |event| event.offset.clone()),
            last_enqueued_time: events.last().map_or(0, |event| event.enqueued_time),
            is_empty: events.is_empty(),
        })
    }

    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        _options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError> {
        let wanted = |event: &&Event| match start {
            StartPosition::Earliest => true,
            StartPosition::After(position) => event.sequence_number > position,
            StartPosition::EnqueuedTime(time) => event.enqueued_time >= time,
        };
        Ok(Box::new(Readings(self.of(partition)?.iter().filter(wanted).cloned().collect())))
    }
}

struct Readings(Vec<Event>);

#[async_trait]
impl PartitionReceiver for Readings {
    async fn receive(&mut self, max: usize, events: &mut Vec<Event>) -> Result<(), SourceError> {
        if self.0.is_empty() {
            // Nothing more will come; a real source waits for it all the same.
            std::future::pending::<()>().await;
        }
        events.extend(self.0.drain(..max.min(self.0.len())));
        Ok(())
    }

    async fn close(self: Box<Self>) {}
}

/// A store: a table in memory. Every write is conditional on the tag that it replaces, as the trait asks.
#[derive(Default)]
struct Table {
    rows: Mutex<HashMap<PartitionId, Row>>,
    hosts: Mutex<HashMap<String, HostRecord>>,
}

#[derive(Clone, Default)]
struct Row {
    owner: Option<OwnerId>,
    generation: u64,
    mark: Option<Mark>,
    /// Counts the writes of owner and generation; 0: none yet.
    version: u64,
    checkpoint: Option<(Checkpoint, u64)>,
}

impl Row {
    fn tag(&self) -> Option<ETag> {
        (self.version > 0).then(|| tag(self.version))
    }

    fn own(&mut self, owner: Option<OwnerId>, generation: u64, mark: Mark) -> ETag {
        (self.owner, self.generation, self.mark) = (owner, generation, Some(mark));
        self.version += 1;
        tag(self.version)
    }
}

impl Table {
    fn rows(&self) -> MutexGuard<'_, HashMap<PartitionId, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, HostRecord>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a tenancy's row again, if it still is that tenancy's.
    fn rewrite(&self, tenancy: &Tenancy, owner: Option<OwnerId>) -> Written<ETag> {
        match self.rows().get_mut(&tenancy.partition) {
            Some(row) if row.tag().as_ref() == Some(&tenancy.ownership) => {
                Written::Done(row.own(owner, tenancy.generation, tenancy.mark))
            }
            _ => Written::Conflict,
        }
    }
}

fn tag(version: u64) -> ETag {
    ETag(version.to_string())
}

#[async_trait]
impl CheckpointStore for Table {
    async fn list(&self) -> Result<Listing, StoreError> {
        // A store that other hosts share says how old a record is, by its own clock.
        let owned = |row: &Row| {
            let (owner, generation, mark) = (row.owner.clone(), row.generation, row.mark);
            row.tag().map(|etag| Ownership { owner, generation, mark, etag, age: None })
        };
        let record = |(partition, row): (&PartitionId, &Row)| PartitionRecord {
            partition: partition.clone(),
            ownership: owned(row),
            // A list is for looking at; what a processor keeps comes with `load` alone.
            checkpoint: row
                .checkpoint
                .as_ref()
                .map(|(checkpoint, _)| Checkpoint { state: StateImage::default(), ..checkpoint.clone() }),
        };
        let hosts = self.hosts().values().cloned().collect();
        Ok(Listing { partitions: self.rows().iter().map(record).collect(), hosts })
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        let mut rows = self.rows();
        if rows.get(partition).and_then(Row::tag).as_ref() != expected {
            return Ok(Written::Conflict);
        }
        let row = rows.entry(partition.clone()).or_default();
        let committed = row.checkpoint.as_ref().map_or(0, |(checkpoint, _)| checkpoint.generation);
        let generation = row.generation.max(committed) + 1;
        let ownership = row.own(Some(owner.clone()), generation, mark);
        let (partition, owner) = (partition.clone(), owner.clone());
        Ok(Written::Done(Tenancy { partition, owner, mark, generation, ownership }))
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        let renewed = self.rewrite(tenancy, Some(tenancy.owner.clone()));
        Ok(renewed.map(|ownership| Tenancy { ownership, ..tenancy.clone() }))
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        Ok(self.rewrite(tenancy, None).map(drop))
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        let mut hosts = self.hosts();
        let name = presence.owner.to_string();
        let found = hosts.get(&name).map(|host| &host.etag);
        if found != expected {
            return Ok(Written::Conflict);
        }
        let etag = tag(found.and_then(|etag| etag.0.parse::<u64>().ok()).unwrap_or(0) + 1);
        hosts.insert(name, HostRecord { presence: presence.clone(), etag: etag.clone(), age: None });
        Ok(Written::Done(etag))
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        let mut hosts = self.hosts();
        if hosts.get(owner.as_str()).is_some_and(|host| host.etag != *expected) {
            return Ok(Written::Conflict);
        }
        hosts.remove(owner.as_str());
        Ok(Written::Done(()))
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        let rows = self.rows();
        let checkpoint = rows.get(partition).and_then(|row| row.checkpoint.clone());
        Ok(checkpoint.map(|(checkpoint, version)| (checkpoint, tag(version))))
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let mut rows = self.rows();
        let row = rows.entry(partition.clone()).or_default();
        let version = row.checkpoint.as_ref().map(|(_, version)| *version);
        if version.map(tag).as_ref() != expected {
            return Ok(Written::Conflict);
        }
        let next = version.unwrap_or(0) + 1;
        let mut checkpoint = checkpoint.clone();
        // A part of the state that was handed over with an earlier checkpoint comes by its name alone.
        for segment in &mut checkpoint.state.segments {
            let known = row.checkpoint.iter().flat_map(|(before, _)| &before.state.segments);
            let known = known.into_iter().find(|known| known.digest == segment.digest);
            segment.bytes = segment.bytes.take().or_else(|| known?.bytes.clone());
        }
        row.checkpoint = Some((checkpoint, next));
        Ok(Written::Done(tag(next)))
    }
}

/// A sink: a list.
#[derive(Default)]
struct Alarms(Mutex<Vec<Output>>);

#[async_trait]
impl Sink for Alarms {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(outputs);
        Ok(())
    }

    fn max_output_bytes(&self) -> usize {
        1024
    }
}

/// A processor: raises an alarm for every reading above a hundred degrees.
struct TooHot;

#[async_trait]
impl Processor for TooHot {
    async fn open(&self, _opening: Opening) -> Result<Box<dyn Instance>, Failure> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Instance for TooHot {
    async fn process(&mut self, batch: Batch) -> Result<Answer, Failure> {
        let hot =
            |event: &Event| str::from_utf8(&event.body).ok().and_then(|text| text.parse::<i64>().ok()) > Some(100);
        let alarm = |(index, event): (u32, &Event)| GuestOutput {
            origin: Some(Origin::Event(index)),
            target: None,
            partition_key: None,
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: Vec::new(),
            body: event.body.clone(),
        };
        let outputs = (0..).zip(batch.events()).filter(|(_, event)| hot(event)).map(alarm).collect();
        Ok(Answer { ack: Ack { progress: Progress::All, rejected: Vec::new(), redeliver: None }, outputs })
    }

    async fn close(self: Box<Self>, _reason: CloseReason) {}
}

/// Runs it; returns the ids of the alarms and each partition's checkpoint.
async fn run() -> Result<(Vec<String>, BTreeMap<PartitionId, i64>), Box<dyn Error>> {
    let (table, alarms) = (Arc::new(Table::default()), Arc::new(Alarms::default()));
    let spec = ProcessorSpec {
        name: "too-hot".into(),
        scope: Scope { namespace: "plant".into(), event_hub: "sensors".into(), consumer_group: "alarms".into() },
        source: Arc::new(Sensors::new()),
        store: Arc::clone(&table) as Arc<dyn CheckpointStore>,
        processor: Arc::new(TooHot),
        outputs: BTreeMap::from([("default".to_owned(), Arc::clone(&alarms) as Arc<dyn Sink>)]),
        dead_letter: None,
        options: ProcessorOptions::default(),
    };
    let host = Host::builder().owner("embedded").until_caught_up(true).processor(spec).build()?;
    // A service would pass its own signal instead of a future that never ends.
    let outcome = host.run(std::future::pending()).await;
    if !outcome.is_success() {
        return Err(outcome.to_string().into());
    }
    let ids =
        alarms.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|alarm| alarm.id.to_string()).collect();
    let of = |record: PartitionRecord| Some((record.partition, record.checkpoint?.position.sequence_number));
    Ok((ids, table.list().await?.partitions.into_iter().filter_map(of).collect()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (alarms, checkpoints) = run().await?;
    println!("{} alarms: {}", alarms.len(), alarms.join(", "));
    for (partition, checkpoint) in checkpoints {
        println!("partition {partition} is processed up to {checkpoint}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    #[tokio::test]
    async fn the_store_does_what_a_store_must() {
        weir_host::testing::conformance::checkpoint_store(&super::Table::default()).await;
    }

    #[tokio::test]
    async fn every_reading_is_processed_and_the_hot_ones_come_out() {
        let (mut alarms, checkpoints) = super::run().await.unwrap();
        alarms.sort();
        // Sensor 0 never gets hot; sensor 1 passes a hundred degrees at its reading number 51.
        let mut expected: Vec<_> = (51..100).map(|number| format!("sensors/1/{number}/0")).collect();
        expected.sort();
        assert_eq!(alarms, expected);
        assert_eq!(checkpoints, [("0".into(), 99), ("1".into(), 99)].into());
    }
}
