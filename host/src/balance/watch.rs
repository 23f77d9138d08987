//! What this host has seen with its own clock: how long each record has stayed the same.
//!
//! The age that a store reports is a difference of two of its own times; no clock of ours is in it. This is the other
//! half: whatever a store or something before it says of time, a record that changes has a living owner.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::lease::Moment;
use crate::model::ETag;

/// ETags, and since when each has been seen.
#[derive(Debug)]
pub(super) struct Watch<K>(HashMap<K, (ETag, Moment)>);

impl<K: Eq + Hash + Clone> Watch<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Takes in everything that is there now. What isn't there any more is forgotten.
    pub(super) fn look<'a>(&mut self, now: Moment, seen: impl Iterator<Item = (K, &'a ETag)>) {
        let mut old = std::mem::take(&mut self.0);
        for (key, etag) in seen {
            let known = old.remove(&key).filter(|(known, _)| known == etag);
            self.0.insert(key, known.unwrap_or_else(|| (etag.clone(), now)));
        }
    }

    /// How long it has been seen to stay the same.
    pub(super) fn unchanged(&self, key: &K, now: Moment) -> Duration {
        self.0.get(key).map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since))
    }

    /// Nothing that lives leaves a record alone for so long: neither by the store's reckoning nor by ours. A store that
    /// reports no age leaves it to us.
    pub(super) fn is_dead(&self, key: &K, age: Option<Duration>, now: Moment, expiry: Duration) -> bool {
        age.is_none_or(|age| age >= expiry) && self.unchanged(key, now) >= expiry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_dead_when_both_clocks_say_so() {
        let s = Duration::from_secs;
        let etag = |n: &str| ETag(n.into());
        let mut watch = Watch::new();
        watch.look(s(1000), [("p", &etag("1"))].into_iter());
        let dead = |watch: &Watch<&str>, age, now| watch.is_dead(&"p", age, now, s(60));
        assert!(!dead(&watch, Some(s(3600)), s(1000)), "just met");
        watch.look(s(1050), [("p", &etag("1"))].into_iter());
        assert!(!dead(&watch, Some(s(3600)), s(1059)));
        assert!(dead(&watch, Some(s(60)), s(1060)));
        assert!(!dead(&watch, Some(s(59)), s(1060)), "the store's clock says it lives");
        assert!(dead(&watch, None, s(1060)), "a store without ages");
        watch.look(s(1061), [("p", &etag("2"))].into_iter());
        assert!(!dead(&watch, Some(s(3600)), s(1120)), "it changed, whatever the store's clock says");
        watch.look(s(1200), [].into_iter());
        watch.look(s(1300), [("p", &etag("2"))].into_iter());
        assert_eq!(watch.unchanged(&"p", s(1300)), s(0), "away in between");
        assert_eq!(watch.unchanged(&"p", s(900)), s(0), "a clock that steps back harms nothing");
    }
}
