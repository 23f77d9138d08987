//! Passes every event on as it came: key, content type, ids, properties and body.

use weir_guest::{Event, Failure, NoConfig, Opening, Outcome, Outputs, Processor};

struct Identity;

impl Processor for Identity {
    type Config = NoConfig;

    fn open(_: NoConfig, opening: &Opening) -> Result<Self, Failure> {
        opening.select_fields(&["content-type", "message-id", "correlation-id", "properties"])?; // not the offset
        Ok(Self)
    }

    fn event(&mut self, event: Event, out: &mut Outputs) -> Outcome {
        out.emit(event.into()); // moved, not copied
        Ok(())
    }
}

weir_guest::export!(Identity);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use weir_guest::testing::{Harness, event};
    use weir_guest::{Ack, Metadata, Origin, Output, Property, Value};

    use super::*;

    #[test]
    fn every_event_goes_on_as_it_came() {
        let property = Property { key: "lane".into(), value: Value::Integer(3) };
        let metadata = Metadata {
            offset: String::new(),
            content_type: Some("text/plain".into()),
            message_id: Some("m-1".into()),
            correlation_id: None,
            properties: vec![property.clone()],
        };
        let first = Event { partition_key: Some("key".into()), metadata: Some(metadata), ..event("one") };

        let answer = Harness::<Identity>::open(()).unwrap().process([first, event([0xff, 0])]).unwrap();

        assert_eq!(answer.ack, Ack::all());
        let one = Output {
            message_id: Some("m-1".into()),
            properties: vec![property],
            origin: Some(Origin::Event(0)),
            ..Output::new("one").key("key").content_type("text/plain")
        };
        assert_eq!(answer.outputs, [one, Output::new([0xff, 0]).from_event(1)]);
    }
}
