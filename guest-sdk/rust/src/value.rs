//! Property values: from and to Rust's own types.

use crate::Value;

impl Value {
    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, signed or not, if it is one and fits.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Unsigned(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($type:ty => $case:ident),+ $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$case(value.into())
            }
        }
    )+};
}

from! {
    bool => Boolean,
    i8 => Integer, i16 => Integer, i32 => Integer, i64 => Integer,
    u8 => Unsigned, u16 => Unsigned, u32 => Unsigned, u64 => Unsigned,
    f32 => Double, f64 => Double,
    &str => Text, String => Text,
    &[u8] => Binary, Vec<u8> => Binary,
}
