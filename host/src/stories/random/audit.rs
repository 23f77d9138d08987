//! A store that holds every checkpoint against what the oracle knows.

use super::*;

impl Oracle {
    /// What must be true of the state that a checkpoint carries.
    fn check_state(&self, partition: &str, checkpoint: &Checkpoint) {
        let at = checkpoint.position.sequence_number;
        let state = PartitionState::load(STATE, checkpoint.position.clone(), checkpoint.state.clone());
        self.know(|known| {
            if !known.stateful {
                assert!(checkpoint.state.is_empty());
                return;
            }
            let state = match state {
                Ok(state) => state,
                Err(why) => return known.violations.push(format!("{partition}: the checkpoint {at}: {why}")),
            };
            let mut found = BTreeMap::new();
            for (key, value) in state.scan("", None, usize::MAX) {
                found.insert(key.parse::<i64>().unwrap_or(i64::MAX), value.first().copied());
            }
            let once = |n: i64| known.left_out.contains(&(partition.to_owned(), n)) || found.get(&n) == Some(&Some(1));
            let wrong: Vec<_> = (0..=at).filter(|n| !once(*n)).collect();
            let beyond: Vec<_> = found.keys().filter(|n| **n > at).collect();
            let alone = |n: &i64| known.alone.contains(&(partition.to_owned(), *n)) && !found.contains_key(n);
            if !beyond.is_empty() || !wrong.iter().all(alone) {
                let counts: Vec<_> = wrong.iter().map(|n| (n, found.get(n))).collect();
                known
                    .violations
                    .push(format!("{partition}: the state at {at} has {counts:?}, and beyond it {beyond:?}"));
            }
        });
    }
}

/// A store that checks every checkpoint as it is written.
pub(super) struct Audited {
    pub(super) inner: MemoryStore,
    pub(super) oracle: Oracle,
}

#[async_trait]
impl CheckpointStore for Audited {
    async fn list(&self) -> Result<Listing, StoreError> {
        self.inner.list().await
    }

    async fn claim(
        &self,
        partition: &PartitionId,
        owner: &OwnerId,
        mark: crate::model::Mark,
        expected: Option<&ETag>,
    ) -> Result<Written<Tenancy>, StoreError> {
        self.inner.claim(partition, owner, mark, expected).await
    }

    async fn renew(&self, tenancy: &Tenancy) -> Result<Written<Tenancy>, StoreError> {
        self.inner.renew(tenancy).await
    }

    async fn release(&self, tenancy: &Tenancy) -> Result<Written<()>, StoreError> {
        self.inner.release(tenancy).await
    }

    async fn announce(&self, presence: &Presence, expected: Option<&ETag>) -> Result<Written<ETag>, StoreError> {
        self.inner.announce(presence, expected).await
    }

    async fn withdraw(&self, owner: &OwnerId, expected: &ETag) -> Result<Written<()>, StoreError> {
        self.inner.withdraw(owner, expected).await
    }

    async fn load(&self, partition: &PartitionId) -> Result<Option<(Checkpoint, ETag)>, StoreError> {
        self.inner.load(partition).await
    }

    async fn commit(
        &self,
        partition: &PartitionId,
        checkpoint: &Checkpoint,
        expected: Option<&ETag>,
    ) -> Result<Written<ETag>, StoreError> {
        let written = self.inner.commit(partition, checkpoint, expected).await?;
        if matches!(written, Written::Done(_)) {
            let stored = self.inner.load(partition).await?;
            self.oracle.check_state(partition.as_str(), &stored.unwrap().0);
            let (partition, at) = (partition.to_string(), checkpoint.position.sequence_number);
            self.oracle.know(|known| {
                let finished = known.finished.get(&partition).copied().unwrap_or(-1);
                if at > finished {
                    known.violations.push(format!("{partition}: committed {at}, but only {finished} was finished"));
                }
                let new = (at, checkpoint.generation);
                let (before, generation) = known.committed.insert(partition.clone(), new).unwrap_or((-1, 0));
                // With state, an opening or a tick may have changed it at the same event.
                let again = at == before && new.1 == generation && !known.stateful;
                if at < before || new.1 < generation || again {
                    let old = (before, generation);
                    known.violations.push(format!("{partition}: the checkpoint went from {old:?} to {new:?}"));
                }
                for n in before + 1..=at {
                    if !known.accepted.contains(&(partition.clone(), n)) {
                        known.violations.push(format!("{partition}: committed {at} without the output of {n}"));
                    }
                }
            });
        }
        Ok(written)
    }
}
