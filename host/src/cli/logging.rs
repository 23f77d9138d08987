//! Where log lines go (standard error) and what they look like.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use crate::config::{LogConfig, LogFormat};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LogArgs {
    /// How log lines on standard error look
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "WEIR_LOG_FORMAT",
        hide_env_values = true,
        help_heading = "Logging"
    )]
    pub(crate) log_format: Option<Format>,
    /// What is logged: error, warn, info, debug, trace, or filters such as `info,weir::guest=debug`
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "WEIR_LOG_LEVEL",
        hide_env_values = true,
        help_heading = "Logging"
    )]
    pub(crate) log_level: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// The options, until it is known what the configuration says.
pub(crate) struct Logging {
    args: LogArgs,
}

impl Logging {
    pub(crate) fn new(args: &LogArgs) -> Self {
        Self { args: args.clone() }
    }

    /// Begins to log. Options win over the configuration; commands without one are quiet.
    pub(crate) fn start(&self, config: Option<&LogConfig>) -> Result<(), Failure> {
        let level = self.args.log_level.as_deref().or(config.map(|log| log.level.as_str())).unwrap_or("warn");
        let filter = filter(level)?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let begun = if self.is_json(config) {
            lines.json().flatten_event(true).try_init()
        } else {
            lines.with_ansi(std::io::stderr().is_terminal() && colours_wanted()).try_init()
        };
        begun.map_err(|error| Failure::failed(format!("can't start logging: {error}")))
    }

    /// Whether standard error is for machines.
    pub(crate) fn is_json(&self, config: Option<&LogConfig>) -> bool {
        match self.args.log_format {
            Some(format) => format == Format::Json,
            None => config.is_some_and(|log| log.format == LogFormat::Json),
        }
    }
}

/// A bare level is meant for Weir. The libraries below repeat as warnings what Weir reports itself, so they get errors only,
/// unless the filter names them.
fn filter(level: &str) -> Result<EnvFilter, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "the log level {level:?} is wrong ({why}); write info, debug or a filter such as info,weir::guest=debug"
        ))
    };
    let bare = ["error", "warn", "info", "debug", "trace", "off"];
    let is_bare = |word: &str| bare.contains(&word.to_lowercase().as_str());
    let words: Vec<_> = level.split(',').map(str::trim).collect();
    if let Some(word) = words.iter().find(|word| !word.contains(['=', ':', '_']) && !is_bare(word)) {
        return Err(wrong(&format!("{word:?} is no level")));
    }
    let words: Vec<_> = words
        .into_iter()
        .map(|word| match is_bare(word) {
            true => format!("error,weir={word}"),
            false => word.to_owned(),
        })
        .collect();
    EnvFilter::try_new(words.join(",")).map_err(|error| wrong(&error))
}

/// https://no-color.org: set and not empty means no.
pub(crate) fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_for_weir() {
        let text = |level| filter(level).map(|f| f.to_string()).map_err(|e| e.to_string());
        assert_eq!(text("info"), Ok("weir=info,error".into()));
        assert_eq!(text("info,weir::guest=debug"), Ok("weir::guest=debug,weir=info,error".into()));
        assert!(text("loud").is_err_and(|e| e.contains("\"loud\" is no level")));
        assert!(text("weir=loud").is_err());
    }
}
