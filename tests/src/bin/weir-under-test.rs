//! The `weir` command again, so that cargo builds it for the tests of this package in one go with them: a nested `cargo build` would
//! resolve other features and compile every dependency a second time.

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    weir_host::cli::main()
}
