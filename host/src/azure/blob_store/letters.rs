//! Dead letters in a container: a readable blob each, under the names and with the content that they have in a directory.
//!
//! A blob appears whole or not at all, and a letter that comes again replaces itself, so a write that may have taken place is simply
//! repeated: no condition, and nothing to find out afterwards. Each costs a round trip; some are on their way together.

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::container::{BlobContainer, Condition};
use super::layout::Metadata;
use crate::dead_letter::{self, Place};
use crate::model::{ETag, Output};
use crate::seams::{Sink, SinkError, StoreError, Written};

/// Letters that are on their way together.
const TOGETHER: usize = 16;
/// Letters of one publish: three rounds of requests, which pass within a publish's time even when some of them are repeated.
const AT_ONCE: usize = 48;
/// What a letter may have been written with, for the time that reading it back is given.
const LARGE: usize = 2 << 20;

/// A container of dead letters, shared by any number of hosts and processors. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LetterContainer {
    container: BlobContainer,
}

impl LetterContainer {
    /// The letters in a container, which may hold other things as well.
    pub fn new(container: BlobContainer) -> Self {
        Self { container }
    }

    /// Where a processor's letters lie, in the order of partitions and events.
    pub async fn list(&self, (namespace, event_hub): (&str, &str), processor: &str) -> Result<Vec<Place>, StoreError> {
        let blobs = self.container.list(&format!("{}/", Place::folder(namespace, event_hub))).await?;
        let places = blobs.iter().filter_map(|blob| Place::parse(&blob.name));
        let mut places: Vec<_> = places.filter(|place| place.is_of((namespace, event_hub), processor)).collect();
        places.sort_by_cached_key(Place::order);
        Ok(places)
    }

    /// The content of a letter's blob, and what it is removed by; `None`: it is gone.
    pub async fn read(&self, place: &Place) -> Result<Option<(Vec<u8>, ETag)>, StoreError> {
        let blob = self.container.get(&place.path(), LARGE).await?;
        Ok(blob.map(|blob| (blob.body.to_vec(), blob.etag)))
    }

    /// Removes a letter that is still as it was read. It may be gone already.
    pub async fn remove(&self, place: &Place, etag: &ETag) -> Result<Written<()>, StoreError> {
        let path = place.path();
        match self.container.delete(&path, Some(etag)).await? {
            // Some services say the same of a blob that is gone.
            Written::Conflict if self.container.head(&path).await?.is_none() => Ok(Written::Done(())),
            removed => Ok(removed),
        }
    }

    async fn write(&self, letter: &Output) -> Result<(), SinkError> {
        let path = Place::of(letter).path();
        let failed = |why: &dyn std::fmt::Display| format!("can't write the letter {path}: {why}");
        let text = dead_letter::write(letter).map_err(|error| SinkError::Permanent(failed(&error)))?;
        // What the service refuses and what it didn't hear look alike from here; a refusal that stays ends the attempts.
        match self.container.put(&path, Condition::Any, Metadata::new(), text.into()).await {
            Ok(Written::Done(_)) => Ok(()),
            Ok(Written::Conflict) => Err(SinkError::Transient(failed(&"somebody else holds the blob"))),
            Err(error) => Err(SinkError::Transient(failed(&error))),
        }
    }
}

#[async_trait]
impl Sink for LetterContainer {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        // One borrow for all: a closure over each letter would have to hold for every lifetime.
        let writes: Vec<_> = outputs.iter().map(|letter| self.write(letter)).collect();
        stream::iter(writes).buffer_unordered(TOGETHER).try_collect().await
    }

    fn max_output_bytes(&self) -> usize {
        usize::MAX
    }

    fn max_outputs(&self) -> usize {
        AT_ONCE
    }
}
