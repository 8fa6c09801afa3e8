//! Pod tests: the images that ship, in real pods, which `podman kube play` makes of Kubernetes' own YAML.
//!
//! Nothing here knows of a proxy: clients are a plain curl in an application's container, which calls a service by its name or its
//! cluster address. An init container of the one image redirects, a container of the other is the sidecar.
//!
//! All of it lives in namespaces of its own, processes and mounts included, with its images in memory, and ends with the test
//! program, however that ends. Only empty cgroups outlive it: podman's own, and the pods' when the test program is killed.
//!
//! Asked for by `just pods` or `.ci/run pods`: it needs root, podman and its parts, and `MESHGATE_IMAGE_BINARY`, the statically
//! linked program to put into the images. Where podman cannot work a test says so on standard error, past the test harness, and
//! passes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

#[path = "../kernel/support/command.rs"]
#[allow(dead_code, reason = "the kernel tests use the rest of it")]
mod command;
mod hardening;
mod image;
mod lifecycle;
mod support;
mod walkthrough_a;
mod walkthrough_b;

use std::path::{Path, PathBuf};

/// The statically linked program that the images are made of.
fn binary() -> PathBuf {
    let given = std::env::var_os("MESHGATE_IMAGE_BINARY");
    let given = PathBuf::from(given.expect("MESHGATE_IMAGE_BINARY: the program for the images; `just pods` sets it"));
    given.canonicalize().unwrap_or_else(|error| panic!("MESHGATE_IMAGE_BINARY={}: {error}", given.display()))
}

/// The application in the pods.
fn application() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_test-application"))
}

/// Where `Dockerfile` is.
fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
