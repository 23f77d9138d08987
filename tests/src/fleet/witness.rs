//! Sees what a fleet leaves behind, with its own eyes: the outputs in the hub, and the checkpoint records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_amqp::message::Message;
use weir_amqp::wire::ValueRef;
use weir_emulator::Emulator;
use weir_host::azure::BlobStore;
use weir_host::model::OUTPUT_ID_PROPERTY;
use weir_host::seams::CheckpointStore as _;

use super::history::{Partition, Seen};
use super::{PARTITIONS, number};

/// Looks at the hub this often, and at the records every few times.
const GLANCE: Duration = Duration::from_millis(20);
const RECORDS_EVERY: u32 = 5;

/// Something seen, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) at: Instant,
    pub(super) seen: Seen,
}

impl Sight {
    pub(super) fn output(&self) -> Option<(Partition, i64)> {
        match self.seen {
            Seen::Output(partition, number) => Some((partition, number)),
            Seen::Checkpoint(..) => None,
        }
    }
}

/// Everything seen, and what it comes to by now.
#[derive(Default)]
pub(super) struct Sights {
    pub(super) all: Vec<Sight>,
    /// The last one of each partition.
    pub(super) checkpoints: BTreeMap<Partition, i64>,
    outputs: BTreeMap<Partition, Outputs>,
}

/// The outputs of a partition's events.
#[derive(Default)]
struct Outputs {
    /// Those of so many first events have arrived.
    whole: i64,
    /// Others that have arrived.
    beyond: BTreeSet<i64>,
}

impl Sights {
    /// How many of a partition's first events have an output.
    pub(super) fn whole(&self, partition: Partition) -> i64 {
        self.outputs.get(&partition).map_or(0, |outputs| outputs.whole)
    }

    fn add(&mut self, sight: Sight) {
        self.all.push(sight);
        match sight.seen {
            Seen::Checkpoint(partition, _, number) => {
                self.checkpoints.insert(partition, number);
            }
            Seen::Output(partition, number) => {
                let Outputs { whole, beyond } = self.outputs.entry(partition).or_default();
                if number >= *whole {
                    beyond.insert(number);
                }
                while beyond.remove(whole) {
                    *whole += 1;
                }
            }
        }
    }
}

pub(super) struct Witness {
    emulator: Arc<Emulator>,
    store: Arc<BlobStore>,
    sights: Arc<Mutex<Sights>>,
    /// Read of each partition of the output hub.
    read: Vec<i64>,
}

impl Witness {
    pub(super) fn new(emulator: Arc<Emulator>, store: Arc<BlobStore>, sights: Arc<Mutex<Sights>>) -> Self {
        Self { emulator, store, sights, read: vec![0; PARTITIONS as usize] }
    }

    /// Until it is dropped.
    pub(super) async fn run(mut self) {
        for round in 0u32.. {
            // The records first: what they cover has to be in the hub by now.
            let records = if round % RECORDS_EVERY == 0 { self.records().await } else { Vec::new() };
            let outputs = self.outputs();
            let at = Instant::now();
            {
                let mut sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
                outputs.into_iter().chain(records).for_each(|seen| sights.add(Sight { at, seen }));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn records(&self) -> Vec<Seen> {
        // A store that is busy is asked again.
        let Ok(listing) = self.store.list().await else { return Vec::new() };
        let records = listing.partitions.into_iter().filter_map(|record| {
            let checkpoint = record.checkpoint?;
            let partition = number(record.partition.as_str());
            Some(Seen::Checkpoint(partition, checkpoint.generation, checkpoint.position.sequence_number))
        });
        records.collect()
    }

    fn outputs(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let partitions = self.emulator.namespace().hub("out").unwrap().partitions();
        for (partition, from) in partitions.iter().zip(&mut self.read) {
            let mut runs = Vec::new();
            loop {
                let count = partition.read(*from, 1000, &mut runs);
                if count == 0 {
                    break;
                }
                *from += i64::try_from(count).unwrap();
            }
            for (run, index) in runs.iter().flat_map(|run| (run.from..run.to).map(move |index| (run, index))) {
                let message = Message::parse(run.block.event_bytes(index)).unwrap();
                let body: Vec<u8> = message.data().flat_map(|data| data.unwrap()).collect();
                let (source, n) = origin(&message);
                assert_eq!(String::from_utf8(body).unwrap(), format!("{source}/{n}"), "an output with another's id");
                seen.push(Seen::Output(source, n));
            }
        }
        seen
    }
}

/// Partition and sequence number of the id `in/<partition>/<sequence number>/0`.
fn origin(message: &Message) -> (Partition, i64) {
    let properties = message.application_properties().expect("an output has properties");
    let Ok(Some(ValueRef::Str(id))) = properties.get(OUTPUT_ID_PROPERTY) else { panic!("an output without its id") };
    match id.split('/').collect::<Vec<_>>()[..] {
        ["in", partition, sequence_number, "0"] => (number(partition), sequence_number.parse().unwrap()),
        _ => panic!("unexpected id {id}"),
    }
}
