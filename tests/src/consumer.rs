//! A bare consumer on the official SDK, as one writes it: what the host is measured against.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use azure_messaging_eventhubs::{ConsumerClient, OpenReceiverOptions, StartLocation, StartPosition};
use futures::StreamExt as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

/// Where it runs: two threads, which a profiler knows by this name.
///
/// # Panics
/// When threads can't be started.
pub fn runtime(name: &str) -> Runtime {
    let built = Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build();
    built.unwrap_or_else(|error| panic!("no runtime: {error}"))
}

/// Reads so many events, the same number from each partition, with a client per partition. Every body is looked at.
///
/// # Panics
/// When the events can't be read: there is nothing to measure then.
pub async fn consume(endpoint: &str, hub: &str, partitions: u32, events: usize) {
    let share = events / partitions as usize;
    let readers: Vec<_> = (0..partitions)
        .map(|partition| {
            let (endpoint, hub) = (endpoint.to_owned(), hub.to_owned());
            tokio::spawn(async move {
                if let Err(error) = read(endpoint, hub, partition, share).await {
                    panic!("partition {partition}: {error}");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap_or_else(|error| panic!("{error}"));
    }
}

async fn read(endpoint: String, hub: String, partition: u32, share: usize) -> azure_messaging_eventhubs::Result<()> {
    let client = ConsumerClient::builder().with_custom_endpoint(endpoint).open("localhost", hub, Arc::new(Any)).await?;
    let options = OpenReceiverOptions {
        start_position: Some(StartPosition { location: StartLocation::Earliest, ..StartPosition::default() }),
        prefetch: Some(300),
        ..OpenReceiverOptions::default()
    };
    let receiver = client.open_receiver_on_partition(partition.to_string(), Some(options)).await?;
    let mut stream = receiver.stream_events().take(share);
    let mut bytes = 0;
    while let Some(event) = stream.next().await {
        let event = event?;
        bytes += event.event_data().body().map_or(0, <[u8]>::len);
        assert!(event.sequence_number().is_some(), "an event without a sequence number");
    }
    assert_eq!(bytes, share * 1024, "bytes of partition {partition}");
    Ok(())
}

/// CPU time of this process and time on the clock.
pub fn measure(work: impl FnOnce()) -> (Duration, Duration) {
    let cpu = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let (before, started) = (cpu(), Instant::now());
    work();
    (cpu() - before, started.elapsed())
}

/// A credential for the local namespace, which takes any.
#[derive(Debug)]
struct Any;

#[async_trait::async_trait]
impl TokenCredential for Any {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("local", OffsetDateTime::now_utc() + azure_core::time::Duration::hours(1)))
    }
}
