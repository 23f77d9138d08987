//! The engine: wasmtime's settings, the thread that ticks the epoch, and the runtime on which guests run.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::{Config, EngineWeak, OptLevel};

use super::cache::Cache;
use super::module::{self, Module, ModuleError, ModuleSource};

/// A fiber's stack beyond the guest's part: ample room for host functions above it.
const HOST_STACK: usize = 1 << 20;

/// How guests are compiled and run in this process.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads that run guests. They are apart from those of the caller's runtime.
    pub threads: usize,
    /// How long a guest computes at most before it lets others have their turn; also the unit in which its time is counted.
    pub tick: Duration,
    /// A stack that a guest's calls may use, host frames aside, in bytes. Deeper recursion traps.
    pub stack: usize,
    /// Directory for compiled modules. It must belong to this process's user alone, and is created like that. `None`: compile
    /// at every start.
    pub cache: Option<PathBuf>,
    /// The largest module that is looked at, in bytes. Interpreted languages come as 12 to 20 MB.
    pub max_module_bytes: usize,
    /// How long a compilation may take before [`Engine::load`] gives up. The compiler can't be stopped: its thread ends later.
    pub compile_time: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(2, |n| n.get()),
            tick: Duration::from_millis(5),
            stack: 1 << 20,
            cache: None,
            max_module_bytes: 64 << 20,
            compile_time: Duration::from_secs(120),
        }
    }
}

/// Why no engine could be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused its settings: this machine can't run it.
    #[error("the WebAssembly engine does not run on this machine: {0}")]
    Unsupported(String),
    /// Threads could not be started.
    #[error("could not start the threads that run guests: {0}")]
    Threads(#[source] std::io::Error),
    /// The cache directory is not safe to use.
    #[error("the module cache {} can't be used: {problem}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// Compiles modules and runs their instances. Cheap to clone; guests end when the last clone and the last module are gone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

struct Inner {
    options: EngineOptions,
    wasmtime: wasmtime::Engine,
    cache: Option<Cache>,
    /// `Some` until dropped: a runtime may only be dropped by value, and not by waiting for it inside another one.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Starts the guest threads and the ticker. Call it once per process.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let wasmtime =
            wasmtime::Engine::new(&config(&options)).map_err(|e| EngineError::Unsupported(format!("{e:#}")))?;
        let cache = options.cache.as_deref().map(|path| Cache::open(path, &wasmtime)).transpose()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("weir-guest")
            .enable_time()
            .build()
            .map_err(EngineError::Threads)?;
        let (weak, tick) = (wasmtime.weak(), options.tick.max(Duration::from_millis(1)));
        thread::Builder::new()
            .name("weir-tick".into())
            .spawn(move || ticker(&weak, tick))
            .map_err(EngineError::Threads)?;
        let handle = runtime.handle().clone();
        Ok(Self { inner: Arc::new(Inner { options, wasmtime, cache, runtime: Some(runtime), handle }) })
    }

    /// Reads, checks and compiles a module. The work is done on blocking threads; a broken module costs milliseconds, since
    /// its names are looked at before the compiler is.
    pub async fn load(&self, source: ModuleSource) -> Result<Module, ModuleError> {
        module::load(self.clone(), source).await
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(super) fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.inner.cache.as_ref()
    }

    /// Where guests run.
    pub(super) fn guests(&self) -> &Handle {
        &self.inner.handle
    }
}

/// What a guest is compiled and run with. Everything that no supported guest language needs is off: less to attack. (Threads, GC
/// and component-model async are not even compiled in.) Instances are allocated on demand and live as long as their
/// partition stays: a pool would save microseconds per opening and cost a hard cap on their number.
fn config(options: &EngineOptions) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_stack_switching(false)
        .wasm_shared_everything_threads(false)
        .shared_memory(false)
        .gc_support(false)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .max_wasm_stack(options.stack)
        .async_stack_size(options.stack.saturating_add(HOST_STACK))
        .cranelift_opt_level(OptLevel::Speed);
    config
}

/// Ticks until the engine is gone. A sleep that overruns only makes a tick longer.
fn ticker(engine: &EngineWeak, tick: Duration) {
    loop {
        thread::sleep(tick);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}
