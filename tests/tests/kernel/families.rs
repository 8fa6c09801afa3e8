//! A service of both address families, as Kubernetes has it: a cluster address leads to endpoints of its own family.

use crate::support::{Family, Mesh, Rendering, Workload};

#[test]
fn application_without_ipv6_answers_every_call_over_ipv4() {
    every_call_is_answered("0.0.0.0", Family::V4);
}

#[test]
fn application_without_ipv4_answers_every_call_over_ipv6() {
    // The second service's pod; an application that listens on [::] would take IPv4 as well.
    every_call_is_answered("[fd00:77::2]", Family::V6);
}

/// Most applications listen on one family only, also in a cluster where every pod has an address of both.
fn every_call_is_answered(listens_on: &'static str, family: Family) {
    let workloads = [Workload::of("frontend"), Workload::of("backend").listening_on(listens_on)];
    let Some(mesh) = Mesh::start(Rendering::Nft, &workloads) else { return };
    let [frontend, backend] = ["frontend", "backend"].map(|name| mesh.pod(name));
    for call in 1..=4 {
        frontend.curl(&[&backend.service(family, "/")]).assert_ok(&format!("call {call}"));
    }
}
