//! The cursor that everything is decoded with.

use super::codes::{Width, width};
use super::{DecodeError, MAX_DEPTH, Raw, code};

/// A cursor over encoded values. Every read is checked against the bytes that are there; nothing allocates.
///
/// A compound is opened with [`list`](Self::list) or [`map`](Self::map), which hand out a reader of its content one level deeper
/// and move this one behind it.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    depth: u8,
}

/// An opened list, map or array.
#[derive(Debug, Clone)]
pub struct Compound<'a> {
    /// How many elements the peer says there are (a map counts keys and values). Not to be trusted for an allocation.
    pub count: u32,
    /// The content.
    pub items: Reader<'a>,
}

/// The descriptor of a described value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptor<'a> {
    /// Numeric: domain in the upper, id in the lower 32 bits.
    Code(u64),
    /// Symbolic.
    Symbol(&'a str),
    /// Neither: legal, and known to nobody.
    Other,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: MAX_DEPTH }
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Levels of nesting still allowed.
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }

    /// The same place, one level deeper.
    pub(crate) fn descend(&self) -> Result<Self, DecodeError> {
        let depth = self.depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        Ok(Self { rest: self.rest, depth })
    }

    pub(crate) fn with_depth(bytes: &'a [u8], depth: u8) -> Self {
        Self { rest: bytes, depth }
    }

    /// An error unless everything was read.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { extra: self.rest.len() }) }
    }

    /// The next format code, without moving.
    ///
    /// # Errors
    /// At the end of the input.
    #[inline]
    pub fn peek(&self) -> Result<u8, DecodeError> {
        self.rest.first().copied().ok_or(DecodeError::Truncated { missing: 1 })
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Truncated { missing: n - self.rest.len() }),
        }
    }

    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(DecodeError::Truncated { missing: N - self.rest.len() }),
        }
    }

    /// Reads a format code.
    #[inline]
    pub(crate) fn code(&mut self) -> Result<u8, DecodeError> {
        Ok(self.fixed::<1>()?[0])
    }

    /// The content behind a format code of the classes with a size.
    #[inline]
    pub(crate) fn sized(&mut self, code: u8) -> Result<&'a [u8], DecodeError> {
        let size = match width(code)? {
            Width::Fixed(n) => n,
            Width::Sized8 => usize::from(self.fixed::<1>()?[0]),
            Width::Sized32 => u32::from_be_bytes(self.fixed()?) as usize,
        };
        self.take(size)
    }

    /// Skips one value of any kind in constant time and constant stack; only stacked descriptors take a step each.
    ///
    /// # Errors
    /// If the value does not fit into what is left.
    #[inline]
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        let mut values = 1usize;
        while values > 0 {
            let code = self.code()?;
            if code == code::DESCRIBED {
                values += 1; // this one became a descriptor and a value
                continue;
            }
            self.sized(code)?;
            values -= 1;
        }
        Ok(())
    }

    /// The encoded form of the next value, descriptor included.
    ///
    /// # Errors
    /// As [`skip`](Self::skip).
    pub fn raw(&mut self) -> Result<Raw<'a>, DecodeError> {
        let start = self.rest;
        self.skip()?;
        Ok(Raw::new(&start[..start.len() - self.rest.len()], self.depth))
    }

    /// Moves past a null and says whether there was one.
    ///
    /// # Errors
    /// At the end of the input.
    #[inline]
    pub fn null(&mut self) -> Result<bool, DecodeError> {
        let is = self.peek()? == code::NULL;
        if is {
            self.rest = &self.rest[1..];
        }
        Ok(is)
    }

    /// Reads a descriptor: the constructor byte 0 and the value behind it. The described value is next.
    ///
    /// # Errors
    /// If the next value is not described.
    #[inline]
    pub fn descriptor(&mut self) -> Result<Descriptor<'a>, DecodeError> {
        match self.code()? {
            code::DESCRIBED => {}
            code => return Err(DecodeError::Unexpected { expected: "a described value", code }),
        }
        Ok(match self.peek()? {
            code::SMALL_ULONG | code::ULONG | code::ULONG_0 => Descriptor::Code(self.ulong()?),
            code::SYMBOL8 | code::SYMBOL32 => Descriptor::Symbol(self.symbol()?),
            _ => {
                self.skip()?;
                Descriptor::Other
            }
        })
    }

    /// Opens a list.
    ///
    /// # Errors
    /// If the next value is not a list, or nests too deep.
    #[inline]
    pub fn list(&mut self) -> Result<Compound<'a>, DecodeError> {
        let code = self.code()?;
        match code {
            code::LIST0 => Ok(Compound { count: 0, items: Reader { rest: &[], depth: self.depth } }),
            code::LIST8 => self.compound8(),
            code::LIST32 => self.compound32(),
            code => Err(DecodeError::Unexpected { expected: "a list", code }),
        }
    }

    /// Opens a map: keys and values in turn, `count` of them together, always even.
    ///
    /// # Errors
    /// If the next value is not a map, its count is odd, or it nests too deep.
    pub fn map(&mut self) -> Result<Compound<'a>, DecodeError> {
        let code = self.code()?;
        let map = match code {
            code::MAP8 => self.compound8(),
            code::MAP32 => self.compound32(),
            code => Err(DecodeError::Unexpected { expected: "a map", code }),
        }?;
        if map.count % 2 == 0 { Ok(map) } else { Err(DecodeError::Count { what: "map" }) }
    }

    /// Opens an array: the reader stands at the constructor that all elements share.
    ///
    /// # Errors
    /// If the next value is not an array, or nests too deep.
    pub fn array(&mut self) -> Result<Compound<'a>, DecodeError> {
        let code = self.code()?;
        match code {
            code::ARRAY8 => self.compound8(),
            code::ARRAY32 => self.compound32(),
            code => Err(DecodeError::Unexpected { expected: "an array", code }),
        }
    }

    #[inline]
    pub(crate) fn compound8(&mut self) -> Result<Compound<'a>, DecodeError> {
        let size = usize::from(self.fixed::<1>()?[0]);
        let depth = self.depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let mut items = Reader { rest: self.take(size)?, depth };
        let count = u32::from(items.fixed::<1>()?[0]);
        Ok(Compound { count, items })
    }

    #[inline]
    pub(crate) fn compound32(&mut self) -> Result<Compound<'a>, DecodeError> {
        let size = u32::from_be_bytes(self.fixed()?) as usize;
        let depth = self.depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let mut items = Reader { rest: self.take(size)?, depth };
        let count = u32::from_be_bytes(items.fixed()?);
        Ok(Compound { count, items })
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// If the next value is none.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.code()? {
            code::TRUE => Ok(true),
            code::FALSE => Ok(false),
            code::BOOLEAN => boolean(self.fixed::<1>()?[0]),
            code => Err(DecodeError::Unexpected { expected: "a boolean", code }),
        }
    }

    /// Reads an unsigned byte.
    ///
    /// # Errors
    /// If the next value is none.
    #[inline]
    pub fn ubyte(&mut self) -> Result<u8, DecodeError> {
        match self.code()? {
            code::UBYTE => Ok(self.fixed::<1>()?[0]),
            code => Err(DecodeError::Unexpected { expected: "a ubyte", code }),
        }
    }

    /// Reads an unsigned short.
    ///
    /// # Errors
    /// If the next value is none.
    #[inline]
    pub fn ushort(&mut self) -> Result<u16, DecodeError> {
        match self.code()? {
            code::USHORT => Ok(u16::from_be_bytes(self.fixed()?)),
            code => Err(DecodeError::Unexpected { expected: "a ushort", code }),
        }
    }

    /// Reads an unsigned int in any of its forms.
    ///
    /// # Errors
    /// If the next value is none.
    #[inline]
    pub fn uint(&mut self) -> Result<u32, DecodeError> {
        match self.code()? {
            code::UINT_0 => Ok(0),
            code::SMALL_UINT => Ok(u32::from(self.fixed::<1>()?[0])),
            code::UINT => Ok(u32::from_be_bytes(self.fixed()?)),
            code => Err(DecodeError::Unexpected { expected: "a uint", code }),
        }
    }

    /// Reads an unsigned long in any of its forms.
    ///
    /// # Errors
    /// If the next value is none.
    #[inline]
    pub fn ulong(&mut self) -> Result<u64, DecodeError> {
        match self.code()? {
            code::SMALL_ULONG => Ok(u64::from(self.fixed::<1>()?[0])),
            code::ULONG => Ok(u64::from_be_bytes(self.fixed()?)),
            code::ULONG_0 => Ok(0),
            code => Err(DecodeError::Unexpected { expected: "a ulong", code }),
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// If the next value is none, or not UTF-8.
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        match self.code()? {
            code @ (code::STRING8 | code::STRING32) => {
                std::str::from_utf8(self.sized(code)?).map_err(|_| DecodeError::Text { what: "string" })
            }
            code => Err(DecodeError::Unexpected { expected: "a string", code }),
        }
    }

    /// Reads a symbol.
    ///
    /// # Errors
    /// If the next value is none, or not ASCII.
    pub fn symbol(&mut self) -> Result<&'a str, DecodeError> {
        match self.code()? {
            code @ (code::SYMBOL8 | code::SYMBOL32) => symbol(self.sized(code)?),
            code => Err(DecodeError::Unexpected { expected: "a symbol", code }),
        }
    }

    /// Reads a string, or a symbol from a peer that does not tell them apart.
    ///
    /// # Errors
    /// If the next value is neither.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        match self.peek()? {
            code::SYMBOL8 | code::SYMBOL32 => self.symbol(),
            _ => self.string(),
        }
    }

    /// Reads a binary.
    ///
    /// # Errors
    /// If the next value is none.
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        match self.code()? {
            code @ (code::BINARY8 | code::BINARY32) => self.sized(code),
            code => Err(DecodeError::Unexpected { expected: "a binary", code }),
        }
    }

    /// Reads a timestamp: milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// If the next value is none.
    pub fn timestamp(&mut self) -> Result<i64, DecodeError> {
        match self.code()? {
            code::TIMESTAMP => Ok(i64::from_be_bytes(self.fixed()?)),
            code => Err(DecodeError::Unexpected { expected: "a timestamp", code }),
        }
    }
}

pub(crate) fn boolean(byte: u8) -> Result<bool, DecodeError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Range { what: "a boolean" }),
    }
}

pub(crate) fn symbol(bytes: &[u8]) -> Result<&str, DecodeError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(DecodeError::Text { what: "symbol" }),
    }
}
