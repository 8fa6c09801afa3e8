//! End-to-end tests: real `meshgate` processes on loopback addresses, no root.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod admin;
mod app_health;
mod browser;
mod ca_serve;
mod cli;
mod clusters;
mod connections;
mod detection;
mod drain;
mod ext_authz;
mod gateway;
mod hand_over;
mod hbone;
mod hostile;
mod http;
mod identity;
mod jwt;
mod outbound;
mod outlier;
mod reload;
mod retries;
mod smi;
mod split;
mod start;
mod streaming;
mod support;
mod tcp;
mod telemetry;
mod tracing;
mod trust_domains;
mod unready;
mod walkthrough_a;
mod walkthrough_b;

use std::path::Path;

/// The product, built from the code beside these tests.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_meshgate-under-test"))
}
