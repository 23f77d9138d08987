use bytes::Bytes;

use super::{Array, Described, Map, Symbol, Value};

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(v: $type) -> Self {
                Self::$variant(v)
            }
        }
    )*};
}

from! {
    bool => Bool, u8 => UByte, u16 => UShort, u32 => UInt, u64 => ULong, i8 => Byte, i16 => Short, i32 => Int, i64 => Long,
    f32 => Float, f64 => Double, char => Char, Bytes => Binary, String => String, Symbol => Symbol, Vec<Value> => List,
    Map => Map, Array => Array,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<Described> for Value {
    fn from(described: Described) -> Self {
        Self::Described(Box::new(described))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}
