//! The data set: flights as events, and which of them are late, both straight from the CSV.

use std::collections::BTreeMap;
use std::sync::Arc;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use crate::Error;

const EXTRACT: &[u8] = include_bytes!("../../data/flights-50k.csv.gz");
/// Columns whose text may look like a number (a carrier is called `9E`).
const TEXT: [&str; 5] = ["carrier", "tailnum", "origin", "dest", "time_hour"];
/// One row in so many is published once more as its line of CSV, which is no JSON: what a careless producer would send.
const MANGLED: usize = 5_000;

/// An event to publish.
pub(crate) struct Flight {
    /// The airport that it goes to. A hundred airports spread well over the partitions; each one's flights stay in order.
    pub(crate) key: String,
    pub(crate) body: String,
}

/// The flights of a lot, as they are published and as they should come out.
pub(crate) struct Lot {
    pub(crate) events: Arc<Vec<Flight>>,
    /// How many of them are no JSON.
    pub(crate) mangled: usize,
    pub(crate) late: Late,
}

/// Late flights, each with how often it occurs.
pub(crate) type Late = BTreeMap<LateFlight, usize>;

/// Carrier, flight, origin, destination, departure to the hour, minutes late.
pub(crate) type LateFlight = (String, i64, String, String, String, i64);

/// The first `rows` flights, and those among them that arrived more than `late_by` minutes late.
pub(crate) fn lot(rows: usize, late_by: i64) -> Result<Lot, Error> {
    let mut reader = csv::Reader::from_reader(GzDecoder::new(EXTRACT));
    let header = reader.headers()?.clone();
    let column = |name: &str| {
        header.iter().position(|column| column == name).ok_or_else(|| Error::new(format!("the data has no `{name}`")))
    };
    let (arr_delay, carrier, flight) = (column("arr_delay")?, column("carrier")?, column("flight")?);
    let (origin, dest, time_hour) = (column("origin")?, column("dest")?, column("time_hour")?);
    let (mut events, mut mangled, mut late_flights) = (Vec::new(), 0, Late::new());
    for (number, row) in reader.records().take(rows).enumerate() {
        let row = row?;
        let text = |column: usize| row.get(column).unwrap_or_default().to_owned();
        let object: Map<_, _> =
            header.iter().zip(&row).map(|(name, field)| (name.to_owned(), as_json(name, field))).collect();
        events.push(Flight { key: text(dest), body: Value::Object(object).to_string() });
        if number % MANGLED == MANGLED - 1 {
            events.push(Flight { key: text(dest), body: row.iter().collect::<Vec<_>>().join(",") });
            mangled += 1;
        }
        if let Ok(minutes) = text(arr_delay).parse::<i64>()
            && minutes > late_by
        {
            let number = text(flight).parse().map_err(|_| Error::new("a flight without a number"))?;
            let late = (text(carrier), number, text(origin), text(dest), text(time_hour), minutes);
            *late_flights.entry(late).or_default() += 1;
        }
    }
    Ok(Lot { events: Arc::new(events), mangled, late: late_flights })
}

fn as_json(name: &str, field: &str) -> Value {
    match field {
        "NA" => Value::Null,
        text if TEXT.contains(&name) => text.into(),
        number => number.parse::<i64>().map_or_else(|_| number.into(), Value::from),
    }
}

/// The same six figures from an output's body.
pub(crate) fn late_flight(body: &[u8]) -> Option<LateFlight> {
    let flight: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| flight.get(name)?.as_str().map(str::to_owned);
    let number = |name: &str| flight.get(name)?.as_i64();
    Some((
        text("carrier")?,
        number("flight")?,
        text("origin")?,
        text("dest")?,
        text("time_hour")?,
        number("arr_delay")?,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn a_lot_has_every_row_and_one_mangled_in_five_thousand() {
        let lot = lot(10_000, 30).unwrap();
        assert_eq!((lot.events.len(), lot.mangled), (10_002, 2));
        let late: usize = lot.late.values().sum();
        let bodies = lot.events.iter().filter_map(|flight| late_flight(flight.body.as_bytes()));
        assert_eq!(bodies.filter(|flight| flight.5 > 30).count(), late);
    }
}
