//! `weir.toml`: read, understood and checked as a whole, before anything runs.
//!
//! A [`Config`] is valid by construction: every value is in range, paths are absolute to the file's directory, the tables fit each other.
//! A file that is wrong gives a [`ConfigError`] with *every* mistake, each with its line, its key and what would be right.
//! The keys live in one place (`schema.rs`); the reader, the hints for unknown keys and `docs/configuration.md` all come from it.
//!
//! ```
//! # use std::path::Path;
//! use weir_host::config::Config;
//! let text = r#"
//!     [namespace]
//!     fully-qualified-namespace = "fleet.servicebus.windows.net"
//!     [checkpoints]
//!     directory = "./checkpoints"
//!     [[processor]]
//!     name = "delays"
//!     module = "delays.wasm"
//!     event-hub = "flights"
//! "#;
//! let config = Config::parse(text, Path::new("/etc/weir/weir.toml"), &|name| std::env::var(name).ok())?;
//! assert_eq!(*config.processors[0].module, Path::new("/etc/weir/delays.wasm"));
//! # Ok::<(), weir_host::config::ConfigError>(())
//! ```

mod build;
mod check;
mod given;
mod grants;
mod mistake;
mod read;
mod reference;
mod schema;
mod sinks;
#[cfg(test)]
mod tests;
mod text;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use given::{Environment, Given};
pub use grants::{GrantsConfig, SecretConfig};
pub use mistake::{ConfigError, Mistake};
pub use reference::reference_page;
pub use units::{format_duration, format_size, parse_duration, parse_size};

use crate::azure::Credential;
use crate::model::{PartitionId, SequenceNumber, Timestamp};
use crate::options::{MissingEvents, OnPoison};

/// A whole configuration, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Where progress is kept.
    pub checkpoints: CheckpointsConfig,
    /// What all processors share.
    pub host: HostConfig,
    /// What is logged.
    pub log: LogConfig,
    /// At least one, with different names.
    pub processors: Vec<ProcessorConfig>,
    /// What is allowed, but probably not meant: full sentences to show before the start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads a file with the variables of the process's environment.
    ///
    /// # Errors
    /// When the file can't be read or is wrong; then with every mistake.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(&text, file, &|name| std::env::var(name).ok())
    }

    /// Reads the text of a file. `file` gives errors their name and relative paths their directory.
    ///
    /// # Errors
    /// When the text is wrong; with every mistake.
    pub fn parse(text: &str, file: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        build::parse(text, file, environment).map_err(|mistakes| ConfigError::Wrong { file: file.to_owned(), mistakes })
    }
}

impl GrantsConfig {
    /// Reads the keys of `[processor.grants]` that stand in a file of their own; otherwise like [`Config::load`].
    ///
    /// # Errors
    /// When the file can't be read or is wrong; then with every mistake.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        let grants = build::alone(&text, file, &|name| std::env::var(name).ok(), &schema::GRANTS, grants::grants);
        grants.map_err(|mistakes| ConfigError::Wrong { file: file.to_owned(), mistakes })
    }
}

/// `[checkpoints]`.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointsConfig {
    /// A directory on a local disk.
    Directory(Given<PathBuf>),
    /// A container in Azure Blob Storage.
    Container {
        /// Its URL, which may hold a signature.
        url: Given<String>,
        /// Who asks for access; `None`: whoever the URL says.
        credential: Option<Credential>,
        /// Age at which an ownership counts as abandoned.
        expiry: Duration,
        /// Whether a host's sign of life stands for all of its ownerships.
        exclusive: bool,
    },
}

/// `[host]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HostConfig {
    /// The owner's name; `None`: the machine's host name.
    pub owner: Option<Given<String>>,
    /// Cap of the events in flight, in bytes.
    pub memory: usize,
    /// How long a shutdown may drain.
    pub shutdown_deadline: Duration,
    /// The most checkpoints that the host writes a minute; `None`: no limit.
    pub checkpoint_writes_per_minute: Option<u32>,
    /// How often hubs are asked for new partitions.
    pub partitions_refresh: Duration,
    /// Threads for modules; `None`: one per core.
    pub guest_threads: Option<usize>,
    /// Stack of a module's calls in bytes.
    pub guest_stack: usize,
    /// Directory of compiled modules; `None`: the user's cache directory.
    pub cache: Option<Given<PathBuf>>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// A level, or filters by target.
    pub level: Given<String>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object per line.
    Json,
}

/// A namespace and how to reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceConfig {
    /// Host name of the namespace.
    pub fully_qualified: Given<String>,
    /// Where to connect instead.
    pub endpoint: Option<Given<String>>,
    /// Who asks for access.
    pub credential: Credential,
}

/// One `[[processor]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessorConfig {
    /// Its name, unique in the file.
    pub name: Given<String>,
    /// The component's file.
    pub module: Given<PathBuf>,
    /// The namespace that it reads.
    pub namespace: NamespaceConfig,
    /// The hub that it reads.
    pub event_hub: Given<String>,
    /// The group that it reads through.
    pub consumer_group: Given<String>,
    /// Where a partition without a checkpoint begins.
    pub start: Start,
    /// The most partitions that this host takes.
    pub max_partitions: Option<usize>,
    /// The partitions that it takes, instead of a share.
    pub partitions: Option<Vec<PartitionId>>,
    /// What to do about events that are gone.
    pub missing: MissingEvents,
    /// Events that may wait in the client, per partition.
    pub prefetch: u32,
    /// AMQP owner level.
    pub owner_level: Option<i64>,
    /// Silence after which a link is doubted.
    pub stall_timeout: Duration,
    /// When a batch is cut.
    pub batch: BatchConfig,
    /// When progress is written.
    pub checkpoint: CheckpointConfig,
    /// What happens to unfinished events.
    pub retry: RetryConfig,
    /// What happens to an event that can't be processed.
    pub on_poison: OnPoison,
    /// When the module counts as broken.
    pub breaker: BreakerConfig,
    /// How outputs are handed on.
    pub publish: PublishConfig,
    /// Pauses between attempts to reach the hub.
    pub reconnect: BackoffConfig,
    /// What an instance may use.
    pub limits: LimitsConfig,
    /// What the module may use besides.
    pub grants: GrantsConfig,
    /// The module's own settings as JSON.
    pub config: Given<Arc<str>>,
    /// Where outputs go, by name.
    pub outputs: BTreeMap<String, SinkConfig>,
    /// Where rejected events go.
    pub dead_letter: Option<SinkConfig>,
}

/// Where a partition without a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first retained event.
    Earliest,
    /// With what comes after the first claim.
    Latest,
    /// With this event.
    SequenceNumber(SequenceNumber),
    /// With the first event enqueued at or after this time.
    EnqueuedTime(Timestamp),
}

/// `batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// At most this many events.
    pub events: usize,
    /// At most this many bytes.
    pub bytes: usize,
    /// How long the first event may wait.
    pub linger: Duration,
}

/// `checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Time since the last one.
    pub interval: Duration,
    /// Finished events since the last one.
    pub events: u64,
    /// How often a write is tried.
    pub attempts: u32,
    /// How long one write may take.
    pub timeout: Duration,
}

/// `retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// How often an event is handed over.
    pub attempts: u32,
    /// The pauses between.
    pub backoff: BackoffConfig,
    /// Age beyond which it is not tried again.
    pub max_age: Option<Duration>,
}

/// `breaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Events in a row that fail.
    pub failures: u32,
    /// The rests.
    pub rest: BackoffConfig,
}

/// A pause that doubles up to a longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
}

/// `publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// How often the same outputs are tried.
    pub attempts: u32,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Batches that the module may be ahead.
    pub ahead: usize,
}

/// `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Memory of an instance in bytes.
    pub memory: usize,
    /// Time of a call.
    pub time: Duration,
    /// Outputs of a call.
    pub outputs: usize,
    /// Bytes of all outputs of a call.
    pub output_bytes: usize,
    /// Events that the module may hold, per partition.
    pub held_events: usize,
    /// Bytes of the state of a partition.
    pub state: usize,
    /// Outputs per second; `None`: no limit.
    pub outputs_per_second: Option<u64>,
    /// Elements of an instance's tables.
    pub table_elements: usize,
    /// Bytes that a host call or an answer may have copied.
    pub host_call_bytes: usize,
    /// Log lines of a call.
    pub log_lines: u64,
    /// Log lines per second.
    pub log_lines_per_second: u64,
    /// Bytes of log lines per second.
    pub log_bytes_per_second: u64,
    /// Series of the module's metrics.
    pub metric_series: usize,
}

/// Where outputs or dead letters go.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkConfig {
    /// An event hub.
    EventHub {
        /// Its namespace.
        namespace: NamespaceConfig,
        /// Its name.
        event_hub: Given<String>,
    },
    /// A directory, with a file for each dead letter. Not for outputs.
    Directory(Given<PathBuf>),
    /// A container in Azure Blob Storage, with a blob for each dead letter. Not for outputs.
    Container {
        /// Its URL, which may carry a shared access signature.
        url: Given<String>,
        /// Who asks for access; `None`: the signature, or the default.
        credential: Option<Credential>,
    },
    /// A file of newline-delimited JSON.
    File(Given<PathBuf>),
    /// Standard output.
    Stdout,
}
