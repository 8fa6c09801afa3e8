//! What the tests have in common: a world for podman, the images, and pods made of them.

pub(crate) mod cluster;
mod images;
pub(crate) mod manifest;
pub(crate) mod mesh;
mod network;
pub(crate) mod pod;
pub(crate) mod world;

pub(crate) use images::{APPLICATION, INIT, PROXY, THE_APPLICATION};
pub(crate) use mesh::{InMesh, Mesh};
pub(crate) use network::Network;
pub(crate) use pod::Pod;

/// Waits until `look` gives something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = meshgate_tests::run(meshgate::sandbox::until(what, async || look()));
    found.unwrap_or_else(|error| panic!("{error}"))
}
