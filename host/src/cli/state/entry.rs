//! A state as lines of JSON: for each partition a head, then a line for each key. Text stays text; other bytes are base64.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// What the lines are, for whoever reads them later.
pub(super) const VERSION: u32 = 1;

/// One line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(super) enum Line {
    /// A partition begins.
    Head {
        /// The version of this form.
        weir_state: u32,
        /// Where the partition is: namespace, hub, group.
        of: String,
        partition: String,
        /// The event that the state is as of.
        sequence_number: i64,
        /// How many keys follow: a file that was cut off is told by it.
        keys: usize,
        /// When the processor wants to be woken, in milliseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wake_at: Option<Timestamp>,
    },
    Text {
        key: String,
        value: String,
    },
    Bytes {
        key: String,
        value_base64: String,
    },
}

impl Line {
    pub(super) fn entry(key: &str, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(value) => Self::Text { key: key.to_owned(), value: value.to_owned() },
            Err(_) => Self::Bytes { key: key.to_owned(), value_base64: BASE64_STANDARD.encode(value) },
        }
    }
}

/// The bytes of a value that is base64. The error is a clause for a person.
pub(super) fn bytes(value_base64: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(value_base64).map_err(|error| format!("its value is not base64 ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_are() {
        let shown = |line: &Line| serde_json::to_string(line).unwrap_or_default();
        let head = Line::Head {
            weir_state: 1,
            of: "n/hub/g".into(),
            partition: "3".into(),
            sequence_number: 7,
            keys: 2,
            wake_at: None,
        };
        assert_eq!(shown(&head), r#"{"weir-state":1,"of":"n/hub/g","partition":"3","sequence-number":7,"keys":2}"#);
        assert_eq!(shown(&Line::entry("a", b"{\"n\":1}")), r#"{"key":"a","value":"{\"n\":1}"}"#);
        assert_eq!(shown(&Line::entry("a", &[0xff, 0])), r#"{"key":"a","value-base64":"/wA="}"#);
        for line in [head, Line::entry("a", b"x"), Line::entry("b", &[0xff])] {
            assert_eq!(serde_json::from_str::<Line>(&shown(&line)).ok(), Some(line));
        }
        assert_eq!(bytes("/wA="), Ok(vec![0xff, 0]));
        assert!(serde_json::from_str::<Line>(r#"{"key":"a","vlaue":"x"}"#).is_err());
    }
}
