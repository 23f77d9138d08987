//! What the stories in `tests/` share.

pub mod guests;
pub mod weir;
