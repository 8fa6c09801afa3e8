//! Bytes that are not HTTP, in a conversation that the server begins: nothing may wait for the client's first byte.

use std::net::{IpAddr, SocketAddr};

use crate::support::command::{said, stdout};
use crate::support::pod::TCP_PORT;
use crate::support::{Family, Mesh, Rendering, Workload, id, until};

/// Longer than the test application waits for its greeting: who tries to find out what is spoken fails the test.
const PATIENT: &str = "timeouts: {detect: 60s}\n";

#[test]
fn server_speaks_first_through_both_sidecars_over_ipv4_by_nft() {
    server_speaks_first_through_both_sidecars(Rendering::Nft, Family::V4);
}

#[test]
fn server_speaks_first_through_both_sidecars_over_ipv4_by_iptables() {
    server_speaks_first_through_both_sidecars(Rendering::Iptables, Family::V4);
}

#[test]
fn server_speaks_first_through_both_sidecars_over_ipv6_by_nft() {
    server_speaks_first_through_both_sidecars(Rendering::Nft, Family::V6);
}

#[test]
fn server_speaks_first_through_both_sidecars_over_ipv6_by_iptables() {
    server_speaks_first_through_both_sidecars(Rendering::Iptables, Family::V6);
}

fn server_speaks_first_through_both_sidecars(rendering: Rendering, family: Family) {
    let Some(mesh) = start(rendering) else { return };
    converse(&mesh, family, family.service(mesh.pod("backend").index));
}

/// As the clients of databases want it, which have a name for each of the service's pods.
#[test]
fn server_speaks_first_when_called_by_its_pods_own_address() {
    let Some(mesh) = start(Rendering::Nft) else { return };
    for family in Family::BOTH {
        converse(&mesh, family, mesh.pod("backend").address(family));
    }
}

fn start(rendering: Rendering) -> Option<Mesh> {
    let workloads = ["frontend", "backend"].map(|name| Workload::of(name).settings(PATIENT));
    Mesh::start(rendering, &workloads)
}

fn converse(mesh: &Mesh, family: Family, address: IpAddr) {
    let [frontend, backend] = ["frontend", "backend"].map(|name| mesh.pod(name));
    let (sent, received) = (frontend.access_log().len(), backend.access_log().len());
    let heard = stdout(&frontend.call(SocketAddr::new(address, TCP_PORT), "hello"));
    assert_eq!(said(&heard, "name"), Some("backend"), "{heard}");
    assert_eq!(said(&heard, "peer"), Some(family.inbound_source()), "{heard}");
    // The caller had ended by then: an end in one direction is not an end in the other.
    assert!(heard.ends_with("echo: hello\nfarewell\n"), "{heard}");

    let line = until("the backend's line", || backend.access_log().into_iter().nth(received));
    assert_eq!(line["peer"], id("frontend"), "{line:#}");
    assert_eq!(line["protocol"], "TCP", "{line:#}");
    let line = until("the frontend's line", || frontend.access_log().into_iter().nth(sent));
    assert_eq!(line["protocol"], "TCP", "{line:#}");
    assert_eq!(line["bytes_received"], "hello\n".len(), "{line:#}");
    assert_eq!(line["bytes_sent"], heard.len(), "{line:#}");
}
