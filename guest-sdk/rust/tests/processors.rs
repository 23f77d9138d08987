//! What a processor's methods become at the contract, through the harness that guests use.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use weir_guest::log::Level;
use weir_guest::testing::{Harness, Line, Measured, Measurement, event, opening};
use weir_guest::{
    Ack, Checkpoint, CloseReason, Event, Failure, Metadata, NoConfig, Opening, Origin, Outcome, Output, Outputs,
    Problem, Processor, Property, Redelivery, Rejection, Value, metrics,
};

/// Does what the body says, after emitting the body.
struct Obedient;

impl Processor for Obedient {
    type Config = NoConfig;

    fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        out.emit(Output::new(event.body.as_slice()));
        match event.text()? {
            "reject" => Err(Problem::reject("as told")),
            "retry" => Err(Problem::retry("not now")),
            "retry in 2 s" => Err(Problem::retry_after(Duration::from_secs(2), "not now")),
            "fatal" => Err(Problem::fatal("broken")),
            "twice" => {
                out.emit(Output::new("own").from_key("window/1").to("aside"));
                out.emit(Output::new("again"));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn obey(bodies: &[&str]) -> Result<weir_guest::testing::Answer, Failure> {
    Harness::<Obedient>::open(()).unwrap().process(bodies.iter().map(|body| event(*body)))
}

fn emitted(outputs: &[Output]) -> Vec<(&str, Option<Origin>)> {
    outputs.iter().map(|output| (std::str::from_utf8(&output.body).unwrap(), output.origin.clone())).collect()
}

#[test]
fn outputs_come_from_the_event_in_hand_unless_they_say_otherwise() {
    let answer = obey(&["a", "twice"]).unwrap();

    assert_eq!(answer.ack, Ack::all());
    let key = Some(Origin::Key("window/1".into()));
    let event = |index| Some(Origin::Event(index));
    assert_eq!(emitted(&answer.outputs), [("a", event(0)), ("twice", event(1)), ("own", key), ("again", event(1))]);
    assert_eq!(answer.outputs[2].target.as_deref(), Some("aside"));
}

#[test]
fn a_rejected_event_emits_nothing_and_the_batch_goes_on() {
    let mut bodies: Vec<Event> = ["a", "reject", "b"].map(event).into();
    bodies.push(event([0xff]));

    let answer = Harness::<Obedient>::open(()).unwrap().process(bodies).unwrap();

    assert_eq!(emitted(&answer.outputs), [("a", Some(Origin::Event(0))), ("b", Some(Origin::Event(2)))]);
    let rejected = &answer.ack.rejected;
    assert_eq!(rejected[0], Rejection { index: 1, reason: "as told".into() });
    assert_eq!(rejected[1].index, 3);
    assert!(rejected[1].reason.starts_with("the body is not UTF-8 text"), "{}", rejected[1].reason);
}

#[test]
fn a_retry_keeps_what_was_done_before_it() {
    let answer = obey(&["a", "reject", "retry", "b"]).unwrap();
    assert_eq!(emitted(&answer.outputs), [("a", Some(Origin::Event(0)))]);
    assert_eq!(answer.ack, Ack::all().reject(1, "as told").redeliver(2, "not now"));

    let answer = obey(&["retry in 2 s"]).unwrap();
    assert_eq!(answer.ack.redeliver, Some(Redelivery { index: 0, after: Some(2_000), reason: "not now".into() }));
    assert!(answer.outputs.is_empty());
}

#[test]
fn a_fatal_problem_fails_the_batch_and_names_the_event() {
    assert_eq!(obey(&["a", "fatal"]), Err(Failure::fatal("event 1: broken")));
}

#[test]
fn nothing_of_a_failed_batch_is_left_for_the_next() {
    let mut harness = Harness::<Obedient>::open(()).unwrap();
    harness.process([event("a"), event("fatal")]).unwrap_err();
    let answer = harness.process([event("b")]).unwrap();
    assert_eq!(emitted(&answer.outputs), [("b", Some(Origin::Event(0)))]);
}

#[test]
fn an_output_takes_over_all_that_the_producer_set() {
    let property = Property { key: "lane".into(), value: Value::Unsigned(3) };
    let metadata = Metadata {
        offset: "77".into(),
        content_type: Some("text/plain".into()),
        message_id: Some("m".into()),
        correlation_id: Some("c".into()),
        properties: vec![property.clone()],
    };
    let event = Event { partition_key: Some("k".into()), metadata: Some(metadata), ..event("body") };
    assert_eq!((event.key(), event.content_type()), (Some("k"), Some("text/plain")));
    assert_eq!(event.property("lane").and_then(Value::as_integer), Some(3));
    assert_eq!(event.property("road"), None);
    let body = event.body.as_ptr();

    let output = Output::from(event);

    assert_eq!(output.body.as_ptr(), body, "moved, not copied");
    let expected = Output {
        message_id: Some("m".into()),
        correlation_id: Some("c".into()),
        ..Output::new("body").key("k").content_type("text/plain").property("lane", 3_u8)
    };
    assert_eq!(output, expected);
}

/// Reads config and batch itself.
#[derive(Debug)]
struct Window {
    config: Config,
    open: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    size: Size,
    #[serde(default)]
    fields: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Size {
    events: usize,
}

impl Processor for Window {
    type Config = Config;

    fn open(config: Config, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&config.fields.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { config, open: 0 })
    }

    fn process(&mut self, events: Vec<Event>, out: &mut Outputs) -> Result<Ack, Failure> {
        weir_guest::debug!("{} events", events.len());
        self.open += events.len();
        let Some(last) = events.last().filter(|_| self.open >= self.config.size.events) else { return Ok(Ack::hold()) };
        weir_guest::info!(last = last.sequence_number, events = self.open; "window of {} closed", self.open);
        out.emit(Output::new(json!({ "events": self.open }).to_string()).from_key("window"));
        self.open = 0;
        // A mistake that a test should find: it says more than it knows.
        Ok(Ack::through(last.sequence_number + i64::from(last.text().is_ok_and(|text| text == "boast"))))
    }

    fn close(self, reason: CloseReason) {
        weir_guest::info!("closed for {reason:?}");
    }
}

fn window(config: serde_json::Value) -> Result<Harness<Window>, Failure> {
    Harness::open(config)
}

#[test]
fn a_batch_level_processor_holds_and_acknowledges() {
    let mut window = window(json!({ "size": { "events": 3 } })).unwrap();

    let held = window.process([event("a"), event("b")]).unwrap();
    assert_eq!((held.ack, held.outputs.len()), (Ack::hold(), 0));

    let closed = window.process([event("c")]).unwrap();
    assert_eq!(closed.ack, Ack::through(2));
    assert_eq!(emitted(&closed.outputs), [(r#"{"events":3}"#, Some(Origin::Key("window".into())))]);
    let line = Line {
        level: Level::Info,
        message: "window of 3 closed".into(),
        fields: vec![("last".into(), "2".into()), ("events".into(), "3".into())],
    };
    assert_eq!(window.logs().last(), Some(&line));
    let farewell = window.close(CloseReason::Shutdown);
    assert_eq!(farewell.last().map(|line| line.message.as_str()), Some("closed for CloseReason::Shutdown"));
}

#[test]
fn the_harness_refuses_what_the_host_refuses() {
    let mut window = window(json!({ "size": { "events": 1 } })).unwrap();
    let Failure::Fatal(why) = window.process([event("boast")]).unwrap_err() else { panic!("not fatal") };
    assert_eq!(why, "the answer breaks the contract: finished through 1, but the last event handed over is 0");
}

#[test]
fn numbering_goes_on_after_the_checkpoint() {
    let checkpoint = Some(Checkpoint { sequence_number: 41, offset: "9000".into() });
    let opening = Opening { checkpoint, ..opening(json!({ "size": { "events": 1 } })) };
    let mut window = Harness::<Window>::open_with(&opening).unwrap();
    assert_eq!(window.process([event("a")]).unwrap().ack, Ack::through(42));
}

#[test]
fn a_config_that_does_not_fit_names_the_key_and_the_reason() {
    let refusal = |config| match window(config) {
        Err(Failure::Fatal(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(json!({})), "the processor's config doesn't fit: missing field `size`");
    assert_eq!(
        refusal(json!({ "size": { "events": "many" } })),
        r#"the processor's config doesn't fit, key `size.events`: invalid type: string "many", expected usize"#
    );
    assert_eq!(
        refusal(json!({ "size": { "events": 1 }, "sise": 2 })),
        "the processor's config doesn't fit, key `sise`: unknown field `sise`, expected `size` or `fields`"
    );
}

#[test]
fn no_config_takes_an_empty_table_only() {
    assert!(Harness::<Obedient>::open(json!({})).is_ok());
    let Failure::Fatal(why) = Harness::<Obedient>::open(json!({ "a": 1 })).err().unwrap() else { panic!("not fatal") };
    assert_eq!(why, "the processor's config doesn't fit, key `a`: unknown field `a`, there are no fields");
}

/// Emits, as JSON text, which metadata it saw.
struct Nosy;

impl Processor for Nosy {
    type Config = Vec<String>;

    fn open(fields: Vec<String>, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&fields.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self)
    }

    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        let seen = event.metadata.map(|metadata| {
            let keys: Vec<String> = metadata.properties.into_iter().map(|property| property.key).collect();
            json!([metadata.offset, metadata.content_type, keys])
        });
        out.emit(Output::json(&seen)?);
        Ok(())
    }
}

#[test]
fn events_carry_the_selected_fields_only() {
    let saw = |fields: &[&str]| {
        let mut event = event("x");
        let metadata = event.metadata.as_mut().unwrap();
        metadata.content_type = Some("text/plain".into());
        metadata.properties = ["a", "b"].map(|key| Property { key: key.into(), value: true.into() }).into();
        let answer = Harness::<Nosy>::open(fields).unwrap().process([event]).unwrap();
        serde_json::from_slice::<serde_json::Value>(&answer.outputs[0].body).unwrap()
    };
    assert_eq!(saw(&[]), json!(null));
    assert_eq!(saw(&["message-id", "property:c"]), json!(null), "what says nothing is left out, as the host does");
    assert_eq!(saw(&["offset"]), json!(["0", null, []]));
    assert_eq!(saw(&["content-type", "properties"]), json!(["", "text/plain", ["a", "b"]]));
    assert_eq!(saw(&["property:b"]), json!(["", null, ["b"]]));
}

#[test]
fn a_field_that_the_host_does_not_know_stops_the_start() {
    let refused = Harness::<Nosy>::open(["offset", "colour"]).err().unwrap();
    assert_eq!(refused, Failure::fatal("this host doesn't know the event fields colour"));
}

/// Implements neither method.
struct Idle;

impl Processor for Idle {
    type Config = NoConfig;

    fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
        Ok(Self)
    }
}

#[test]
fn a_processor_without_a_method_says_so() {
    let refused = Harness::<Idle>::open(()).unwrap().process([event("x")]).unwrap_err();
    assert_eq!(refused, Failure::fatal("event 0: this processor implements neither `event` nor `process`"));
}

#[test]
fn times_before_and_after_1970() {
    let at = |enqueued_time| Event { enqueued_time, ..event("") }.enqueued();
    assert_eq!(at(1_500), std::time::UNIX_EPOCH + Duration::from_millis(1_500));
    assert_eq!(at(-1), std::time::UNIX_EPOCH - Duration::from_millis(1));
}

/// Measures each event, and fails where the body says so.
struct Measuring;

impl Processor for Measuring {
    type Config = NoConfig;

    fn open(_: NoConfig, _: &Opening) -> Result<Self, Failure> {
        metrics::gauge_set("opened", 1.0, &[]);
        Ok(Self)
    }

    fn process(&mut self, events: Vec<Event>, _: &mut Outputs) -> Result<Ack, Failure> {
        metrics::counter_add("events", events.len() as u64, &[("kind", "all")]);
        metrics::histogram_record("batch", 0.5, &[]);
        if events[0].text().is_ok_and(|text| text == "retry") { Err(Failure::retry("as told")) } else { Ok(Ack::all()) }
    }
}

#[test]
fn what_a_call_measures_counts_once_its_answer_stands() {
    let mut measuring = Harness::<Measuring>::open(json!({})).unwrap();
    measuring.process([event("retry")]).unwrap_err();
    measuring.process([event("a"), event("b")]).unwrap();
    let measured = |name: &str, labels: &[(&str, &str)], value| Measurement {
        name: name.into(),
        labels: labels.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        value,
    };
    assert_eq!(
        measuring.metrics(),
        [
            measured("opened", &[], Measured::Gauge(1.0)),
            measured("events", &[("kind", "all")], Measured::Counter(2)),
            measured("batch", &[], Measured::Histogram(0.5)),
        ]
    );
}
