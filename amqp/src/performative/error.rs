use std::fmt;

use super::composite::composite;
use crate::wire::{Map, Symbol};

composite! {
    /// An error as peers exchange it: why a link, a session or a connection ended, or why a delivery was rejected.
    pub struct AmqpError = 0x1d "amqp:error:list" {
        /// What went wrong, from a known set (see [`condition`](super::condition)) or a peer's own.
        condition: Symbol,
        /// For the person who reads it.
        description: Option<String>,
        /// Anything else.
        info: Map,
    }
}

impl AmqpError {
    /// An error with a description.
    pub fn new(condition: Symbol, description: impl Into<String>) -> Self {
        Self { condition, description: Some(description.into()), info: Map::new() }
    }
}

impl fmt::Display for AmqpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.description {
            Some(description) => write!(f, "{} ({description})", self.condition),
            None => self.condition.fmt(f),
        }
    }
}

impl std::error::Error for AmqpError {}
