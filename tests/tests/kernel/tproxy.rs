//! TPROXY: inbound connections come to the sidecar as they are, translated by nobody. For policy and for the application
//! nothing may be different.

use std::net::SocketAddr;

use crate::support::pod::{HTTP_PORT, OTHER_PORT, TCP_PORT};
use crate::support::{Family, Mesh, Rendering, Workload, id, until};

const DENY_ALL: &str = include_str!("../../../examples/walkthrough-a/deny-all-backend.yaml");
const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");

#[test]
fn inbound_connections_are_taken_as_they_are_over_ipv4_by_nft() {
    inbound_connections_are_taken_as_they_are(Rendering::Nft, Family::V4);
}

#[test]
fn inbound_connections_are_taken_as_they_are_over_ipv4_by_iptables() {
    inbound_connections_are_taken_as_they_are(Rendering::Iptables, Family::V4);
}

#[test]
fn inbound_connections_are_taken_as_they_are_over_ipv6_by_nft() {
    inbound_connections_are_taken_as_they_are(Rendering::Nft, Family::V6);
}

#[test]
fn inbound_connections_are_taken_as_they_are_over_ipv6_by_iptables() {
    inbound_connections_are_taken_as_they_are(Rendering::Iptables, Family::V6);
}

fn inbound_connections_are_taken_as_they_are(rendering: Rendering, family: Family) {
    let excluded = OTHER_PORT.to_string();
    let backend = Workload::of("backend").transparent().redirected(&["-d", &excluded]);
    let workloads = [Workload::of("frontend"), backend, Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, backend, outsider] = ["frontend", "backend", "outsider"].map(|name| mesh.pod(name));
    let pod = SocketAddr::new(backend.address(family), HTTP_PORT).to_string();
    for (caller, url, path, peer) in [
        (frontend, backend.service(family, "/service"), "/service", Some(id("frontend"))),
        (outsider, backend.at(family, HTTP_PORT, "/plain"), "/plain", None),
        (backend, backend.service(family, "/itself"), "/itself", Some(id("backend"))),
    ] {
        let answer = caller.curl(&[&url]).assert_ok(&url);
        assert_eq!(answer.said("peer"), family.inbound_source(), "{url}");
        let line = backend.logged(|line| line["path"] == path && line["direction"] == "inbound");
        assert_eq!(line["peer"].as_str(), peer.as_deref(), "{line:#}");
        assert_eq!(line["downstream_local_address"], pod, "{line:#}");
    }
    let heard = frontend.call(SocketAddr::new(family.service(backend.index), TCP_PORT), "hello");
    assert!(heard.status.success(), "{heard:?}");

    mesh.policies(&[STRICT, DENY_ALL]);
    frontend.curl(&[&backend.service(family, "/")]).assert_denied("by policy");
    backend.curl(&[&backend.service(family, "/")]).assert_denied("by policy, itself");
    outsider.curl(&[&backend.at(family, HTTP_PORT, "/")]).assert_closed("without mutual TLS");
    // What is none of the mesh's business.
    let answer = outsider.curl(&[&backend.at(family, OTHER_PORT, "/")]).assert_ok("the excluded port");
    assert_eq!(answer.said("peer"), outsider.address(family).to_string());
    let answer = backend.curl(&[&backend.at(family, HTTP_PORT, "/")]).assert_ok("its own address");
    assert_eq!(answer.said("peer"), backend.address(family).to_string());

    let listener = format!("http://{}/", SocketAddr::new(backend.address(family), 15006));
    for (caller, who) in [(outsider, "outsider"), (backend, "backend")] {
        let loops = || backend.access_log().iter().filter(|line| line["response_flags"] == "LOOP").count();
        let before = loops();
        caller.curl(&[&listener]).assert_closed(who);
        until("a refused loop", || (loops() == before + 1).then_some(()));
    }
}

#[test]
fn sidecar_says_which_capability_it_lacks_for_a_transparent_listener() {
    let backend = Workload::of("backend").transparent().incapable();
    let Some(mesh) = Mesh::launch(Rendering::Nft, &[backend]) else { return };
    let output = until("the sidecar's end", || {
        let output = mesh.pod("backend").output();
        output.contains("inbound.listeners[0].transparent").then_some(output)
    });
    assert!(output.contains("CAP_NET_RAW or CAP_NET_ADMIN"), "{output}");
}
