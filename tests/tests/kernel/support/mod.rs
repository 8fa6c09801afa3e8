//! What the tests have in common: namespaces, processes in them, and a mesh made of both.

pub(crate) mod command;
mod heir;
pub(crate) mod mesh;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod redirection;
pub(crate) mod requirements;
mod resources;
pub(crate) mod three;

pub(crate) use mesh::{Mesh, Workload};
pub(crate) use network::Family;
pub(crate) use pod::Pod;
pub(crate) use redirection::Rendering;

/// The SPIFFE ID of a workload's service account.
pub(crate) fn id(workload: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{workload}")
}

/// Waits until `look` gives something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = meshgate_tests::run(meshgate::sandbox::until(what, async || look()));
    found.unwrap_or_else(|error| panic!("{error}"))
}
