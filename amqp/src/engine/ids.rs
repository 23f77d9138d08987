//! Ids with a generation, and the tables behind them.

/// A link of a connection. Stays unique over detach and reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(Key);

/// A session of a connection. Stays unique over end and reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Key);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

pub(crate) trait Id: Copy {
    fn from_key(key: Key) -> Self;
    fn key(self) -> Key;
}

impl Id for LinkId {
    fn from_key(key: Key) -> Self {
        Self(key)
    }
    fn key(self) -> Key {
        self.0
    }
}

impl Id for SessionId {
    fn from_key(key: Key) -> Self {
        Self(key)
    }
    fn key(self) -> Key {
        self.0
    }
}

/// Values under ids; a slot is reused with the next generation.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert<I: Id>(&mut self, value: T) -> I {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.0 = slot.0.wrapping_add(1);
            slot.1 = Some(value);
            return I::from_key(Key { index, generation: slot.0 });
        }
        // Channels and handles bound the number of values far below 2^32.
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push((0, Some(value)));
        I::from_key(Key { index, generation: 0 })
    }

    #[inline]
    pub(crate) fn get<I: Id>(&self, id: I) -> Option<&T> {
        let Key { index, generation } = id.key();
        self.slots.get(index as usize).filter(|slot| slot.0 == generation)?.1.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut<I: Id>(&mut self, id: I) -> Option<&mut T> {
        let Key { index, generation } = id.key();
        self.slots.get_mut(index as usize).filter(|slot| slot.0 == generation)?.1.as_mut()
    }

    pub(crate) fn remove<I: Id>(&mut self, id: I) -> Option<T> {
        let Key { index, generation } = id.key();
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.0 == generation)?;
        let value = slot.1.take();
        if value.is_some() {
            self.free.push(index);
        }
        value
    }
}

/// The peer's numbers (channels, handles) for our ids. Sorted, so that memory follows the number of entries, not the numbers a peer
/// picks; a few entries are the normal case.
#[derive(Debug)]
pub(crate) struct Index<I>(Vec<(u32, I)>);

impl<I: Copy + PartialEq> Index<I> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<I> {
        self.0.binary_search_by_key(&number, |entry| entry.0).ok().map(|at| self.0[at].1)
    }

    /// Adds an entry, or says that the number is taken.
    pub(crate) fn insert(&mut self, number: u32, id: I) -> bool {
        match self.0.binary_search_by_key(&number, |entry| entry.0) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, (number, id));
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if let Ok(at) = self.0.binary_search_by_key(&number, |entry| entry.0) {
            self.0.remove(at);
        }
    }

    pub(crate) fn ids(&self) -> Vec<I> {
        self.0.iter().map(|entry| entry.1).collect()
    }
}

/// Our own numbers (channels, handles): the lowest free one is taken.
#[derive(Debug)]
pub(crate) struct Numbers<I>(Vec<Option<I>>);

impl<I: Copy + PartialEq> Numbers<I> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn get(&self, number: u32) -> Option<I> {
        self.0.get(number as usize).copied().flatten()
    }

    /// Takes the lowest free number up to `max`.
    pub(crate) fn allocate(&mut self, max: u32, id: I) -> Option<u32> {
        let at = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        let number = u32::try_from(at).ok().filter(|number| *number <= max)?;
        if at == self.0.len() {
            self.0.push(Some(id));
        } else {
            self.0[at] = Some(id);
        }
        Some(number)
    }

    pub(crate) fn release(&mut self, number: u32) {
        if let Some(slot) = self.0.get_mut(number as usize) {
            *slot = None;
        }
        while self.0.last() == Some(&None) {
            self.0.pop();
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = I> + '_ {
        self.0.iter().copied().flatten()
    }
}
