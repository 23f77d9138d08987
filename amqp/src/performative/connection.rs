//! What begins and ends connections and sessions.

use super::AmqpError;
use super::composite::composite;
use crate::wire::{Map, Symbol};

composite! {
    /// Opens a connection and says what this end can take.
    pub struct Open = 0x10 "amqp:open:list" {
        /// Who this end is.
        container_id: String,
        /// Whom it wants to talk to.
        hostname: Option<String>,
        /// The largest frame it takes, in bytes.
        max_frame_size: u32 = u32::MAX,
        /// The highest channel it takes.
        channel_max: u16 = u16::MAX,
        /// Milliseconds without a frame after which it gives the connection up. The peer must send more often.
        idle_time_out: Option<u32>,
        /// Languages for texts it sends.
        outgoing_locales: Vec<Symbol>,
        /// Languages for texts it wants.
        incoming_locales: Vec<Symbol>,
        /// Extensions it can use.
        offered_capabilities: Vec<Symbol>,
        /// Extensions it would like.
        desired_capabilities: Vec<Symbol>,
        /// Product, version and the like.
        properties: Map,
    }
}

composite! {
    /// Begins a session on a channel.
    pub struct Begin = 0x11 "amqp:begin:list" {
        /// The channel of the begin that this one answers.
        remote_channel: Option<u16>,
        /// Transfer id of the first transfer this end will send.
        next_outgoing_id: u32,
        /// How many transfer frames it takes before it says more.
        incoming_window: u32,
        /// How many it can have unsettled.
        outgoing_window: u32,
        /// The highest link handle it takes.
        handle_max: u32 = u32::MAX,
        /// Extensions it can use.
        offered_capabilities: Vec<Symbol>,
        /// Extensions it would like.
        desired_capabilities: Vec<Symbol>,
        /// Anything else.
        properties: Map,
    }
}

composite! {
    /// Ends a session.
    pub struct End = 0x17 "amqp:end:list" {
        /// Why, unless all is well.
        error: Option<AmqpError>,
    }
}

composite! {
    /// Closes a connection.
    pub struct Close = 0x18 "amqp:close:list" {
        /// Why, unless all is well.
        error: Option<AmqpError>,
    }
}

impl Open {
    /// An open with the standard's defaults.
    pub fn new(container_id: impl Into<String>) -> Self {
        Self {
            container_id: container_id.into(),
            hostname: None,
            max_frame_size: u32::MAX,
            channel_max: u16::MAX,
            idle_time_out: None,
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: Map::new(),
        }
    }
}
