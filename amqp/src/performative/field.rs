//! How each type that a field may have is read, written, and what its absence means.

use bytes::Bytes;

use super::{Composite, DeliveryState, DeliveryTag};
use crate::wire::{DecodeError, Map, Reader, Symbol, Value, Writer};

pub(crate) trait Field: Sized {
    /// Reads the field; it is not null.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Writes the field, or null.
    fn encode(&self, w: &mut Writer<'_>);

    /// The value of a field that is null or missing.
    fn absent(what: &'static str, field: &'static str) -> Result<Self, DecodeError> {
        Err(DecodeError::MissingField { what, field })
    }
}

impl<T: Field> Field for Option<T> {
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(reader).map(Some)
    }
    #[inline]
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Some(value) => value.encode(w),
            None => w.null(),
        }
    }
    #[inline]
    fn absent(_: &'static str, _: &'static str) -> Result<Self, DecodeError> {
        Ok(None)
    }
}

macro_rules! plain {
    ($($type:ty: $read:ident / $write:ident),* $(,)?) => {$(
        impl Field for $type {
            #[inline]
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.$read()
            }
            #[inline]
            fn encode(&self, w: &mut Writer<'_>) {
                w.$write(*self);
            }
        }
    )*};
}

plain! { bool: boolean / boolean, u8: ubyte / ubyte, u16: ushort / ushort, u32: uint / uint, u64: ulong / ulong }

impl Field for String {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.text().map(str::to_owned)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.string(self);
    }
}

impl Field for Symbol {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.symbol().map(Symbol::from)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.symbol(self);
    }
}

impl Field for Bytes {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.binary().map(Bytes::copy_from_slice)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.binary(self);
    }
}

impl Field for Value {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Value::decode(reader)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        Value::encode(self, w);
    }
}

impl Field for DeliveryTag {
    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(reader.binary()?).map_err(|_| DecodeError::Range { what: "delivery-tag" })
    }
    #[inline]
    fn encode(&self, w: &mut Writer<'_>) {
        w.binary(self);
    }
}

impl Field for DeliveryState {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::read(reader)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        self.write(w);
    }
}

/// A map that is absent when empty.
impl Field for Map {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Map::decode(reader)
    }
    fn encode(&self, w: &mut Writer<'_>) {
        if self.is_empty() { w.null() } else { Map::encode(self, w) }
    }
    fn absent(_: &'static str, _: &'static str) -> Result<Self, DecodeError> {
        Ok(Map::new())
    }
}

/// A `multiple` field: null for none, a single symbol, or an array.
impl Field for Vec<Symbol> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.symbols()
    }
    fn encode(&self, w: &mut Writer<'_>) {
        w.symbols(self);
    }
    fn absent(_: &'static str, _: &'static str) -> Result<Self, DecodeError> {
        Ok(Vec::new())
    }
}

/// Composites nest in composites.
macro_rules! nested {
    ($($type:ty),* $(,)?) => {$(
        impl Field for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let mut inner = reader.descend()?;
                let value = <$type as Composite>::read(&mut inner)?;
                reader.take(reader.rest().len() - inner.rest().len())?;
                Ok(value)
            }
            fn encode(&self, w: &mut Writer<'_>) {
                Composite::write(self, w);
            }
        }
    )*};
}

nested! { super::AmqpError, super::Source }
