//! Where a receiver begins, and the filter expression in which clients say it.

use thiserror::Error;

/// A start position, as the clients' selector filter states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPosition {
    /// The oldest event that is kept.
    Earliest,
    /// Only what arrives from now on.
    Latest,
    /// From an offset.
    Offset {
        /// The opaque offset, here always a number.
        offset: i64,
        /// Whether the event at that offset is wanted too.
        inclusive: bool,
    },
    /// From a sequence number.
    Sequence {
        /// The sequence number.
        sequence: i64,
        /// Whether that event is wanted too.
        inclusive: bool,
    },
    /// From the time at which the partition took the event in.
    EnqueuedTime {
        /// Milliseconds since 1970.
        ms: i64,
        /// Whether events of exactly that time are wanted too.
        inclusive: bool,
    },
}

/// The selector is not one that Event Hubs understands.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the filter {filter:?} is not understood: {why}; expected e.g. amqp.annotation.x-opt-offset > '-1'")]
pub struct InvalidFilter {
    filter: String,
    why: &'static str,
}

impl StartPosition {
    /// Parses `amqp.annotation.<name> > '<value>'` (or `>=`).
    ///
    /// # Errors
    /// Another annotation, operator or a value that is not a number.
    pub fn parse(filter: &str) -> Result<Self, InvalidFilter> {
        let invalid = |why| InvalidFilter { filter: filter.chars().take(200).collect(), why };
        let rest = filter.trim().strip_prefix("amqp.annotation.").ok_or_else(|| invalid("no amqp.annotation"))?;
        let at = rest.find(['>', ' ']).ok_or_else(|| invalid("no comparison"))?;
        let (name, rest) = rest.split_at(at);
        let rest = rest.trim_start().strip_prefix('>').ok_or_else(|| invalid("only > and >= are supported"))?;
        let (inclusive, rest) = rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
        let value = rest.trim();
        let value = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value);
        let number = || value.parse::<i64>().map_err(|_| invalid("the value is not a number"));
        match name {
            "x-opt-offset" if value == "@latest" => Ok(Self::Latest),
            "x-opt-offset" if value == "-1" => Ok(Self::Earliest),
            "x-opt-offset" => Ok(Self::Offset { offset: number()?, inclusive }),
            "x-opt-sequence-number" => Ok(Self::Sequence { sequence: number()?, inclusive }),
            "x-opt-enqueued-time" => Ok(Self::EnqueuedTime { ms: number()?, inclusive }),
            _ => Err(invalid("the annotation is not one to start from")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_form_the_clients_write() {
        let parse = |filter| StartPosition::parse(filter).unwrap();
        assert_eq!(parse("amqp.annotation.x-opt-offset > '-1'"), StartPosition::Earliest);
        assert_eq!(parse("amqp.annotation.x-opt-offset > '@latest'"), StartPosition::Latest);
        let offset = StartPosition::Offset { offset: 7, inclusive: true };
        assert_eq!(parse("amqp.annotation.x-opt-offset >= '7'"), offset);
        assert_eq!(parse("amqp.annotation.x-opt-offset>='7'"), offset);
        let sequence = StartPosition::Sequence { sequence: 12, inclusive: false };
        assert_eq!(parse("amqp.annotation.x-opt-sequence-number > '12'"), sequence);
        assert_eq!(parse("amqp.annotation.x-opt-sequence-number > 12"), sequence);
        let time = StartPosition::EnqueuedTime { ms: 1, inclusive: false };
        assert_eq!(parse("amqp.annotation.x-opt-enqueued-time > '1'"), time);
    }

    #[test]
    fn anything_else_is_refused_with_its_text() {
        for filter in [
            "",
            "x",
            "amqp.annotation.x-opt-offset",
            "amqp.annotation.x-opt-offset < '1'",
            "amqp.annotation.x-opt-offset > 'a'",
            "amqp.annotation.colour > '1'",
        ] {
            let error = StartPosition::parse(filter).unwrap_err();
            assert!(error.to_string().contains(&format!("{filter:?}")), "{error}");
        }
    }
}
