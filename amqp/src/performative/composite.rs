//! What all composite types share: a descriptor, a list of fields, and the macro that writes both directions from one definition.

use crate::wire::{Compound, DecodeError, Descriptor, Reader, Writer};

/// A described list with a fixed descriptor.
pub(crate) trait Composite: Sized {
    /// The numeric descriptor (the domain of the standard is 0).
    const CODE: u64;
    /// The symbolic descriptor.
    const NAME: &'static str;

    /// Reads the list behind the descriptor.
    fn decode_fields(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Writes descriptor and list.
    fn write(&self, w: &mut Writer<'_>);

    /// Reads descriptor and list.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = identify(reader, Self::NAME, |name| (name == Self::NAME).then_some(Self::CODE))?;
        if code == Self::CODE {
            Self::decode_fields(reader)
        } else {
            Err(DecodeError::UnknownDescriptor { expected: Self::NAME, descriptor: code })
        }
    }
}

/// Reads a descriptor in either form and returns its number.
pub(crate) fn identify(
    reader: &mut Reader<'_>,
    expected: &'static str,
    by_name: impl Fn(&str) -> Option<u64>,
) -> Result<u64, DecodeError> {
    match reader.descriptor()? {
        Descriptor::Code(code) => Ok(code),
        Descriptor::Symbol(name) => by_name(name).ok_or(DecodeError::UnknownDescriptor { expected, descriptor: 0 }),
        Descriptor::Other => Err(DecodeError::UnknownDescriptor { expected, descriptor: 0 }),
    }
}

/// The fields of a composite, in order.
pub(crate) struct Fields<'a> {
    list: Compound<'a>,
}

impl<'a> Fields<'a> {
    pub(crate) fn open(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { list: reader.list()? })
    }

    /// The reader at the next field, or nothing if that is null or beyond the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<&mut Reader<'a>>, DecodeError> {
        let Some(left) = self.list.count.checked_sub(1) else { return Ok(None) };
        self.list.count = left;
        if self.list.items.null()? { Ok(None) } else { Ok(Some(&mut self.list.items)) }
    }

    /// Fields beyond those known are skipped: newer peers may send them. Anything else behind the last field is an error.
    pub(crate) fn finish(mut self) -> Result<(), DecodeError> {
        while self.list.count > 0 && !self.list.items.is_empty() {
            self.list.items.skip()?;
            self.list.count -= 1;
        }
        if self.list.count > 0 {
            return Err(DecodeError::Count { what: "list" });
        }
        self.list.items.finish()
    }
}

/// Defines a composite type: struct, descriptor, decoder, encoder. A field is mandatory unless its type has an answer for absence
/// (`Option`, maps, symbol lists) or it names a default.
macro_rules! composite {
    (
        $(#[$meta:meta])*
        $vis:vis struct $type:ident = $code:literal $name:literal {
            $( $(#[$fmeta:meta])* $field:ident : $ftype:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $type {
            $( $(#[$fmeta])* pub $field: $ftype, )*
        }

        impl $crate::performative::Composite for $type {
            const CODE: u64 = $code;
            const NAME: &'static str = $name;

            fn decode_fields(reader: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::wire::DecodeError> {
                let mut fields = $crate::performative::Fields::open(reader)?;
                $(
                    let $field = match fields.next()? {
                        Some(reader) => <$ftype as $crate::performative::Field>::decode(reader)?,
                        None => $crate::performative::composite::absent!($name, $field, $ftype $(, $default)?),
                    };
                )*
                fields.finish()?;
                Ok(Self { $($field),* })
            }

            fn write(&self, w: &mut $crate::wire::Writer<'_>) {
                w.descriptor(Self::CODE);
                let mark = w.begin_list();
                let mut count = 0;
                $(
                    $crate::performative::Field::encode(&self.$field, w);
                    count += 1;
                )*
                w.end_list(mark, count);
            }
        }
    };
}

macro_rules! absent {
    ($name:literal, $field:ident, $ftype:ty) => {
        <$ftype as $crate::performative::Field>::absent($name, stringify!($field))?
    };
    ($name:literal, $field:ident, $ftype:ty, $default:expr) => {
        $default
    };
}

pub(crate) use {absent, composite};
