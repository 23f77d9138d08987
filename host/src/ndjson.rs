//! Events as newline-delimited JSON: the one shape that `weir send`, `weir dev`, `weir tail` and the file and stdout sinks share.
//!
//! What one command writes another reads, and nothing of a body is lost on the way: an object or array is kept byte for byte
//! as JSON, other UTF-8 text is a string, and everything else is base64. One line looks like this (only a body is required):
//!
//! ```json
//! {"body":{"delay":42},"key":"AA","properties":{"unit":"min"},"content-type":"application/json"}
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `body` | an object or array: the body is that JSON text; a string: the body is that text |
//! | `body-base64` | a body that is neither, instead of `body` |
//! | `key` | partition key |
//! | `properties` | application properties; see [`write_event`] for what JSON can't say |
//! | `content-type`, `message-id`, `correlation-id` | as in the event |
//! | `partition`, `sequence-number`, `offset`, `enqueued-time` | where a received event stood; a producer ignores all but `partition` |
//! | `id`, `output` | an output's deterministic id, and the name it was emitted to where several come together; a producer ignores both |

use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::{Event, Output, PartitionId, Property, Timestamp, Value};

/// Writes a received event and the line's end.
///
/// Properties are JSON null, booleans, numbers and strings. What JSON can't say is an object with one tag: `binary-base64`,
/// `timestamp` (milliseconds since the Unix epoch), `uuid`, `double` (`"NaN"`, `"inf"`, `"-inf"`), `amqp-base64`.
pub fn write_event(to: &mut impl Write, partition: &PartitionId, event: &Event) -> io::Result<()> {
    let line = Line {
        output: None,
        id: None,
        partition: Some(partition.as_str()),
        sequence_number: Some(event.sequence_number),
        offset: Some(&event.offset),
        enqueued_time: rfc3339(event.enqueued_time),
        key: event.partition_key.as_deref(),
        content_type: event.content_type.as_deref(),
        message_id: event.message_id.as_deref(),
        correlation_id: event.correlation_id.as_deref(),
        properties: &event.properties,
        body: &event.body,
    };
    line.write(to)
}

/// Writes an output and the line's end.
pub fn write_output(to: &mut impl Write, output: &Output) -> io::Result<()> {
    output_line(None, output).write(to)
}

/// The same over several lines, for a person: for a file that holds one output. A body that is an object or array keeps its own shape.
pub fn write_pretty_output(to: &mut impl Write, output: &Output) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, &output_line(None, output))?;
    to.write_all(b"\n")
}

/// The same, with the name of the output that it was emitted to: for a place where several come together.
pub fn write_named_output(to: &mut impl Write, name: &str, output: &Output) -> io::Result<()> {
    output_line(Some(name), output).write(to)
}

fn output_line<'a>(name: Option<&'a str>, output: &'a Output) -> Line<'a> {
    Line {
        output: name,
        id: Some(&output.id),
        partition: None,
        sequence_number: None,
        offset: None,
        enqueued_time: None,
        key: output.partition_key.as_deref(),
        content_type: output.content_type.as_deref(),
        message_id: output.message_id.as_deref(),
        correlation_id: output.correlation_id.as_deref(),
        properties: &output.properties,
        body: &output.body,
    }
}

/// An event to send, as one line says it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Record {
    /// The partition that the line names, by a person's choice or because it was received from there.
    pub partition: Option<String>,
    /// Partition key.
    pub key: Option<ByteString>,
    /// Content type of the body.
    pub content_type: Option<ByteString>,
    /// Message id.
    pub message_id: Option<ByteString>,
    /// Correlation id.
    pub correlation_id: Option<ByteString>,
    /// Application properties in the order of the line.
    pub properties: Vec<Property>,
    /// The body.
    pub body: Bytes,
}

/// Reads one line. The error says what is wrong with it; the caller knows the file and the line number.
pub fn parse(line: &[u8]) -> Result<Record, RecordError> {
    let raw: Raw<'_> = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(_) if !begins_object(line) => return Err(RecordError("it is not a JSON object like {\"body\": …}".into())),
        Err(error) => return Err(RecordError(no_text(line).unwrap_or_else(|| sentence(&error)))),
    };
    let body = match (raw.body, raw.body_base64) {
        (Some(_), Some(_)) => return Err(RecordError("both \"body\" and \"body-base64\" are there: keep one".into())),
        (None, None) => return Err(RecordError("it has no body: add \"body\" or \"body-base64\"".into())),
        (Some(body), None) => match serde_json::from_str::<String>(body.get()) {
            Ok(text) => Bytes::from(text),
            Err(_) => Bytes::copy_from_slice(body.get().as_bytes()),
        },
        (None, Some(text)) => {
            let body = BASE64.decode(text).map_err(|e| RecordError(format!("\"body-base64\" is not base64: {e}")))?;
            Bytes::from(body)
        }
    };
    Ok(Record {
        partition: raw.partition,
        key: raw.key.map(Into::into),
        content_type: raw.content_type.map(Into::into),
        message_id: raw.message_id.map(Into::into),
        correlation_id: raw.correlation_id.map(Into::into),
        properties: raw.properties.0,
        body,
    })
}

/// Why a line is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(String);

/// Whether a line could be an event at all, and not text of another kind.
pub(crate) fn begins_object(line: &[u8]) -> bool {
    line.trim_ascii_start().first() == Some(&b'{')
}

/// Names the key whose value should be text, which serde doesn't.
fn no_text(line: &[u8]) -> Option<String> {
    let keys = ["body-base64", "key", "content-type", "message-id", "correlation-id", "partition"];
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let (key, value) =
        keys.iter().find_map(|key| Some((key, object.get(*key)?)).filter(|(_, v)| !v.is_null() && !v.is_string()))?;
    Some(format!("{key:?} is not a text but {value}: put it in quotation marks"))
}

/// serde's message without its "at line 1", which would be wrong in a file of many lines.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line 1 column ") {
        Some(end) => format!("{} (column {})", &text[..end], error.column()),
        None => text,
    }
}

fn rfc3339(milliseconds: Timestamp) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}

/// What a line holds, borrowed from the event.
struct Line<'a> {
    output: Option<&'a str>,
    id: Option<&'a str>,
    partition: Option<&'a str>,
    sequence_number: Option<i64>,
    offset: Option<&'a str>,
    enqueued_time: Option<String>,
    key: Option<&'a str>,
    content_type: Option<&'a str>,
    message_id: Option<&'a str>,
    correlation_id: Option<&'a str>,
    properties: &'a [Property],
    body: &'a [u8],
}

impl Line<'_> {
    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *to, self)?;
        to.write_all(b"\n")
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn entry<M: SerializeMap, V: Serialize>(map: &mut M, key: &str, value: Option<V>) -> Result<(), M::Error> {
            value.map_or(Ok(()), |value| map.serialize_entry(key, &value))
        }
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "output", self.output)?;
        entry(&mut map, "id", self.id)?;
        entry(&mut map, "partition", self.partition)?;
        entry(&mut map, "sequence-number", self.sequence_number)?;
        entry(&mut map, "offset", self.offset)?;
        entry(&mut map, "enqueued-time", self.enqueued_time.as_deref())?;
        entry(&mut map, "key", self.key)?;
        entry(&mut map, "content-type", self.content_type)?;
        entry(&mut map, "message-id", self.message_id)?;
        entry(&mut map, "correlation-id", self.correlation_id)?;
        entry(&mut map, "properties", (!self.properties.is_empty()).then_some(Properties(self.properties)))?;
        match (json_on_one_line(self.body), std::str::from_utf8(self.body)) {
            (Some(json), _) => map.serialize_entry("body", json)?,
            (None, Ok(text)) => map.serialize_entry("body", text)?,
            (None, Err(_)) => map.serialize_entry("body-base64", &BASE64.encode(self.body))?,
        }
        map.end()
    }
}

/// The body as it may stand in a line: an object or array without line breaks. Anything else (a string above all) would come
/// back as other bytes.
fn json_on_one_line(body: &[u8]) -> Option<&RawValue> {
    let bracketed = matches!((body.first()?, body.last()?), (b'{', b'}') | (b'[', b']'));
    if !bracketed || body.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return None;
    }
    serde_json::from_slice(body).ok()
}

struct Properties<'a>(&'a [Property]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for property in self.0 {
            map.serialize_key(&*property.key)?;
            match &property.value {
                Value::Null => map.serialize_value(&())?,
                Value::Boolean(value) => map.serialize_value(value)?,
                Value::Integer(value) => map.serialize_value(value)?,
                Value::Unsigned(value) => map.serialize_value(value)?,
                Value::Double(value) if value.is_finite() => map.serialize_value(value)?,
                Value::Double(value) => map.serialize_value(&Tagged("double", value.to_string()))?,
                Value::Text(value) => map.serialize_value(&**value)?,
                Value::Binary(value) => map.serialize_value(&Tagged("binary-base64", BASE64.encode(value)))?,
                Value::Timestamp(value) => map.serialize_value(&Tagged("timestamp", value))?,
                Value::Uuid(value) => {
                    map.serialize_value(&Tagged("uuid", uuid::Uuid::from_bytes(*value).to_string()))?;
                }
                Value::Other(value) => map.serialize_value(&Tagged("amqp-base64", BASE64.encode(value)))?,
            }
        }
        map.end()
    }
}

struct Tagged<T>(&'static str, T);

impl<T: Serialize> Serialize for Tagged<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    body_base64: Option<String>,
    key: Option<String>,
    content_type: Option<String>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    #[serde(default)]
    properties: OrderedProperties,
    partition: Option<String>,
    #[serde(rename = "sequence-number")]
    _sequence_number: Option<IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<IgnoredAny>,
    #[serde(rename = "enqueued-time")]
    _enqueued_time: Option<IgnoredAny>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "output")]
    _output: Option<IgnoredAny>,
}

#[derive(Default)]
struct OrderedProperties(Vec<Property>);

impl<'de> Deserialize<'de> for OrderedProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = OrderedProperties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of application properties")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut properties = Vec::new();
                while let Some((key, json)) = map.next_entry::<String, Box<RawValue>>()? {
                    let value =
                        property_value(json.get()).map_err(|e| A::Error::custom(format!("property {key:?}: {e}")))?;
                    properties.push(Property { key: key.into(), value });
                }
                Ok(OrderedProperties(properties))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn property_value(json: &str) -> Result<Value, String> {
    use serde_json::Value as Json;
    const TAGS: &str = "a property is null, a boolean, a number, a string, or an object with one of \
                        \"binary-base64\", \"timestamp\", \"uuid\", \"double\", \"amqp-base64\"";
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        // From the text: serde_json's own reading of a double may be off by its last bit.
        return match (json.parse(), json.parse(), json.parse()) {
            (Ok(value), _, _) => Ok(Value::Integer(value)),
            (_, Ok(value), _) => Ok(Value::Unsigned(value)),
            (_, _, Ok(value)) => Ok(Value::Double(value)),
            _ => Err(format!("{json} is not a number")),
        };
    }
    Ok(match serde_json::from_str(json).map_err(|e| e.to_string())? {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Boolean(value),
        Json::String(value) => Value::Text(value.into()),
        Json::Object(map) if map.len() == 1 => {
            let (tag, json) = map.into_iter().next().ok_or(TAGS)?;
            let text = json.as_str().unwrap_or_default();
            match tag.as_str() {
                "binary-base64" => Value::Binary(BASE64.decode(text).map_err(|e| e.to_string())?.into()),
                "amqp-base64" => Value::Other(BASE64.decode(text).map_err(|e| e.to_string())?.into()),
                "uuid" => Value::Uuid(uuid::Uuid::parse_str(text).map_err(|e| e.to_string())?.into_bytes()),
                "double" => Value::Double(text.parse().map_err(|_| format!("{json} is not a number"))?),
                "timestamp" => Value::Timestamp(json.as_i64().ok_or("a timestamp is whole milliseconds")?),
                _ => return Err(TAGS.into()),
            }
        }
        Json::Number(_) | Json::Array(_) | Json::Object(_) => return Err(TAGS.into()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end at the first surprise")]

    use proptest::prelude::*;

    use super::*;

    fn output(body: &'static str) -> Output {
        Output {
            id: "flights/0/7/0".into(),
            partition_key: Some("AA".into()),
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: vec![],
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn line_of(output: &Output) -> String {
        let mut line = Vec::new();
        write_output(&mut line, output).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_json_body_stands_in_the_line_as_it_is() {
        let line = line_of(&output(r#"{"b": 1.10, "a": [1]}"#));
        assert_eq!(line, "{\"id\":\"flights/0/7/0\",\"key\":\"AA\",\"body\":{\"b\": 1.10, \"a\": [1]}}\n");
        assert_eq!(parse(line.as_bytes()).unwrap().body, r#"{"b": 1.10, "a": [1]}"#);
    }

    #[test]
    fn text_is_a_string_even_when_it_is_json_of_another_kind() {
        for body in ["UA,1545,EWR", "\"quoted\"", "42", "null", "", "{\n}", "{not json}"] {
            let line = line_of(&output(body));
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(parse(line.as_bytes()).unwrap().body, body);
        }
    }

    #[test]
    fn an_output_says_its_name_where_several_come_together() {
        let mut line = Vec::new();
        write_named_output(&mut line, "late", &output("x")).unwrap();
        assert!(line.starts_with(b"{\"output\":\"late\",\"id\":"));
        assert_eq!(parse(&line).unwrap().body, "x");
    }

    #[test]
    fn an_event_says_where_it_stood() {
        let event = Event {
            sequence_number: 12,
            offset: "4096".into(),
            enqueued_time: 1_767_225_600_123,
            partition_key: None,
            content_type: Some("text/plain".into()),
            message_id: Some("m".into()),
            correlation_id: None,
            properties: vec![],
            body: Bytes::from_static(&[0xff]),
        };
        let mut line = Vec::new();
        write_event(&mut line, &"3".into(), &event).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"partition\":\"3\",\"sequence-number\":12,\"offset\":\"4096\",\
             \"enqueued-time\":\"2026-01-01T00:00:00.123Z\",\"content-type\":\"text/plain\",\"message-id\":\"m\",\
             \"body-base64\":\"/w==\"}\n"
        );
    }

    #[test]
    fn what_a_producer_ignores_may_be_anything() {
        let line = r#"{"body":"x","id":1,"output":null,"sequence-number":"7","offset":{},"enqueued-time":0}"#;
        assert_eq!(parse(line.as_bytes()).unwrap(), Record { body: "x".into(), ..Record::default() });
    }

    #[test]
    fn wrong_lines_have_their_sentence() {
        for (line, sentence) in [
            ("{}", "it has no body: add \"body\" or \"body-base64\""),
            (r#"{"body":"a","body-base64":"YQ=="}"#, "both \"body\" and \"body-base64\" are there: keep one"),
            (r#"{"body":"a","kye":"b"}"#, "unknown field `kye`, expected one of `body`, `body-base64`, `key`"),
            (r#"{"body-base64":"!"}"#, "\"body-base64\" is not base64: Invalid symbol 33, offset 0."),
            (r#"{"body":1,"properties":{"a":[1]}}"#, "property \"a\": a property is null, a boolean"),
            (r#"{"body":1,"properties":{"a":{"uuid":"x"}}}"#, "property \"a\": invalid character: found `x` at 0"),
            ("UA,1545", "it is not a JSON object like {\"body\": …}"),
            ("[1]", "it is not a JSON object"),
            ("{\"body\":1", "EOF while parsing an object (column 9)"),
            (r#"{"body":"x","key":1}"#, "\"key\" is not a text but 1: put it in quotation marks"),
            (r#"{"body":"#, "EOF while parsing"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{line}: {error}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Integer),
            (i64::MAX as u64 + 1..).prop_map(Value::Unsigned),
            prop_oneof![any::<f64>(), Just(f64::INFINITY), Just(1.0)]
                .prop_filter("NaN is not equal to itself", |v| !v.is_nan())
                .prop_map(Value::Double),
            ".*".prop_map(|text| Value::Text(text.into())),
            any::<Vec<u8>>().prop_map(|bytes| Value::Binary(bytes.into())),
            any::<i64>().prop_map(Value::Timestamp),
            any::<[u8; 16]>().prop_map(Value::Uuid),
            any::<Vec<u8>>().prop_map(|bytes| Value::Other(bytes.into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            key in proptest::option::of(".*"),
            properties in proptest::collection::vec((".*", any_value()), 0..4),
            body in prop_oneof![any::<Vec<u8>>(), ".*".prop_map(String::into_bytes), "\\{\"a\": ?[0-9]{1,3}\\}".prop_map(String::into_bytes)],
        ) {
            let properties: Vec<_> =
                properties.into_iter().map(|(key, value)| Property { key: key.into(), value }).collect();
            let output = Output {
                partition_key: key.clone().map(Into::into),
                properties: properties.clone(),
                body: body.clone().into(),
                ..output("")
            };
            let record = parse(line_of(&output).as_bytes()).unwrap();
            let expected =
                Record { key: key.map(Into::into), properties, body: body.into(), ..Record::default() };
            prop_assert_eq!(record, expected);
        }
    }
}
