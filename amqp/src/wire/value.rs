//! The owned tree, for the paths where comfort is worth an allocation: attach properties, filters, management answers.

use bytes::Bytes;

use super::{Array, DecodeError, Map, Reader, Symbol, ValueRef, Writer, code};

/// Any AMQP value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Null.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// Unsigned, 8 bits.
    UByte(u8),
    /// Unsigned, 16 bits.
    UShort(u16),
    /// Unsigned, 32 bits.
    UInt(u32),
    /// Unsigned, 64 bits.
    ULong(u64),
    /// Signed, 8 bits.
    Byte(i8),
    /// Signed, 16 bits.
    Short(i16),
    /// Signed, 32 bits.
    Int(i32),
    /// Signed, 64 bits.
    Long(i64),
    /// IEEE 754 binary32.
    Float(f32),
    /// IEEE 754 binary64.
    Double(f64),
    /// IEEE 754 decimal32, as it came.
    Decimal32([u8; 4]),
    /// IEEE 754 decimal64, as it came.
    Decimal64([u8; 8]),
    /// IEEE 754 decimal128, as it came.
    Decimal128([u8; 16]),
    /// A Unicode scalar.
    Char(char),
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    /// A UUID in network order.
    Uuid([u8; 16]),
    /// Bytes.
    Binary(Bytes),
    /// Text.
    String(String),
    /// A symbol.
    Symbol(Symbol),
    /// A list of anything.
    List(Vec<Value>),
    /// A map of anything to anything.
    Map(Map),
    /// Values of one type.
    Array(Array),
    /// A value with a descriptor that says what it means.
    Described(Box<Described>),
}

/// A value and its descriptor.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// Usually a ulong or a symbol.
    pub descriptor: Value,
    /// What it describes.
    pub value: Value,
}

/// Counts what a tree may still unfold into, so that tiny encodings (a list of one-byte nulls, an array of zero-byte elements) can't
/// become huge trees.
pub(crate) struct Budget {
    left: usize,
    bytes: usize,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        // Every node outside of an array of zero-width elements costs at least one byte; those get a few for free.
        Self { left: bytes.saturating_add(64).min(MAX_NODES), bytes }
    }

    /// Takes the cost of a copy of `value` off.
    pub(crate) fn charge(&mut self, value: &Value) -> Result<(), DecodeError> {
        let cost = cost(value);
        self.left = self.left.checked_sub(cost).ok_or(DecodeError::TooManyElements { bytes: self.bytes })?;
        Ok(())
    }

    pub(crate) fn node(&mut self) -> Result<(), DecodeError> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(DecodeError::TooManyElements { bytes: self.bytes }),
        }
    }
}

/// What a copy of a value costs, in nodes: its own, and text by length.
fn cost(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / 16,
        Value::Symbol(text) => text.len() / 16,
        Value::List(items) => items.iter().map(cost).sum(),
        Value::Array(array) => array.items().iter().map(cost).sum(),
        Value::Map(map) => map.iter().map(|(key, value)| cost(key) + cost(value)).sum(),
        Value::Described(described) => cost(&described.descriptor) + cost(&described.value),
        _ => 0,
    }
}

/// The most nodes of one owned tree. Above it a value can still be passed on as bytes, or walked with a [`Reader`].
const MAX_NODES: usize = 1 << 16;

impl Value {
    /// Reads the next value with all it holds.
    ///
    /// # Errors
    /// If something is not valid, nests too deep, or unfolds into more elements than it has bytes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // What follows the value must not buy it more elements: the same bytes decode everywhere or nowhere.
        let bytes = reader.clone().raw()?.bytes().len();
        Self::decode_within(reader, &mut Budget::new(bytes))
    }

    pub(crate) fn decode_within(reader: &mut Reader<'_>, budget: &mut Budget) -> Result<Self, DecodeError> {
        let code = reader.code()?;
        if code != code::DESCRIBED {
            return Self::decode_body(code, reader, budget);
        }
        budget.node()?;
        let mut inner = reader.descend()?;
        let descriptor = Self::decode_within(&mut inner, budget)?;
        let value = Self::decode_within(&mut inner, budget)?;
        reader.take(reader.rest().len() - inner.rest().len())?;
        Ok(Self::Described(Box::new(Described { descriptor, value })))
    }

    /// Decodes what follows the format code, as array elements need it.
    pub(crate) fn decode_body(code: u8, reader: &mut Reader<'_>, budget: &mut Budget) -> Result<Self, DecodeError> {
        budget.node()?;
        Ok(match code {
            code::LIST0 => Self::List(Vec::new()),
            code::LIST8 | code::LIST32 => {
                let mut list = if code == code::LIST8 { reader.compound8()? } else { reader.compound32()? };
                let mut items = Vec::new();
                for _ in 0..list.count {
                    items.push(Self::decode_within(&mut list.items, budget)?);
                }
                list.items.finish().map_err(|_| DecodeError::Count { what: "list" })?;
                Self::List(items)
            }
            code::MAP8 | code::MAP32 => {
                let mut entries = if code == code::MAP8 { reader.compound8()? } else { reader.compound32()? };
                if entries.count % 2 != 0 {
                    return Err(DecodeError::Count { what: "map" });
                }
                let mut map = Map::new();
                for _ in 0..entries.count / 2 {
                    let key = Self::decode_within(&mut entries.items, budget)?;
                    map.push(key, Self::decode_within(&mut entries.items, budget)?);
                }
                entries.items.finish().map_err(|_| DecodeError::Count { what: "map" })?;
                Self::Map(map)
            }
            code::ARRAY8 => Self::Array(Array::decode(reader.compound8()?, budget)?),
            code::ARRAY32 => Self::Array(Array::decode(reader.compound32()?, budget)?),
            _ => Self::from_primitive(ValueRef::read_body(code, reader)?),
        })
    }

    pub(crate) fn from_primitive(value: ValueRef<'_>) -> Self {
        match value {
            // Compounds are handled by those who call this; an undecoded rest has no primitive form.
            ValueRef::Null | ValueRef::Raw(_) => Self::Null,
            ValueRef::Bool(v) => Self::Bool(v),
            ValueRef::UByte(v) => Self::UByte(v),
            ValueRef::UShort(v) => Self::UShort(v),
            ValueRef::UInt(v) => Self::UInt(v),
            ValueRef::ULong(v) => Self::ULong(v),
            ValueRef::Byte(v) => Self::Byte(v),
            ValueRef::Short(v) => Self::Short(v),
            ValueRef::Int(v) => Self::Int(v),
            ValueRef::Long(v) => Self::Long(v),
            ValueRef::Float(v) => Self::Float(v),
            ValueRef::Double(v) => Self::Double(v),
            ValueRef::Decimal32(v) => Self::Decimal32(v),
            ValueRef::Decimal64(v) => Self::Decimal64(v),
            ValueRef::Decimal128(v) => Self::Decimal128(v),
            ValueRef::Char(v) => Self::Char(v),
            ValueRef::Timestamp(v) => Self::Timestamp(v),
            ValueRef::Uuid(v) => Self::Uuid(v),
            ValueRef::Binary(v) => Self::Binary(Bytes::copy_from_slice(v)),
            ValueRef::Str(v) => Self::String(v.to_owned()),
            ValueRef::Symbol(v) => Self::Symbol(v.into()),
        }
    }

    /// Borrows it, unless it is a compound or described value, which have no borrowed form without their bytes.
    #[must_use]
    pub fn as_primitive(&self) -> Option<ValueRef<'_>> {
        Some(match self {
            Self::Null => ValueRef::Null,
            Self::Bool(v) => ValueRef::Bool(*v),
            Self::UByte(v) => ValueRef::UByte(*v),
            Self::UShort(v) => ValueRef::UShort(*v),
            Self::UInt(v) => ValueRef::UInt(*v),
            Self::ULong(v) => ValueRef::ULong(*v),
            Self::Byte(v) => ValueRef::Byte(*v),
            Self::Short(v) => ValueRef::Short(*v),
            Self::Int(v) => ValueRef::Int(*v),
            Self::Long(v) => ValueRef::Long(*v),
            Self::Float(v) => ValueRef::Float(*v),
            Self::Double(v) => ValueRef::Double(*v),
            Self::Decimal32(v) => ValueRef::Decimal32(*v),
            Self::Decimal64(v) => ValueRef::Decimal64(*v),
            Self::Decimal128(v) => ValueRef::Decimal128(*v),
            Self::Char(v) => ValueRef::Char(*v),
            Self::Timestamp(v) => ValueRef::Timestamp(*v),
            Self::Uuid(v) => ValueRef::Uuid(*v),
            Self::Binary(v) => ValueRef::Binary(v),
            Self::String(v) => ValueRef::Str(v),
            Self::Symbol(v) => ValueRef::Symbol(v),
            Self::List(_) | Self::Map(_) | Self::Array(_) | Self::Described(_) => return None,
        })
    }

    /// Writes it, in the shortest form of its type.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::List(items) => {
                let mark = w.begin_list();
                for item in items {
                    item.encode(w);
                }
                w.end_list(mark, items.len());
            }
            Self::Map(map) => map.encode(w),
            Self::Array(array) => array.encode(w),
            Self::Described(described) => {
                w.described();
                described.descriptor.encode(w);
                described.value.encode(w);
            }
            primitive => w.value_ref(primitive.as_primitive().unwrap_or(ValueRef::Null)),
        }
    }

    /// The text of a string or symbol.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(symbol) => Some(symbol),
            _ => None,
        }
    }

    /// Any integer or timestamp that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.as_primitive()?.as_i64()
    }

    /// A boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// What a described value describes, or the value itself.
    #[must_use]
    pub fn undescribed(&self) -> &Self {
        match self {
            Self::Described(described) => described.value.undescribed(),
            plain => plain,
        }
    }
}
