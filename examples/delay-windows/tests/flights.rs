//! The windows against the real flights, out of order, with restarts: what comes out must be what the CSV says, by a computation of its own.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use delay_windows::DelayWindows;
use serde_json::{Value, json};
use weir_guest::testing::{Answer, Harness, event};

fn csv() -> String {
    let packed = include_bytes!("../../data/flights-50k.csv.gz");
    let mut csv = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut csv).unwrap();
    csv
}

/// The columns that matter.
#[derive(Clone, Copy)]
struct Row<'a> {
    delay: Option<i64>,
    origin: &'a str,
    minute: u32,
    hour: &'a str,
}

fn rows(csv: &str) -> Vec<Row<'_>> {
    let row = |line| {
        let columns: Vec<&str> = str::split(line, ',').collect();
        let (delay, minute) = (columns[8].parse().ok(), columns[17].parse().unwrap());
        Row { delay, origin: columns[12], minute, hour: columns[18] }
    };
    csv.lines().skip(1).map(row).collect()
}

fn body(row: &Row<'_>) -> String {
    json!({ "origin": row.origin, "time_hour": row.hour, "minute": row.minute, "arr_delay": row.delay }).to_string()
}

/// By hour and origin: flights, and the delays of those that arrived.
fn by_hour<'a>(rows: &[Row<'a>]) -> BTreeMap<(&'a str, &'a str), (u64, Vec<i64>)> {
    let mut hours: BTreeMap<_, (u64, Vec<i64>)> = BTreeMap::new();
    for row in rows {
        let (flights, delays) = hours.entry((row.hour, row.origin)).or_default();
        *flights += 1;
        delays.extend(row.delay);
    }
    hours
}

/// Every tenth row comes up to forty places later. The same each time.
fn out_of_order<'a>(rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let mut random = 17_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut places: Vec<(usize, Row<'a>)> = rows.iter().copied().enumerate().collect();
    for (place, _) in &mut places {
        if next() % 10 == 0 {
            *place += next() as usize % 40;
        }
    }
    places.sort_by_key(|(place, _)| *place);
    places.into_iter().map(|(_, row)| row).collect()
}

fn results(answer: &Answer) -> impl Iterator<Item = Value> {
    answer.outputs.iter().map(|output| {
        assert_eq!(output.target, None, "no flight is late");
        serde_json::from_slice(&output.body).unwrap()
    })
}

#[test]
fn the_windows_are_what_the_csv_says_however_it_comes() {
    let csv = csv();
    let rows = rows(&csv);
    let mixed = out_of_order(&rows);
    // Forty rows are a night at most.
    let config = json!({ "out-of-orderness-minutes": 24 * 60, "idle-timeout-seconds": 60 });
    let mut windows = Harness::<DelayWindows>::open(&config).unwrap();

    let mut all: Vec<Value> = Vec::new();
    for (n, lot) in mixed.chunks(411).enumerate() {
        let answer = windows.process(lot.iter().map(|row| event(body(row)))).unwrap();
        assert!(answer.ack.rejected.is_empty());
        all.extend(results(&answer));
        if n % 10 == 3 {
            windows = windows.restart().unwrap();
        }
    }
    let open = all.len();
    for answer in windows.advance(Duration::from_secs(60)).unwrap() {
        all.extend(results(&answer));
    }
    assert!(all.len() > open, "the last day closes for want of events");

    let expected: Vec<Value> = by_hour(&rows)
        .into_iter()
        .map(|((hour, origin), (flights, delays))| {
            let (arrived, total) = (delays.len(), delays.iter().sum::<i64>());
            let to = format!("{}:59:59", &hour[..13]);
            let row = json!({ "origin": origin, "from": hour, "to": to, "flights": flights, "arrived": arrived,
                "total_delay": total, "mean_delay": (arrived > 0).then(|| total as f64 / arrived as f64),
                "least_delay": delays.iter().min(), "greatest_delay": delays.iter().max() });
            // Through text, as the results came: reading a number rounds.
            serde_json::from_str(&row.to_string()).unwrap()
        })
        .collect();
    // The end is that of the hour; the oracle knows no calendar.
    for row in &mut all {
        let (from, to) = (row["from"].as_str().unwrap(), row["to"].as_str().unwrap());
        assert!(to > from && to.ends_with(":00:00Z"), "{row}");
        row["to"] = format!("{}:59:59", &from[..13]).into();
    }
    assert_eq!(all.len(), expected.len());
    for (row, expected) in all.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
}

#[test]
fn a_late_flight_goes_to_its_output_and_what_is_none_is_rejected() {
    let mut windows = Harness::<DelayWindows>::open(json!({ "out-of-orderness-minutes": 0 })).unwrap();
    let flight = |hour| event(body(&Row { delay: None, origin: "EWR", minute: 5, hour }));
    let answer = windows
        .process([
            flight("2013-01-01T10:00:00Z"),
            flight("2013-01-01T11:00:00Z"),
            flight("2013-01-01T10:00:00Z"),
            flight("noon"),
        ])
        .unwrap();
    let [result, late] = answer.outputs.as_slice() else { panic!("{:?}", answer.outputs) };
    assert_eq!(result.partition_key.as_deref(), Some("EWR"));
    let row: Value = serde_json::from_slice(&result.body).unwrap();
    assert_eq!((&row["flights"], &row["arrived"], &row["mean_delay"]), (&json!(1), &json!(0), &Value::Null));
    assert_eq!((late.target.as_deref(), late.body.clone()), (Some("late"), flight("2013-01-01T10:00:00Z").body));
    let [rejected] = answer.ack.rejected.as_slice() else { panic!("{:?}", answer.ack) };
    assert!(rejected.reason.starts_with("`time_hour` is \"noon\", and no time"), "{}", rejected.reason);
}
