//! [`Sink`] on the SDK's producer client.
//!
//! A batch has one partition key, so the outputs of a publish are sorted by key, and each key's are sent in order. The SDK sends
//! one batch at a time over a connection; a few connections take different keys at the same time, so that many keys don't
//! wait for a round trip each. Each connection is used on one thread (see `reactor`).

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core_amqp::{AmqpMessage, AmqpValue};
use azure_messaging_eventhubs::{
    EventDataBatch, EventDataBatchOptions, EventHubsError, ProducerClient, SendMessageOptions,
};
use futures::future::join_all;
use tokio::time::timeout;

use super::errors::{Meaning, Understood, understand};
use super::outgoing::{by_key, message};
use super::reactor::Reactor;
use super::{Namespace, no_retries};
use crate::model::{Output, PartitionId};
use crate::seams::{Sink, SinkError};

/// The service's limit for a message in every tier but Basic, whose smaller one it reports itself.
const MESSAGE_LIMIT: usize = 1024 * 1024;
/// What a message carries besides body and properties as counted: sections, ids, the partition key (at most 128 characters).
const OVERHEAD: usize = 4096;

/// Batches that a connection sends one after the other in one publish, when no two outputs share a key: at 100 ms for each, a
/// publish ends in less than the minute that it has by default.
const SENDS_PER_LANE: usize = 256;

/// How to publish.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Send everything to this partition. Outputs must then have no partition key.
    pub partition: Option<PartitionId>,
    /// Connections, and so batches that may be on their way at the same time.
    pub connections: usize,
    /// The longest that the service may take to accept one batch, or a connection. (An SDK's send does not notice that its link
    /// has ended meanwhile, so this is also how long that takes to come out.)
    pub timeout: Duration,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self { partition: None, connections: 4, timeout: Duration::from_secs(15) }
    }
}

/// A hub to publish to. An output whose id is empty is sent without the id's property.
pub struct HubSink {
    shared: Arc<Shared>,
    lanes: Vec<Arc<Lane>>,
    /// Where the next publish begins, so that publishes with one key don't all queue for the first lane.
    next_lane: AtomicUsize,
}

struct Shared {
    namespace: Namespace,
    event_hub: String,
    options: SinkOptions,
}

/// A connection and its thread; made when first needed and again after an error.
struct Lane {
    client: Mutex<Option<Arc<ProducerClient>>>,
    thread: Reactor,
}

impl Lane {
    fn slot(&self) -> MutexGuard<'_, Option<Arc<ProducerClient>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's client in use. If that doesn't end well (an error, a timeout, a publish that is dropped in the middle of a message),
/// the lane throws it away: nobody knows what is still good.
struct InUse<'l> {
    lane: &'l Lane,
    client: Arc<ProducerClient>,
    well: bool,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut slot = self.lane.slot();
        if !self.well && slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.client)) {
            *slot = None;
        }
    }
}

/// Outputs with one partition key, in order.
type Run = (Option<String>, Vec<Output>);

impl HubSink {
    pub(super) fn new(namespace: Namespace, event_hub: &str, options: SinkOptions) -> Self {
        let lane = |_| Arc::new(Lane { client: Mutex::new(None), thread: namespace.0.reactors.pick() });
        Self {
            lanes: (0..options.connections.max(1)).map(lane).collect(),
            next_lane: AtomicUsize::new(0),
            shared: Arc::new(Shared { namespace, event_hub: event_hub.into(), options }),
        }
    }

    /// Closes the connections, after what is being published. Dropping the sink closes them too, without a good-bye.
    pub async fn close(&self) {
        let closing = self.lanes.iter().map(|lane| {
            let same = Arc::clone(lane);
            lane.thread.spawn(async move {
                let client = same.slot().take().and_then(Arc::into_inner);
                if let Some(client) = client {
                    client.close().await.unwrap_or_else(|error| tracing::debug!(%error, "closing a sink"));
                }
            })
        });
        if timeout(Duration::from_secs(5), join_all(closing)).await.is_err() {
            let event_hub = &self.shared.event_hub;
            tracing::debug!(event_hub, "closing a sink took too long: its connections are dropped");
        }
    }

    /// Deals the runs out to the lanes, in turn.
    fn deal(&self, runs: Vec<(Option<&str>, Vec<&Output>)>) -> Vec<(&Arc<Lane>, Vec<Run>)> {
        let first = self.next_lane.fetch_add(runs.len(), Ordering::Relaxed);
        let mut work: Vec<(&Arc<Lane>, Vec<Run>)> = self.lanes.iter().map(|lane| (lane, Vec::new())).collect();
        let lanes = work.len();
        for (n, (key, run)) in runs.into_iter().enumerate() {
            if let Some((_, lane)) = work.get_mut(first.wrapping_add(n) % lanes) {
                lane.push((key.map(Into::into), run.into_iter().cloned().collect()));
            }
        }
        work.retain(|(_, runs)| !runs.is_empty());
        work
    }
}

impl Shared {
    async fn client<'l>(&self, lane: &'l Lane) -> Result<InUse<'l>, SinkError> {
        let current = lane.slot().clone();
        let client = match current {
            Some(client) => client,
            None => {
                let namespace = &self.namespace.0;
                let mut builder = ProducerClient::builder().with_retry_options(no_retries());
                if let Some(endpoint) = &namespace.endpoint {
                    builder = builder.with_custom_endpoint(endpoint.clone());
                }
                let tokens = Arc::clone(&namespace.tokens);
                let opening = builder.open(&namespace.fully_qualified_namespace, &self.event_hub, tokens);
                let client = Arc::new(self.within("connecting", opening).await?);
                *lane.slot() = Some(Arc::clone(&client));
                client
            }
        };
        Ok(InUse { lane, client, well: false })
    }

    /// Waits for the SDK, but not for ever.
    async fn within<T>(
        &self,
        doing: impl fmt::Display,
        what: impl Future<Output = Result<T, EventHubsError>>,
    ) -> Result<T, SinkError> {
        match timeout(self.options.timeout, Box::pin(what)).await {
            Ok(done) => done.map_err(|error| self.failed(doing, &error)),
            Err(_) => {
                let (hub, limit) = (&self.event_hub, self.options.timeout);
                Err(SinkError::Transient(format!("event hub `{hub}`: {doing}: no answer in {limit:?}")))
            }
        }
    }

    /// Sends the runs of one lane, one after the other.
    async fn send(&self, lane: &Lane, runs: Vec<Run>) -> Result<(), SinkError> {
        let mut used = self.client(lane).await?;
        for (key, run) in runs {
            self.send_run(&used.client, key.as_deref(), &run).await?;
        }
        used.well = true;
        Ok(())
    }

    async fn send_run(&self, client: &ProducerClient, key: Option<&str>, run: &[Output]) -> Result<(), SinkError> {
        let mut rest = run.iter().peekable();
        while rest.peek().is_some() {
            let batch = self.batch(client, key).await?;
            while let Some(output) = rest.peek() {
                let added = batch.try_add_amqp_message(message(output), None);
                if !added.map_err(|e| self.failed(format_args!("encoding output `{}`", output.id), &e))? {
                    break;
                }
                rest.next();
            }
            if !batch.is_empty() {
                self.within("sending a batch", client.send_batch(batch, None)).await?;
            } else if let Some(output) = rest.next() {
                // The SDK counts the first message of a batch twice: what is larger than half the limit goes alone.
                self.send_alone(client, key, output).await?;
            }
        }
        Ok(())
    }

    async fn batch<'c>(&self, client: &'c ProducerClient, key: Option<&str>) -> Result<EventDataBatch<'c>, SinkError> {
        let options = EventDataBatchOptions {
            max_size_in_bytes: None,
            partition_key: key.map(Into::into),
            partition_id: self.options.partition.as_ref().map(ToString::to_string),
        };
        self.within("attaching", client.create_batch(Some(options))).await
    }

    async fn send_alone(&self, client: &ProducerClient, key: Option<&str>, output: &Output) -> Result<(), SinkError> {
        let mut message: AmqpMessage = message(output);
        if let Some(key) = key {
            message.add_message_annotation("x-opt-partition-key".into(), AmqpValue::String(key.into()));
        }
        let size = output.body.len();
        if size > MESSAGE_LIMIT {
            return Err(SinkError::Permanent(format!(
                "event hub `{}`: output `{}` has {size} bytes, and a hub takes {MESSAGE_LIMIT}; a file takes any size",
                self.event_hub, output.id
            )));
        }
        let options = SendMessageOptions { partition_id: self.options.partition.as_ref().map(ToString::to_string) };
        let doing = format!("sending output `{}` of {size} bytes", output.id);
        self.within(doing, client.send_message(message, Some(options))).await
    }

    fn failed(&self, doing: impl fmt::Display, error: &EventHubsError) -> SinkError {
        let Understood { meaning, words } = understand(error);
        let said = format!("event hub `{}`: {doing}: {words}", self.event_hub);
        match meaning {
            // Credentials may be refreshed, roles granted: tried as often as the policy says, loudly.
            Meaning::Passing | Meaning::Stolen | Meaning::Unauthorized => SinkError::Transient(said),
            Meaning::NotFound | Meaning::Invalid | Meaning::TooLarge => SinkError::Permanent(said),
        }
    }
}

#[async_trait]
impl Sink for HubSink {
    async fn publish(&self, outputs: &[Output]) -> Result<(), SinkError> {
        let Shared { event_hub, options, .. } = &*self.shared;
        let runs = by_key(outputs);
        if let (Some(partition), Some(key)) = (&options.partition, runs.iter().find_map(|(key, _)| *key)) {
            return Err(SinkError::Permanent(format!(
                "event hub `{event_hub}`: an output has the partition key `{key}`, but all go to partition {partition}"
            )));
        }
        let sending = self.deal(runs).into_iter().map(|(lane, runs)| {
            let (shared, same) = (Arc::clone(&self.shared), Arc::clone(lane));
            let task = lane.thread.spawn(async move { shared.send(&same, runs).await });
            async move {
                let sent = task.await;
                sent.unwrap_or_else(|e| {
                    Err(SinkError::Transient(format!("event hub `{event_hub}`: the SDK failed: {e}")))
                })
            }
        });
        // All lanes finish, each in bounded time, also when one has failed: stopping them would cost their connections.
        join_all(sending).await.into_iter().collect()
    }

    fn max_output_bytes(&self) -> usize {
        MESSAGE_LIMIT - OVERHEAD
    }

    fn max_outputs(&self) -> usize {
        self.lanes.len() * SENDS_PER_LANE
    }
}
