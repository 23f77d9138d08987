//! [`EventSource`] on the SDK's consumer client.
//!
//! One client, that is one connection, per attached partition, since the client's cache of links can't hold two positions of
//! one partition and an error of one link clears them all. Positions are exact and never "latest". A link that ends is over:
//! the error says why, and the caller opens anew behind the last event that it applied. The client lives in a task on one of
//! the SDK's threads (see `reactor`), which hands over events in batches; between the service and the reader lie the prefetch
//! and at most two such batches, half of it again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::vec;

use async_trait::async_trait;
use azure_messaging_eventhubs::models::{EventHubPartitionProperties, ReceivedEventData};
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError, OpenReceiverOptions, StartLocation, StartPosition as SdkPosition,
};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::errors::Place;
use super::reactor::Reactor;
use super::{Namespace, Timeouts, convert, no_retries};
use crate::arena::Arena;
use crate::model::{Event, PartitionId, PartitionInfo, SequenceNumber, StartPosition, Timestamp};
use crate::seams::{EventSource, OpenOptions, PartitionReceiver, SourceError};

/// A hub seen through a consumer group, read with Microsoft's SDK. Its limits: see the module [`azure`](super).
#[derive(Clone)]
pub struct SdkSource(Arc<Shared>);

struct Shared {
    namespace: Namespace,
    event_hub: String,
    consumer_group: String,
    timeouts: Timeouts,
    /// The client for questions about the hub, and its thread; made when first needed and again after an error.
    management: Mutex<Option<Arc<ConsumerClient>>>,
    management_thread: Reactor,
}

type Answer<T> = BoxFuture<'static, Result<T, EventHubsError>>;

impl SdkSource {
    pub(super) fn new(namespace: Namespace, event_hub: &str, consumer_group: &str, timeouts: Timeouts) -> Self {
        Self(Arc::new(Shared {
            management_thread: namespace.0.reactors.pick(),
            namespace,
            event_hub: event_hub.into(),
            consumer_group: consumer_group.into(),
            timeouts,
            management: Mutex::new(None),
        }))
    }

    fn place(&self, partition: Option<&PartitionId>) -> Place {
        Place {
            event_hub: self.0.event_hub.clone(),
            consumer_group: self.0.consumer_group.clone(),
            partition: partition.cloned(),
        }
    }

    async fn connect(&self) -> Result<ConsumerClient, EventHubsError> {
        let namespace = &self.0.namespace.0;
        let mut builder = ConsumerClient::builder()
            .with_consumer_group(self.0.consumer_group.clone())
            .with_retry_options(no_retries());
        if let Some(endpoint) = &namespace.endpoint {
            builder = builder.with_custom_endpoint(endpoint.clone());
        }
        let tokens = Arc::clone(&namespace.tokens);
        Box::pin(builder.open(&namespace.fully_qualified_namespace, self.0.event_hub.clone(), tokens)).await
    }

    /// Asks the management node. A client that served before may have died of old age (its token is never renewed): then a new
    /// one is asked once more.
    async fn manage<T: Send + 'static>(
        &self,
        place: Place,
        ask: impl Fn(Arc<ConsumerClient>) -> Answer<T> + Send + 'static,
    ) -> Result<T, SourceError> {
        let source = self.clone();
        let asking = async move {
            let mut cached = source.0.management.lock().await;
            if let Some(client) = cached.take()
                && let Ok(answer) = ask(Arc::clone(&client)).await
            {
                *cached = Some(client);
                return Ok(answer);
            }
            let client = Arc::new(source.connect().await?);
            let answer = ask(Arc::clone(&client)).await?;
            *cached = Some(client);
            Ok(answer)
        };
        match timeout(self.0.timeouts.manage, self.0.management_thread.spawn(asking)).await {
            Ok(Ok(answer)) => answer.map_err(|e: EventHubsError| place.failed("asking for its properties", &e)),
            Ok(Err(crash)) => Err(place.passing(format_args!("the SDK failed: {crash}"))),
            Err(_) => {
                Err(place.passing(format_args!("no answer about its properties in {:?}", self.0.timeouts.manage)))
            }
        }
    }

    async fn properties(&self, partition: &PartitionId) -> Result<EventHubPartitionProperties, SourceError> {
        let place = self.place(Some(partition));
        let id = partition.clone();
        self.manage(place, move |client| {
            let id = id.clone();
            Box::pin(async move { client.get_partition_properties(id.as_str()).await })
        })
        .await
    }
}

#[async_trait]
impl EventSource for SdkSource {
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        let ask = |client: Arc<ConsumerClient>| -> Answer<_> {
            Box::pin(async move { client.get_eventhub_properties().await })
        };
        let properties = self.manage(self.place(None), ask).await?;
        Ok(properties.partition_ids.iter().map(|id| PartitionId::from(id.as_str())).collect())
    }

    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError> {
        let properties = self.properties(partition).await?;
        Ok(PartitionInfo {
            id: partition.clone(),
            beginning_sequence_number: properties.beginning_sequence_number,
            last_enqueued_sequence_number: properties.last_enqueued_sequence_number,
            last_enqueued_offset: properties.last_enqueued_offset.into(),
            last_enqueued_time: properties.last_enqueued_time_utc.map_or(0, timestamp),
            is_empty: properties.is_empty,
        })
    }

    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError> {
        let place = self.place(Some(partition));
        let (opened, attached) = oneshot::channel();
        let (batches, received) = mpsc::channel(1);
        let link = Link { source: self.clone(), place: place.clone(), start, options: options.clone() };
        let task = self.0.namespace.0.reactors.pick().spawn(link.run(opened, batches));
        match timeout(self.0.timeouts.open, attached).await {
            Ok(Ok(attached)) => attached?,
            Ok(Err(_)) => return Err(place.passing("the SDK failed while attaching")),
            Err(_) => return Err(place.passing(format_args!("not attached in {:?}", self.0.timeouts.open))),
        }
        Ok(Box::new(SdkReceiver { received, at_hand: Vec::new().into_iter(), place, _link: task }))
    }
}

/// What a batch on its way to the reader may hold, so that it doesn't hide much of the prefetch.
fn batch_limit(prefetch: u32) -> usize {
    (prefetch as usize / 4).clamp(1, 256)
}

type Batch = Result<Vec<Event>, SourceError>;

/// A link's life, on one of the SDK's threads. Not polling the SDK's stream is the back-pressure.
struct Link {
    source: SdkSource,
    place: Place,
    start: StartPosition,
    options: OpenOptions,
}

impl Link {
    async fn run(self, opened: oneshot::Sender<Result<(), SourceError>>, batches: mpsc::Sender<Batch>) {
        let mut opened = Some(opened);
        let Err(error) = self.read(&mut opened, &batches).await else { return };
        match opened {
            // Nobody waits any more if these fail.
            Some(opened) => drop(opened.send(Err(error))),
            None => drop(batches.send(Err(error)).await),
        }
    }

    /// Attaches, says so through `opened`, and reads until the link or the reader ends.
    async fn read(
        &self,
        opened: &mut Option<oneshot::Sender<Result<(), SourceError>>>,
        batches: &mpsc::Sender<Batch>,
    ) -> Result<(), SourceError> {
        let client = self.source.connect().await.map_err(|e| self.place.failed("connecting", &e))?;
        let partition = self.place.partition.as_ref().map(ToString::to_string).unwrap_or_default();
        let receiver_options = OpenReceiverOptions {
            owner_level: self.options.owner_level,
            prefetch: Some(self.options.prefetch.max(1)),
            start_position: Some(position(&self.start)),
            receive_timeout: None,
        };
        let receiver = client.open_receiver_on_partition(partition, Some(receiver_options)).await;
        let fence = client.open_receiver_on_partition("attached".into(), None).await;
        let (receiver, fence) =
            receiver.and_then(|receiver| Ok((receiver, fence?))).map_err(|e| self.place.failed("opening", &e))?;
        let mut reader = Reader {
            stream: pin!(receiver.stream_events()),
            ahead: None,
            last: match self.start {
                StartPosition::After(n) => Some(n),
                _ => None,
            },
            arena: Arena::default(),
            place: &self.place,
        };
        reader.attached(fence.close()).await?;
        if opened.take().is_some_and(|opened| opened.send(Ok(())).is_err()) {
            return Ok(());
        }
        let limit = batch_limit(self.options.prefetch);
        loop {
            let mut batch = Vec::new();
            let read = poll_fn(|cx| reader.poll_batch(cx, limit, &mut batch)).await;
            if !batch.is_empty() && batches.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
            read?;
        }
    }
}

fn position(start: &StartPosition) -> SdkPosition {
    let location = match *start {
        StartPosition::Earliest => StartLocation::Earliest,
        // Sequence numbers begin with 0: after less than that is from the start.
        StartPosition::After(n) if n < 0 => StartLocation::Earliest,
        StartPosition::After(n) => StartLocation::SequenceNumber(n),
        // The filter of the protocol is "later than"; the SDK can't write times before 1970.
        StartPosition::EnqueuedTime(ms) if ms <= 0 => StartLocation::Earliest,
        StartPosition::EnqueuedTime(ms) => StartLocation::EnqueuedTime(system_time(ms - 1)),
    };
    SdkPosition { location, inclusive: false }
}

fn system_time(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn timestamp(time: SystemTime) -> Timestamp {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The SDK's stream, read in batches and in order.
struct Reader<'a, S> {
    stream: Pin<&'a mut S>,
    /// What came while the link was attached.
    ahead: Option<Result<ReceivedEventData, EventHubsError>>,
    last: Option<SequenceNumber>,
    arena: Arena,
    place: &'a Place,
}

impl<S: Stream<Item = Result<ReceivedEventData, EventHubsError>>> Reader<'_, S> {
    /// Waits until the link is attached.
    ///
    /// The SDK attaches when its stream is first polled and doesn't say when it is done. But it holds the lock of its table of
    /// links meanwhile, and closing some other receiver (`fence`) needs that lock. So the fence falls when the attach
    /// has succeeded or, which the stream then says, failed. Should the SDK change there, errors of the attach come with
    /// the first receive.
    async fn attached(&mut self, fence: impl Future<Output = Result<(), EventHubsError>>) -> Result<(), SourceError> {
        let mut fence = pin!(fence);
        self.ahead = poll_fn(|cx| match self.stream.poll_next_unpin(cx) {
            Poll::Pending => fence.as_mut().poll(cx).map(|_| None),
            item => item,
        })
        .await;
        match &self.ahead {
            Some(Err(error)) => Err(self.place.failed("attaching", error)),
            _ => Ok(()),
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, SourceError>> {
        let item = match self.ahead.take() {
            Some(item) => Some(item),
            None => ready!(self.stream.poll_next_unpin(cx)),
        };
        let event = match item {
            Some(Ok(received)) => convert::event(received, &mut self.arena).map_err(|e| self.place.passing(e))?,
            Some(Err(error)) => return Poll::Ready(Err(self.place.failed("the link ended", &error))),
            None => return Poll::Ready(Err(self.place.passing("the link ended"))),
        };
        if let Some(last) = self.last.filter(|last| event.sequence_number <= *last) {
            let back = event.sequence_number;
            let back = format_args!("the link went back to sequence number {back} after {last}");
            return Poll::Ready(Err(self.place.passing(back)));
        }
        self.last = Some(event.sequence_number);
        Poll::Ready(Ok(event))
    }

    /// Ready with one event or more in `batch`, or with the error that ended the link, which may come behind some events.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
        batch: &mut Vec<Event>,
    ) -> Poll<Result<(), SourceError>> {
        while batch.len() < limit {
            match self.poll_event(cx) {
                Poll::Ready(event) => batch.push(event?),
                Poll::Pending => break,
            }
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

/// An attached partition, as the pipeline sees it. Dropping it closes link, session and connection, in this order. (The SDK's own
/// closing detaches without closing first, and where the peer answers with a close it attaches again for a moment, with the owner
/// level: that could take the partition back from its next owner.)
struct SdkReceiver {
    received: mpsc::Receiver<Batch>,
    at_hand: vec::IntoIter<Event>,
    place: Place,
    _link: AbortOnDropHandle<()>,
}

#[async_trait]
impl PartitionReceiver for SdkReceiver {
    async fn receive(&mut self, max: usize, events: &mut Vec<Event>) -> Result<(), SourceError> {
        if self.at_hand.len() == 0 {
            match self.received.recv().await {
                Some(batch) => self.at_hand = batch?.into_iter(),
                None => return Err(self.place.passing("the link has ended")),
            }
        }
        events.extend(self.at_hand.by_ref().take(max.max(1)));
        Ok(())
    }

    async fn close(self: Box<Self>) {
        drop(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_exact_and_never_latest() {
        let at = |start| position(&start);
        let exclusive = |location| SdkPosition { location, inclusive: false };
        assert_eq!(at(StartPosition::Earliest), exclusive(StartLocation::Earliest));
        assert_eq!(at(StartPosition::After(-1)), exclusive(StartLocation::Earliest));
        assert_eq!(at(StartPosition::After(0)), exclusive(StartLocation::SequenceNumber(0)));
        let before = UNIX_EPOCH + Duration::from_millis(1_699_999_999_999);
        assert_eq!(at(StartPosition::EnqueuedTime(1_700_000_000_000)), exclusive(StartLocation::EnqueuedTime(before)));
        assert_eq!(at(StartPosition::EnqueuedTime(-5)), exclusive(StartLocation::Earliest));
    }
}
