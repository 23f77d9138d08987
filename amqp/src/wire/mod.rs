//! The AMQP 1.0 type system on the wire (part 1 of the standard).
//!
//! Three views of the same bytes, from cheap to comfortable: [`Reader`] walks them, [`ValueRef`] borrows one value out of them,
//! [`Value`] owns a whole tree. The hot paths use the first two and never allocate.

mod array;
mod codes;
mod convert;
mod error;
mod map;
mod raw;
mod reader;
mod symbol;
mod value;
mod writer;

pub use array::{Array, MixedArray};
pub use codes::MAX_DEPTH;
pub(crate) use codes::code;
pub use error::DecodeError;
pub use map::Map;
pub use raw::{Raw, ValueRef};
pub use reader::{Compound, Descriptor, Reader};
pub use symbol::Symbol;
pub use value::{Described, Value};
pub use writer::{Mark, Writer};
