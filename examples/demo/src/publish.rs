//! A producer as any service would write it: the official SDK, batches by partition key.
//!
//! With one difference: it has a thread of its own. On a runtime of several threads the SDK (0.15) loses the answers of a broker as
//! near as this one, and then waits for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_messaging_eventhubs::models::EventData;
use azure_messaging_eventhubs::{EventDataBatchOptions, ProducerClient};
use time::OffsetDateTime;

use crate::Error;
use crate::flights::Flight;

/// How many events are sorted by key at a time. More fill batches better, fewer show progress sooner.
const AT_A_TIME: usize = 2_500;

/// Publishes the flights in order per key, and says from time to time how many are in.
pub(crate) async fn publish(
    endpoint: &str,
    hub: &'static str,
    flights: Arc<Vec<Flight>>,
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let (endpoint, published) = (endpoint.to_owned(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&published);
    let mut producing = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(produce(endpoint, hub, &flights, &count))
    });
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            done = &mut producing => {
                progress(published.load(Ordering::Relaxed));
                return done?;
            }
            _ = ticks.tick() => progress(published.load(Ordering::Relaxed)),
        }
    }
}

async fn produce(endpoint: String, hub: &str, flights: &[Flight], published: &AtomicU64) -> Result<(), Error> {
    let client =
        ProducerClient::builder().with_custom_endpoint(endpoint).open("localhost", hub, Arc::new(AnyToken)).await?;
    for chunk in flights.chunks(AT_A_TIME) {
        let mut by_key: BTreeMap<&str, Vec<&Flight>> = BTreeMap::new();
        for flight in chunk {
            by_key.entry(&flight.key).or_default().push(flight);
        }
        for (key, flights) in by_key {
            send(&client, key, &flights).await?;
            published.fetch_add(flights.len() as u64, Ordering::Relaxed);
        }
    }
    client.close().await?;
    Ok(())
}

async fn send(client: &ProducerClient, key: &str, flights: &[&Flight]) -> Result<(), Error> {
    let mut rest = flights.iter().peekable();
    while rest.peek().is_some() {
        let options = EventDataBatchOptions { partition_key: Some(key.to_owned()), ..Default::default() };
        let batch = client.create_batch(Some(options)).await?;
        while let Some(flight) = rest.peek() {
            let event = EventData::builder()
                .with_content_type("application/json".to_owned())
                .with_body(flight.body.as_bytes().to_vec())
                .build();
            if !batch.try_add_event_data(event, None)? {
                break;
            }
            rest.next();
        }
        if batch.is_empty() {
            return Err(Error::new("a flight does not fit into a batch"));
        }
        client.send_batch(batch, None).await?;
    }
    Ok(())
}

/// A local namespace takes any token.
#[derive(Debug)]
struct AnyToken;

#[async_trait::async_trait]
impl TokenCredential for AnyToken {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("local", OffsetDateTime::now_utc() + time::Duration::hours(1)))
    }
}
