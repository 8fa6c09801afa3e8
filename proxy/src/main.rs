//! The binary: everything is in the library, so that tests, benches and fuzzers can reach it.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// A request's allocations are small, short-lived and nearly all on one thread, which is what this allocator is made for; and
/// it is the same one where the system's is musl's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the proxy asks of the allocator, which reads its settings before `main` and has no other way to be told: freed memory
/// goes back after so many milliseconds, long enough for what is freed and wanted again within a burst of requests, where its own
/// default keeps a whole configuration through the reloads that follow; and no huge pages, even where the kernel gives them
/// unasked.
const SETTINGS: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "50"), ("MIMALLOC_ALLOW_THP", "0")];

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|command| command == "run") {
        start_with_settings();
    }
    meshgate::cli::main(env::args_os())
}

/// Becomes the same program once more, in the same process, unless somebody has set the settings: ourselves a moment ago, or the
/// operator. Where that does not work it is only memory that is lost.
fn start_with_settings() {
    let missing = SETTINGS.into_iter().filter(|(name, _)| env::var_os(name).is_none());
    let missing: Vec<_> = missing.collect();
    let Ok(program) = env::current_exe() else { return };
    if !missing.is_empty() {
        let mut again = Command::new(program);
        again.args(env::args_os().skip(1)).envs(missing);
        if let Some(name) = env::args_os().next() {
            again.arg0(name);
        }
        // Returns only when it has failed.
        let _ = again.exec();
    }
}
