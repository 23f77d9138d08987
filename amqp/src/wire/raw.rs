//! Values that borrow from the bytes they were read from.

use super::reader::{boolean, symbol};
use super::{DecodeError, Reader, Value, code};

/// One encoded value, left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    depth: u8,
}

impl<'a> Raw<'a> {
    pub(crate) fn new(bytes: &'a [u8], depth: u8) -> Self {
        Self { bytes, depth }
    }

    /// The encoded form, constructor included.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A reader that stands at this value.
    #[must_use]
    pub fn reader(&self) -> Reader<'a> {
        Reader::with_depth(self.bytes, self.depth)
    }

    /// Decodes it into an owned tree.
    ///
    /// # Errors
    /// If something inside is not valid; only its outline was checked so far.
    pub fn to_value(&self) -> Result<Value, DecodeError> {
        Value::decode(&mut self.reader())
    }
}

/// One value, borrowed. Compounds and described values stay encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// Null.
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
    Binary(&'a [u8]),
    /// Text.
    Str(&'a str),
    /// A symbol.
    Symbol(&'a str),
    /// A list, map, array or described value, still encoded.
    Raw(Raw<'a>),
}

impl<'a> ValueRef<'a> {
    /// Reads the next value.
    ///
    /// # Errors
    /// If it is not valid.
    #[inline]
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let code = reader.peek()?;
        if code == code::DESCRIBED || code == code::LIST0 || code >= 0xc0 {
            return Ok(Self::Raw(reader.raw()?));
        }
        reader.code()?;
        Self::read_body(code, reader)
    }

    /// Reads the part behind the format code of a primitive that is no compound.
    #[inline]
    pub(crate) fn read_body(code: u8, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match code {
            code::NULL => Self::Null,
            code::TRUE => Self::Bool(true),
            code::FALSE => Self::Bool(false),
            code::BOOLEAN => Self::Bool(boolean(r.fixed::<1>()?[0])?),
            code::UBYTE => Self::UByte(r.fixed::<1>()?[0]),
            code::USHORT => Self::UShort(u16::from_be_bytes(r.fixed()?)),
            code::UINT => Self::UInt(u32::from_be_bytes(r.fixed()?)),
            code::SMALL_UINT => Self::UInt(u32::from(r.fixed::<1>()?[0])),
            code::UINT_0 => Self::UInt(0),
            code::ULONG => Self::ULong(u64::from_be_bytes(r.fixed()?)),
            code::SMALL_ULONG => Self::ULong(u64::from(r.fixed::<1>()?[0])),
            code::ULONG_0 => Self::ULong(0),
            code::BYTE => Self::Byte(i8::from_be_bytes(r.fixed()?)),
            code::SHORT => Self::Short(i16::from_be_bytes(r.fixed()?)),
            code::INT => Self::Int(i32::from_be_bytes(r.fixed()?)),
            code::SMALL_INT => Self::Int(i32::from(i8::from_be_bytes(r.fixed()?))),
            code::LONG => Self::Long(i64::from_be_bytes(r.fixed()?)),
            code::SMALL_LONG => Self::Long(i64::from(i8::from_be_bytes(r.fixed()?))),
            code::FLOAT => Self::Float(f32::from_be_bytes(r.fixed()?)),
            code::DOUBLE => Self::Double(f64::from_be_bytes(r.fixed()?)),
            code::DECIMAL32 => Self::Decimal32(r.fixed()?),
            code::DECIMAL64 => Self::Decimal64(r.fixed()?),
            code::DECIMAL128 => Self::Decimal128(r.fixed()?),
            code::CHAR => {
                let scalar = u32::from_be_bytes(r.fixed()?);
                Self::Char(char::from_u32(scalar).ok_or(DecodeError::Text { what: "char" })?)
            }
            code::TIMESTAMP => Self::Timestamp(i64::from_be_bytes(r.fixed()?)),
            code::UUID => Self::Uuid(r.fixed()?),
            code::BINARY8 | code::BINARY32 => Self::Binary(r.sized(code)?),
            code::STRING8 | code::STRING32 => {
                Self::Str(std::str::from_utf8(r.sized(code)?).map_err(|_| DecodeError::Text { what: "string" })?)
            }
            code::SYMBOL8 | code::SYMBOL32 => Self::Symbol(symbol(r.sized(code)?)?),
            code => return Err(DecodeError::UnknownCode { code }),
        })
    }

    /// The text of a string or symbol.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::Str(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// Any integer or timestamp that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        Some(match *self {
            Self::UByte(n) => i64::from(n),
            Self::UShort(n) => i64::from(n),
            Self::UInt(n) => i64::from(n),
            Self::ULong(n) => i64::try_from(n).ok()?,
            Self::Byte(n) => i64::from(n),
            Self::Short(n) => i64::from(n),
            Self::Int(n) => i64::from(n),
            Self::Long(n) | Self::Timestamp(n) => n,
            _ => return None,
        })
    }

    /// Whether it is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Copies it into an owned value.
    ///
    /// # Errors
    /// If a compound's content is not valid.
    pub fn to_value(&self) -> Result<Value, DecodeError> {
        match *self {
            Self::Raw(raw) => raw.to_value(),
            primitive => Ok(Value::from_primitive(primitive)),
        }
    }
}
