//! A module: read, checked, compiled (or taken from the cache) and linked. What is wrong with it is said in a sentence that
//! names the file and what to do.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::Component;

use super::cache::Lookup;
use super::engine::Engine;
use super::inspect::{Need, Problem, Report, inspect};
use super::instance::{ComponentProcessor, ProcessorOptions};
use super::text::size;
use super::v0_1;
use crate::guest::Processor;

/// Where a module comes from.
#[derive(Clone, Debug)]
pub enum ModuleSource {
    /// A file.
    File(PathBuf),
    /// Bytes at hand.
    Bytes {
        /// What to call it in logs and errors.
        name: String,
        /// The component.
        bytes: Bytes,
    },
}

/// A checked and compiled module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    pub(super) engine: Engine,
    pub(super) pre: v0_1::Pre,
    name: Arc<str>,
    report: Arc<Report>,
    compiled: Compiled,
}

/// Where the compiled code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// It was compiled now.
    Now,
    /// It was in the cache.
    FromCache,
}

/// Why a module can't be run. The sentence names the module and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file can't be read.
    #[error("can't read the module {name}: {error}{hint}")]
    Unreadable {
        /// The module.
        name: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Beyond the size limit.
    #[error("the module {name} has more than {}, the largest that this host looks at; is it a module at all?", size(*limit))]
    TooLarge {
        /// The module.
        name: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not a processor that this host can run.
    #[error("the module {name} can't be run: {problem}")]
    Unusable {
        /// The module.
        name: String,
        /// What it is instead.
        #[source]
        problem: Problem,
    },
    /// The compiler refused it.
    #[error(
        "the module {name} does not compile, it is damaged or uses WebAssembly features that are off here: {problem}"
    )]
    NotCompiled {
        /// The module.
        name: String,
        /// What the compiler said.
        problem: String,
    },
    /// The compiler took too long.
    #[error("the module {name} was not compiled after {seconds} s; make it smaller or split it")]
    TooSlow {
        /// The module.
        name: String,
        /// The limit.
        seconds: u64,
    },
    /// Its functions are not those of the contract.
    #[error(
        "the module {name} has the right names but not the right functions for weir:processor@0.1 ({problem}); \
         build it again from the published wit/"
    )]
    Mismatched {
        /// The module.
        name: String,
        /// Which function, and how it differs.
        problem: String,
    },
    /// It imports what its processor is not granted.
    #[error(
        "the module {name} needs what it is not granted; if it may have that, add:\n  [processor.grants]{}",
        lacks.iter().map(|need| format!("\n  {need}")).collect::<String>()
    )]
    Ungranted {
        /// The module.
        name: String,
        /// What is missing.
        lacks: Vec<Need>,
    },
    /// What its processor is granted is not there.
    #[error("the module {name} can't be given what it is granted: {problem}")]
    Grant {
        /// The module.
        name: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// The loading task ended early, since the process stops.
    #[error("loading the module {name} was cut off: the host is stopping")]
    Interrupted {
        /// The module.
        name: String,
    },
}

impl Module {
    /// What it is called in logs and errors: its path, or the name that came with its bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What identifies it: the BLAKE3 digest of its bytes, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.report.digest
    }

    /// Everything that was found out about it.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Where its compiled code came from.
    pub fn compiled(&self) -> Compiled {
        self.compiled
    }

    /// Makes a processor of it, ready to be opened for any number of partitions.
    ///
    /// # Errors
    /// It imports what `options.grants` don't hold, or what they hold is not there.
    pub fn processor(&self, options: ProcessorOptions) -> Result<Arc<dyn Processor>, ModuleError> {
        let lacks = options.grants.lacks(&self.report.needs);
        if !lacks.is_empty() {
            return Err(ModuleError::Ungranted { name: self.name.to_string(), lacks });
        }
        let ready = options.grants.ready();
        let ready = ready.map_err(|problem| ModuleError::Grant { name: self.name.to_string(), problem })?;
        for why in ready.secrets.unreadable() {
            tracing::warn!(processor = %options.name, "{why}; until it can be, the module is refused it");
        }
        Ok(Arc::new(ComponentProcessor::new(self.clone(), options, ready)))
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.name).field("report", &self.report).finish_non_exhaustive()
    }
}

pub(super) async fn load(engine: Engine, source: ModuleSource) -> Result<Module, ModuleError> {
    let name = match &source {
        ModuleSource::File(path) => path.display().to_string(),
        ModuleSource::Bytes { name, .. } => name.clone(),
    };
    let limit = engine.options().compile_time;
    let guests = engine.guests().clone();
    let work = {
        let name = name.clone();
        guests.spawn_blocking(move || load_blocking(engine, source, name))
    };
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(_)) => Err(ModuleError::Interrupted { name }),
        Err(_) => Err(ModuleError::TooSlow { name, seconds: limit.as_secs() }),
    }
}

fn load_blocking(engine: Engine, source: ModuleSource, name: String) -> Result<Module, ModuleError> {
    let began = Instant::now();
    let limit = engine.options().max_module_bytes;
    let bytes = match source {
        ModuleSource::File(path) => read(&path, limit, &name)?,
        ModuleSource::Bytes { bytes, .. } => bytes,
    };
    if bytes.len() > limit {
        return Err(ModuleError::TooLarge { name, limit });
    }
    let report = inspect(&bytes);
    if let Some(problem) = report.problem() {
        return Err(ModuleError::Unusable { name, problem: problem.clone() });
    }
    let (component, compiled) = compile(&engine, &bytes, &report.digest, &name)?;
    let pre = v0_1::link(engine.wasmtime(), &component)
        .map_err(|e| ModuleError::Mismatched { name: name.clone(), problem: format!("{e:#}") })?;
    tracing::debug!(module = name, digest = report.digest, ?compiled, took = ?began.elapsed(), "module loaded");
    Ok(Module { engine, pre, name: name.into(), report: Arc::new(report), compiled })
}

/// Reads a file, but never more than one byte beyond the limit.
fn read(path: &Path, limit: usize, name: &str) -> Result<Bytes, ModuleError> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "; build it first, or correct the path",
            std::io::ErrorKind::IsADirectory => "; give the .wasm file in it",
            _ => "",
        };
        ModuleError::Unreadable { name: name.to_owned(), error, hint }
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes.into())
}

fn compile(engine: &Engine, bytes: &[u8], digest: &str, name: &str) -> Result<(Component, Compiled), ModuleError> {
    let wasmtime = engine.wasmtime();
    match engine.cache().map(|cache| cache.load(digest, wasmtime)) {
        Some(Lookup::Hit(component)) => return Ok((component, Compiled::FromCache)),
        Some(Lookup::Corrupt(why)) => {
            tracing::warn!(
                module = name,
                digest,
                "the cached code of this module can't be trusted ({why}); compiling it again"
            );
        }
        Some(Lookup::Miss) | None => {}
    }
    let component = Component::from_binary(wasmtime, bytes)
        .map_err(|e| ModuleError::NotCompiled { name: name.to_owned(), problem: format!("{e:#}") })?;
    if let Some(cache) = engine.cache()
        && let Err(e) = cache.store(digest, &component)
    {
        tracing::warn!(
            module = name,
            digest,
            "the compiled module can't be kept, the next start compiles it again: {e}"
        );
    }
    Ok((component, Compiled::Now))
}
