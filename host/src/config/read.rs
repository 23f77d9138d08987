//! Reads the file's tables by the schema, and goes on after a mistake: what is wrong is collected, never returned early.
//!
//! Each getter answers `None` when the value is absent without a default, or wrong; in the second case the mistake is noted
//! already, so whoever builds on it may simply leave out what depends on it.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{Environment, Given, interpolate};
use super::mistake::Mistake;
use super::schema::{Fallback, Key, Kind, Section};
use super::text::{check_text, kind_in_words, nearest};
use super::units::{parse_duration, parse_size};

/// The file and what was found wrong with it so far.
pub(crate) struct Reader<'a> {
    text: &'a str,
    directory: &'a Path,
    environment: Environment<'a>,
    mistakes: RefCell<Vec<(usize, Mistake)>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, directory: &'a Path, environment: Environment<'a>) -> Self {
        Self { text, directory, environment, mistakes: RefCell::default() }
    }

    /// Notes a mistake at a place in the file.
    pub(crate) fn note(&self, at: usize, path: &str, value: Option<String>, why: String) {
        let line = self.line(at);
        self.mistakes.borrow_mut().push((at, Mistake { line, path: path.to_owned(), value, why }));
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1
    }

    /// Every mistake so far, in the order of the file.
    pub(crate) fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|(at, _)| *at);
        mistakes.into_iter().map(|(_, mistake)| mistake).collect()
    }

    /// The value as it stands in the file, when it is short and can't hold a secret.
    fn shown(&self, span: &Range<usize>) -> Option<String> {
        let text = self.text.get(span.clone())?;
        let secret =
            ["sharedaccess", "password", "accountkey", "sig="].iter().any(|word| text.to_lowercase().contains(word));
        match (secret, text.contains('\n') || text.chars().count() > 80) {
            (true, _) => Some("(hidden)".into()),
            (false, true) => None,
            (false, false) => Some(text.to_owned()),
        }
    }
}

/// A table of the file, or an absent one that answers with defaults.
#[derive(Clone)]
pub(crate) struct Table<'a> {
    reader: &'a Reader<'a>,
    section: &'static Section,
    path: String,
    entries: Option<&'a DeTable<'a>>,
    at: usize,
}

type Found<'a> = (Range<usize>, &'a DeValue<'a>);

impl<'a> Table<'a> {
    /// The file itself; unknown keys are noted at once.
    pub(crate) fn root(reader: &'a Reader<'a>, section: &'static Section, entries: &'a DeTable<'a>) -> Self {
        let table = Self { reader, section, path: String::new(), entries: Some(entries), at: 0 };
        table.note_unknown();
        table
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The line that the table begins on.
    pub(crate) fn line(&self) -> usize {
        self.reader.line(self.at)
    }

    /// A text as it is written, without a check: to name a table by one of its values.
    pub(crate) fn peek_text(&self, name: &str) -> Option<&'a str> {
        self.find(name)?.1.as_str().filter(|text| !text.is_empty())
    }

    /// Whether the key stands in the file, right or wrong.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether a list stands there without an element.
    pub(crate) fn is_empty_list(&self, name: &str) -> bool {
        self.find(name).and_then(|(_, value)| value.as_array()).is_some_and(|list| list.is_empty())
    }

    /// Whether the table itself stands in the file.
    pub(crate) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// Notes a mistake of a value, or of the table where the value would stand.
    pub(crate) fn note(&self, name: &str, why: impl Into<String>) {
        match self.find(name) {
            Some((span, _)) => {
                self.reader.note(span.start, &self.key_path(name), self.reader.shown(&span), why.into());
            }
            None => self.reader.note(self.at, &self.key_path(name), None, why.into()),
        }
    }

    /// Notes a mistake of the table as a whole.
    pub(crate) fn note_whole(&self, why: impl Into<String>) {
        self.reader.note(self.at, &self.path, None, why.into());
    }

    pub(crate) fn text(&self, name: &str) -> Option<Given<String>> {
        self.read(name, |key, value| {
            let text = value.as_str().ok_or_else(|| vec![kind_in_words(key.kind)])?;
            let given = interpolate(text, self.reader.environment)?;
            check_text(key.kind, &given).map_err(|why| vec![why])?;
            Ok(given)
        })
    }

    /// A path, made absolute by the configuration's directory.
    pub(crate) fn file(&self, name: &str) -> Option<Given<PathBuf>> {
        Some(self.text(name)?.map(|path| self.place(&path)))
    }

    /// The absolute path that one in the file means.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        let path = self.reader.directory.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    pub(crate) fn choice(&self, name: &str) -> Option<&'static str> {
        self.read(name, |key, value| {
            let Kind::Choice(choices) = key.kind else { return Err(vec![]) };
            let text = value.as_str().ok_or_else(|| vec![kind_in_words(key.kind)])?;
            let given = interpolate(text, self.reader.environment)?;
            choices.iter().find(|choice| **choice == *given).copied().ok_or_else(|| vec![kind_in_words(key.kind)])
        })
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.read(name, |key, value| value.as_bool().ok_or_else(|| vec![kind_in_words(key.kind)]))
    }

    pub(crate) fn count(&self, name: &str) -> Option<i64> {
        self.read(name, |key, value| {
            let number = integer(value);
            let Kind::Count(min, max) = key.kind else { return Err(vec![]) };
            number.filter(|n| (min..=max).contains(n)).ok_or_else(|| vec![kind_in_words(key.kind)])
        })
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.quantity(name, parse_duration)
    }

    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.quantity(name, parse_size)
    }

    /// A number with a unit, within its key's bounds. Whether it may go without the unit, the parser decides.
    fn quantity<T: PartialOrd>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.read(name, |key, value| {
            let (Kind::Duration(min, max) | Kind::Size(min, max)) = key.kind else { return Err(vec![]) };
            let found = match (value.as_str(), integer(value)) {
                (Some(text), _) => parse(&interpolate(text, self.reader.environment)?),
                (None, Some(number)) => parse(&number.to_string()),
                (None, None) => return Err(vec![kind_in_words(key.kind)]),
            };
            let bounds = parse(min).map_err(one)?..=parse(max).map_err(one)?;
            let found = found.map_err(one)?;
            bounds.contains(&found).then_some(found).ok_or_else(|| vec![kind_in_words(key.kind)])
        })
    }

    /// A value whose shape the caller knows.
    pub(crate) fn value<T>(&self, name: &str, read: impl FnOnce(&DeValue<'_>) -> Result<T, String>) -> Option<T> {
        self.read(name, |_, value| read(value).map_err(one))
    }

    /// The table under a key. Absent or wrong: one that answers with defaults.
    pub(crate) fn table(&self, name: &str) -> Table<'a> {
        let section = match self.section.key(name).map(|key| key.kind) {
            Some(Kind::Table(section)) => section,
            other => {
                debug_assert!(false, "{name} is {other:?}, not a table");
                self.section
            }
        };
        let path = self.key_path(name);
        let absent = Table { reader: self.reader, section, path, entries: None, at: self.at };
        match self.find(name) {
            None => {
                self.note_missing(name);
                absent
            }
            Some((span, value)) => self.sub_table(section, absent.path.clone(), span, value).unwrap_or(absent),
        }
    }

    /// The tables of an array, for example of `[[processor]]`, each with its number from 1.
    pub(crate) fn tables(&self, name: &str, path: impl Fn(usize, &Table<'_>) -> String) -> Vec<Table<'a>> {
        let Some(Key { kind: Kind::Tables(section), .. }) = self.section.key(name) else { return vec![] };
        let Some((_, value)) = self.find(name) else {
            self.note_missing(name);
            return vec![];
        };
        let Some(array) = value.as_array() else {
            self.note(name, format!("is not a list of tables; begin each with {}", section.header));
            return vec![];
        };
        let mut tables = vec![];
        for (index, value) in array.iter().enumerate() {
            let number = format!("{name}[#{}]", index + 1);
            if let Some(mut table) = self.sub_table_unchecked(section, number, value.span(), value.get_ref()) {
                table.path = path(index + 1, &table);
                table.note_unknown();
                tables.push(table);
            }
        }
        tables
    }

    /// The tables under a table of names, for example of `outputs`.
    pub(crate) fn named(&self, name: &str) -> Vec<(String, Table<'a>)> {
        let Some(Key { kind: Kind::Named(section), .. }) = self.section.key(name) else { return vec![] };
        let Some((_, value)) = self.find(name) else { return vec![] };
        let Some(tables) = value.as_table() else {
            self.note(name, format!("is not a table of tables; begin each with {}", section.header));
            return vec![];
        };
        let mut named = vec![];
        for (key, value) in tables.iter() {
            let path = format!("{}.{}", self.key_path(name), key.get_ref());
            if let Err(why) = check_text(Kind::Name, key.get_ref()) {
                self.reader.note(key.span().start, &path, None, why);
            }
            if let Some(table) = self.sub_table(section, path, value.span(), value.get_ref()) {
                named.push((key.get_ref().to_string(), table));
            }
        }
        named
    }

    /// Puts the environment into a text of a free table.
    pub(crate) fn interpolated(&self, text: &str) -> Result<Given<String>, String> {
        interpolate(text, self.reader.environment).map_err(|problems| problems.join("; "))
    }

    fn sub_table(
        &self,
        section: &'static Section,
        path: String,
        span: Range<usize>,
        value: &'a DeValue<'a>,
    ) -> Option<Table<'a>> {
        let table = self.sub_table_unchecked(section, path, span, value)?;
        table.note_unknown();
        Some(table)
    }

    fn sub_table_unchecked(
        &self,
        section: &'static Section,
        path: String,
        span: Range<usize>,
        value: &'a DeValue<'a>,
    ) -> Option<Table<'a>> {
        let Some(entries) = value.as_table() else {
            let names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
            let why = format!("is not a table; write it as {{ {} = … }}", names.first().unwrap_or(&"key"));
            self.reader.note(span.start, &path, self.reader.shown(&span), why);
            return None;
        };
        Some(Table { reader: self.reader, section, path, entries: Some(entries), at: span.start })
    }

    fn key_path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn find(&self, name: &str) -> Option<Found<'a>> {
        let (_, value) = self.entries?.iter().find(|(key, _)| key.get_ref() == name)?;
        Some((Spanned::span(value), value.get_ref()))
    }

    fn note_missing(&self, name: &str) {
        if let Some(Key { fallback: Fallback::Required, meaning, example, kind, .. }) = self.section.key(name) {
            let remedy = match kind {
                Kind::Table(section) | Kind::Tables(section) => format!("add a {} section", section.header),
                _ => format!("add {name} = {example}"),
            };
            let meaning = meaning.split(['.', ';', ':', '(']).next().unwrap_or(meaning).trim_end();
            let meaning: String =
                meaning.chars().take(1).flat_map(char::to_lowercase).chain(meaning.chars().skip(1)).collect();
            self.note(name, format!("is missing ({meaning}); {remedy}"));
        }
    }

    fn note_unknown(&self) {
        for (key, _) in self.entries.into_iter().flat_map(|entries| entries.iter()) {
            let name = key.get_ref();
            if self.section.key(name).is_none() {
                let why = nearest(name, self.section);
                self.reader.note(key.span().start, &self.key_path(name), None, why);
            }
        }
    }

    /// Finds, else falls back, else notes that the key is missing; then converts and notes what is wrong.
    fn read<T>(
        &self,
        name: &str,
        convert: impl FnOnce(&'static Key, &DeValue<'_>) -> Result<T, Vec<String>>,
    ) -> Option<T> {
        let Some(key) = self.section.key(name) else {
            debug_assert!(false, "{name} is not a key of {}", self.section.header);
            return None;
        };
        if let Some((_, value)) = self.find(name) {
            match convert(key, value) {
                Ok(value) => return Some(value),
                Err(reasons) => reasons.into_iter().for_each(|why| self.note(name, why)),
            }
            return None;
        }
        match key.fallback {
            // A table that stands nowhere misses nothing itself: its parent said whether it is needed.
            Fallback::Required if self.entries.is_some() => self.note_missing(name),
            Fallback::Value(default) => return convert(key, DeValue::parse(default).ok()?.get_ref()).ok(),
            Fallback::Required | Fallback::Described(_) => {}
        }
        None
    }
}

/// A whole number, also in another base or with underscores.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn one(why: String) -> Vec<String> {
    vec![why]
}
