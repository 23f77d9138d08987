//! Reading an event.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::{Event, Value};

impl Event {
    /// The body as text.
    pub fn text(&self) -> Result<&str, BodyError> {
        std::str::from_utf8(&self.body).map_err(BodyError::NotText)
    }

    /// The body as JSON. Fields of type `&str` borrow from the body (and then refuse text with escapes: use `Cow` for those).
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, BodyError> {
        serde_json::from_slice(&self.body).map_err(BodyError::NotJson)
    }

    /// An application property. `None` also if the guest didn't [select](crate::Opening::select_fields) it.
    pub fn property(&self, key: &str) -> Option<&Value> {
        self.metadata.as_ref()?.properties.iter().find(|property| property.key == key).map(|property| &property.value)
    }

    /// The body's content type, if the producer gave one and the guest selected it.
    pub fn content_type(&self) -> Option<&str> {
        self.metadata.as_ref()?.content_type.as_deref()
    }

    /// The id that the producer gave it, if it did and the guest selected it.
    pub fn message_id(&self) -> Option<&str> {
        self.metadata.as_ref()?.message_id.as_deref()
    }

    /// The key that chose the partition, if the producer gave one.
    pub fn key(&self) -> Option<&str> {
        self.partition_key.as_deref()
    }

    /// When the service took the event in. (`enqueued_time` is the same in milliseconds since 1970.)
    pub fn enqueued(&self) -> SystemTime {
        let distance = Duration::from_millis(self.enqueued_time.unsigned_abs());
        let time = if self.enqueued_time < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// A body that isn't what the guest takes it for. As a [`Problem`](crate::Problem) it rejects the event.
#[derive(Debug)]
pub enum BodyError {
    /// Not UTF-8.
    NotText(std::str::Utf8Error),
    /// Not JSON, or not JSON of this shape.
    NotJson(serde_json::Error),
    /// An output's body can't be written as JSON, for example a map whose keys aren't text.
    NotWritable(serde_json::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText(error) => write!(f, "the body is not UTF-8 text: {error}"),
            Self::NotJson(error) if error.is_data() => write!(f, "the body is JSON of another shape: {error}"),
            Self::NotJson(error) => write!(f, "the body is not JSON: {error}"),
            Self::NotWritable(error) => write!(f, "the output can't be written as JSON: {error}"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotText(error) => Some(error),
            Self::NotJson(error) | Self::NotWritable(error) => Some(error),
        }
    }
}
