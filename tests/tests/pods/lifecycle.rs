//! The end of a sidecar's container: asked for, and not.

use crate::support::pod::{APPLICATION, SIDECAR};
use crate::support::{InMesh, Mesh, Pod, until};

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn a_pod_that_is_stopped_finishes_what_it_is_at() {
    let specs = [("frontend", InMesh::Yes), ("backend", InMesh::Yes)];
    let Some(mesh) = Mesh::start("stop", 3, &specs) else { return };
    let [frontend, backend] = mesh.pods(["frontend", "backend"]);
    let url = "http://backend.default.svc.cluster.local/upload";

    // Eight seconds' worth of a body; the application answers when it has all of it.
    let upload = ["sh", "-c", "head -c 80000 /dev/zero | curl -sS --limit-rate 10000 --data-binary @- \"$0\"", url];
    let mut uploading = frontend.enter(APPLICATION);
    let uploading = uploading.arg("busybox").args(upload).spawn().unwrap();
    let inbound = "mesh_connections{direction=\"inbound\"}";
    until("a request in progress", || (backend.metric(inbound) > 0.0).then_some(()));
    assert_eq!(waited(backend, "5s"), Some(0), "it is ready");
    // As the kubelet does: every container is told, and the network stays. podman's own end of a pod takes the network away first.
    for container in [APPLICATION, SIDECAR] {
        backend.signal(container, "TERM");
    }
    // What is about to end is not ready: nobody's start waits for it in vain.
    until("a sidecar that is told to end", || (waited(backend, "1ms") == Some(1)).then_some(()));
    let answer = uploading.wait_with_output().unwrap();
    let answer = crate::command::stdout(&answer);
    assert!(answer.starts_with("name: backend\n"), "{answer}");
    backend.until_ended(SIDECAR);
    assert_eq!(backend.inspect(SIDECAR, ".State.ExitCode"), "0", "{}", backend.output(SIDECAR));
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn without_its_sidecar_an_application_has_no_network() {
    let specs = [("frontend", InMesh::Yes), ("backend", InMesh::Yes), ("stranger", InMesh::No)];
    let Some(mesh) = Mesh::start("kill", 4, &specs) else { return };
    let [frontend, backend, stranger] = mesh.pods(["frontend", "backend", "stranger"]);
    let service = "http://backend.default.svc.cluster.local/".to_owned();
    let at = |pod: &Pod| format!("http://{}:8080/", pod.address);
    let outside = [service, at(backend), at(stranger)];
    for url in &outside {
        frontend.curl(&[url]).assert_ok(url);
    }
    stranger.curl(&[&at(frontend)]).assert_ok("inward");
    for pod in [frontend, backend] {
        pod.signal(SIDECAR, "KILL");
        pod.until_ended(SIDECAR);
    }
    for url in &outside {
        let answer = frontend.curl(&[url]);
        assert_eq!((answer.exit, answer.status), (Some(7), 0), "outward to {url}: {answer}");
    }
    for pod in [frontend, backend] {
        let answer = stranger.curl(&[&at(pod)]);
        assert_eq!((answer.exit, answer.status), (Some(7), 0), "inward: {answer}");
        // What is beside it is none of the network's.
        pod.curl(&["http://127.0.0.1:8080/"]).assert_ok("within the pod");
    }
}

/// How the command ends that holds applications back, in the sidecar's container as the kubelet would run it.
fn waited(pod: &Pod, timeout: &str) -> Option<i32> {
    pod.enter(SIDECAR).args(["/usr/local/bin/meshgate", "wait", "--timeout", timeout]).output().unwrap().status.code()
}
