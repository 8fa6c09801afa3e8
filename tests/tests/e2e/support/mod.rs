//! What the tests of the data path share: a mesh of a caller and a called service, raw HTTP, and applications to call.

pub(crate) mod app;
pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod large;
pub(crate) mod load;
pub(crate) mod mesh;
pub(crate) mod more;
pub(crate) mod pki;
pub(crate) mod tunnel;
pub(crate) mod wire;
pub(crate) mod workload_api;

use std::future::Future;
use std::process::Output;

use meshgate::sandbox::PATIENCE;

/// The future's result, or a failed test when it takes longer than anything should.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Runs curl without blocking the test's runtime, on which the applications live. `None`, said loudly, on a machine
/// without it.
pub(crate) async fn curl(arguments: &[&str]) -> Option<Output> {
    let mut command = std::process::Command::new("curl");
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
