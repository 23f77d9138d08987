//! Who may read a partition in a consumer group: owner levels (the AMQP "epoch") and the limit on readers without one.

use std::collections::HashMap;

use thiserror::Error;

/// Readers without an owner level that a partition takes in a consumer group, as the service does.
pub(crate) const MAX_PLAIN_READERS: usize = 5;

/// The receivers of one partition, by consumer group (in lower case).
#[derive(Debug, Default)]
pub struct Readers {
    groups: HashMap<String, Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    connection: u64,
    link: u64,
    level: Option<i64>,
}

/// A receiver that has to go because another one took the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The connection it is on.
    pub connection: u64,
    /// Its link.
    pub link: u64,
}

/// Why a receiver can't have the partition.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReaderRefused {
    /// Somebody with a higher owner level reads it, or with any level while the new one has none.
    #[error("a receiver with owner level {owner} holds the partition in this consumer group; this one has {}",
        level.map_or("none".into(), |level| format!("level {level}")))]
    Owned {
        /// The holder's level.
        owner: i64,
        /// The level of the one refused.
        level: Option<i64>,
    },
    /// Too many readers without an owner level.
    #[error("at most {MAX_PLAIN_READERS} receivers without an owner level may read a partition in one consumer group")]
    TooMany,
}

impl Readers {
    /// Lets a receiver in, and says who has to go for it.
    ///
    /// # Errors
    /// The partition is held by somebody of a higher level, or is full.
    pub fn join(
        &mut self,
        group: &str,
        connection: u64,
        link: u64,
        level: Option<i64>,
    ) -> Result<Vec<Eviction>, ReaderRefused> {
        let readers = self.groups.entry(group.to_ascii_lowercase()).or_default();
        let highest = readers.iter().filter_map(|reader| reader.level).max();
        if let Some(owner) = highest
            && level.is_none_or(|level| level < owner)
        {
            return Err(ReaderRefused::Owned { owner, level });
        }
        if level.is_none() && readers.len() >= MAX_PLAIN_READERS {
            return Err(ReaderRefused::TooMany);
        }
        let evicted = match level {
            Some(_) => std::mem::take(readers),
            None => Vec::new(),
        };
        readers.push(Reader { connection, link, level });
        Ok(evicted.iter().map(|reader| Eviction { connection: reader.connection, link: reader.link }).collect())
    }

    /// A receiver has gone.
    pub fn leave(&mut self, connection: u64, link: u64) {
        self.groups.retain(|_, readers| {
            readers.retain(|reader| (reader.connection, reader.link) != (connection, link));
            !readers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_equal_or_higher_level_takes_over_and_a_lower_one_is_refused() {
        let mut readers = Readers::default();
        assert_eq!(readers.join("g", 1, 1, Some(1)).unwrap(), []);
        assert_eq!(readers.join("G", 1, 2, Some(1)).unwrap(), [Eviction { connection: 1, link: 1 }]);
        assert_eq!(readers.join("g", 2, 1, Some(5)).unwrap(), [Eviction { connection: 1, link: 2 }]);
        let refused = |level| ReaderRefused::Owned { owner: 5, level };
        assert_eq!(readers.join("g", 3, 1, Some(4)).unwrap_err(), refused(Some(4)));
        assert_eq!(readers.join("g", 3, 1, None).unwrap_err(), refused(None));
        assert_eq!(readers.join("other", 3, 1, None).unwrap(), []);
        readers.leave(2, 1);
        assert_eq!(readers.join("g", 3, 2, Some(0)).unwrap(), []);
    }

    #[test]
    fn readers_without_a_level_share_up_to_the_limit_and_yield_to_an_owner() {
        let mut readers = Readers::default();
        for link in 0..MAX_PLAIN_READERS as u64 {
            assert_eq!(readers.join("g", 1, link, None).unwrap(), []);
        }
        assert_eq!(readers.join("g", 1, 9, None).unwrap_err(), ReaderRefused::TooMany);
        assert_eq!(readers.join("g", 1, 10, Some(0)).unwrap().len(), MAX_PLAIN_READERS);
    }
}
