//! The binary: everything is in the library, so that tests, benches and fuzzers can reach it.

use std::process::ExitCode;

/// A request's allocations are small, short-lived and nearly all on one thread, which is what this allocator is made for; and
/// it is the same one where the system's is musl's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meshgate::cli::main(std::env::args_os())
}
