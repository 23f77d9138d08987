//! Visits: what a user looks at without a long pause.
//!
//! A body is `{"user": "ada", "at": "2026-05-04T10:00:00Z", "page": "/"}`, and more, which is passed over. A visit ends when its user has
//! looked at nothing for `gap-minutes`; then it comes out, with its pages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weir_guest::window::{Aggregate, Item, Pane, Spec, Windows};
use weir_guest::{Ack, Event, Failure, Opening, Output, Outputs, Problem, Processor};

/// The deployment's `config` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    gap_minutes: u64,
    /// How far events are out of order.
    out_of_orderness_seconds: u64,
    /// Says how a visit is going each time that it has so many views more.
    report_every_views: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self { gap_minutes: 30, out_of_orderness_seconds: 60, report_every_views: None }
    }
}

#[derive(Debug, Deserialize)]
struct View<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    at: Cow<'a, str>,
    page: String,
}

/// How often each page was seen: the same in any order.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Pages(BTreeMap<String, u64>);

impl Aggregate for Pages {
    type Input = String;

    fn add(&mut self, page: &String) {
        match self.0.get_mut(page) {
            Some(views) => *views += 1,
            None => drop(self.0.insert(page.clone(), 1)),
        }
    }

    fn merge(&mut self, other: Self) {
        for (page, views) in other.0 {
            *self.0.entry(page).or_default() += views;
        }
    }
}

#[derive(Debug, Serialize)]
struct Visit<'a> {
    user: &'a str,
    /// Milliseconds since 1970, and how long it took from the first view to the last.
    start: i64,
    seconds: i64,
    views: u64,
    pages: &'a BTreeMap<String, u64>,
    over: bool,
}

/// The processor.
#[derive(Debug)]
pub struct Sessions(Windows<Pages>);

impl Processor for Sessions {
    type Config = Config;

    fn open(config: Config, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&[])?; // the body is all it reads
        let gap = Duration::from_secs(config.gap_minutes.saturating_mul(60));
        let mut spec = Spec::session("visit", gap)
            .out_of_orderness(Duration::from_secs(config.out_of_orderness_seconds))
            // Nobody looks any more, so nobody's next view will tell that the last visits are over.
            .idle_timeout(gap + Duration::from_secs(config.out_of_orderness_seconds))
            // One producer's wrong clock must not end all visits.
            .max_ahead(Duration::from_secs(3_600));
        if let Some(views) = config.report_every_views {
            spec = spec.early_every_events(views);
        }
        let gap = gap.as_secs().cast_signed();
        let visits = spec.results(move |window, pages: &Pages| {
            let visit = Visit {
                user: window.key,
                start: window.start,
                seconds: (window.end - window.start) / 1_000 - gap,
                views: window.events,
                pages: &pages.0,
                over: window.pane == Pane::Final,
            };
            Ok(Some(Output::json(&visit)?.key(window.key)))
        })?;
        Ok(Self(visits))
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        self.0.process(events, out, |event| {
            let view: View<'_> = event.json()?;
            let at = OffsetDateTime::parse(&view.at, &Rfc3339)
                .map_err(|why| Problem::reject(format!("`at` is {:?}, and no time: {why}", view.at)))?;
            let millis = at.unix_timestamp() * 1_000 + i64::from(at.millisecond());
            Ok(Some(Item::new(millis, view.user, view.page)))
        })
    }

    fn tick(&mut self, now: i64, out: &mut Outputs) -> Result<Ack, Failure> {
        self.0.tick(now, out)
    }
}

weir_guest::export!(Sessions);
