//! An event hub: its partitions, its consumer groups, and which partition an event without one goes to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use super::{Partition, partition_of_key};

/// Which consumer groups a hub has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// Any name is one, from its first use on.
    #[default]
    Any,
    /// `$default` and these; others are not found.
    Listed(Vec<String>),
}

impl Groups {
    /// Whether there is such a group. Case does not matter.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Any => !name.is_empty(),
            Self::Listed(names) => {
                name.eq_ignore_ascii_case("$default") || names.iter().any(|known| known.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// An event hub of the namespace.
#[derive(Debug)]
pub struct Hub {
    /// Its name as it was given; lookups ignore case.
    pub name: Arc<str>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// Its consumer groups.
    pub groups: Groups,
    partitions: RwLock<Vec<Arc<Partition>>>,
    turn: AtomicU32,
}

impl Hub {
    /// A hub of these partitions; their ids are their places.
    #[must_use]
    pub fn new(name: Arc<str>, created_ms: i64, groups: Groups, partitions: Vec<Arc<Partition>>) -> Self {
        Self { name, created_ms, groups, partitions: RwLock::new(partitions), turn: AtomicU32::new(0) }
    }

    /// All partitions, by id.
    #[must_use]
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.read(<[_]>::to_vec)
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        self.read(|all| u32::try_from(all.len()).unwrap_or(u32::MAX))
    }

    /// The partition with this name: a plain number, without sign or leading zeros.
    #[must_use]
    pub fn partition(&self, name: &str) -> Option<Arc<Partition>> {
        let id: u32 = name.parse().ok().filter(|id: &u32| id.to_string() == name)?;
        self.read(|all| all.get(id as usize).cloned())
    }

    /// The partition for an event: by the hash of its key, or the next one in turn.
    #[must_use]
    pub fn route(&self, key: Option<&str>) -> Option<Arc<Partition>> {
        self.read(|all| {
            let count = u32::try_from(all.len()).ok().filter(|&count| count > 0)?;
            let id = match key {
                Some(key) => partition_of_key(key, count),
                None => self.turn.fetch_add(1, Ordering::Relaxed) % count,
            };
            all.get(id as usize).cloned()
        })
    }

    /// Adds a partition behind the others. The caller serialises calls.
    pub(crate) fn add(&self, partition: Arc<Partition>) {
        self.partitions.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(partition);
    }

    fn read<T>(&self, look: impl FnOnce(&[Arc<Partition>]) -> T) -> T {
        look(&self.partitions.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
