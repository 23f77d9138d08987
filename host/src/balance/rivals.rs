//! How the official SDKs decide what to claim, for fleets in which they and this project's hosts share a group.
//!
//! Each rule sees who owns what, knows no host that owns nothing, and names the partitions that it claims or steals.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

/// An SDK and its strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    DotNet,
    Java,
    GoBalanced,
    GoGreedy,
    RustBalanced,
    RustGreedy,
    PythonBalanced,
    PythonGreedy,
    JsBalanced,
    JsGreedy,
}

impl Rule {
    pub(super) const ALL: [Self; 10] = [
        Self::DotNet,
        Self::Java,
        Self::GoBalanced,
        Self::GoGreedy,
        Self::RustBalanced,
        Self::RustGreedy,
        Self::PythonBalanced,
        Self::PythonGreedy,
        Self::JsBalanced,
        Self::JsGreedy,
    ];

    /// Whether one cycle repeats the pass until nothing more is claimed.
    pub(super) fn repeats(self) -> bool {
        matches!(self, Self::DotNet | Self::Java)
    }

    /// Whether it takes an ownership that was released for that of a host, as long as it is fresh. Rust does: to it, the empty name is
    /// a name.
    pub(super) fn takes_nobody_for_a_host(self) -> bool {
        matches!(self, Self::RustBalanced | Self::RustGreedy)
    }

    /// One pass of host `me`.
    pub(super) fn pass(self, owners: &[Option<usize>], me: usize, rng: &mut SmallRng) -> Vec<usize> {
        let group = Group::of(owners, me);
        match self {
            Self::DotNet => group.dot_net(rng),
            Self::Java => group.java(rng),
            Self::GoBalanced | Self::RustBalanced => group.go(false, rng),
            Self::GoGreedy | Self::RustGreedy => group.go(true, rng),
            Self::PythonBalanced => group.python(false, rng),
            Self::PythonGreedy => group.python(true, rng),
            Self::JsBalanced => group.js(false, rng),
            Self::JsGreedy => group.js(true, rng),
        }
    }
}

struct Group<'a> {
    owners: &'a [Option<usize>],
    me: usize,
    held: BTreeMap<usize, usize>,
    free: Vec<usize>,
    mine: usize,
    even: usize,
    extras: usize,
}

impl<'a> Group<'a> {
    fn of(owners: &'a [Option<usize>], me: usize) -> Self {
        let mut held = BTreeMap::from([(me, 0)]);
        for owner in owners.iter().flatten() {
            *held.entry(*owner).or_default() += 1;
        }
        let free = (0..owners.len()).filter(|i| owners[*i].is_none()).collect();
        let (even, extras) = (owners.len() / held.len(), owners.len() % held.len());
        Self { owners, me, mine: held[&me], held, free, even, extras }
    }

    /// Partitions of others whose number of partitions fits.
    fn of_others(&self, fits: impl Fn(usize) -> bool) -> Vec<usize> {
        let fits = |owner: usize| owner != self.me && fits(self.held[&owner]);
        (0..self.owners.len()).filter(|i| self.owners[*i].is_some_and(fits)).collect()
    }

    fn one(from: &[usize], rng: &mut SmallRng) -> Vec<usize> {
        from.choose(rng).copied().into_iter().collect()
    }

    fn some(from: &[usize], count: usize, rng: &mut SmallRng) -> Vec<usize> {
        from.choose_multiple(rng, count).copied().collect()
    }

    fn dot_net(&self, rng: &mut SmallRng) -> Vec<usize> {
        let nobody_below = self.held.values().all(|held| *held >= self.even);
        // At the floor it goes on only while everybody has reached it.
        if self.mine > self.even || (self.mine == self.even && !nobody_below) {
            return Vec::new();
        }
        if !self.free.is_empty() {
            return Self::one(&self.free, rng);
        }
        let far_above = self.of_others(|held| held > self.even + 1);
        if !far_above.is_empty() {
            return Self::one(&far_above, rng);
        }
        if self.mine < self.even {
            return Self::one(&self.of_others(|held| held == self.even + 1), rng);
        }
        Vec::new()
    }

    fn java(&self, rng: &mut SmallRng) -> Vec<usize> {
        let in_range = self.held.values().all(|held| (self.even..=self.even + 1).contains(held));
        let above = self.held.values().filter(|held| **held == self.even + 1).count();
        let least = self.held.values().min().copied().unwrap_or_default();
        if (in_range && above == self.extras) || !(self.mine < self.even || self.mine == least) {
            return Vec::new();
        }
        match self.free.first() {
            Some(free) => vec![*free],
            None => {
                let most = self.held.values().max().copied().unwrap_or_default();
                Self::one(&self.of_others(|held| held == most && held > self.mine), rng)
            }
        }
    }

    fn go(&self, greedy: bool, rng: &mut SmallRng) -> Vec<usize> {
        let with_extra = self.extras > 0 && self.mine >= self.even;
        let most = self.even + usize::from(with_extra);
        let above = self.of_others(|held| held > most);
        if self.mine >= most || (with_extra && self.free.is_empty() && above.is_empty()) {
            return Vec::new();
        }
        if greedy {
            let mut picked = Self::some(&self.free, most - self.mine, rng);
            picked.extend(Self::some(&above, most - self.mine - picked.len(), rng));
            return picked;
        }
        Self::one(if self.free.is_empty() { &above } else { &self.free }, rng)
    }

    fn python(&self, greedy: bool, rng: &mut SmallRng) -> Vec<usize> {
        let most = self.owners.len().div_ceil(self.held.len());
        if self.mine >= most {
            return Vec::new();
        }
        let count = if greedy { most - self.mine } else { 1 };
        if !self.free.is_empty() {
            return Self::some(&self.free, count, rng);
        }
        if self.mine < self.even {
            let top = self.held.iter().max_by_key(|(_, held)| **held).map(|(owner, _)| *owner);
            let of_top: Vec<usize> = (0..self.owners.len()).filter(|i| self.owners[*i] == top).collect();
            return Self::one(&of_top, rng);
        }
        Vec::new()
    }

    fn js(&self, greedy: bool, rng: &mut SmallRng) -> Vec<usize> {
        let picked = if self.free.len() == self.owners.len() { self.free.clone() } else { self.js_lacks(rng) };
        if greedy { picked } else { Self::one(&picked, rng) }
    }

    fn js_lacks(&self, rng: &mut SmallRng) -> Vec<usize> {
        let count = |fits: &dyn Fn(usize) -> bool| self.held.values().filter(|held| fits(**held)).count();
        let (even, one_more) = (count(&|h| h == self.even), count(&|h| h == self.even + 1));
        let too_many = count(&|h| h > self.even + 1);
        if one_more == self.extras && even + one_more == self.held.len() {
            return Vec::new();
        }
        let need = self.even + usize::from(self.extras > 0 && one_more + too_many < self.extras);
        let mut lack = need.saturating_sub(self.mine);
        let mut picked = Self::some(&self.free, lack, rng);
        lack -= picked.len();
        let above = |owner: &&usize| **owner != self.me && self.held[*owner] > self.even;
        let mut victims: Vec<usize> = self.held.keys().filter(above).copied().collect();
        victims.sort_by_key(|owner| std::cmp::Reverse(self.held[owner]));
        for (rank, victim) in victims.into_iter().enumerate() {
            let keeps = self.even + usize::from(rank < self.extras);
            let mut parts: Vec<usize> = (0..self.owners.len()).filter(|i| self.owners[*i] == Some(victim)).collect();
            parts.shuffle(rng);
            let spare = parts.len().saturating_sub(keeps).min(lack);
            lack -= spare;
            picked.extend(parts.into_iter().take(spare));
        }
        picked
    }
}
