//! A client without a sidecar, at the door of a workload with one.

use std::net::SocketAddr;

use crate::support::command::text;
use crate::support::pod::{HTTP_PORT, TCP_PORT};
use crate::support::{Family, Mesh, Rendering, Workload};

const ALLOW_GET: &str = include_str!("../../../examples/walkthrough-a/allow-frontend-get-data.yaml");
const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");

#[test]
fn plain_client_is_refused_when_strict_and_judged_when_permissive_by_nft() {
    plain_client_is_refused_when_strict_and_judged_when_permissive(Rendering::Nft);
}

#[test]
fn plain_client_is_refused_when_strict_and_judged_when_permissive_by_iptables() {
    plain_client_is_refused_when_strict_and_judged_when_permissive(Rendering::Iptables);
}

/// A8, from a machine that has no sidecar instead of past one.
fn plain_client_is_refused_when_strict_and_judged_when_permissive(rendering: Rendering) {
    let workloads = [Workload::of("frontend"), Workload::of("backend"), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, backend, outsider] = ["frontend", "backend", "outsider"].map(|name| mesh.pod(name));
    let url = |family| backend.at(family, HTTP_PORT, "/api/v1/data");
    for family in Family::BOTH {
        outsider.curl(&[&url(family)]).assert_ok("no policy");
    }

    mesh.policies(&[ALLOW_GET]);
    for family in Family::BOTH {
        outsider.curl(&[&url(family)]).assert_denied("PERMISSIVE");
        frontend.curl(&[&backend.service(family, "/api/v1/data")]).assert_ok("PERMISSIVE");
    }

    mesh.policies(&[ALLOW_GET, STRICT]);
    for family in Family::BOTH {
        outsider.curl(&[&url(family)]).assert_closed("STRICT");
        let call = outsider.call(SocketAddr::new(backend.address(family), TCP_PORT), "hello");
        assert!(!call.status.success() && call.stdout.is_empty(), "STRICT: {}", text(&call.stdout));
        frontend.curl(&[&backend.service(family, "/api/v1/data")]).assert_ok("STRICT");
    }
}
