use thiserror::Error;

/// Why bytes are not what the standard says they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A size points past the end of the input.
    #[error("the input ends {missing} bytes before the value does")]
    Truncated {
        /// How many bytes more the value claims.
        missing: usize,
    },
    /// A format code of no known class.
    #[error("format code {code:#04x} belongs to no class of the standard")]
    UnknownCode {
        /// The code found.
        code: u8,
    },
    /// A value of another type than the place asks for.
    #[error("expected {expected}, found format code {code:#04x}")]
    Unexpected {
        /// The type that belongs here.
        expected: &'static str,
        /// The code found.
        code: u8,
    },
    /// Compounds nest deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("values nest deeper than {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// A value tree with more nodes than its size justifies.
    #[error("a value of {bytes} bytes unfolds into too many elements")]
    TooManyElements {
        /// Size of the input.
        bytes: usize,
    },
    /// The count of a compound does not match its content.
    #[error("the count of a {what} does not match its content")]
    Count {
        /// `list`, `map` or `array`.
        what: &'static str,
    },
    /// Text that is not UTF-8, a symbol that is not ASCII, or a char that is no Unicode scalar.
    #[error("invalid {what}")]
    Text {
        /// `string`, `symbol` or `char`.
        what: &'static str,
    },
    /// A boolean byte that is neither 0 nor 1, or another value outside its type's range.
    #[error("invalid value for {what}")]
    Range {
        /// The type or the field.
        what: &'static str,
    },
    /// A mandatory field that is null or absent.
    #[error("mandatory field `{field}` of {what} is missing")]
    MissingField {
        /// The composite type.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A described value with a descriptor that has no place here.
    #[error("unknown descriptor {descriptor:#x} where {expected} was expected")]
    UnknownDescriptor {
        /// What belongs here.
        expected: &'static str,
        /// The numeric descriptor; 0 for a symbolic one.
        descriptor: u64,
    },
    /// Bytes behind the end of a value that should fill its space.
    #[error("{extra} bytes follow the end of the value")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The sections of a message out of their order, or one of them twice.
    #[error("message section {section:#x} is out of order or repeated")]
    SectionOrder {
        /// The numeric descriptor of the section.
        section: u64,
    },
}
