//! The namespace as a running thing: listeners, tasks, shutdown. `weir emulator` and every test start here.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{Groups, Retention};
use crate::namespace::{Namespace, NamespaceError};
use crate::{control, server};

/// What a namespace is started with.
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// Where AMQP clients connect, `host:port`. Port 0 takes a free one.
    pub listen: String,
    /// The hubs there should be.
    pub hubs: Vec<HubSpec>,
    /// Where events are kept; `None`: only in memory.
    pub data: Option<PathBuf>,
    /// How much of each partition is kept.
    pub retention: Retention,
    /// The consumer groups of hubs that are made.
    pub groups: Groups,
    /// Where the control API listens, `host:port`.
    pub control: Option<String>,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        let listen = "127.0.0.1:5672".to_owned();
        Self { listen, hubs: vec![], data: None, retention: Retention::default(), groups: Groups::Any, control: None }
    }
}

/// A hub as the command line names it: `flights:4`, or `flights` for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpec {
    /// Its name.
    pub name: String,
    /// How many partitions it has at least.
    pub partitions: u32,
}

/// The text is not a hub.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} does not name a hub: write NAME:PARTITIONS, such as flights:4, or NAME for one partition")]
pub struct BadHubSpec(String);

impl FromStr for HubSpec {
    type Err = BadHubSpec;

    /// `flights:4`, or `flights` for one partition.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, partitions) = text.rsplit_once(':').unwrap_or((text, "1"));
        match partitions.parse() {
            Ok(partitions) if partitions > 0 && !name.is_empty() => Ok(Self { name: name.to_owned(), partitions }),
            _ => Err(BadHubSpec(text.to_owned())),
        }
    }
}

/// Why a namespace did not start.
#[derive(Debug, Error)]
pub enum EmulatorError {
    /// An address can't be listened on.
    #[error(
        "can't listen on {address}: {source}; is another namespace running? --listen 127.0.0.1:0 takes a free port"
    )]
    Listen {
        /// As it was given.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The hubs or the data directory.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// A running namespace. Dropping it stops it.
#[derive(Debug)]
pub struct Emulator {
    namespace: Arc<Namespace>,
    address: SocketAddr,
    control: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Emulator {
    /// Reads back what the data directory holds, makes what hubs and partitions are missing, and listens.
    ///
    /// # Errors
    /// An address is taken, the data directory is in use or damaged, or a hub has an impossible name.
    pub async fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        let listener = server::listen(&config.listen).await.map_err(|source| listen_error(&config.listen, source))?;
        let control = match &config.control {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|source| listen_error(address, source))?),
            None => None,
        };
        let namespace = match &config.data {
            Some(directory) => Namespace::in_directory(directory, config.retention)?,
            None => Namespace::in_memory(config.retention),
        };
        for HubSpec { name, partitions } in &config.hubs {
            match namespace.hub(name) {
                Ok(hub) if hub.partition_count() < *partitions => {
                    namespace.add_partitions(name, partitions - hub.partition_count())?;
                }
                Ok(_) => {}
                Err(_) => drop(namespace.create_hub(name, *partitions, config.groups.clone())?),
            }
        }
        let address = listener.local_addr().map_err(|source| listen_error(&config.listen, source))?;
        let control_address = control.as_ref().and_then(|listener| listener.local_addr().ok());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let namespace = Arc::new(namespace);
        tasks.spawn(server::run(listener, Arc::clone(&namespace), stop.clone(), tasks.clone()));
        if let Some(listener) = control {
            tasks.spawn(control::run(listener, Arc::clone(&namespace), stop.clone()));
        }
        Ok(Self { namespace, address, control: control_address, stop, tasks })
    }

    /// Where AMQP clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// The URL for clients that take one.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("amqp://{}", self.reachable())
    }

    /// The connection string of the namespace, or of one hub. The key is no secret: any is accepted.
    #[must_use]
    pub fn connection_string(&self, hub: Option<&str>) -> String {
        let entity = hub.map(|hub| format!(";EntityPath={hub}")).unwrap_or_default();
        format!(
            "Endpoint=sb://{};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;\
             UseDevelopmentEmulator=true{entity}",
            self.reachable()
        )
    }

    /// The namespace behind it: hubs, counts, faults.
    #[must_use]
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Closes all connections, stops listening, and waits until all that was taken in is written.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The bound address as a client on this machine would write it.
    fn reachable(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        address
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn listen_error(address: &str, source: io::Error) -> EmulatorError {
    EmulatorError::Listen { address: address.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_hub_is_a_name_and_a_number_of_partitions_or_a_name_for_one() {
        let parsed = |text: &str| text.parse::<HubSpec>().map(|hub| (hub.name, hub.partitions));
        assert_eq!(parsed("flights:4").unwrap(), ("flights".to_owned(), 4));
        assert_eq!(parsed("flights").unwrap(), ("flights".to_owned(), 1));
        for wrong in ["", ":", ":4", "flights:", "flights:0", "flights:-1", "flights:four"] {
            let error = parsed(wrong).unwrap_err().to_string();
            assert!(error.contains("NAME:PARTITIONS, such as flights:4, or NAME for one partition"), "{error}");
        }
    }
}
