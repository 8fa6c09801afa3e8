//! An application that calls itself. By its service it is a caller as any other, and comes back through inbound; by its own
//! address it is not the mesh's affair.

use crate::support::pod::HTTP_PORT;
use crate::support::{Family, Mesh, Rendering, Workload, id};

const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");
const DENY_ALL: &str = include_str!("../../../examples/walkthrough-a/deny-all-backend.yaml");

#[test]
fn application_calls_itself_over_ipv4_by_nft() {
    application_calls_itself(Rendering::Nft, Family::V4);
}

#[test]
fn application_calls_itself_over_ipv4_by_iptables() {
    application_calls_itself(Rendering::Iptables, Family::V4);
}

#[test]
fn application_calls_itself_over_ipv6_by_nft() {
    application_calls_itself(Rendering::Nft, Family::V6);
}

#[test]
fn application_calls_itself_over_ipv6_by_iptables() {
    application_calls_itself(Rendering::Iptables, Family::V6);
}

#[test]
fn application_calls_itself_over_ipv4_by_legacy_iptables() {
    application_calls_itself(Rendering::Legacy, Family::V4);
}

#[test]
fn application_calls_itself_over_ipv6_by_legacy_iptables() {
    application_calls_itself(Rendering::Legacy, Family::V6);
}

fn application_calls_itself(rendering: Rendering, family: Family) {
    let Some(mesh) = Mesh::start(rendering, &[Workload::of("backend")]) else { return };
    let backend = mesh.pod("backend");
    // With mutual TLS mandatory only what came through outbound gets in.
    mesh.policies(&[STRICT]);

    let answer = backend.curl(&[&backend.service(family, "/own-service")]).assert_ok("own service");
    assert_eq!(answer.said("peer"), family.inbound_source());
    let inbound = backend.logged(|line| line["direction"] == "inbound" && line["path"] == "/own-service");
    assert_eq!(inbound["peer"], id("backend"), "{inbound:#}");
    backend.logged(|line| line["direction"] == "outbound" && line["path"] == "/own-service");

    // Nobody between: the application sees its own addresses.
    for (url, from) in [
        (backend.at(family, HTTP_PORT, "/own-address"), backend.address(family)),
        (format!("http://{}/loopback", std::net::SocketAddr::new(family.loopback(), HTTP_PORT)), family.loopback()),
    ] {
        let answer = backend.curl(&[&url]).assert_ok(&url);
        assert_eq!(answer.said("peer"), from.to_string(), "{url}");
    }

    // Policy applies to the one and not to the other.
    mesh.policies(&[STRICT, DENY_ALL]);
    backend.curl(&[&backend.service(family, "/denied")]).assert_denied("own service");
    backend.curl(&[&backend.at(family, HTTP_PORT, "/own-address")]).assert_ok("own address");
    backend.logged_path("/denied");
    let paths: Vec<_> = backend.access_log().into_iter().map(|line| line["path"].clone()).collect();
    assert!(!paths.iter().any(|path| path == "/own-address" || path == "/loopback"), "{paths:?}");
}
