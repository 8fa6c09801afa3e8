//! Kernel tests: real redirection, in network namespaces that each test makes for itself and takes away again.
//!
//! The end-to-end tests tell the proxy where connections were going; here the kernel does, and applications and clients
//! know nothing of any proxy. Every pod is a network namespace with the rules that `meshgate iptables apply` loads into
//! it with an init container's two capabilities, a sidecar that runs as user 1337, and an application and clients that
//! run as user 1000.
//!
//! Needs root, `ip`, `setpriv`, `curl`, and `nft`, `iptables-nft-restore` or `iptables-legacy-restore`. Where something is
//! missing a test says so on standard error, past the test harness, and passes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod application;
mod apply;
mod exclusions;
mod families;
mod hbone;
mod listeners;
mod mtls;
mod self_calls;
mod source_address;
mod support;
mod tcp;
mod tproxy;
mod untouched;
mod walkthrough_a;
mod walkthrough_b;

use std::path::Path;

/// The product, built from the code beside these tests.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_meshgate-under-test"))
}

/// The application in the pods.
fn application() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_test-application"))
}
