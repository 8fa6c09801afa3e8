//! What the redirection is told to leave alone: outside of the mesh, with neither mutual TLS nor policy.

use crate::support::pod::{HTTP_PORT, OTHER_PORT};
use crate::support::{Family, Mesh, Rendering, Workload};

const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");

#[test]
fn excluded_inbound_port_is_outside_the_mesh_by_nft() {
    excluded_inbound_port_is_outside_the_mesh(Rendering::Nft);
}

#[test]
fn excluded_inbound_port_is_outside_the_mesh_by_iptables() {
    excluded_inbound_port_is_outside_the_mesh(Rendering::Iptables);
}

fn excluded_inbound_port_is_outside_the_mesh(rendering: Rendering) {
    let excluded = OTHER_PORT.to_string();
    let workloads = [
        Workload::of("backend").redirected(&["--istio-local-exclude-ports", &excluded]),
        Workload::outside("outsider"),
    ];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    mesh.policies(&[STRICT]);
    for family in Family::BOTH {
        let answer = outsider.curl(&[&backend.at(family, OTHER_PORT, "/")]).assert_ok("the excluded port");
        assert_eq!(answer.said("peer"), outsider.address(family).to_string());
        outsider.curl(&[&backend.at(family, HTTP_PORT, "/")]).assert_closed("the other port");
    }
}

#[test]
fn inbound_port_that_is_not_listed_is_outside_the_mesh_by_nft() {
    inbound_port_that_is_not_listed_is_outside_the_mesh(Rendering::Nft);
}

#[test]
fn inbound_port_that_is_not_listed_is_outside_the_mesh_by_iptables() {
    inbound_port_that_is_not_listed_is_outside_the_mesh(Rendering::Iptables);
}

fn inbound_port_that_is_not_listed_is_outside_the_mesh(rendering: Rendering) {
    let listed = format!("1000-2000,{HTTP_PORT}");
    let workloads =
        [Workload::of("backend").redirected(&["--istio-inbound-ports", &listed]), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    mesh.policies(&[STRICT]);
    for family in Family::BOTH {
        let answer = outsider.curl(&[&backend.at(family, OTHER_PORT, "/")]).assert_ok("the port that is not listed");
        assert_eq!(answer.said("peer"), outsider.address(family).to_string());
        outsider.curl(&[&backend.at(family, HTTP_PORT, "/")]).assert_closed("the listed port");
    }
}

#[test]
fn excluded_destination_is_outside_the_mesh_by_nft() {
    excluded_destination_is_outside_the_mesh(Rendering::Nft);
}

#[test]
fn excluded_destination_is_outside_the_mesh_by_iptables() {
    excluded_destination_is_outside_the_mesh(Rendering::Iptables);
}

fn excluded_destination_is_outside_the_mesh(rendering: Rendering) {
    let cidrs = Family::BOTH.map(|family| family.pod(1).to_string()).join(",");
    let frontend = Workload::of("frontend").registry_only();
    let workloads = [
        frontend.redirected(&["--istio-service-exclude-cidr", &cidrs]),
        Workload::outside("excluded"),
        Workload::outside("unknown"),
    ];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, excluded, unknown] = ["frontend", "excluded", "unknown"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        // The sidecar knows neither address, and refuses what it does not know.
        frontend.curl(&[&excluded.at(family, HTTP_PORT, "/")]).assert_ok("the excluded destination");
        let captured = frontend.curl(&[&unknown.at(family, HTTP_PORT, "/")]);
        assert!(captured.status >= 500, "{captured}");
    }
}

#[test]
fn excluded_outbound_port_is_outside_the_mesh_by_nft() {
    excluded_outbound_port_is_outside_the_mesh(Rendering::Nft);
}

#[test]
fn excluded_outbound_port_is_outside_the_mesh_by_iptables() {
    excluded_outbound_port_is_outside_the_mesh(Rendering::Iptables);
}

fn excluded_outbound_port_is_outside_the_mesh(rendering: Rendering) {
    let frontend = Workload::of("frontend").registry_only();
    let excluded = OTHER_PORT.to_string();
    let workloads =
        [frontend.redirected(&["--istio-local-outbound-ports-exclude", &excluded]), Workload::outside("unknown")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, unknown] = ["frontend", "unknown"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        frontend.curl(&[&unknown.at(family, OTHER_PORT, "/")]).assert_ok("the excluded port");
        let captured = frontend.curl(&[&unknown.at(family, HTTP_PORT, "/")]);
        assert!(captured.status >= 500, "{captured}");
    }
}

#[test]
fn ipv6_is_outside_the_mesh_when_it_is_off_by_nft() {
    ipv6_is_outside_the_mesh_when_it_is_off(Rendering::Nft);
}

#[test]
fn ipv6_is_outside_the_mesh_when_it_is_off_by_iptables() {
    ipv6_is_outside_the_mesh_when_it_is_off(Rendering::Iptables);
}

fn ipv6_is_outside_the_mesh_when_it_is_off(rendering: Rendering) {
    let workloads = [Workload::of("backend").redirected(&["--ipv6", "false"]), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    mesh.policies(&[STRICT]);
    let answer = outsider.curl(&[&backend.at(Family::V6, HTTP_PORT, "/")]).assert_ok("IPv6");
    assert_eq!(answer.said("peer"), outsider.address(Family::V6).to_string());
    outsider.curl(&[&backend.at(Family::V4, HTTP_PORT, "/")]).assert_closed("IPv4");
}

#[test]
fn destination_that_is_not_listed_is_outside_the_mesh_by_nft() {
    destination_that_is_not_listed_is_outside_the_mesh(Rendering::Nft);
}

#[test]
fn destination_that_is_not_listed_is_outside_the_mesh_by_iptables() {
    destination_that_is_not_listed_is_outside_the_mesh(Rendering::Iptables);
}

fn destination_that_is_not_listed_is_outside_the_mesh(rendering: Rendering) {
    let cidrs = Family::BOTH.map(|family| family.pod(1).to_string()).join(",");
    let ports = OTHER_PORT.to_string();
    let frontend = Workload::of("frontend").registry_only().redirected(&["-i", &cidrs, "-q", &ports]);
    let workloads = [frontend, Workload::outside("listed"), Workload::outside("unlisted")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [frontend, listed, unlisted] = ["frontend", "listed", "unlisted"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        frontend.curl(&[&unlisted.at(family, HTTP_PORT, "/")]).assert_ok("neither address nor port listed");
        for url in [listed.at(family, HTTP_PORT, "/"), unlisted.at(family, OTHER_PORT, "/")] {
            let captured = frontend.curl(&[&url]);
            assert!(captured.status >= 500, "{url}: {captured}");
        }
    }
}

#[test]
fn excluded_interface_is_outside_the_mesh_by_nft() {
    excluded_interface_is_outside_the_mesh(Rendering::Nft);
}

#[test]
fn excluded_interface_is_outside_the_mesh_by_iptables() {
    excluded_interface_is_outside_the_mesh(Rendering::Iptables);
}

fn excluded_interface_is_outside_the_mesh(rendering: Rendering) {
    let excluding = |name, interface| Workload::of(name).registry_only().redirected(&["-c", interface]);
    let workloads = [excluding("outside", "eth0"), excluding("inside", "eth1"), Workload::outside("unknown")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [outside, inside, unknown] = ["outside", "inside", "unknown"].map(|name| mesh.pod(name));
    mesh.policies(&[STRICT]);
    for family in Family::BOTH {
        unknown.curl(&[&outside.at(family, HTTP_PORT, "/")]).assert_ok("in by the excluded interface");
        outside.curl(&[&unknown.at(family, HTTP_PORT, "/")]).assert_ok("out by the excluded interface");
        unknown.curl(&[&inside.at(family, HTTP_PORT, "/")]).assert_closed("in by another");
        let captured = inside.curl(&[&unknown.at(family, HTTP_PORT, "/")]);
        assert!(captured.status >= 500, "{captured}");
    }
}

#[test]
fn groups_are_outside_the_mesh_when_others_are_listed_or_they_are_excluded_by_nft() {
    groups_are_outside_the_mesh_when_others_are_listed_or_they_are_excluded(Rendering::Nft);
}

#[test]
fn groups_are_outside_the_mesh_when_others_are_listed_or_they_are_excluded_by_iptables() {
    groups_are_outside_the_mesh_when_others_are_listed_or_they_are_excluded(Rendering::Iptables);
}

fn groups_are_outside_the_mesh_when_others_are_listed_or_they_are_excluded(rendering: Rendering) {
    let listing = Workload::of("listing").registry_only().redirected(&["--outbound-owner-groups", "2001,2002"]);
    let excluding =
        Workload::of("excluding").registry_only().redirected(&["--outbound-owner-groups-exclude", "2001,2002"]);
    let Some(mesh) = Mesh::start(rendering, &[listing, excluding, Workload::outside("unknown")]) else { return };
    let [listing, excluding, unknown] = ["listing", "excluding", "unknown"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        let url = unknown.at(family, HTTP_PORT, "/");
        // A user's group has the user's number here.
        for (pod, captured, free) in [(listing, [2001, 2002], [2003, 1000]), (excluding, [2003, 1000], [2001, 2002])] {
            for user in captured {
                let answer = pod.curl_as(user, &[&url]);
                assert!(answer.status >= 500, "{} {user}: {answer}", pod.name);
            }
            for user in free {
                pod.curl_as(user, &[&url]).assert_ok(&format!("{} {user}", pod.name));
            }
        }
    }
}
