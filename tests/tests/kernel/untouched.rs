//! What is none of the mesh's business passes as if there were none: what is not TCP, what belongs to no connection,
//! and what the sidecar itself answers.

use std::net::SocketAddr;

use crate::support::command::{said, stdout, text};
use crate::support::pod::{HTTP_PORT, UDP_PORT};
use crate::support::{Family, Mesh, Rendering, Workload};

const STRICT: &str = include_str!("../../../examples/walkthrough-a/strict.yaml");
const DENY_ALL: &str = include_str!("../../../examples/walkthrough-a/deny-all-backend.yaml");

#[test]
fn datagrams_and_echoes_pass_by_nft() {
    datagrams_and_echoes_pass(Rendering::Nft);
}

#[test]
fn datagrams_and_echoes_pass_by_iptables() {
    datagrams_and_echoes_pass(Rendering::Iptables);
}

#[test]
fn datagrams_and_echoes_pass_by_legacy_iptables() {
    datagrams_and_echoes_pass(Rendering::Legacy);
}

fn datagrams_and_echoes_pass(rendering: Rendering) {
    let frontend = Workload::of("frontend").registry_only();
    let Some(mesh) = Mesh::start(rendering, &[frontend, Workload::of("backend")]) else { return };
    mesh.policies(&[STRICT, DENY_ALL]);
    let [frontend, backend] = ["frontend", "backend"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        let address = SocketAddr::new(backend.address(family), UDP_PORT);
        let heard = stdout(&frontend.datagram(address, "hello"));
        assert_eq!(said(&heard, "echo"), Some("hello"), "{heard}");
        assert_eq!(said(&heard, "peer"), Some(frontend.address(family).to_string().as_str()), "{heard}");
        for address in [backend.address(family), frontend.address(family), family.loopback()] {
            let echo = frontend.ping(address);
            assert!(echo.status.success(), "{address}: {}", text(&echo.stderr));
        }
    }
    assert!(frontend.access_log().is_empty() && backend.access_log().is_empty());
}

/// What a kubelet and a scraper ask, which have no certificate, answered past mutual TLS and policy.
#[test]
fn sidecars_own_port_answers_from_outside_when_it_is_left_alone() {
    let backend = Workload::of("backend").admin_at(15021);
    let Some(mesh) = Mesh::start(Rendering::Nft, &[backend, Workload::outside("outsider")]) else { return };
    mesh.policies(&[STRICT, DENY_ALL]);
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    for path in ["/ready", "/metrics"] {
        outsider.curl(&[&backend.at(Family::V4, 15021, path)]).assert_ok(path);
    }
    outsider.curl(&[&backend.at(Family::V4, HTTP_PORT, "/")]).assert_closed("all else");
}

/// What inbound passes on comes from the machine itself, which makes nobody someone who sits there.
#[test]
fn nobody_ends_the_sidecar_through_its_inbound_side() {
    // At a port that is captured, as the usual one is not.
    const ADMIN: u16 = 16000;
    let backend = Workload::of("backend").admin_at(ADMIN);
    let Some(mesh) = Mesh::start(Rendering::Nft, &[backend, Workload::outside("outsider")]) else { return };
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    let path = "/quitquitquit";
    let answer = outsider.curl(&["--request", "POST", &backend.at(Family::V4, ADMIN, path)]);
    assert_eq!(answer.status, 403, "{answer}");
    // It did come through inbound.
    backend.logged_path(path);
    backend.curl(&["--request", "POST", &format!("http://127.0.0.1:{ADMIN}{path}")]).assert_ok("on the machine");
}

#[test]
fn segments_of_no_connection_are_not_answered_when_they_are_dropped_by_nft() {
    segments_of_no_connection_are_not_answered_when_they_are_dropped(Rendering::Nft);
}

#[test]
fn segments_of_no_connection_are_not_answered_when_they_are_dropped_by_iptables() {
    segments_of_no_connection_are_not_answered_when_they_are_dropped(Rendering::Iptables);
}

fn segments_of_no_connection_are_not_answered_when_they_are_dropped(rendering: Rendering) {
    let silent = Workload::of("silent").redirected(&["--drop-invalid"]);
    let workloads = [silent, Workload::of("usual"), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [silent, usual, outsider] = ["silent", "usual", "outsider"].map(|name| mesh.pod(name));
    let resets = usual.address(Family::V4).to_string();
    assert_eq!(outsider.stray([silent, usual]).trim_end(), resets);
    // In time to be the first, where it answers at all.
    assert_eq!(outsider.stray([usual, silent]).trim_end(), resets);
    for pod in [silent, usual] {
        outsider.curl(&[&pod.at(Family::V4, HTTP_PORT, "/")]).assert_ok("a connection");
    }
}
