//! Making outputs, and the list that collects them during a call.

use serde::Serialize;

use crate::event::BodyError;
use crate::{Event, Origin, Output, Property, Value};

impl Output {
    /// An output with this body and nothing else.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            origin: None,
            target: None,
            partition_key: None,
            content_type: None,
            message_id: None,
            correlation_id: None,
            properties: Vec::new(),
            body: body.into(),
        }
    }

    /// An output whose body is this value as JSON, with the content type set.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, BodyError> {
        let body = serde_json::to_vec(value).map_err(BodyError::NotWritable)?;
        Ok(Self::new(body).content_type("application/json"))
    }

    /// Sets the partition key: outputs with equal keys stay in order in one partition.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.partition_key = Some(key.into());
        self
    }

    /// Sets the content type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Adds an application property.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.push(Property { key: key.into(), value: value.into() });
        self
    }

    /// Sends it to this one of the deployment's outputs instead of `default`.
    #[must_use]
    pub fn to(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Says which event of the batch in hand it comes from; its id is made of that. [`Processor::event`] does this itself.
    ///
    /// [`Processor::event`]: crate::Processor::event
    #[must_use]
    pub fn from_event(mut self, index: u32) -> Self {
        self.origin = Some(Origin::Event(index));
        self
    }

    /// Makes its id of a key of the guest's own, such as a window's bounds: `hub/partition/key/…`.
    #[must_use]
    pub fn from_key(mut self, key: impl Into<String>) -> Self {
        self.origin = Some(Origin::Key(key.into()));
        self
    }
}

/// Everything that the producer set, moved: key, content type, ids, properties, body.
impl From<Event> for Output {
    #[inline]
    fn from(event: Event) -> Self {
        let (content_type, message_id, correlation_id, properties) = match event.metadata {
            Some(metadata) => {
                (metadata.content_type, metadata.message_id, metadata.correlation_id, metadata.properties)
            }
            None => (None, None, None, Vec::new()),
        };
        // One literal rather than an update of another output: whole records are moved by calls in WebAssembly.
        Self {
            origin: None,
            target: None,
            partition_key: event.partition_key,
            content_type,
            message_id,
            correlation_id,
            properties,
            body: event.body,
        }
    }
}

/// What a call emits, in order. Handed to the host in one piece when the call ends well, dropped when it doesn't.
#[derive(Debug, Default)]
pub struct Outputs {
    list: Vec<Output>,
    current: Option<u32>,
}

impl Outputs {
    /// Adds an output. Inside [`Processor::event`](crate::Processor::event) its origin is the event in hand, unless it has one.
    #[inline]
    pub fn emit(&mut self, mut output: Output) {
        if output.origin.is_none() {
            output.origin = self.current.map(Origin::Event);
        }
        self.list.push(output);
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none so far.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Makes `index` the origin of what follows, until [`leave`](Self::leave).
    pub(crate) fn enter(&mut self, index: u32) {
        self.current = Some(index);
    }

    pub(crate) fn leave(&mut self) {
        self.current = None;
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    /// What was collected. Whoever drains it keeps the memory of the list for the next call.
    pub(crate) fn list(&mut self) -> &mut Vec<Output> {
        &mut self.list
    }
}
