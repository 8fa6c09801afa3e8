//! What the tests of the data path share: a mesh of a caller and a called service, raw HTTP, and applications to call.

pub(crate) mod app;
pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod foreign;
pub(crate) mod gateway;
pub(crate) mod large;
pub(crate) mod load;
pub(crate) mod mesh;
pub(crate) mod more;
pub(crate) mod pki;
pub(crate) mod steady;
pub(crate) mod tunnel;
pub(crate) mod wire;
pub(crate) mod workload_api;

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output};

use meshgate::sandbox::PATIENCE;

/// The future's result, or a failed test when it takes longer than anything should.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Runs curl without blocking the test's runtime, on which the applications live. `None`, said loudly, on a machine
/// without it.
pub(crate) async fn curl(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: this test needs curl: {error}");
            None
        }
    }
}

/// A process that does not outlive its test.
pub(crate) struct Bound(pub(crate) Child);

impl Drop for Bound {
    fn drop(&mut self) {
        // One that has ended by itself can't be killed, and that is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the product is process 1 of a PID namespace of its own: what to give its arguments to. `None`, said past the test harness, on a
/// machine that lets nobody make one.
pub(crate) fn as_process_1() -> Option<Command> {
    let inside = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(program);
        command
    };
    let why = match inside(Path::new("true")).output() {
        Ok(output) if output.status.success() => return Some(inside(crate::binary())),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let line = format!("\n*** SKIPPED: a process in a PID namespace of its own (needs root): {why} ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}
