//! What a deployment grants a module beyond computing, logging and emitting. Deny by default: a module that imports what its
//! processor isn't granted is refused before anything runs, with the list of what to grant; what is not an import by itself (variables,
//! directories) is simply empty.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime_wasi::{WasiCtxBuilder, filesystem::FsPerms};

use super::http::{HttpClient, HttpGrant, Outgoing};
use super::inspect::Need;
use super::secrets::{SecretSource, Secrets};

/// What a processor's module may use. [`fmt::Debug`] prints names, never values.
#[derive(Clone, Default)]
pub struct Grants {
    /// The time, and waiting for it.
    pub clocks: bool,
    /// Random numbers from the system.
    pub random: bool,
    /// Environment variables that the module sees.
    pub environment: BTreeMap<String, String>,
    /// Directories that it may read: the path that it sees, and where that is.
    pub directories: BTreeMap<String, PathBuf>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Outgoing HTTP.
    pub http: Option<HttpGrant>,
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clocks, random, environment, directories, secrets, http } = self;
        f.debug_struct("Grants")
            .field("clocks", clocks)
            .field("random", random)
            .field("environment", &environment.keys())
            .field("directories", directories)
            .field("secrets", secrets)
            .field("http", http)
            .finish()
    }
}

impl Grants {
    /// What of these needs is not granted.
    pub(super) fn lacks(&self, needs: &BTreeSet<Need>) -> Vec<Need> {
        let has = |need: &Need| match need {
            Need::Clocks => self.clocks,
            Need::Random => self.random,
            Need::Secrets => !self.secrets.is_empty(),
            Need::Http => self.http.is_some(),
        };
        needs.iter().copied().filter(|need| !has(need)).collect()
    }

    /// Makes ready what instances share. The error is a sentence without the processor's name.
    pub(super) fn ready(&self) -> Result<Ready, String> {
        for (guest, host) in &self.directories {
            if !host.is_dir() {
                return Err(format!(
                    "the directory {} that is granted as {guest:?} is not there, or no directory",
                    host.display()
                ));
            }
        }
        Ok(Ready {
            environment: self.environment.clone(),
            directories: self.directories.clone(),
            secrets: Secrets::new(self.secrets.clone()),
            http: self.http.clone().map(HttpClient::new).transpose()?.map(Arc::new),
        })
    }
}

/// Grants in the shape that instances use.
pub(super) struct Ready {
    environment: BTreeMap<String, String>,
    directories: BTreeMap<String, PathBuf>,
    pub(super) secrets: Secrets,
    http: Option<Arc<HttpClient>>,
}

impl Ready {
    /// Opens the WASI world of one instance: variables and directories, read-only.
    pub(super) fn furnish(&self, wasi: &mut WasiCtxBuilder) -> Result<(), String> {
        for (name, value) in &self.environment {
            wasi.env(name, value);
        }
        for (guest, host) in &self.directories {
            wasi.preopened_dir(host, guest, FsPerms::ReadOnly).map_err(|error| {
                format!("the directory {} that is granted as {guest:?} can't be opened: {error}", host.display())
            })?;
        }
        Ok(())
    }

    /// One instance's way out.
    pub(super) fn outgoing(&self, io: Handle) -> Outgoing {
        Outgoing::new(self.http.clone(), io)
    }
}
