use crate::wire::{DecodeError, Map, Reader, ValueRef};

/// The entries of an annotations or properties section, read one at a time.
///
/// As an iterator it ends after the first entry that is not valid.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    encoded: &'a [u8],
    state: State<'a>,
}

#[derive(Debug, Clone)]
enum State<'a> {
    Start,
    Open { left: u32, reader: Reader<'a> },
    Done,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { encoded, state: State::Start }
    }

    /// The map as it is encoded.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The value under a key, from the start.
    ///
    /// # Errors
    /// If an entry up to there is not valid.
    pub fn get(&self, key: &str) -> Result<Option<ValueRef<'a>>, DecodeError> {
        for entry in Self::new(self.encoded) {
            let (k, value) = entry?;
            if k.as_str() == Some(key) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Copies the map.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn to_map(&self) -> Result<Map, DecodeError> {
        let mut reader = Reader::new(self.encoded);
        if reader.null()? { Ok(Map::new()) } else { Map::decode(&mut reader) }
    }

    fn step(&mut self) -> Result<Option<(ValueRef<'a>, ValueRef<'a>)>, DecodeError> {
        if let State::Start = self.state {
            let mut reader = Reader::new(self.encoded);
            if reader.null()? {
                return Ok(None); // a section whose map is null
            }
            let map = reader.map()?;
            self.state = State::Open { left: map.count / 2, reader: map.items };
        }
        let State::Open { left, reader } = &mut self.state else { return Ok(None) };
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                Ok(Some((ValueRef::read(reader)?, ValueRef::read(reader)?)))
            }
            None => reader.finish().map_err(|_| DecodeError::Count { what: "map" }).map(|()| None),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(ValueRef<'a>, ValueRef<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.step().transpose();
        if !matches!(entry, Some(Ok(_))) {
            self.state = State::Done;
        }
        entry
    }
}
