//! [`EventSource`] on the SDK's consumer client.
//!
//! One client, that is one connection, per attached partition, since the client's cache of links can't hold two positions of
//! one partition and an error of one link clears them all. Positions are exact and never "latest". A link that ends is over:
//! the error says why, and the caller opens anew behind the last event that it applied.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use azure_messaging_eventhubs::models::EventHubPartitionProperties;
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError, EventReceiver, OpenReceiverOptions, StartLocation, StartPosition as SdkPosition,
};
use futures::{Stream, StreamExt};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::errors::Place;
use super::stall::{Probe, StallWatch};
use super::{Namespace, Timeouts, convert, no_retries};
use crate::model::{Event, PartitionId, PartitionInfo, SequenceNumber, StartPosition};
use crate::seams::{EventSource, OpenOptions, PartitionReceiver, SourceError};

/// A hub seen through a consumer group, read with Microsoft's SDK. Its limits: see the module [`azure`](super).
pub struct SdkSource(Arc<Shared>);

struct Shared {
    namespace: Namespace,
    event_hub: String,
    consumer_group: String,
    timeouts: Timeouts,
    /// The client for questions about the hub; made when first needed and again after an error.
    management: Mutex<Option<Arc<ConsumerClient>>>,
}

impl SdkSource {
    pub(super) fn new(namespace: Namespace, event_hub: &str, consumer_group: &str, timeouts: Timeouts) -> Self {
        Self(Arc::new(Shared {
            namespace,
            event_hub: event_hub.into(),
            consumer_group: consumer_group.into(),
            timeouts,
            management: Mutex::new(None),
        }))
    }
}

impl Shared {
    fn place(&self, partition: Option<&PartitionId>) -> Place {
        Place {
            event_hub: self.event_hub.clone(),
            consumer_group: self.consumer_group.clone(),
            partition: partition.cloned(),
        }
    }

    async fn connect(&self) -> Result<ConsumerClient, EventHubsError> {
        let namespace = &self.namespace.0;
        let mut builder =
            ConsumerClient::builder().with_consumer_group(self.consumer_group.clone()).with_retry_options(no_retries());
        if let Some(endpoint) = &namespace.endpoint {
            builder = builder.with_custom_endpoint(endpoint.clone());
        }
        let tokens = Arc::clone(&namespace.tokens);
        Box::pin(builder.open(&namespace.fully_qualified_namespace, self.event_hub.clone(), tokens)).await
    }

    /// Asks the management node. A client that served before may have died of old age (its token is never renewed): then a new
    /// one is asked once more.
    async fn manage<T, A>(&self, place: &Place, ask: impl Fn(Arc<ConsumerClient>) -> A + Send) -> Result<T, SourceError>
    where
        A: Future<Output = Result<T, EventHubsError>> + Send,
    {
        let mut cached = self.management.lock().await;
        let asking = async {
            if let Some(client) = cached.take()
                && let Ok(answer) = ask(Arc::clone(&client)).await
            {
                *cached = Some(client);
                return Ok(answer);
            }
            let client = Arc::new(self.connect().await?);
            let answer = ask(Arc::clone(&client)).await?;
            *cached = Some(client);
            Ok(answer)
        };
        match timeout(self.timeouts.manage, asking).await {
            Ok(answer) => answer.map_err(|error: EventHubsError| place.failed("asking for its properties", &error)),
            Err(_) => Err(place.passing(format_args!("no answer about its properties in {:?}", self.timeouts.manage))),
        }
    }

    async fn properties(&self, partition: &PartitionId) -> Result<EventHubPartitionProperties, SourceError> {
        let ask =
            |client: Arc<ConsumerClient>| async move { client.get_partition_properties(partition.as_str()).await };
        self.manage(&self.place(Some(partition)), ask).await
    }
}

#[async_trait]
impl EventSource for SdkSource {
    async fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        let ask = |client: Arc<ConsumerClient>| async move { client.get_eventhub_properties().await };
        let properties = self.0.manage(&self.0.place(None), ask).await?;
        Ok(properties.partition_ids.iter().map(|id| PartitionId::from(id.as_str())).collect())
    }

    async fn partition_info(&self, partition: &PartitionId) -> Result<PartitionInfo, SourceError> {
        let properties = self.0.properties(partition).await?;
        Ok(PartitionInfo {
            id: partition.clone(),
            beginning_sequence_number: properties.beginning_sequence_number,
            last_enqueued_sequence_number: properties.last_enqueued_sequence_number,
            is_empty: properties.is_empty,
        })
    }

    async fn open(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        options: &OpenOptions,
    ) -> Result<Box<dyn PartitionReceiver>, SourceError> {
        let place = self.0.place(Some(partition));
        match timeout(self.0.timeouts.open, Box::pin(self.attach(partition, start, options, &place))).await {
            Ok(attached) => Ok(Box::new(attached?)),
            Err(_) => Err(place.passing(format_args!("not attached in {:?}", self.0.timeouts.open))),
        }
    }
}

impl SdkSource {
    async fn attach(
        &self,
        partition: &PartitionId,
        start: StartPosition,
        options: &OpenOptions,
        place: &Place,
    ) -> Result<SdkReceiver, SourceError> {
        let client = self.0.connect().await.map_err(|e| place.failed("connecting", &e))?;
        let receiver_options = OpenReceiverOptions {
            owner_level: options.owner_level,
            prefetch: Some(options.prefetch.max(1)),
            start_position: Some(position(&start)),
            receive_timeout: None,
        };
        let opened = client.open_receiver_on_partition(partition.to_string(), Some(receiver_options)).await;
        let fence = client.open_receiver_on_partition("attached".into(), None).await;
        let (receiver, fence) =
            opened.and_then(|receiver| Ok((receiver, fence?))).map_err(|e| place.failed("opening", &e))?;
        let mut events = stream(receiver, place.clone());
        let first = attached(&mut events, fence.close()).await?;
        Ok(SdkReceiver {
            client,
            link: Link::Live(events),
            first,
            last: match start {
                StartPosition::After(n) => Some(n),
                _ => None,
            },
            watch: StallWatch::new(self.0.timeouts.silence, self.probe(partition.clone(), start)),
            close_within: self.0.timeouts.close,
            place: place.clone(),
        })
    }

    /// Whether the service has events that the reader has not seen.
    fn probe(&self, partition: PartitionId, start: StartPosition) -> Probe {
        let shared = Arc::clone(&self.0);
        Box::new(move |last| {
            let (shared, partition, start) = (Arc::clone(&shared), partition.clone(), start.clone());
            Box::pin(async move {
                match shared.properties(&partition).await {
                    Ok(properties) => is_behind(&properties, &start, last),
                    Err(error) => {
                        tracing::debug!(%error, "can't tell whether a quiet partition is stalled");
                        false
                    }
                }
            })
        })
    }
}

fn is_behind(properties: &EventHubPartitionProperties, start: &StartPosition, last: Option<SequenceNumber>) -> bool {
    if properties.is_empty {
        return false;
    }
    match (last, start) {
        (Some(last), _) => properties.last_enqueued_sequence_number > last,
        (None, StartPosition::EnqueuedTime(from)) => {
            properties.last_enqueued_time_utc.is_some_and(|time| time >= system_time(*from))
        }
        (None, _) => true,
    }
}

/// Waits until the link is attached, without taking anything from it: an event that came meanwhile is returned.
///
/// The SDK attaches when its stream is first polled and says nothing when it is done. But it holds the lock of its table of links
/// meanwhile, and closing some other receiver (`fence`) needs that lock. So the fence falls when the attach has succeeded
/// or, which the stream then says, failed. Should the SDK change there, errors of the attach come with the first receive.
async fn attached(
    events: &mut EventStream,
    fence: impl Future<Output = Result<(), EventHubsError>>,
) -> Result<Option<Event>, SourceError> {
    let mut fence = pin!(fence);
    poll_fn(|cx| match events.poll_next_unpin(cx) {
        Poll::Ready(Some(item)) => Poll::Ready(item.map(Some)),
        Poll::Ready(None) => Poll::Ready(Ok(None)),
        Poll::Pending => fence.as_mut().poll(cx).map(|_| Ok(None)),
    })
    .await
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

type EventStream = Pin<Box<dyn Stream<Item = Result<Event, SourceError>> + Send>>;

/// The SDK's stream borrows its receiver, and losing a poll of it could lose an event: so one stream owns both and stays.
fn stream(receiver: EventReceiver, place: Place) -> EventStream {
    Box::pin(async_stream::stream! {
        let mut received = pin!(receiver.stream_events());
        while let Some(item) = received.next().await {
            yield match item {
                Ok(received) => convert::event(received).map_err(|e| place.passing(e)),
                Err(error) => Err(place.failed("receiving", &error)),
            };
        }
    })
}

/// An attached partition, with a connection of its own.
struct SdkReceiver {
    client: ConsumerClient,
    link: Link,
    first: Option<Event>,
    last: Option<SequenceNumber>,
    watch: StallWatch,
    close_within: Duration,
    place: Place,
}

enum Link {
    Live(EventStream),
    /// With the error that is still to be reported.
    Ended(Option<SourceError>),
}

impl SdkReceiver {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, SourceError>> {
        let ended = match &mut self.link {
            Link::Ended(error) => error.take(),
            Link::Live(events) => {
                let next = match self.first.take() {
                    Some(event) => Some(Ok(event)),
                    None => ready!(events.poll_next_unpin(cx)),
                };
                match next {
                    Some(Ok(event)) if self.last.is_none_or(|last| event.sequence_number > last) => {
                        self.last = Some(event.sequence_number);
                        return Poll::Ready(Ok(event));
                    }
                    Some(Ok(event)) => Some(self.place.passing(format_args!(
                        "the link went back to sequence number {} after {:?}",
                        event.sequence_number, self.last
                    ))),
                    Some(Err(error)) => Some(error),
                    None => None,
                }
            }
        };
        // Dropping the stream detaches the link.
        self.link = Link::Ended(None);
        Poll::Ready(Err(ended.unwrap_or_else(|| self.place.passing("the link has ended"))))
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Event>,
    ) -> Poll<Result<(), SourceError>> {
        let before = out.len();
        while out.len() - before < max.max(1) {
            match self.poll_next(cx) {
                Poll::Ready(Ok(event)) => out.push(event),
                Poll::Ready(Err(error)) if out.len() == before => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.link = Link::Ended(Some(error));
                    break;
                }
                Poll::Pending => break,
            }
        }
        if out.len() > before {
            self.watch.progressed();
            return Poll::Ready(Ok(()));
        }
        ready!(self.watch.poll(cx, self.last));
        self.link = Link::Ended(None);
        Poll::Ready(Err(self.place.passing("events wait at the service, but none comes: the link is dead")))
    }
}

#[async_trait]
impl PartitionReceiver for SdkReceiver {
    async fn receive(&mut self, max: usize, events: &mut Vec<Event>) -> Result<(), SourceError> {
        poll_fn(|cx| self.poll_receive(cx, max, events)).await
    }

    async fn close(self: Box<Self>) {
        let Self { client, link, place, close_within, .. } = *self;
        // The stream holds the client's connection: it goes first.
        drop(link);
        match timeout(close_within, client.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%place, %error, "closing a receiver"),
            Err(_) => tracing::debug!(%place, "closing a receiver took too long: its connection is dropped"),
        }
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
