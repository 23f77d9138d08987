//! One AMQP connection with its sessions and links, for either end, without I/O.
//!
//! ```text
//! socket ──read──► feed(Bytes) ──► next_event() ──► you
//! socket ◄─writev── output()   ◄── commands     ◄── you
//!                    next_deadline() / on_deadline(now)
//! ```
//!
//! # How to drive it
//! Own the socket and a [`Connection`] in one task. Feed what you read; then take events until there are none; write
//! [`Connection::output`] (it is a [`bytes::Buf`] that offers its slices for one `writev`); wake up at
//! [`Connection::next_deadline`]. Frames are parsed when events are asked for, so a command given in answer to one event is seen
//! by the frames behind it.
//!
//! # What it promises
//! - Every session and link that was announced by an event or returned by a command ends with exactly one
//!   [`Event::SessionEnded`] or [`Event::Detached`], except when the connection itself ends. That is told by exactly one
//!   [`Event::Closed`], which is the last event.
//! - A peer that breaks the protocol loses the smallest thing that contains the breach: its link, its session, or its
//!   connection; always with an error that says why. Commands can't break the protocol: they are refused with a [`CommandError`].
//! - Credit and windows are honoured in both directions. The session's incoming window is refilled by itself. Detach, end and close
//!   are answered by themselves.
//! - Ids carry a generation, so a late command never hits the successor of a link or session.
//! - Memory: per connection, what [`ConnectionConfig`] allows in channels, handles and one partial delivery per link, plus the
//!   output you don't write. Look at `output().remaining()` before sending more.

mod config;
mod connection;
mod error;
mod event;
mod flow;
mod handshake;
mod ids;
mod link;
mod output;
mod receive;
mod send;
mod session;
mod timers;

pub use config::{ClientSasl, ConnectionConfig, ServerSasl, SessionConfig};
pub use connection::Connection;
pub use error::{CommandError, SendError};
pub use event::{CloseReason, Delivery, Event, LinkFlow, LinkInfo, Side};
pub use ids::{LinkId, SessionId};
pub use output::Output;
pub use send::SendOptions;
