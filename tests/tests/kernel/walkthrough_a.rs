//! Walk-through A with real redirection: clients know an address of the backend's service, and of no proxy.

use crate::support::{Family, Mesh, Pod, Rendering, Workload, id};

const DENY_ALL: &str = include_str!("../../../examples/walkthrough-a/deny-all-backend.yaml");
const ALLOW_GET: &str = include_str!("../../../examples/walkthrough-a/allow-frontend-get-data.yaml");
const ALLOW_NOTHING: &str = include_str!("../../../examples/walkthrough-a/allow-nothing.yaml");

#[test]
fn walkthrough_a_over_ipv4_by_nft() {
    walk(Rendering::Nft, Family::V4);
}

#[test]
fn walkthrough_a_over_ipv4_by_iptables() {
    walk(Rendering::Iptables, Family::V4);
}

#[test]
fn walkthrough_a_over_ipv6_by_nft() {
    walk(Rendering::Nft, Family::V6);
}

#[test]
fn walkthrough_a_over_ipv6_by_iptables() {
    walk(Rendering::Iptables, Family::V6);
}

fn walk(rendering: Rendering, family: Family) {
    let workloads = ["frontend", "backend", "other"].map(Workload::of);
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, backend, other] = ["frontend", "backend", "other"].map(|name| mesh.pod(name));
    let get = |caller: &Pod, path| caller.curl(&[&backend.service(family, path)]);

    let answer = get(frontend, "/?A1").assert_ok("A1");
    assert_eq!(answer.said("name"), "backend");
    let line = backend.logged_path("/?A1");
    assert_eq!(line["peer"], id("frontend"), "{line:#}");
    assert_eq!(line["verdict"], "allow", "{line:#}");
    let line = frontend.logged_path("/?A1");
    assert_eq!(line["upstream_cluster"], "backend.default.svc.cluster.local", "{line:#}");

    mesh.policies(&[DENY_ALL]);
    get(frontend, "/?A2").assert_denied("A2");
    let line = backend.logged_path("/?A2");
    assert_eq!(line["peer"], id("frontend"), "{line:#}");
    assert_eq!(line["policy"], "default/deny-all-backend rule 0", "{line:#}");

    mesh.policies(&[ALLOW_NOTHING, ALLOW_GET]);
    get(frontend, "/api/v1/data").assert_ok("A4");
    let line = backend.logged_path("/api/v1/data");
    assert_eq!(line["policy"], "default/allow-frontend-get-data rule 0", "{line:#}");
    let data = backend.service(family, "/api/v1/data?A5");
    frontend.curl(&["--data", "some", &data]).assert_denied("A5");
    get(frontend, "/api/v1/other").assert_denied("A6");
    get(other, "/api/v1/data?A7").assert_denied("A7");
    let line = backend.logged_path("/api/v1/data?A7");
    assert_eq!(line["peer"], id("other"), "{line:#}");
}
