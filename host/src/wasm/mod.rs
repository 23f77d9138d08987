//! Guests as WebAssembly components: the only module that names wasmtime.
//!
//! [`Engine`] compiles and runs; it owns a tokio runtime of its own, so that a guest that computes never delays the I/O around
//! it. [`Engine::load`] makes a [`Module`] of a file: it says in a sentence what is wrong with one that is no processor, and
//! keeps compiled code in a cache that nobody else can write. [`Module::processor`] is what the pipeline sees, through the
//! traits of [`crate::guest`].
//!
//! What a guest may do: compute, log, measure and emit. The clock, random numbers, variables, secrets, directories to read and outgoing HTTP it
//! has by [`Grants`] alone, and a network or arguments never. Its memory and the time of each call are bounded; what it writes to
//! stdout and stderr is kept in part and goes to the log.
//!
//! One file per idea: [`engine`] (settings, runtime, ticker), [`inspect`](mod@inspect) (names without compiling), [`module`] (load) with `cache`,
//! [`instance`] (one task per live guest) with `context` (what its imports touch), `log` (its lines in the host's log), `metrics` (what it measures), `state` (what it keeps), `rate`, [`grants`] (what it is given beyond that) with `secrets` and [`http`], `budget` (time), `trap` (what is said of a
//! broken guest), and a file per WIT version (`v0_1`): the generated types and their conversion are known nowhere else.

mod budget;
mod cache;
mod context;
mod emit;
mod engine;
mod grants;
mod http;
mod imports;
mod inspect;
mod instance;
mod live;
mod log;
mod metrics;
mod module;
mod rate;
mod secrets;
mod state;
mod stdio;
mod text;
mod trap;
mod v0_1;

pub use self::engine::{Engine, EngineError, EngineOptions};
pub use self::grants::Grants;
pub use self::http::{HttpGrant, Origin};
pub use self::inspect::{Capability, Grant, Need, Problem, Report, inspect};
pub use self::instance::{Limits, ProcessorOptions};
pub use self::metrics::{BUCKETS, Histogram, Measured, Metrics, Series, Snapshot};
pub use self::module::{Compiled, Module, ModuleError, ModuleSource};
pub use self::secrets::SecretSource;
#[cfg(feature = "cli")]
pub(crate) use self::text::reorders;
