//! `delay-windows` over the real flights, a tenth of them out of order, in a host that is killed (SIGKILL) twenty times: what comes out is what the
//! same query in SQLite says of the CSV, each window once by its id, and a repeat is the same to the byte.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_amqp::message::{Message, MessageParts};
use weir_emulator::{Emulator, EmulatorConfig, HubSpec, Incoming};
use weir_tests::guests::guest;
use weir_tests::weir::{Weir, command};

use crate::hub::{now_ms, soon, until};
use crate::kill::output_id;

const PARTITIONS: u32 = 2;
const KILLS: usize = 20;
/// Set it to replay the same kills as far as timing allows.
const SEED: u64 = 0x5eed_2013;

/// The columns of the CSV that the query needs.
struct Flight {
    origin: String,
    hour: String,
    minute: u32,
    delay: Option<i64>,
}

impl Flight {
    /// Flights of one airport are in one partition, so that their windows are.
    fn partition(&self) -> u32 {
        u32::from(self.origin == "LGA")
    }

    fn incoming(&self) -> Incoming {
        let body =
            json!({ "origin": self.origin, "time_hour": self.hour, "minute": self.minute, "arr_delay": self.delay });
        Incoming { tail: MessageParts::data(body.to_string()).encode(), ..Incoming::default() }
    }
}

fn flights() -> Vec<Flight> {
    let packed = include_bytes!("../../../examples/data/flights-50k.csv.gz");
    let mut csv = String::new();
    GzDecoder::new(packed.as_slice()).read_to_string(&mut csv).unwrap();
    let flight = |line: &str| {
        let columns: Vec<&str> = line.split(',').collect();
        let (delay, minute) = (columns[8].parse().ok(), columns[17].parse().unwrap());
        Flight { origin: columns[12].into(), hour: columns[18].into(), minute, delay }
    };
    csv.lines().skip(1).map(flight).collect()
}

/// A window: flights, arrivals, and the sum, least and greatest of the delays.
type Delays = (i64, i64, Option<i64>, Option<i64>, Option<i64>);

/// By hour and origin, as SQLite sees it.
fn by_sqlite(flights: &[Flight]) -> BTreeMap<(String, String), Delays> {
    let mut database = Connection::open_in_memory().unwrap();
    database.execute("CREATE TABLE flights (origin TEXT, hour TEXT, delay INTEGER)", ()).unwrap();
    let transaction = database.transaction().unwrap();
    {
        let mut insert = transaction.prepare("INSERT INTO flights VALUES (?1, ?2, ?3)").unwrap();
        for flight in flights {
            insert.execute((&flight.origin, &flight.hour, flight.delay)).unwrap();
        }
    }
    transaction.commit().unwrap();
    let query = "SELECT hour, origin, count(*), count(delay), sum(delay), min(delay), max(delay) FROM flights GROUP BY hour, origin";
    let mut select = database.prepare(query).unwrap();
    let rows = select.query_map((), |row| {
        let delays = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
        Ok(((row.get(0)?, row.get(1)?), delays))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// Every tenth flight comes up to forty places later: a night at most.
fn out_of_order(flights: &[Flight], random: &mut StdRng) -> Vec<usize> {
    let mut places: Vec<(usize, usize)> = (0..flights.len())
        .map(|n| (if random.random_ratio(1, 10) { n + random.random_range(0..40) } else { n }, n))
        .collect();
    places.sort();
    places.into_iter().map(|(_, n)| n).collect()
}

struct Story {
    emulator: Emulator,
    directory: TempDir,
}

impl Story {
    async fn begin() -> Self {
        let hub = |name: &str, partitions| HubSpec { name: name.into(), partitions };
        let hubs = vec![hub("flights", PARTITIONS), hub("delays", 1), hub("late", 1)];
        let config = EmulatorConfig { listen: "127.0.0.1:0".into(), hubs, ..EmulatorConfig::default() };
        let emulator = soon(Emulator::start(config)).await.unwrap();
        let directory = TempDir::new().unwrap();
        let file = format!(
            r#"
                [namespace]
                fully-qualified-namespace = "localhost"
                endpoint = "{}"
                credential = "none"
                [checkpoints]
                directory = "checkpoints"
                [host]
                owner = "killed"
                cache = "cache"
                [[processor]]
                name = "delay-windows"
                module = "{}"
                event-hub = "flights"
                config = {{ out-of-orderness-minutes = 1440 }}
                grants.clocks = true
                batch = {{ events = 200, linger = "2 ms" }}
                checkpoint = {{ interval = "20 ms", events = 1000 }}
                outputs.default.event-hub = "delays"
                outputs.late.event-hub = "late"
            "#,
            emulator.endpoint(),
            guest("delay-windows").display()
        );
        fs::write(directory.path().join("weir.toml"), file).unwrap();
        Self { emulator, directory }
    }

    fn host(&self, until_caught_up: bool) -> Weir {
        let file = self.directory.path().join("weir.toml");
        let mut command = command(["run".as_ref(), file.as_os_str()]);
        if until_caught_up {
            command.arg("--until-caught-up");
        }
        Weir::start(&mut command)
    }

    fn publish(&self, flights: &[Flight]) {
        for partition in 0..PARTITIONS {
            let mine = flights.iter().filter(|flight| flight.partition() == partition);
            let events: Vec<_> = mine.map(Flight::incoming).collect();
            for lot in events.chunks(1000) {
                self.emulator.namespace().publish("flights", partition, lot).unwrap();
            }
        }
    }

    fn count(&self, hub: &str) -> usize {
        (self.emulator.namespace().hub(hub).unwrap().partitions()[0].state(now_ms()).last + 1) as usize
    }

    /// Id and body of each output, in the order of arrival.
    fn outputs(&self) -> Vec<(String, Vec<u8>)> {
        let hub = self.emulator.namespace().hub("delays").unwrap();
        let (mut from, mut runs) = (0, Vec::new());
        loop {
            match hub.partitions()[0].read(from, 1000, &mut runs) {
                0 => break,
                count => from += count as i64,
            }
        }
        let events = runs.iter().flat_map(|run| (run.from..run.to).map(move |index| run.block.event_bytes(index)));
        let output = |bytes| {
            let message = Message::parse(bytes).unwrap();
            (output_id(&message), message.data().flat_map(|data| data.unwrap()).collect())
        };
        events.map(output).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_over_the_flights_equal_the_query_in_sqlite_however_often_the_host_is_killed() {
    let flights = flights();
    let expected = by_sqlite(&flights);
    let mut random = StdRng::seed_from_u64(SEED);
    let order = out_of_order(&flights, &mut random);
    let mut flights: Vec<Option<Flight>> = flights.into_iter().map(Some).collect();
    let mixed: Vec<Flight> = order.iter().map(|&n| flights[n].take().unwrap()).collect();

    let story = Story::begin().await;
    for (kill, lot) in mixed.chunks(mixed.len().div_ceil(KILLS)).enumerate() {
        story.publish(lot);
        let seen = story.count("delays");
        let weir = story.host(false);
        match kill % 5 {
            1 => {}
            2 => drop(weir.wait_stderr("delay-windows: delay_windows.wasm")),
            3 => until("it connects", || story.emulator.namespace().connection_count() > 0).await,
            _ => {
                let more = random.random_range(1..40);
                until("windows of this life close", || story.count("delays") >= seen + more).await;
            }
        }
        drop(weir.kill());
        until("its connections are gone", || story.emulator.namespace().connection_count() == 0).await;
    }
    // A flight of the next year closes every window before it, and its own stays open.
    let last =
        |origin: &str| Flight { origin: origin.into(), hour: "2014-06-01T00:00:00Z".into(), minute: 0, delay: None };
    story.publish(&["EWR", "JFK", "LGA"].map(last));
    story.host(true).end().expect_code(0);

    assert_eq!(story.count("late"), 0, "no flight is late (seed {SEED:#x})");
    let outputs = story.outputs();
    let mut windows: HashMap<&str, &[u8]> = HashMap::new();
    for (id, body) in &outputs {
        let known = windows.entry(id).or_insert(body);
        assert_eq!(*known, body, "{id}: a repeat is the same (seed {SEED:#x})");
    }
    let mut found = BTreeMap::new();
    for body in windows.values() {
        let row: Value = serde_json::from_slice(body).unwrap();
        let (text, number) = (|key: &str| row[key].as_str().unwrap().to_owned(), |key: &str| row[key].as_i64());
        let flights = (number("flights").unwrap(), number("arrived").unwrap());
        let sum = number("total_delay").filter(|_| flights.1 > 0);
        let delays = (flights.0, flights.1, sum, number("least_delay"), number("greatest_delay"));
        assert_eq!(found.insert((text("from"), text("origin")), delays), None, "one id for one window: {row}");
    }
    assert_eq!(found, expected, "seed {SEED:#x}");
    println!("{KILLS} kills, {} windows, {} outputs", found.len(), outputs.len());
}
