//! What the end-to-end tests have in common. The mesh itself is [`meshgate::sandbox`], which the demo uses too.

use std::future::Future;

/// Runs a test's future on a runtime like a worker's, so that sandbox applications can be spawned on it.
///
/// # Panics
/// When the runtime cannot be made, or the test does.
#[allow(clippy::expect_used, reason = "a test without a runtime has failed")]
pub fn run<F: Future>(test: F) -> F::Output {
    meshgate::runtime::local().expect("a runtime").block_on(test)
}
