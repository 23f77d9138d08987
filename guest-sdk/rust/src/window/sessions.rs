//! Session windows. In the state: an entry for each key that has open sessions, and one in a calendar that says when to look at it.
//!
//! A session's end moves with each event. Its entry in the calendar doesn't: it says when to look, and whoever looks finds out whether
//! the session has ended, or when to look again. So an event costs no change of the calendar unless it begins a session.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::open::{Emit, Keeper, Open};
use super::{Aggregate, time};
use crate::Failure;
use crate::state::{self, Error, raw};

/// Entries of the calendar that are read at once: few are due mostly.
const PAGE: u32 = 32;

pub(super) struct Sessions<A> {
    sessions: String,
    calendar: String,
    gap: i64,
    /// Keys that this batch has touched.
    touched: BTreeMap<String, Touched<A>>,
    /// When to look at them, as the calendar of this batch.
    due: BTreeSet<(i64, String)>,
    /// The first entry of the stored calendar; not known yet before it is asked for.
    stored_first: Option<Option<i64>>,
}

/// The open sessions of a key, as they stand in the state.
#[derive(Serialize, Deserialize)]
struct Stored<A> {
    /// Its place in the calendar, which is at the end of no session later than that of the first.
    due: i64,
    /// By time. They don't overlap.
    open: Vec<Open<A>>,
}

struct Touched<A> {
    open: Vec<Open<A>>,
    /// Its place in the stored calendar.
    filed: Option<i64>,
    /// Its place in the calendar of this batch.
    due: Option<i64>,
    changed: bool,
}

impl<A: Aggregate> Touched<A> {
    fn read(state_key: &str, bytes: Option<&[u8]>) -> Result<Self, Error> {
        Ok(match bytes.map(|bytes| state::read::<Stored<A>>(state_key, bytes)).transpose()? {
            Some(Stored { due, open }) => Self { open, filed: Some(due), due: None, changed: false },
            None => Self { open: Vec::new(), filed: None, due: None, changed: false },
        })
    }

    /// Takes an event at this time, which may join several sessions; `None`: into none, for it would end at `closed` or before.
    fn add(&mut self, closed: i64, time: i64, gap: i64, input: &A::Input) -> Option<&mut Open<A>> {
        let from = self.open.partition_point(|open| open.end <= time);
        let to = self.open.partition_point(|open| open.start < time + gap);
        if from == to && time + gap <= closed {
            return None;
        }
        let mut joined = self.open.drain(from..to);
        let mut open = joined.next().unwrap_or_else(|| Open::new(time, time + gap));
        joined.for_each(|other| open.merge(other));
        open.start = open.start.min(time);
        open.end = open.end.max(time + gap);
        open.add(input);
        self.changed = true;
        self.open.insert(from, open);
        self.open.get_mut(from)
    }

    fn first_end(&self) -> Option<i64> {
        self.open.first().map(|open| open.end)
    }
}

impl<A: Aggregate> Sessions<A> {
    pub(super) fn new(name: &str, gap: i64) -> Self {
        Self {
            sessions: format!("window/{name}/session/"),
            calendar: format!("window/{name}/due/"),
            gap,
            touched: BTreeMap::new(),
            due: BTreeSet::new(),
            stored_first: None,
        }
    }

    fn calendar_key(&self, at: i64, key: &str) -> String {
        [&self.calendar, time::digits(at).as_str(), "/", key].concat()
    }

    /// Sees to it that the key is looked at when its first session ends.
    fn schedule(due: &mut BTreeSet<(i64, String)>, key: &str, touched: &mut Touched<A>) {
        let Some(end) = touched.first_end() else { return };
        if touched.due.is_none_or(|at| end < at) {
            if let Some(at) = touched.due.replace(end) {
                due.remove(&(at, key.to_owned()));
            }
            due.insert((end, key.to_owned()));
        }
    }

    /// Reads a key's sessions, unless this batch has touched it before.
    fn touch(&mut self, key: &str) -> Result<(), Error> {
        if !self.touched.contains_key(key) {
            let state_key = [&self.sessions, key].concat();
            let mut touched = Touched::read(&state_key, raw::get(&state_key).as_deref())?;
            Self::schedule(&mut self.due, key, &mut touched);
            self.touched.insert(key.to_owned(), touched);
        }
        Ok(())
    }

    fn stored_first(&mut self) -> Option<i64> {
        *self.stored_first.get_or_insert_with(|| time::first_under(&self.calendar))
    }
}

impl<A: Aggregate> Keeper<A> for Sessions<A> {
    fn add(
        &mut self,
        closed: i64,
        time: i64,
        key: &str,
        input: &A::Input,
        emit: &mut Emit<'_, A>,
    ) -> Result<bool, Failure> {
        self.touch(key)?;
        let Some(touched) = self.touched.get_mut(key) else { return Ok(false) };
        let Some(open) = touched.add(closed, time, self.gap, input) else { return Ok(false) };
        emit.taken(key, open)?;
        Self::schedule(&mut self.due, key, touched);
        Ok(true)
    }

    fn first_end(&mut self) -> Option<i64> {
        let touched = self.due.first().map(|(at, _)| *at);
        [touched, self.stored_first()].into_iter().flatten().min()
    }

    fn close(&mut self, limit: i64, emit: &mut Emit<'_, A>) -> Result<Option<i64>, Failure> {
        let calendar = self.calendar.clone();
        let mut first = None;
        for (entry, _) in raw::scan_by(&calendar, PAGE) {
            let Some((at, key)) = entry.get(calendar.len()..).and_then(time::split) else {
                return Err(Failure::Fatal(format!(
                    "the state's key `{entry}` is none of a window: what begins with `window/` is the kit's"
                )));
            };
            if at > limit {
                first = Some(at);
                break;
            }
            self.touch(key)?;
            if let Some(touched) = self.touched.get_mut(key) {
                touched.filed = None;
                touched.changed = true;
            }
            raw::delete(&entry);
        }
        self.stored_first = Some(first);

        let mut ended: Vec<(String, Open<A>)> = Vec::new();
        while let Some((_, key)) = self.due.first().filter(|(at, _)| *at <= limit).cloned() {
            self.due.pop_first();
            let Some(touched) = self.touched.get_mut(&key) else { continue };
            touched.due = None;
            let over = touched.open.partition_point(|open| open.end <= limit);
            ended.extend(touched.open.drain(..over).map(|open| (key.clone(), open)));
            Self::schedule(&mut self.due, &key, touched);
        }
        ended.sort_by(|(a_key, a), (b_key, b)| (a.end, a_key).cmp(&(b.end, b_key)));
        for (key, open) in &ended {
            emit.last(key, open)?;
        }
        Ok(ended.last().map(|(_, open)| open.end))
    }

    fn show(&mut self, emit: &mut Emit<'_, A>) -> Result<(), Failure> {
        for (state_key, bytes) in raw::scan(&self.sessions) {
            let key = state_key.get(self.sessions.len()..).unwrap_or_default();
            if self.touched.contains_key(key) {
                continue;
            }
            let mut touched = Touched::<A>::read(&state_key, Some(&bytes))?;
            if touched.open.iter().any(|open| open.news() > 0) {
                Self::schedule(&mut self.due, key, &mut touched);
                self.touched.insert(key.to_owned(), touched);
            }
        }
        for (key, touched) in &mut self.touched {
            for open in touched.open.iter_mut().filter(|open| open.news() > 0) {
                emit.early(key, open)?;
                touched.changed = true;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for (key, touched) in std::mem::take(&mut self.touched).into_iter().filter(|(_, touched)| touched.changed) {
            let state_key = [&self.sessions, key.as_str()].concat();
            let due = match (touched.first_end(), touched.filed) {
                (Some(end), Some(filed)) => Some(end.min(filed)),
                (end, _) => end,
            };
            if touched.filed != due {
                touched.filed.iter().for_each(|filed| raw::delete(&self.calendar_key(*filed, &key)));
                if let Some(due) = due {
                    raw::set(&self.calendar_key(due, &key), Vec::new())?;
                }
            }
            match due {
                Some(due) => state::set(&state_key, &Stored { due, open: touched.open })?,
                None => raw::delete(&state_key),
            }
        }
        self.due.clear();
        Ok(())
    }
}
