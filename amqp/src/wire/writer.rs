//! The encoder: appends to a buffer and patches sizes once they are known.

use bytes::{BufMut, BytesMut};

use super::{Symbol, Value, ValueRef, code};

/// Appends encoded values to a buffer.
///
/// A compound starts with `begin_…` and ends with `end_…`, which patches size and count, and moves to the 8-bit form if it fits.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut BytesMut,
}

/// Where a compound begins. Hand it back to the matching `end_…`.
#[derive(Debug)]
#[must_use = "a compound that is not ended has no size"]
pub struct Mark(usize);

/// Format code, size and count of the 32-bit form.
const HEADER32: usize = 9;
/// Format code, size and count of the 8-bit form.
const HEADER8: usize = 3;

impl<'a> Writer<'a> {
    /// A writer that appends to `buf`.
    pub fn new(buf: &'a mut BytesMut) -> Self {
        Self { buf }
    }

    /// Bytes in the buffer, those of others included.
    #[must_use]
    pub fn position(&self) -> usize {
        self.buf.len()
    }

    /// Appends bytes that are encoded already.
    pub fn encoded(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    pub(crate) fn raw_code(&mut self, code: u8) {
        self.buf.put_u8(code);
    }

    /// Writes the byte that announces a descriptor. The descriptor and the value follow.
    pub fn described(&mut self) {
        self.buf.put_u8(code::DESCRIBED);
    }

    /// Writes a numeric descriptor of the standard's domain. The value follows.
    pub fn descriptor(&mut self, code: u64) {
        self.described();
        self.ulong(code);
    }

    /// Writes null.
    pub fn null(&mut self) {
        self.buf.put_u8(code::NULL);
    }

    /// Writes a boolean.
    pub fn boolean(&mut self, v: bool) {
        self.buf.put_u8(if v { code::TRUE } else { code::FALSE });
    }

    /// Writes a ubyte.
    pub fn ubyte(&mut self, v: u8) {
        self.buf.extend_from_slice(&[code::UBYTE, v]);
    }

    /// Writes a ushort.
    pub fn ushort(&mut self, v: u16) {
        self.buf.put_u8(code::USHORT);
        self.buf.put_u16(v);
    }

    /// Writes a uint in its shortest form.
    pub fn uint(&mut self, v: u32) {
        match u8::try_from(v) {
            Ok(0) => self.buf.put_u8(code::UINT_0),
            Ok(small) => self.buf.extend_from_slice(&[code::SMALL_UINT, small]),
            Err(_) => {
                self.buf.put_u8(code::UINT);
                self.buf.put_u32(v);
            }
        }
    }

    /// Writes a ulong in its shortest form.
    pub fn ulong(&mut self, v: u64) {
        match u8::try_from(v) {
            Ok(0) => self.buf.put_u8(code::ULONG_0),
            Ok(small) => self.buf.extend_from_slice(&[code::SMALL_ULONG, small]),
            Err(_) => {
                self.buf.put_u8(code::ULONG);
                self.buf.put_u64(v);
            }
        }
    }

    /// Writes an int in its shortest form.
    pub fn int(&mut self, v: i32) {
        match i8::try_from(v) {
            Ok(small) => {
                self.buf.put_u8(code::SMALL_INT);
                self.buf.put_i8(small);
            }
            Err(_) => {
                self.buf.put_u8(code::INT);
                self.buf.put_i32(v);
            }
        }
    }

    /// Writes a long in its shortest form.
    pub fn long(&mut self, v: i64) {
        match i8::try_from(v) {
            Ok(small) => {
                self.buf.put_u8(code::SMALL_LONG);
                self.buf.put_i8(small);
            }
            Err(_) => {
                self.buf.put_u8(code::LONG);
                self.buf.put_i64(v);
            }
        }
    }

    /// Writes a timestamp: milliseconds since the Unix epoch.
    pub fn timestamp(&mut self, millis: i64) {
        self.buf.put_u8(code::TIMESTAMP);
        self.buf.put_i64(millis);
    }

    fn variable(&mut self, code8: u8, code32: u8, bytes: &[u8]) {
        self.variable_header(code8, code32, bytes.len());
        self.buf.extend_from_slice(bytes);
    }

    fn variable_header(&mut self, code8: u8, code32: u8, len: usize) {
        match u8::try_from(len) {
            Ok(small) => self.buf.extend_from_slice(&[code8, small]),
            Err(_) => {
                self.buf.put_u8(code32);
                self.buf.put_u32(size32(len));
            }
        }
    }

    /// Writes a binary.
    pub fn binary(&mut self, bytes: &[u8]) {
        self.variable(code::BINARY8, code::BINARY32, bytes);
    }

    /// Writes constructor and size of a binary whose `len` bytes are sent separately.
    pub fn binary_header(&mut self, len: usize) {
        self.variable_header(code::BINARY8, code::BINARY32, len);
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.variable(code::STRING8, code::STRING32, text.as_bytes());
    }

    /// Writes a symbol.
    pub fn symbol(&mut self, text: &str) {
        self.variable(code::SYMBOL8, code::SYMBOL32, text.as_bytes());
    }

    /// Writes a `multiple` field of symbols: null for none, else an array.
    pub fn symbols(&mut self, symbols: &[Symbol]) {
        if symbols.is_empty() {
            return self.null();
        }
        let wide = symbols.iter().any(|s| s.len() > usize::from(u8::MAX));
        let mark = self.begin_array();
        self.raw_code(if wide { code::SYMBOL32 } else { code::SYMBOL8 });
        for symbol in symbols {
            match u8::try_from(symbol.len()) {
                Ok(len) if !wide => self.buf.put_u8(len),
                _ => self.buf.put_u32(size32(symbol.len())),
            }
            self.buf.extend_from_slice(symbol.as_bytes());
        }
        self.end_array(mark, symbols.len());
    }

    /// Writes a borrowed value; what is still encoded is copied as it is.
    pub fn value_ref(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.null(),
            ValueRef::Bool(v) => self.boolean(v),
            ValueRef::UByte(v) => self.ubyte(v),
            ValueRef::UShort(v) => self.ushort(v),
            ValueRef::UInt(v) => self.uint(v),
            ValueRef::ULong(v) => self.ulong(v),
            ValueRef::Int(v) => self.int(v),
            ValueRef::Long(v) => self.long(v),
            ValueRef::Timestamp(v) => self.timestamp(v),
            ValueRef::Binary(v) => self.binary(v),
            ValueRef::Str(v) => self.string(v),
            ValueRef::Symbol(v) => self.symbol(v),
            ValueRef::Byte(v) => self.fixed(code::BYTE, &v.to_be_bytes()),
            ValueRef::Short(v) => self.fixed(code::SHORT, &v.to_be_bytes()),
            ValueRef::Float(v) => self.fixed(code::FLOAT, &v.to_be_bytes()),
            ValueRef::Double(v) => self.fixed(code::DOUBLE, &v.to_be_bytes()),
            ValueRef::Decimal32(v) => self.fixed(code::DECIMAL32, &v),
            ValueRef::Decimal64(v) => self.fixed(code::DECIMAL64, &v),
            ValueRef::Decimal128(v) => self.fixed(code::DECIMAL128, &v),
            ValueRef::Char(v) => self.fixed(code::CHAR, &u32::from(v).to_be_bytes()),
            ValueRef::Uuid(v) => self.fixed(code::UUID, &v),
            ValueRef::Raw(raw) => self.encoded(raw.bytes()),
        }
    }

    fn fixed(&mut self, code: u8, bytes: &[u8]) {
        self.buf.put_u8(code);
        self.buf.extend_from_slice(bytes);
    }

    /// Writes an element of an array: the body of the widest form, without its constructor.
    pub(crate) fn array_body(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Described(_) => {}
            Value::Bool(v) => self.buf.put_u8(u8::from(*v)),
            Value::UByte(v) => self.buf.put_u8(*v),
            Value::UShort(v) => self.buf.put_u16(*v),
            Value::UInt(v) => self.buf.put_u32(*v),
            Value::ULong(v) => self.buf.put_u64(*v),
            Value::Byte(v) => self.buf.put_i8(*v),
            Value::Short(v) => self.buf.put_i16(*v),
            Value::Int(v) => self.buf.put_i32(*v),
            Value::Long(v) | Value::Timestamp(v) => self.buf.put_i64(*v),
            Value::Float(v) => self.buf.put_f32(*v),
            Value::Double(v) => self.buf.put_f64(*v),
            Value::Decimal32(v) => self.buf.extend_from_slice(v),
            Value::Decimal64(v) => self.buf.extend_from_slice(v),
            Value::Decimal128(v) | Value::Uuid(v) => self.buf.extend_from_slice(v),
            Value::Char(v) => self.buf.put_u32(u32::from(*v)),
            Value::Binary(v) => self.body32(v),
            Value::String(v) => self.body32(v.as_bytes()),
            Value::Symbol(v) => self.body32(v.as_bytes()),
            Value::List(_) | Value::Map(_) | Value::Array(_) => {
                // The whole value in its 32-bit form, without the format code in front.
                let start = self.buf.len();
                value.encode(self);
                self.widen(start);
            }
        }
    }

    fn body32(&mut self, bytes: &[u8]) {
        self.buf.put_u32(size32(bytes.len()));
        self.buf.extend_from_slice(bytes);
    }

    /// Turns the compound that begins at `start` into the body of its 32-bit form.
    fn widen(&mut self, start: usize) {
        let (count, body) = match self.buf[start] {
            code::LIST0 => (0, start + 1),
            code::LIST8 | code::MAP8 | code::ARRAY8 => (u32::from(self.buf[start + 2]), start + HEADER8),
            _ => {
                self.buf.copy_within(start + 1.., start);
                let len = self.buf.len() - 1;
                return self.buf.truncate(len);
            }
        };
        let content = self.buf.split_off(body);
        self.buf.truncate(start);
        self.buf.put_u32(size32(content.len() + 4));
        self.buf.put_u32(count);
        self.buf.extend_from_slice(&content);
    }

    fn begin(&mut self) -> Mark {
        let mark = Mark(self.buf.len());
        self.buf.extend_from_slice(&[0; HEADER32]);
        mark
    }

    fn end(&mut self, start: usize, count: usize, code8: u8, code32: u8) {
        let body = self.buf.len() - start - HEADER32;
        if let (Ok(size), Ok(count)) = (u8::try_from(body + 1), u8::try_from(count)) {
            self.buf.copy_within(start + HEADER32.., start + HEADER8);
            self.buf.truncate(start + HEADER8 + body);
            self.buf[start..start + HEADER8].copy_from_slice(&[code8, size, count]);
        } else {
            self.buf[start] = code32;
            self.buf[start + 1..start + 5].copy_from_slice(&size32(body + 4).to_be_bytes());
            self.buf[start + 5..start + HEADER32].copy_from_slice(&size32(count).to_be_bytes());
        }
    }

    /// Begins a list.
    pub fn begin_list(&mut self) -> Mark {
        self.begin()
    }

    /// Ends a list of `count` elements.
    pub fn end_list(&mut self, mark: Mark, count: usize) {
        if count == 0 {
            self.buf.truncate(mark.0);
            return self.raw_code(code::LIST0);
        }
        self.end(mark.0, count, code::LIST8, code::LIST32);
    }

    /// Begins a map.
    pub fn begin_map(&mut self) -> Mark {
        self.begin()
    }

    /// Ends a map of `count` keys and values together.
    pub fn end_map(&mut self, mark: Mark, count: usize) {
        self.end(mark.0, count, code::MAP8, code::MAP32);
    }

    pub(crate) fn begin_array(&mut self) -> Mark {
        self.begin()
    }

    pub(crate) fn end_array(&mut self, mark: Mark, count: usize) {
        self.end(mark.0, count, code::ARRAY8, code::ARRAY32);
    }
}

/// Sizes on the wire have 32 bits. Whatever is larger fails at the frame size long before; saturating keeps this total.
fn size32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
