//! Azure Event Hubs and Azure Blob Storage through Microsoft's SDK: the only place that names an Azure crate.
//!
//! [`Namespace`] makes an [`SdkSource`] for a hub and consumer group and a [`HubSink`] for a hub. Both hand every error to
//! the pipeline: the SDK's own recovery is off, since it re-attaches with the original start position (events would come
//! twice, and from `latest` they would be lost) and hides what happened from whoever has to decide.
//!
//! Known limits of this adapter, all of the SDK's AMQP crates (`fe2o3-amqp`, `serde_amqp`):
//!
//! - **Hostile senders.** `serde_amqp` allocates what a crafted message claims to contain and recurses without a limit: whoever
//!   may send to a hub can end the process that reads it. Only let trusted producers send to hubs that are read this way.
//! - **No owner level.** The SDK sets it on the link, and its AMQP crate's builder forgets it before it reaches the wire: a second
//!   reader is not turned away. Ownership stands on the checkpoint store; a link that the service does take away is reported.
//! - **TLS** for `amqps` is the platform's (`native-tls`: OpenSSL on Linux), fixed by the SDK's default features; HTTPS for
//!   tokens is rustls. A container needs `libssl` and the CA certificates.
//! - Prefetch counts events, not bytes: 300 events of 1 MiB are 300 MiB for a partition.
//! - Each client that was opened leaves a sleeping token-refresh task of a few hundred bytes behind until its token's time is over.

mod blob_store;
mod convert;
mod credential;
mod errors;
mod hub_sink;
mod outgoing;
mod reactor;
mod sdk_source;

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_messaging_eventhubs::RetryOptions;

pub use blob_store::{
    BlobContainer, BlobStore, ContainerError, DEVELOPMENT_SAS, Left, Leftovers, LetterContainer, Patience,
};
pub use credential::{Credential, UnknownCredential};
pub use hub_sink::{HubSink, SinkOptions};
pub use sdk_source::SdkSource;

use reactor::Reactors;

/// An Event Hubs namespace and who the host is for it. Cheap to clone; nothing is connected before it is used.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fully_qualified_namespace: String,
    endpoint: Option<String>,
    tokens: Arc<dyn TokenCredential>,
    reactors: Reactors,
}

/// Why a namespace can't be used as described.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// Not a host name.
    #[error("`{0}` is not a fully qualified namespace: write its host name, such as `fleet.servicebus.windows.net`")]
    Name(String),
    /// Not an AMQP URL.
    #[error("`{0}` is not an endpoint: write `amqp://host:port` for a local namespace, `amqps://host:port` with TLS")]
    Endpoint(String),
    /// A real namespace without credentials.
    #[error(
        "credential `none` is for a local namespace without TLS: set an endpoint that begins with `amqp://`, or choose another credential"
    )]
    Anonymous,
    /// A token that would be readable on the wire.
    #[error(
        "endpoint `{0}` has no TLS, and the credential `{1}` would send a real token over it: use the credential `none`, or an `amqps://` endpoint"
    )]
    Exposed(String, Credential),
    /// The credential can't be made here.
    #[error("credential `{0}` can't be used here: {1}")]
    Credential(Credential, String),
    /// No threads for the SDK.
    #[error("the operating system gives no threads for connections: {0}")]
    Threads(std::io::Error),
}

impl Namespace {
    /// Describes a namespace. `endpoint` is where to connect when that isn't the namespace itself: a local namespace
    /// (`amqp://127.0.0.1:5672`) or a gateway in front of it (`amqps://…`).
    pub fn new(
        fully_qualified_namespace: &str,
        endpoint: Option<&str>,
        credential: Credential,
    ) -> Result<Self, NamespaceError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if fully_qualified_namespace.is_empty() || !fully_qualified_namespace.chars().all(valid) {
            return Err(NamespaceError::Name(fully_qualified_namespace.into()));
        }
        let plain = match endpoint {
            None => false,
            Some(url) => {
                let parsed = azure_core::http::Url::parse(url).map_err(|_| NamespaceError::Endpoint(url.into()))?;
                match parsed.scheme() {
                    _ if parsed.host_str().is_none_or(str::is_empty) => Err(NamespaceError::Endpoint(url.into())),
                    "amqp" => Ok(true),
                    "amqps" => Ok(false),
                    _ => Err(NamespaceError::Endpoint(url.into())),
                }?
            }
        };
        match (plain, credential, endpoint) {
            (false, Credential::None, _) => return Err(NamespaceError::Anonymous),
            (true, Credential::None, _) | (false, ..) => {}
            (true, _, url) => return Err(NamespaceError::Exposed(url.unwrap_or_default().into(), credential)),
        }
        let tokens = credential.token_source().map_err(|e| NamespaceError::Credential(credential, e.to_string()))?;
        Ok(Self(Arc::new(Inner {
            fully_qualified_namespace: fully_qualified_namespace.into(),
            endpoint: endpoint.map(Into::into),
            tokens,
            reactors: Reactors::start().map_err(NamespaceError::Threads)?,
        })))
    }

    /// The namespace's host name.
    pub fn fully_qualified_namespace(&self) -> &str {
        &self.0.fully_qualified_namespace
    }

    /// A hub to read from, through a consumer group.
    pub fn source(&self, event_hub: &str, consumer_group: &str, timeouts: Timeouts) -> SdkSource {
        SdkSource::new(self.clone(), event_hub, consumer_group, timeouts)
    }

    /// A hub to publish to.
    pub fn sink(&self, event_hub: &str, options: SinkOptions) -> HubSink {
        HubSink::new(self.clone(), event_hub, options)
    }
}

/// How long a source waits before it gives up. Whatever it waits for, it never waits for ever.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a connection, its authorisation and an attached link, together.
    pub open: Duration,
    /// For an answer of the management node, connecting included.
    pub manage: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { open: Duration::from_secs(30), manage: Duration::from_secs(30) }
    }
}

/// No second attempt inside the SDK: see the module's documentation.
fn no_retries() -> RetryOptions {
    RetryOptions { max_retries: 0, ..RetryOptions::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_a_plain_local_endpoint_goes_without_credentials_and_only_without_credentials() {
        let new = |endpoint, credential| Namespace::new("fleet.servicebus.windows.net", endpoint, credential);
        assert!(new(Some("amqp://127.0.0.1:5672"), Credential::None).is_ok());
        assert!(new(None, Credential::Cli).is_ok());
        assert!(new(Some("amqps://gateway:5671"), Credential::Cli).is_ok());
        assert!(matches!(new(None, Credential::None), Err(NamespaceError::Anonymous)));
        assert!(matches!(new(Some("amqps://gateway"), Credential::None), Err(NamespaceError::Anonymous)));
        assert!(matches!(new(Some("amqp://127.0.0.1"), Credential::Default), Err(NamespaceError::Exposed(..))));
    }

    #[test]
    fn what_is_no_name_or_endpoint_is_refused_with_the_value() {
        for bad in ["", "a b", "https://fleet.servicebus.windows.net", "fleet/flights"] {
            assert!(matches!(Namespace::new(bad, None, Credential::Cli), Err(NamespaceError::Name(v)) if v == bad));
        }
        for bad in ["127.0.0.1:5672", "http://127.0.0.1", "amqp://", ""] {
            let error = Namespace::new("localhost", Some(bad), Credential::None).unwrap_err();
            assert!(matches!(error, NamespaceError::Endpoint(v) if v == bad), "{bad}");
        }
    }

    #[test]
    fn credentials_are_written_as_they_are_read() {
        for name in ["default", "managed-identity", "workload-identity", "cli", "none"] {
            assert_eq!(name.parse::<Credential>().unwrap().to_string(), name);
        }
        assert!("sas".parse::<Credential>().unwrap_err().to_string().contains("`sas`"));
    }
}
