//! An open window, whatever its kind, and what the kinds have in common.

use serde::{Deserialize, Serialize};

use super::{Aggregate, Pane, Window, Windows};
use crate::{Failure, Outputs};

/// An open window of a key, as it stands in the state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open<A> {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) events: u64,
    /// How many early results it has given, and how many events the last of them held.
    #[serde(default, skip_serializing_if = "is_zero")]
    early: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    shown: u64,
    value: A,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

impl<A: Aggregate> Open<A> {
    pub(super) fn new(start: i64, end: i64) -> Self {
        Self { start, end, events: 0, early: 0, shown: 0, value: A::default() }
    }

    pub(super) fn add(&mut self, input: &A::Input) {
        self.events += 1;
        self.value.add(input);
    }

    /// Becomes one with another session. What either has shown is shown, and early results go on being counted upwards.
    pub(super) fn merge(&mut self, other: Self) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.events += other.events;
        self.early = self.early.saturating_add(other.early);
        self.shown += other.shown;
        self.value.merge(other.value);
    }

    /// Events since the last early result.
    pub(super) fn news(&self) -> u64 {
        self.events.saturating_sub(self.shown)
    }
}

/// Where results go.
pub(super) struct Emit<'a, A> {
    pub(super) windows: &'a Windows<A>,
    pub(super) out: &'a mut Outputs,
}

impl<A: Aggregate> Emit<'_, A> {
    /// The window has closed.
    pub(super) fn last(&mut self, key: &str, open: &Open<A>) -> Result<(), Failure> {
        self.emit(key, open, Pane::Final)
    }

    /// The window has taken an event: an early result, if it has taken enough.
    pub(super) fn taken(&mut self, key: &str, open: &mut Open<A>) -> Result<(), Failure> {
        match self.windows.settings.early_every_events {
            Some(every) if open.news() >= every => self.early(key, open),
            _ => Ok(()),
        }
    }

    /// An early result.
    pub(super) fn early(&mut self, key: &str, open: &mut Open<A>) -> Result<(), Failure> {
        open.early = open.early.saturating_add(1);
        open.shown = open.events;
        self.emit(key, open, Pane::Early(open.early))
    }

    fn emit(&mut self, key: &str, open: &Open<A>, pane: Pane) -> Result<(), Failure> {
        let window = Window { start: open.start, end: open.end, key, events: open.events, pane };
        self.windows.emit(&window, &open.value, self.out)
    }
}

/// The open windows of one kind. Reads from the state what it needs, once, and writes at [`flush`](Self::flush) what has changed.
pub(super) trait Keeper<A: Aggregate> {
    /// Takes an event into its windows, except those that end at `closed` or before; false if there is no other.
    fn add(
        &mut self,
        closed: i64,
        time: i64,
        key: &str,
        input: &A::Input,
        emit: &mut Emit<'_, A>,
    ) -> Result<bool, Failure>;

    /// No open window ends before this; `None`: there is none open.
    fn first_end(&mut self) -> Option<i64>;

    /// Closes the windows that end at `limit` or before, in the order of ends, then keys. Returns the last end.
    fn close(&mut self, limit: i64, emit: &mut Emit<'_, A>) -> Result<Option<i64>, Failure>;

    /// Early results of all that have changed since their last.
    fn show(&mut self, emit: &mut Emit<'_, A>) -> Result<(), Failure>;

    /// Writes what has changed.
    fn flush(&mut self) -> Result<(), Failure>;
}
