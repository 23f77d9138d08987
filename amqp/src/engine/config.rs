use std::time::Duration;

use bytes::Bytes;

use crate::performative::Open;
use crate::wire::{Map, Symbol};

/// What this end of a connection says of itself and takes.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Who this end is.
    pub container_id: String,
    /// Whom a client wants to talk to.
    pub hostname: Option<String>,
    /// The largest frame this end takes and sends, in bytes. Too small splits events; too large lets one peer hold that much memory.
    pub max_frame_size: u32,
    /// The highest channel a peer may use: one less than the sessions it can have.
    pub channel_max: u16,
    /// What the peer is told: without a frame for this long it may be given up. Enforced at twice the time, as the standard
    /// suggests; none never gives up.
    pub idle_timeout: Option<Duration>,
    /// How long to wait for the peer's close after ours.
    pub close_timeout: Duration,
    /// Extensions this end can use.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions it would like.
    pub desired_capabilities: Vec<Symbol>,
    /// Product, version and the like.
    pub properties: Map,
    /// Sessions that the peer begins are accepted with this.
    pub session: SessionConfig,
    /// The largest delivery that is assembled, in bytes, where a link's own attach names no smaller limit.
    pub max_delivery_size: usize,
}

impl ConnectionConfig {
    /// The defaults, under a name.
    pub fn new(container_id: impl Into<String>) -> Self {
        Self {
            container_id: container_id.into(),
            hostname: None,
            max_frame_size: 64 * 1024,
            channel_max: 255,
            idle_timeout: Some(Duration::from_secs(60)),
            close_timeout: Duration::from_secs(5),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::new(),
            session: SessionConfig::default(),
            max_delivery_size: 16 * 1024 * 1024,
        }
    }

    pub(crate) fn open(&self) -> Open {
        let millis = |timeout: Duration| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        Open {
            hostname: self.hostname.clone(),
            max_frame_size: self.max_frame_size,
            channel_max: self.channel_max,
            idle_time_out: self.idle_timeout.map(millis),
            offered_capabilities: self.offered_capabilities.clone(),
            desired_capabilities: self.desired_capabilities.clone(),
            properties: self.properties.clone(),
            ..Open::new(self.container_id.clone())
        }
    }
}

/// What this end of a session says of itself and takes.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// How many transfer frames may come before the window is refilled, which happens at half. Too small stalls large deliveries
    /// for a round trip each.
    pub incoming_window: u32,
    /// What the peer is told of transfers this end may have in flight.
    pub outgoing_window: u32,
    /// The highest link handle the peer may use.
    pub handle_max: u32,
    /// Anything else.
    pub properties: Map,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { incoming_window: 5000, outgoing_window: 5000, handle_max: 8191, properties: Map::new() }
    }
}

/// How a server authenticates.
#[derive(Debug, Clone)]
pub struct ServerSasl {
    /// The mechanisms offered.
    pub mechanisms: Vec<Symbol>,
    /// Whether any credentials will do. Otherwise [`Event::SaslInit`](super::Event::SaslInit) asks.
    pub accept_all: bool,
    /// Whether a client that skips the SASL layer is sent away.
    pub required: bool,
}

impl ServerSasl {
    /// Offers these mechanisms and believes everybody, also those who skip SASL.
    pub fn accept_all(mechanisms: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            mechanisms: mechanisms.into_iter().map(Symbol::from_static).collect(),
            accept_all: true,
            required: false,
        }
    }

    /// Offers these mechanisms; you decide.
    pub fn ask(mechanisms: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            mechanisms: mechanisms.into_iter().map(Symbol::from_static).collect(),
            accept_all: false,
            required: true,
        }
    }
}

/// How a client authenticates.
#[derive(Clone)]
pub struct ClientSasl(pub(crate) Option<(Symbol, Bytes)>);

impl ClientSasl {
    /// No SASL layer.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// `ANONYMOUS`.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::mechanism(Symbol::from_static("ANONYMOUS"), Bytes::new())
    }

    /// `MSSBCBS`: the tokens come later, by CBS.
    #[must_use]
    pub fn cbs() -> Self {
        Self::mechanism(Symbol::from_static("MSSBCBS"), Bytes::new())
    }

    /// `PLAIN`.
    #[must_use]
    pub fn plain(user: &str, password: &str) -> Self {
        Self::mechanism(Symbol::from_static("PLAIN"), format!("\0{user}\0{password}").into())
    }

    /// Any mechanism that ends with its first response.
    #[must_use]
    pub fn mechanism(name: Symbol, response: Bytes) -> Self {
        Self(Some((name, response)))
    }
}

/// The response is a secret.
impl std::fmt::Debug for ClientSasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientSasl").field(&self.0.as_ref().map(|(name, _)| name)).finish()
    }
}
