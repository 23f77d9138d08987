//! A processor whose results say exactly which events they are of.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_guest::testing::{Answer, event};
use weir_guest::window::{Aggregate, Item, Pane, Spec, Windows};
use weir_guest::{Ack, Event, Failure, Opening, Origin, Output, Outputs, Problem, Processor};

/// Milliseconds throughout.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) out_of_orderness: u64,
    pub(crate) lateness: u64,
    pub(crate) early_every: Option<u64>,
    pub(crate) early_events: Option<u64>,
    pub(crate) idle: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Kind {
    Fixed { size: u64, hop: u64, offset: u64 },
    Session { gap: u64 },
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Input {
    pub(crate) id: u32,
    pub(crate) time: i64,
    pub(crate) key: String,
    /// What the processor shall do in place of taking it.
    #[serde(default)]
    pub(crate) fails: Option<Fails>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) enum Fails {
    Retry,
    Fatal,
    Reject,
}

impl Input {
    pub(crate) fn event(&self) -> Event {
        event(serde_json::to_vec(self).unwrap())
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Ids(BTreeSet<u32>);

impl Aggregate for Ids {
    type Input = u32;

    fn add(&mut self, id: &u32) {
        assert!(self.0.insert(*id), "event {id} is taken twice");
    }

    fn merge(&mut self, other: Self) {
        other.0.iter().for_each(|id| self.add(id));
    }
}

/// A result, or a late event.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    Window { start: i64, end: i64, key: String, early: u32, ids: Vec<u32> },
    Late(u32),
}

#[derive(Debug)]
pub(crate) struct Probe(Windows<Ids>);

impl Processor for Probe {
    type Config = Shape;

    fn open(shape: Shape, _: &Opening) -> Result<Self, Failure> {
        let ms = Duration::from_millis;
        let spec = match shape.kind {
            Kind::Fixed { size, hop, offset } => Spec::hopping("w", ms(size), ms(hop)).offset(ms(offset)),
            Kind::Session { gap } => Spec::session("w", ms(gap)),
        };
        let mut spec =
            spec.out_of_orderness(ms(shape.out_of_orderness)).allowed_lateness(ms(shape.lateness)).late_to("late");
        if let Some(every) = shape.early_every {
            spec = spec.early_every(ms(every));
        }
        if let Some(events) = shape.early_events {
            spec = spec.early_every_events(events);
        }
        if let Some(idle) = shape.idle {
            spec = spec.idle_timeout(ms(idle));
        }
        Ok(Self(spec.results(|window, ids: &Ids| {
            assert_eq!(window.events, ids.0.len() as u64);
            let early = match window.pane {
                Pane::Early(n) => n,
                Pane::Final => 0,
            };
            let (start, end, key) = (window.start, window.end, window.key.to_owned());
            Ok(Some(Output::json(&Seen::Window { start, end, key, early, ids: ids.0.iter().copied().collect() })?))
        })?))
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        self.0.process(events, out, |event| {
            let input: Input = event.json()?;
            match input.fails {
                None => Ok(Some(Item::new(input.time, input.key, input.id))),
                Some(Fails::Retry) => Err(Problem::retry("as told")),
                Some(Fails::Fatal) => Err(Problem::fatal("as told")),
                Some(Fails::Reject) => Err(Problem::reject("as told")),
            }
        })
    }

    fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        self.0.tick(now, out)
    }
}

/// What an answer emitted, with the ids that a consumer would see.
pub(crate) fn seen(answer: &Answer, numbers: &[u32]) -> Vec<(String, Seen)> {
    let outputs = answer.outputs.iter();
    outputs
        .map(|output| match (&output.origin, output.target.as_deref()) {
            (Some(Origin::Key(key)), None) => (key.clone(), serde_json::from_slice(&output.body).unwrap()),
            (Some(Origin::Event(index)), Some("late")) => {
                let input: Input = serde_json::from_slice(&output.body).unwrap();
                assert_eq!(numbers[*index as usize], input.id, "a late event keeps its own origin");
                (format!("event {}", input.id), Seen::Late(input.id))
            }
            other => panic!("{other:?}"),
        })
        .collect()
}
