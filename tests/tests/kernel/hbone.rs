//! Tunnels to a pod's application, with the port that they come to captured like any other, and left alone.

use crate::support::pod::HTTP_PORT;
use crate::support::{Family, Mesh, Rendering, Workload, id};

const TUNNELS: &str = "workers: 1\nhbone: {listeners: [\"0.0.0.0:15008\", \"[::]:15008\"]}\n";
const DENY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                    metadata: {name: secret, namespace: default}\n\
                    spec: {action: DENY, rules: [{to: [{operation: {paths: [\"/secret\"]}}]}]}\n";

#[test]
fn tunnels_reach_the_application_and_no_policy_is_passed_by_nft() {
    tunnels_reach_the_application_and_no_policy_is_passed(Rendering::Nft, &[]);
    tunnels_reach_the_application_and_no_policy_is_passed(Rendering::Nft, &["--inbound-tunnel-port", "none"]);
}

#[test]
fn tunnels_reach_the_application_and_no_policy_is_passed_by_iptables() {
    tunnels_reach_the_application_and_no_policy_is_passed(Rendering::Iptables, &[]);
}

fn tunnels_reach_the_application_and_no_policy_is_passed(rendering: Rendering, flags: &[&str]) {
    let workloads = [Workload::of("frontend"), Workload::of("backend").redirected(flags).settings(TUNNELS)];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    mesh.policies(&[DENY]);
    let [frontend, backend] = ["frontend", "backend"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        // From another pod, and the pod's own call to itself.
        for (caller, who) in [(frontend, "frontend"), (backend, "backend")] {
            let path = format!("/{family:?}-{who}");
            caller.curl(&[&backend.service(family, &path)]).assert_ok(&path);
            let line = backend.logged(|line| line["path"] == path && line["direction"] == "inbound");
            assert_eq!(line["peer"], id(who), "{line:#}");
            let asked_for = std::net::SocketAddr::new(backend.address(family), HTTP_PORT).to_string();
            assert_eq!(line["downstream_local_address"], asked_for, "{line:#}");
            caller.curl(&[&backend.service(family, "/secret")]).assert_denied(&path);
        }
    }
}
