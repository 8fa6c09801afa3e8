//! What the application sees of its callers: the one thing that redirection changes for it.

use crate::support::pod::HTTP_PORT;
use crate::support::{Family, Mesh, Rendering, Workload, id};

#[test]
fn application_is_called_from_the_inbound_source_over_ipv4_by_nft() {
    application_is_called_from_the_inbound_source(Rendering::Nft, Family::V4);
}

#[test]
fn application_is_called_from_the_inbound_source_over_ipv4_by_iptables() {
    application_is_called_from_the_inbound_source(Rendering::Iptables, Family::V4);
}

#[test]
fn application_is_called_from_the_inbound_source_over_ipv6_by_nft() {
    application_is_called_from_the_inbound_source(Rendering::Nft, Family::V6);
}

#[test]
fn application_is_called_from_the_inbound_source_over_ipv6_by_iptables() {
    application_is_called_from_the_inbound_source(Rendering::Iptables, Family::V6);
}

/// However the service is called: by cluster address, by the pod's own, or by a caller outside of the mesh.
fn application_is_called_from_the_inbound_source(rendering: Rendering, family: Family) {
    let workloads = [Workload::of("frontend"), Workload::of("backend"), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, backend, outsider] = ["frontend", "backend", "outsider"].map(|name| mesh.pod(name));
    let (service, pod) = (backend.service(family, "/service"), backend.at(family, HTTP_PORT, "/pod"));
    let plain = backend.at(family, HTTP_PORT, "/plain");
    for (caller, url, what, peer) in [
        (frontend, &service, "/service", Some(id("frontend"))),
        (frontend, &pod, "/pod", Some(id("frontend"))),
        (outsider, &plain, "/plain", None),
    ] {
        let answer = caller.curl(&[url]).assert_ok(url);
        assert_eq!((answer.said("name"), answer.said("peer")), ("backend", family.inbound_source()), "{url}");
        // The proxy itself does know who calls.
        let line = backend.logged_path(what);
        assert_eq!(line["peer"].as_str(), peer.as_deref(), "{line:#}");
        let from = line["downstream_remote_address"].as_str().unwrap();
        assert_eq!(from.rsplit_once(':').unwrap().0, bracketed(caller.address(family)), "{line:#}");
        assert_eq!(line["upstream_host"], format!("{}:{HTTP_PORT}", bracketed(backend.address(family))), "{line:#}");
    }
}

fn bracketed(address: std::net::IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}
