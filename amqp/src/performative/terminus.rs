//! Where a link's messages come from and go to (part 3.5 of the standard).

use super::composite::composite;
use super::{Composite, DeliveryState, Field};
use crate::wire::{DecodeError, Descriptor, Map, Reader, Symbol, Writer};

/// `session-end`: what a terminus does by default when its link is gone.
const SESSION_END: Symbol = Symbol::from_static("session-end");

composite! {
    /// Where the messages of a link come from.
    pub struct Source = 0x28 "amqp:source:list" {
        /// The node.
        address: Option<String>,
        /// What the terminus keeps when the link is gone: 0 nothing, 1 its configuration, 2 the unsettled state.
        durable: u32 = 0,
        /// When the terminus expires.
        expiry_policy: Symbol = SESSION_END,
        /// Seconds from that moment on.
        timeout: u32 = 0,
        /// The peer is asked to make a node up.
        dynamic: bool = false,
        /// Its properties.
        dynamic_node_properties: Map,
        /// `move` or `copy`.
        distribution_mode: Option<Symbol>,
        /// Filters by name. A server echoes those that it applies.
        filter: Map,
        /// The outcome of deliveries that end without one.
        default_outcome: Option<DeliveryState>,
        /// The outcomes that may be used.
        outcomes: Vec<Symbol>,
        /// Extensions.
        capabilities: Vec<Symbol>,
    }
}

composite! {
    /// Where the messages of a link go to.
    pub struct Target = 0x29 "amqp:target:list" {
        /// The node.
        address: Option<String>,
        /// What the terminus keeps when the link is gone: 0 nothing, 1 its configuration, 2 the unsettled state.
        durable: u32 = 0,
        /// When the terminus expires.
        expiry_policy: Symbol = SESSION_END,
        /// Seconds from that moment on.
        timeout: u32 = 0,
        /// The peer is asked to make a node up.
        dynamic: bool = false,
        /// Its properties.
        dynamic_node_properties: Map,
        /// Extensions.
        capabilities: Vec<Symbol>,
    }
}

impl Default for Source {
    fn default() -> Self {
        Self {
            address: None,
            durable: 0,
            expiry_policy: SESSION_END,
            timeout: 0,
            dynamic: false,
            dynamic_node_properties: Map::new(),
            distribution_mode: None,
            filter: Map::new(),
            default_outcome: None,
            outcomes: Vec::new(),
            capabilities: Vec::new(),
        }
    }
}

impl Source {
    /// A source with an address and nothing else.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }
}

impl Default for Target {
    fn default() -> Self {
        Self {
            address: None,
            durable: 0,
            expiry_policy: SESSION_END,
            timeout: 0,
            dynamic: false,
            dynamic_node_properties: Map::new(),
            capabilities: Vec::new(),
        }
    }
}

impl Target {
    /// A target with an address and nothing else.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }
}

/// A target of another kind (a transaction coordinator) is read as a target without an address, which nobody accepts.
impl Field for Target {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut inner = reader.descend()?;
        let known = match inner.descriptor()? {
            Descriptor::Code(code) => code == Self::CODE,
            Descriptor::Symbol(name) => name == Self::NAME,
            Descriptor::Other => false,
        };
        let target = if known {
            Self::decode_fields(&mut inner)?
        } else {
            inner.skip()?;
            Self::default()
        };
        reader.take(reader.rest().len() - inner.rest().len())?;
        Ok(target)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        Composite::write(self, w);
    }
}
