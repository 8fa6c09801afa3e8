//! Walk-through A in pods: clients call the backend by its name.

use crate::support::{InMesh, Mesh, Pod};

const DENY_ALL: &str = include_str!("../../../examples/walkthrough-a/deny-all-backend.yaml");
const ALLOW_GET: &str = include_str!("../../../examples/walkthrough-a/allow-frontend-get-data.yaml");
const ALLOW_NOTHING: &str = include_str!("../../../examples/walkthrough-a/allow-nothing.yaml");
const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");

const BACKEND: &str = "http://backend.default.svc.cluster.local";

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn walkthrough_a() {
    let specs = [("frontend", InMesh::Yes), ("backend", InMesh::Yes), ("other", InMesh::Yes), ("stranger", InMesh::No)];
    let Some(mesh) = Mesh::start("walkthrough-a", 1, &specs) else { return };
    let [frontend, backend, other, stranger] = mesh.pods(["frontend", "backend", "other", "stranger"]);
    let get = |caller: &Pod, path: &str| caller.curl(&[&format!("{BACKEND}{path}")]);

    let answer = get(frontend, "/?A1").assert_ok("A1");
    assert_eq!(answer.said("name"), "backend");
    let line = backend.logged_path("/?A1");
    assert_eq!(line["peer"], "spiffe://cluster.local/ns/default/sa/frontend", "{line:#}");

    mesh.policies(&[DENY_ALL]);
    get(frontend, "/?A2").assert_denied("A2");
    mesh.policies(&[DENY_ALL, ALLOW_GET]);
    get(frontend, "/api/v1/data?A3").assert_denied("A3");
    let line = backend.logged_path("/api/v1/data?A3");
    assert_eq!(line["policy"], "default/deny-all-backend rule 0", "{line:#}");

    mesh.policies(&[ALLOW_NOTHING, ALLOW_GET]);
    get(frontend, "/api/v1/data").assert_ok("A4");
    frontend.curl(&["--data", "some", &format!("{BACKEND}/api/v1/data?A5")]).assert_denied("A5");
    get(frontend, "/api/v1/other").assert_denied("A6");
    get(other, "/api/v1/data?A7").assert_denied("A7");
    let line = backend.logged_path("/api/v1/data?A7");
    assert_eq!(line["peer"], "spiffe://cluster.local/ns/default/sa/other", "{line:#}");

    // Past the service, which has no address without a sidecar: straight to the pod.
    let pod = format!("http://{}:8080/api/v1/data", backend.address);
    stranger.curl(&[&pod]).assert_denied("A8, permissive");
    mesh.policies(&[ALLOW_NOTHING, ALLOW_GET, STRICT]);
    stranger.curl(&[&pod]).assert_closed("A8, strict");
    get(frontend, "/api/v1/data").assert_ok("A4, strict");
}
