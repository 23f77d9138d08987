//! The `weir` command.

/// The SDK allocates some dozens of times for each event; what that costs is told by the benchmark `pipeline`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    weir_host::cli::main()
}
