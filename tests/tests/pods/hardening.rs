//! What a sidecar's container may do, and what whoever is beside it or outside can do to it.

use crate::command::stdout;
use crate::support::pod::{Pod, SIDECAR};
use crate::support::world::enter;
use crate::support::{InMesh, Mesh};

/// A file of `/proc` about a container's first process, read from outside.
fn proc(pod: &Pod, container: &str, file: &str) -> String {
    let pid = pod.inspect(container, ".State.Pid");
    stdout(&enter().args(["cat", &format!("/proc/{pid}/{file}")]).output().unwrap())
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn a_sidecar_has_no_privilege_and_nobody_reaches_what_would_change_it() {
    let specs = [("frontend", InMesh::Yes), ("backend", InMesh::Yes), ("stranger", InMesh::No)];
    let Some(mesh) = Mesh::start("hard", 2, &specs) else { return };
    let [frontend, backend, stranger] = mesh.pods(["frontend", "backend", "stranger"]);

    let status = proc(frontend, SIDECAR, "status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}: {status}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(field("Uid"), ["1337"; 4]);
    assert_eq!(field("Gid"), ["1337"; 4]);
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(capabilities), ["0000000000000000"], "{capabilities}");
    }
    assert_eq!(field("NoNewPrivs"), ["1"]);
    assert_eq!(field("Seccomp"), ["2"], "no filter of system calls");
    let mounts = proc(frontend, SIDECAR, "mounts");
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");

    // The application: reads, and changes nothing. What ends the process is off unless the bootstrap says otherwise.
    let admin = "http://127.0.0.1:15021";
    frontend.curl(&[&format!("{admin}/ready")]).assert_ok("what is open");
    let quit = frontend.curl(&["--data", "", &format!("{admin}/quitquitquit")]);
    assert!([403, 404].contains(&quit.status), "{quit}");
    assert_eq!(frontend.inspect(SIDECAR, ".State.Status"), "running");
    let other_site = frontend.curl(&["--data", "{}", "--header", "Host: evil.example", &format!("{admin}/explain")]);
    assert_eq!(other_site.status, 403, "DNS rebinding: {other_site}");
    // Others read what the kubelet reads, and no more, be they in the mesh or not; nobody talks to the listeners directly.
    for caller in [frontend, stranger] {
        let admin = format!("http://{}:15021", backend.address);
        for (path, post) in [("/explain", true), ("/quitquitquit", true), ("/clusters", false)] {
            let url = format!("{admin}{path}");
            let answer = if post { caller.curl(&["--data", "{}", &url]) } else { caller.curl(&[&url]) };
            assert!([403, 404].contains(&answer.status), "{}: {path}: {answer}", caller.name);
        }
        for port in [15001, 15006] {
            let answer = caller.curl(&[&format!("http://{}:{port}/", backend.address)]);
            assert_ne!(answer.status, 200, "{}: {port}: {answer}", caller.name);
        }
    }
}
