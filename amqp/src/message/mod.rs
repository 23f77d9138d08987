//! Messages (part 3.2 of the standard): found in place, handed on as slices, built from parts.
//!
//! [`Message::parse`] looks at the outline of each section once and keeps ranges into the delivery's bytes. What is inside a section is
//! decoded when somebody asks, so a broker that passes events through never pays for it, and a broken section is that reader's
//! error only. Every accessor hands out borrowed values, or slices that share the delivery's memory.

mod batch;
mod entries;
mod parse;
mod parts;
mod properties;

pub use batch::{BATCH_FORMAT, BatchBuilder};
pub use entries::Entries;
pub use parse::{BodyKind, Message, Section};
pub use parts::{Body, Header, MessageParts, encode_annotations, encode_data_header};
pub use properties::{OwnedProperties, Properties, Timestamp};
