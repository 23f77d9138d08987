//! How a command ends when not well, and the exit code that says so.

use crate::config::ConfigError;

/// The exit code of a wrong command line (clap's own) or configuration.
pub(crate) const USAGE: u8 = 2;

/// Why a command did not do what it was asked; the text is for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The report on standard output has said all there is to say. Exit code 1.
    #[error("")]
    Reported,
    /// Something failed. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command line or the configuration is wrong. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Stopped before all was finished. Exit code 3.
    #[error("{0}")]
    Unfinished(String),
}

impl Failure {
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Reported | Self::Failed(_) => 1,
            Self::Usage(_) => USAGE,
            Self::Unfinished(_) => 3,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}
