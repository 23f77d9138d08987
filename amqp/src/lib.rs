//! AMQP 1.0 for Event Hubs, in the parts that can be reasoned about without a socket.
//!
//! Everything here is *sans-I/O*: bytes come in as [`bytes::Bytes`], bytes go out through a [`bytes::Buf`], time comes in as an
//! argument. Nothing waits, nothing sleeps, nothing reads a clock. One task of yours owns the socket and drives the rest.
//!
//! - [`wire`]: the type system. A bounds-checked, depth-limited [`wire::Reader`], a [`wire::Writer`] that patches sizes afterwards,
//!   and [`wire::Value`] for the paths where an owned tree is worth its cost.
//! - [`performative`]: the nine performatives, SASL, and the types inside them.
//! - [`message`]: the sections of a message, found in place and handed out as slices of the delivery they came in.
//! - [`frame`]: complete frames out of a byte stream in any chunking.
//! - [`engine`]: one connection with its sessions and links, for either end.
//!
//! # What is promised
//!
//! Input is hostile until proven otherwise. No input makes this crate panic, overflow the stack, or allocate more than a small
//! multiple of the input's size: counts on the wire are never trusted for an allocation, compounds nest at most
//! [`wire::MAX_DEPTH`] deep, and sizes are checked against the bytes that are there.
//! A payload is never copied on its way through, with one exception: a delivery of several frames is assembled once.

pub mod engine;
pub mod frame;
pub mod message;
pub mod performative;
pub mod wire;

#[doc(hidden)]
pub mod testing;
