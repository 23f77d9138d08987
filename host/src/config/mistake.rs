//! What is wrong with a configuration: all of it at once, each mistake with its line, its key and what would be right.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}", unreadable(file, source))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read and is wrong.
    #[error("{}", listed(file, mistakes))]
    Wrong {
        /// The file.
        file: PathBuf,
        /// Every mistake, in the order of the file.
        mistakes: Vec<Mistake>,
    },
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line in the file, from 1; of the section where a key is missing.
    pub line: usize,
    /// Where: a key path such as `processor[delays].batch.events`, empty for the file as a whole.
    pub path: String,
    /// The value as it is written in the file, when there is one worth showing.
    pub value: Option<String>,
    /// What is wrong and what would be right.
    pub why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match (&*self.path, &self.value) {
            ("", _) => write!(f, "{}", self.why),
            (path, Some(value)) => write!(f, "{path} = {value} {}", self.why),
            (path, None) => write!(f, "{path} {}", self.why),
        }
    }
}

/// The system's own words only where nothing better is known.
fn unreadable(file: &std::path::Path, error: &std::io::Error) -> String {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "it isn't there; name another file, or write one (docs/configuration.md lists the keys)".to_owned()
        }
        std::io::ErrorKind::IsADirectory => "it is a directory; name the file in it".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => error.to_string(),
    };
    format!("can't read the configuration {}: {why}", file.display())
}

fn listed(file: &std::path::Path, mistakes: &[Mistake]) -> String {
    let count = match mistakes.len() {
        1 => "1 mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    let mut text = format!("{count} in {}", file.display());
    for mistake in mistakes {
        text.push_str(&format!("\n  {mistake}"));
    }
    text
}
