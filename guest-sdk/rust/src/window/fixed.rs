//! Tumbling and hopping windows. In the state: an entry for each open window and key, in the order of the ends.

use std::collections::BTreeMap;

use super::open::{Emit, Keeper, Open};
use super::{Aggregate, time};
use crate::Failure;
use crate::state::{self, Error, raw};

/// Entries that are read at once to close windows: few are due mostly.
const PAGE: u32 = 32;

pub(super) struct Fixed<A> {
    prefix: String,
    size: i64,
    hop: i64,
    offset: i64,
    /// What this batch has changed, by end and key.
    touched: BTreeMap<i64, BTreeMap<String, Open<A>>>,
    /// The first end in the state; not known yet before it is asked for.
    stored_first: Option<Option<i64>>,
}

impl<A: Aggregate> Fixed<A> {
    pub(super) fn new(name: &str, size: i64, hop: i64, offset: i64) -> Self {
        let prefix = format!("window/{name}/open/");
        Self { prefix, size, hop, offset, touched: BTreeMap::new(), stored_first: None }
    }

    fn key(&self, end: i64, key: &str) -> String {
        [&self.prefix, time::digits(end).as_str(), "/", key].concat()
    }

    /// Takes an event into one window.
    fn add_to(&mut self, start: i64, key: &str, input: &A::Input, emit: &mut Emit<'_, A>) -> Result<(), Failure> {
        let end = start + self.size;
        if let Some(open) = self.touched.get_mut(&end).and_then(|keys| keys.get_mut(key)) {
            open.add(input);
            return emit.taken(key, open);
        }
        let mut open = state::get(&self.key(end, key))?.unwrap_or_else(|| Open::new(start, end));
        open.add(input);
        emit.taken(key, &mut open)?;
        self.touched.entry(end).or_default().insert(key.to_owned(), open);
        Ok(())
    }

    /// Takes a window out of the state to change it, unless this batch has changed it before.
    fn touch(&mut self, place: &Place<'_>, bytes: &[u8], wanted: impl Fn(&Open<A>) -> bool) -> Result<(), Error> {
        let keys = self.touched.entry(place.end).or_default();
        if !keys.contains_key(place.key) {
            let open: Open<A> = state::read(place.state_key, bytes)?;
            if wanted(&open) {
                keys.insert(place.key.to_owned(), open);
            }
        }
        Ok(())
    }

    fn stored_first(&mut self) -> Option<i64> {
        *self.stored_first.get_or_insert_with(|| time::first_under(&self.prefix))
    }
}

/// Where a window stands in the state.
struct Place<'a> {
    state_key: &'a str,
    end: i64,
    key: &'a str,
}

fn place<'a>(prefix: &str, state_key: &'a str) -> Result<Place<'a>, Failure> {
    let place = state_key.get(prefix.len()..).and_then(time::split);
    let (end, key) = place.ok_or_else(|| {
        Failure::Fatal(format!(
            "the state's key `{state_key}` is none of a window: what begins with `window/` is the kit's"
        ))
    })?;
    Ok(Place { state_key, end, key })
}

impl<A: Aggregate> Keeper<A> for Fixed<A> {
    fn add(
        &mut self,
        closed: i64,
        time: i64,
        key: &str,
        input: &A::Input,
        emit: &mut Emit<'_, A>,
    ) -> Result<bool, Failure> {
        let mut start = time - (time - self.offset).rem_euclid(self.hop);
        let mut taken = false;
        // From the newest window that covers the time back to the oldest.
        while start + self.size > time && start + self.size > closed {
            self.add_to(start, key, input, emit)?;
            taken = true;
            start -= self.hop;
        }
        Ok(taken)
    }

    fn first_end(&mut self) -> Option<i64> {
        let touched = self.touched.iter().find(|(_, keys)| !keys.is_empty()).map(|(end, _)| *end);
        [touched, self.stored_first()].into_iter().flatten().min()
    }

    fn close(&mut self, limit: i64, emit: &mut Emit<'_, A>) -> Result<Option<i64>, Failure> {
        let prefix = self.prefix.clone();
        let mut first = None;
        for (state_key, bytes) in raw::scan_by(&prefix, PAGE) {
            let place = place(&prefix, &state_key)?;
            if place.end > limit {
                first = Some(place.end);
                break;
            }
            self.touch(&place, &bytes, |_| true)?;
            raw::delete(&state_key);
        }
        self.stored_first = Some(first);
        let mut last = None;
        while let Some(due) = self.touched.first_entry().filter(|due| *due.key() <= limit) {
            let (end, keys) = due.remove_entry();
            for (key, open) in &keys {
                emit.last(key, open)?;
                last = Some(end);
            }
        }
        Ok(last)
    }

    fn show(&mut self, emit: &mut Emit<'_, A>) -> Result<(), Failure> {
        let prefix = self.prefix.clone();
        for (state_key, bytes) in raw::scan(&prefix) {
            self.touch(&place(&prefix, &state_key)?, &bytes, |open| open.news() > 0)?;
        }
        for keys in self.touched.values_mut() {
            for (key, open) in keys.iter_mut().filter(|(_, open)| open.news() > 0) {
                emit.early(key, open)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for (end, keys) in std::mem::take(&mut self.touched) {
            for (key, open) in &keys {
                state::set(&self.key(end, key), open)?;
            }
        }
        Ok(())
    }
}
