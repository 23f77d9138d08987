//! A local Event Hubs namespace.
pub mod connections;
pub mod faults;
pub mod model;
pub mod namespace;
pub mod store;
