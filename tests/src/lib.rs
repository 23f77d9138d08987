//! What the stories in `tests/` share.

pub mod consumer;
pub mod fault_proxy;
pub mod fleet;
pub mod guests;
pub mod weir;
