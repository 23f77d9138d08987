//! The processor against the real flights: what it emits must be what the CSV says, by a computation of its own.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Read;

use delays::Delays;
use serde_json::{Value, json};
use weir_guest::testing::{Harness, event};
use weir_guest::{Ack, Failure, Origin};

const LATE_BY: i64 = 30;

fn csv() -> String {
    let packed = include_bytes!("../../data/flights-50k.csv.gz");
    let mut csv = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut csv).unwrap();
    csv
}

/// A row as a producer would send it: every column, numbers as numbers, `NA` as null.
fn as_json(header: &[&str], row: &str) -> String {
    const TEXT: [&str; 5] = ["carrier", "tailnum", "origin", "dest", "time_hour"];
    let fields = header.iter().zip(row.split(',')).map(|(name, text)| {
        let value = match text {
            "NA" => Value::Null,
            text if TEXT.contains(name) => text.into(),
            number => number.parse::<i64>().unwrap().into(),
        };
        ((*name).to_owned(), value)
    });
    Value::Object(fields.collect()).to_string()
}

/// The oracle: looks at two columns of the text and knows nothing of JSON.
fn late_by_carrier(csv: &str) -> BTreeMap<&str, Vec<i64>> {
    let mut late: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for row in csv.lines().skip(1) {
        let columns: Vec<&str> = row.split(',').collect();
        if let Ok(delay) = columns[8].parse::<i64>()
            && delay > LATE_BY
        {
            late.entry(columns[9]).or_default().push(delay);
        }
    }
    late
}

#[test]
fn what_goes_on_is_what_the_csv_calls_late() {
    let csv = csv();
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(rows.len(), 50_000);
    let mut delays = Harness::<Delays>::open(json!({ "late-by-minutes": LATE_BY })).unwrap();

    let mut late: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for lot in rows.chunks(512) {
        let answer = delays.process(lot.iter().map(|row| event(as_json(&header, row)))).unwrap();
        assert_eq!(answer.ack, Ack::all());
        for output in answer.outputs {
            let flight: Value = serde_json::from_slice(&output.body).unwrap();
            let carrier = output.partition_key.unwrap();
            assert_eq!(flight["carrier"], *carrier);
            late.entry(carrier).or_default().push(flight["arr_delay"].as_i64().unwrap());
        }
    }

    let expected = late_by_carrier(&csv);
    assert_eq!(expected.values().map(Vec::len).sum::<usize>(), 7_582, "the figure in the README");
    assert!(late.iter().map(|(k, v)| (k.as_str(), v)).eq(expected.iter().map(|(k, v)| (*k, v))));
}

fn flight(arr_delay: &Value) -> Value {
    json!({ "carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH", "time_hour": "2013-01-01T10:00:00Z",
            "arr_delay": arr_delay, "distance": 1400, "tailnum": null })
}

#[test]
fn late_means_more_than_the_limit() {
    let mut delays = Harness::<Delays>::open(json!({ "late-by-minutes": 30 })).unwrap();
    let bodies = [json!(null), json!(-5), json!(30), json!(31)].map(|delay| event(flight(&delay).to_string()));

    let answer = delays.process(bodies).unwrap();

    assert_eq!(answer.ack, Ack::all());
    let [late] = answer.outputs.as_slice() else { panic!("{:?}", answer.outputs) };
    assert_eq!(late.origin, Some(Origin::Event(3)));
    assert_eq!(late.content_type.as_deref(), Some("application/json"));
    let body: Value = serde_json::from_slice(&late.body).unwrap();
    assert_eq!(
        body,
        json!({ "carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH", "time_hour": "2013-01-01T10:00:00Z",
                "arr_delay": 31 })
    );
}

#[test]
fn what_does_not_parse_is_rejected_and_the_rest_goes_on() {
    let mut delays = Harness::<Delays>::open(json!({})).unwrap();
    let mut short = flight(&json!(60));
    short.as_object_mut().unwrap().remove("arr_delay");
    let bodies = [
        event(r#"{"carrier":"UA","flight":15"#),
        event(flight(&json!("late")).to_string()),
        event(flight(&json!(60)).to_string()),
        event(short.to_string()),
        event([0xff, 0xfe]),
    ];

    let answer = delays.process(bodies).unwrap();

    assert_eq!(answer.outputs.len(), 1);
    assert_eq!(answer.outputs[0].origin, Some(Origin::Event(2)));
    let indices: Vec<u32> = answer.ack.rejected.iter().map(|rejection| rejection.index).collect();
    assert_eq!(indices, [0, 1, 3, 4]);
    let reason = |n: usize| answer.ack.rejected[n].reason.as_str();
    assert!(reason(0).starts_with("the body is not JSON"), "{}", reason(0));
    assert!(reason(1).contains("expected i32"), "{}", reason(1));
    assert!(reason(2).contains("missing field `arr_delay`"), "{}", reason(2));
}

#[test]
fn a_misspelt_key_stops_the_start() {
    let refused = Harness::<Delays>::open(json!({ "late-by": 30 })).unwrap_err();
    let Failure::Fatal(why) = refused else { panic!("{refused:?}") };
    assert_eq!(
        why,
        "the processor's config doesn't fit, key `late-by`: unknown field `late-by`, expected `late-by-minutes`"
    );
}
