//! Arrays: one constructor, then bodies.

use thiserror::Error;

use super::value::Budget;
use super::{Compound, DecodeError, Described, Reader, Value, Writer, code};

/// Values of one type (and, if described, with one descriptor).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array(Vec<Value>);

/// The values are not all of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the elements of an array have to be of one type and descriptor")]
pub struct MixedArray;

impl Array {
    /// An array of these values.
    ///
    /// # Errors
    /// If they are not all of one type.
    pub fn new(items: Vec<Value>) -> Result<Self, MixedArray> {
        let uniform = items.windows(2).all(|pair| same_constructor(&pair[0], &pair[1]));
        if uniform { Ok(Self(items)) } else { Err(MixedArray) }
    }

    /// The elements.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        &self.0
    }

    pub(crate) fn decode(array: Compound<'_>, budget: &mut Budget) -> Result<Self, DecodeError> {
        let Compound { count, mut items } = array;
        // An array that is described stacks its descriptors before the code: each wraps the elements once more.
        let mut descriptors = Vec::new();
        let mut code = items.code()?;
        while code == code::DESCRIBED {
            if descriptors.len() >= usize::from(items.depth()) {
                return Err(DecodeError::TooDeep);
            }
            descriptors.push(Value::decode_within(&mut items, budget)?);
            code = items.code()?;
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            let mut element = Value::decode_body(code, &mut items, budget)?;
            for descriptor in descriptors.iter().rev() {
                budget.charge(descriptor)?;
                element = Value::Described(Box::new(Described { descriptor: descriptor.clone(), value: element }));
            }
            elements.push(element);
        }
        items.finish().map_err(|_| DecodeError::Count { what: "array" })?;
        Ok(Self(elements))
    }

    /// Writes it, with the widest form of the element's type, which fits all of them.
    pub fn encode(&self, w: &mut Writer<'_>) {
        let mark = w.begin_array();
        match self.0.first() {
            None => w.raw_code(code::NULL),
            Some(first) => {
                let mut inner = first;
                while let Value::Described(described) = inner {
                    w.described();
                    described.descriptor.encode(w);
                    inner = &described.value;
                }
                w.raw_code(element_code(inner));
                for item in &self.0 {
                    w.array_body(strip(item));
                }
            }
        }
        w.end_array(mark, self.0.len());
    }
}

/// The value inside its descriptors.
fn strip(value: &Value) -> &Value {
    value.undescribed()
}

fn same_constructor(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Described(a), Value::Described(b)) => {
            a.descriptor == b.descriptor && same_constructor(&a.value, &b.value)
        }
        (Value::Described(_), _) | (_, Value::Described(_)) => false,
        (a, b) => element_code(a) == element_code(b),
    }
}

/// The format code that holds every value of the type.
fn element_code(value: &Value) -> u8 {
    match value {
        Value::Null => code::NULL,
        Value::Bool(_) => code::BOOLEAN,
        Value::UByte(_) => code::UBYTE,
        Value::UShort(_) => code::USHORT,
        Value::UInt(_) => code::UINT,
        Value::ULong(_) => code::ULONG,
        Value::Byte(_) => code::BYTE,
        Value::Short(_) => code::SHORT,
        Value::Int(_) => code::INT,
        Value::Long(_) => code::LONG,
        Value::Float(_) => code::FLOAT,
        Value::Double(_) => code::DOUBLE,
        Value::Decimal32(_) => code::DECIMAL32,
        Value::Decimal64(_) => code::DECIMAL64,
        Value::Decimal128(_) => code::DECIMAL128,
        Value::Char(_) => code::CHAR,
        Value::Timestamp(_) => code::TIMESTAMP,
        Value::Uuid(_) => code::UUID,
        Value::Binary(_) => code::BINARY32,
        Value::String(_) => code::STRING32,
        Value::Symbol(_) => code::SYMBOL32,
        Value::List(_) => code::LIST32,
        Value::Map(_) => code::MAP32,
        Value::Array(_) => code::ARRAY32,
        Value::Described(_) => code::DESCRIBED,
    }
}

impl Reader<'_> {
    /// Reads the elements of an array of symbols, or a single symbol: how the standard writes `multiple` fields.
    ///
    /// # Errors
    /// If it is neither.
    pub fn symbols(&mut self) -> Result<Vec<super::Symbol>, DecodeError> {
        let code = self.peek()?;
        if !matches!(code, code::ARRAY8 | code::ARRAY32) {
            return Ok(vec![self.symbol()?.into()]);
        }
        let Compound { count, mut items } = self.array()?;
        let element = items.code()?;
        if count > 0 && !matches!(element, code::SYMBOL8 | code::SYMBOL32) {
            return Err(DecodeError::Unexpected { expected: "an array of symbols", code: element });
        }
        let mut symbols = Vec::new();
        for _ in 0..count {
            symbols.push(super::reader::symbol(items.sized(element)?)?.into());
        }
        items.finish().map_err(|_| DecodeError::Count { what: "array" })?;
        Ok(symbols)
    }
}
