//! The images: both of `Dockerfile`, and one for applications.
//!
//! `Dockerfile`'s stages that need a network are replaced by folders: the build by the program that was built already, the tools
//! by this machine's own, which the very script of that stage puts together.

use std::process::Command;
use std::sync::LazyLock;

use crate::command::feed;
use crate::repository;

use super::world::{ROOT, enter, podman};

/// The proxy's.
pub(crate) const PROXY: &str = "localhost/meshgate";
/// The one that redirects.
pub(crate) const INIT: &str = "localhost/meshgate-iptables-init";
/// The one of applications and clients.
pub(crate) const APPLICATION: &str = "localhost/application";
/// The program in it that is called.
pub(crate) const THE_APPLICATION: &str = "/run/bin/application";

/// Not root, and not the proxy.
const OF_APPLICATION: &str = "FROM scratch\nCOPY . /\nUSER 1000:1000\n";

/// Why podman cannot work here: it does not make or run even an image that has nothing of ours in it.
///
/// # Panics
/// When it works, and ours cannot be built.
pub(super) static BUILT: LazyLock<Result<(), String>> = LazyLock::new(|| {
    let (copy, tools) = (script("with-libraries"), script("redirection-tools"));
    let (binary, application) = (crate::binary(), crate::application());
    let (binary, application) = (binary.display(), application.display());
    // A program is in an image where it is here, so it is put first where it is to be there.
    sh(&format!("mkdir -p /run/bin && cp '{application}' {THE_APPLICATION}"));
    sh(&format!("'{copy}' {ROOT}/application {THE_APPLICATION} $(command -v curl) $(command -v busybox)"));
    feed(build(&[]).args(["--tag", APPLICATION, "--file", "-"]).arg(format!("{ROOT}/application")), OF_APPLICATION)?;
    feed(&mut podman(["run", "--rm", "--network", "none", APPLICATION, "busybox", "true"]), "")?;

    sh(&format!("install -D '{binary}' {ROOT}/build/out/meshgate && '{tools}' {ROOT}/tools/rootfs"));
    for (target, image) in [("proxy", PROXY), ("iptables-init", INIT)] {
        let contexts = ["build", "tools"].map(|name| format!("--build-context={name}={ROOT}/{name}"));
        let mut command = build(&["--target", target, "--tag", image]);
        feed(command.args(contexts).arg(repository()), "").unwrap_or_else(|error| panic!("{error}"));
    }
    Ok(())
});

fn build(arguments: &[&str]) -> Command {
    podman(["build", "--quiet", "--isolation", "chroot"].into_iter().chain(arguments.iter().copied()))
}

fn script(name: &str) -> String {
    repository().join("image").join(name).display().to_string()
}

fn sh(script: &str) {
    feed(enter().args(["sh", "-ec", script]), "").unwrap_or_else(|error| panic!("{error}"));
}
