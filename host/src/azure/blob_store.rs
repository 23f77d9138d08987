//! Ownership and checkpoints in Azure Blob Storage, for a fleet of hosts that share nothing but a container.
//!
//! A [`BlobContainer`] gives each scope its [`BlobStore`]. Blobs lie where every Azure SDK and KEDA look for them (see `layout.rs`), so a
//! group may be shared with processors in other languages, and each goes on from the other's checkpoints.
//!
//! - Every write to a partition is one PUT with `If-None-Match: *` or `If-Match`; a lost race (409, 412) is a value.
//! - What a listing says about age is the service's clock alone: `Date` of the answer minus `Last-Modified` of the blob.
//! - An attempt without an answer may have taken place. Writes carry a number of their own, by which the store knows its own
//!   write after the fact; what even that can't settle is reported as open.

mod address;
mod body;
mod clock;
mod container;
mod layout;
mod left;
mod letters;
mod store;
#[cfg(test)]
mod tests;

pub use address::{ContainerError, DEVELOPMENT_SAS};
pub use container::{BlobContainer, Patience};
pub use left::{Left, Leftovers};
pub use letters::LetterContainer;
pub use store::BlobStore;
