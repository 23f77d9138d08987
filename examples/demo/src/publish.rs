//! A producer as any service would write it: the official SDK, batches by partition key.

use std::collections::BTreeMap;
use std::sync::Arc;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_messaging_eventhubs::models::EventData;
use azure_messaging_eventhubs::{EventDataBatchOptions, ProducerClient};
use time::{Duration, OffsetDateTime};

use crate::Error;
use crate::flights::Flight;

/// How many events are sorted by key at a time. More fill batches better, fewer show progress sooner.
const AT_A_TIME: usize = 2_500;

/// Publishes the flights in order per key, and says after each step how many are in.
pub(crate) async fn publish(
    endpoint: &str,
    hub: &str,
    flights: &[Flight],
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let client = ProducerClient::builder()
        .with_custom_endpoint(endpoint.to_owned())
        .open("localhost", hub, Arc::new(AnyToken))
        .await?;
    for chunk in flights.chunks(AT_A_TIME) {
        let mut by_key: BTreeMap<&str, Vec<&Flight>> = BTreeMap::new();
        for flight in chunk {
            by_key.entry(&flight.key).or_default().push(flight);
        }
        for (key, flights) in by_key {
            send(&client, key, &flights).await?;
            progress(flights.len() as u64);
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
        Ok(AccessToken::new("local", OffsetDateTime::now_utc() + Duration::hours(1)))
    }
}
