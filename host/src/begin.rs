//! Where a tenancy begins to read: behind its checkpoint, which is read after the claim (rule R3) and refused where it can't be
//! gone on from.
//!
//! "Latest" means what is enqueued after the partition was first claimed. What that came to is written down as the partition's
//! first checkpoint before anything is read: a host that dies before it has acknowledged an event doesn't begin at a later
//! "latest", and loses nothing that came between.

use bytestring::ByteString;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::patience;
use crate::dispatch::wait;
use crate::error::Cause;
use crate::hold::Hold;
use crate::model::{Checkpoint, ETag, Position};
use crate::options::Start;
use crate::poll::{ATTEMPTS_OF_A_RUN, answer};
use crate::pump::{Context, Halt, Seat};
use crate::retry::chance;
use crate::seams::StoreError;
use crate::state::{PartitionState, StateImage};

/// A checkpoint as it was found.
pub(crate) type Found = (Checkpoint, ETag);

/// Looks up where a tenancy begins.
pub(crate) struct Beginning<'a> {
    pub(crate) context: &'a Context,
    pub(crate) seat: &'a Seat,
    pub(crate) hold: &'a Hold,
    /// A run with an end gives up some time.
    pub(crate) has_end: bool,
    pub(crate) drain: &'a CancellationToken,
}

impl Beginning<'_> {
    /// The partition's checkpoint, if it has one. The outer `None`: drained meanwhile.
    pub(crate) async fn checkpoint(&self) -> Result<Option<Option<Found>>, Halt> {
        let (store, options) = (&self.context.store, &self.context.options);
        // With state: its segments may come to one and a half times the limit.
        let state = if self.context.processor.uses_state() { options.state_limit.saturating_mul(3) / 2 } else { 0 };
        let limit = patience(options.store_timeout, state);
        let found = self
            .insist("checkpoint not read", || async {
                match timeout(limit, store.load(&self.seat.partition)).await {
                    Ok(Ok(found)) => Ok(Ok(found)),
                    Ok(Err(StoreError::Corrupt(detail))) => Ok(Err(Halt::Failed(Cause::Checkpoint(detail)))),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("no answer within {limit:?}")),
                }
            })
            .await?;
        let Some(found) = found else { return Ok(None) };
        let found = found?;
        if let Some((checkpoint, _)) = &found {
            self.accept(checkpoint)?;
            self.seat.status.set_checkpoint(&checkpoint.position);
        }
        Ok(Some(found))
    }

    /// Where to begin without a checkpoint. A host that remembers one knows that somebody deleted it under a running fleet, and says so
    /// aloud. "Latest" was decided long ago, and deciding it anew would skip what came since: then it goes on behind the one it remembers.
    ///
    /// The answer is that place, to be written as the first checkpoint like what "latest" comes to. `None`: where the configuration says.
    pub(crate) fn anew(&self, configured: Start) -> Option<Position> {
        let remembered = self.seat.status.known_checkpoint()?;
        let known = remembered.sequence_number;
        let (place, what) = match configured {
            Start::Latest => (Some(remembered), "it goes on behind that, since `start = \"latest\"` would skip events"),
            _ => (None, "it begins at the configured `start`, and processes events again"),
        };
        let Seat { processor, event_hub, partition, .. } = self.seat;
        tracing::error!(processor, event_hub, %partition, "its checkpoint is gone, which was at sequence number {known}: {what}");
        place
    }

    /// What the end of the partition is now. `None`: drained meanwhile.
    pub(crate) async fn latest(&self) -> Result<Option<Position>, Halt> {
        let source = &self.context.source;
        let info = self
            .insist("the newest event could not be asked for", || async {
                answer(source.partition_info(&self.seat.partition)).await.map_err(|error| error.to_string())
            })
            .await?;
        Ok(info.map(|info| Position {
            sequence_number: info.last_enqueued_sequence_number,
            offset: ByteString::from(info.last_enqueued_offset.to_string()),
        }))
    }

    /// Tries until it works, the run gives up, or it is drained (`None`).
    async fn insist<T, F>(&self, trouble: &str, ask: impl Fn() -> F) -> Result<Option<T>, Halt>
    where
        F: Future<Output = Result<T, String>>,
    {
        let mut failures = 0;
        loop {
            let asked = tokio::select! {
                biased;
                () = self.drain.cancelled() => return Ok(None),
                why = self.hold.ended() => return Err(Halt::Lost(why)),
                asked = ask() => asked,
            };
            let detail = match asked {
                Ok(answer) => return Ok(Some(answer)),
                Err(detail) => detail,
            };
            failures += 1;
            if self.has_end && failures >= ATTEMPTS_OF_A_RUN {
                return Err(Halt::Failed(Cause::Unreachable { attempts: failures, detail }));
            }
            self.seat.trouble(format!("{trouble} (failure {failures}): {detail}"));
            let pause = self.context.options.reconnect.pause(failures, chance());
            tokio::select! {
                biased;
                why = self.hold.ended() => return Err(Halt::Lost(why)),
                waited = wait(pause, self.drain) => {
                    if !waited {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn accept(&self, checkpoint: &Checkpoint) -> Result<(), Halt> {
        let mine = self.hold.generation();
        if checkpoint.generation >= mine {
            // Somebody else's. Claiming again counts on, so this ends.
            return Err(Halt::Lost(format!(
                "the checkpoint was written by ownership generation {}, but this is generation {}",
                checkpoint.generation, mine
            )));
        }
        Ok(())
    }

    /// Refuses to begin without a checkpoint where this host remembers one and the processor keeps state: that went with it, and whatever came
    /// next would be counted on nothing.
    pub(crate) fn has_not_lost_state(&self) -> Result<(), Halt> {
        match self.seat.status.known_checkpoint() {
            Some(known) if self.context.processor.uses_state() => Err(Halt::Failed(Cause::Checkpoint(format!(
                "it was at sequence number {} and is gone, and the processor's state with it. Restore it from a backup, or write one with \
                 `weir checkpoints set`: the processor then begins there with no state",
                known.sequence_number
            )))),
            _ => Ok(()),
        }
    }

    /// The state that a tenancy goes on with: that of the checkpoint that was found, or an empty one, where it begins at `place`.
    pub(crate) fn state(&self, found: Option<&Checkpoint>, place: Option<&Position>) -> Result<PartitionState, Halt> {
        let (limit, uses) = (self.context.options.state_limit, self.context.processor.uses_state());
        let (at, image) = match found {
            Some(checkpoint) => (Some(&checkpoint.position), checkpoint.state.clone()),
            None => (place, StateImage::default()),
        };
        let state = match at {
            Some(at) if !image.is_empty() => {
                let unreadable = |why| {
                    let text = format!(
                        "{why}. Restore the checkpoint from a backup, or let the processor begin with no state \
                         (`weir checkpoints set` with --drop-state)"
                    );
                    Halt::Failed(Cause::Checkpoint(text))
                };
                PartitionState::load(limit, at.clone(), image).map_err(unreadable)?
            }
            _ if !uses => return Ok(PartitionState::none()),
            _ => {
                if let Some(checkpoint) = found {
                    let after = checkpoint.position.sequence_number;
                    tracing::warn!(seat = %self.seat, after, "its checkpoint carries no state: the processor begins there with none");
                }
                PartitionState::new(limit, at.cloned())
            }
        };
        if uses || state.keys() > 0 || state.wake().is_some() {
            return Ok(state);
        }
        // Of a processor that kept state before it was replaced by this one, and left nothing.
        Ok(PartitionState::none())
    }
}
