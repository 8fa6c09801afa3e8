//! Walk-through A with real redirection: clients know the name of the backend's service, and of no proxy.

use crate::support::command::Answer;
use crate::support::pod::HTTP_PORT;
use crate::support::{Family, Mesh, Rendering, Workload, id};

const DENY_ALL: &str = include_str!("../../../examples/walkthrough-a/deny-all-backend.yaml");
const ALLOW_GET: &str = include_str!("../../../examples/walkthrough-a/allow-frontend-get-data.yaml");
const ALLOW_NOTHING: &str = include_str!("../../../examples/walkthrough-a/allow-nothing.yaml");
const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");
const AUDIT: &str = include_str!("../../../examples/walkthrough-a/audit.yaml");
const DRY_RUN: &str = include_str!("../../../examples/walkthrough-a/dry-run.yaml");

const DATA: &str = "/api/v1/data";

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

#[test]
fn walkthrough_a_over_ipv4_by_legacy_iptables() {
    walk(Rendering::Legacy, Family::V4);
}

#[test]
fn walkthrough_a_over_ipv6_by_legacy_iptables() {
    walk(Rendering::Legacy, Family::V6);
}

fn walk(rendering: Rendering, family: Family) {
    let [frontend, backend, other] = ["frontend", "backend", "other"].map(Workload::of);
    let workloads = [frontend, backend.clone(), other, Workload::outside("outsider")];
    let Some(mut mesh) = Mesh::start(rendering, &workloads) else { return };
    no_policy_and_denial(&mesh, family);
    mesh.policies(&[ALLOW_NOTHING, ALLOW_GET]);
    four_requests(&mesh, family, "A4-A7");
    let [backend_pod, other] = ["backend", "other"].map(|name| mesh.pod(name));
    let line = backend_pod.logged(|line| line["response_code"] == 200 && line["path"] == DATA);
    assert_eq!(line["policy"], "default/allow-frontend-get-data rule 0", "{line:#}");
    let line = backend_pod.logged(|line| line["peer"] == id("other"));
    assert_eq!(line["response_code"], 403, "{} of {}: {line:#}", other.name, line["path"]);
    outsider(&mesh, family);
    shadows(&mesh, family);

    mesh.policies(&[DENY_ALL, ALLOW_GET]);
    mesh.restart(&backend.settings("authorization: {catchAllDeny: baseline}\n"));
    four_requests(&mesh, family, "A9");
}

/// What a client says that knows the service's name and nothing else.
fn call(mesh: &Mesh, caller: &str, family: Family, arguments: &[&str], path: &str) -> Answer {
    let only = if family == Family::V4 { "--ipv4" } else { "--ipv6" };
    let url = format!("http://backend.default.svc.cluster.local{path}");
    mesh.pod(caller).curl(&[&[only, &url], arguments].concat())
}

/// A1 to A3.
fn no_policy_and_denial(mesh: &Mesh, family: Family) {
    let [frontend, backend] = ["frontend", "backend"].map(|name| mesh.pod(name));
    let answer = call(mesh, "frontend", family, &[], "/?A1").assert_ok("A1");
    assert_eq!(answer.said("name"), "backend");
    let line = backend.logged_path("/?A1");
    assert_eq!(line["peer"], id("frontend"), "{line:#}");
    assert_eq!(line["verdict"], "allow", "{line:#}");
    let line = frontend.logged_path("/?A1");
    assert_eq!(line["upstream_cluster"], "backend.default.svc.cluster.local", "{line:#}");

    mesh.policies(&[DENY_ALL]);
    call(mesh, "frontend", family, &[], "/?A2").assert_denied("A2");
    mesh.policies(&[DENY_ALL, ALLOW_GET]);
    call(mesh, "frontend", family, &[], "/api/v1/data?A3").assert_denied("A3");
    for path in ["/?A2", "/api/v1/data?A3"] {
        let line = backend.logged_path(path);
        assert_eq!(line["peer"], id("frontend"), "{line:#}");
        assert_eq!(line["policy"], "default/deny-all-backend rule 0", "{line:#}");
    }
}

/// Those of A4 to A7.
#[track_caller]
fn four_requests(mesh: &Mesh, family: Family, step: &str) {
    call(mesh, "frontend", family, &[], DATA).assert_ok(step);
    call(mesh, "frontend", family, &["--data", "some"], DATA).assert_denied(step);
    call(mesh, "frontend", family, &[], "/api/v1/other").assert_denied(step);
    call(mesh, "other", family, &[], DATA).assert_denied(step);
}

/// A8: from where there is no sidecar, at the pod's own address.
fn outsider(mesh: &Mesh, family: Family) {
    let url = mesh.pod("backend").at(family, HTTP_PORT, DATA);
    mesh.pod("outsider").curl(&[&url]).assert_denied("A8, PERMISSIVE");
    mesh.policies(&[ALLOW_NOTHING, ALLOW_GET, STRICT]);
    mesh.pod("outsider").curl(&[&url]).assert_closed("A8, STRICT");
}

/// A10: policies that only say what they would do.
fn shadows(mesh: &Mesh, family: Family) {
    mesh.policies(&[ALLOW_NOTHING, ALLOW_GET, AUDIT, DRY_RUN]);
    call(mesh, "frontend", family, &[], "/api/v1/data").assert_ok("A10");
    let line = mesh.pod("backend").logged(|line| line.get("audit").is_some());
    for (field, expected) in [
        ("peer", id("frontend").as_str()),
        ("policy", "default/allow-frontend-get-data rule 0"),
        ("audit", "default/audit-data rule 0"),
        ("dry_run_deny", "deny"),
        ("dry_run_deny_policy", "default/try-deny-data rule 0"),
    ] {
        assert_eq!(line[field], expected, "{line:#}");
    }
}
