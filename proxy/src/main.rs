//! The binary: everything is in the library, so that tests, benches and fuzzers can reach it.

use std::process::ExitCode;

/// Requests allocate small and short-lived things on one thread each; the system's allocator costs about a tenth more CPU
/// there, and musl's far more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meshgate::cli::main(std::env::args_os())
}
