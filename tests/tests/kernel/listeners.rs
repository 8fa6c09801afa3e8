//! The proxy's own ports and the proxy's own traffic: what must not go round in circles.

use std::net::SocketAddr;

use crate::support::pod::{HTTP_PORT, PROXY_USER};
use crate::support::{Family, Mesh, Pod, Rendering, Workload, until};

/// The access log then has one order, so that a line that is not there before a later one never comes.
const ONE_WORKER: &str = "workers: 1\n";

#[test]
fn connection_to_the_inbound_listener_is_refused_as_a_loop_by_nft() {
    connection_to_the_inbound_listener_is_refused_as_a_loop(Rendering::Nft);
}

#[test]
fn connection_to_the_inbound_listener_is_refused_as_a_loop_by_iptables() {
    connection_to_the_inbound_listener_is_refused_as_a_loop(Rendering::Iptables);
}

fn connection_to_the_inbound_listener_is_refused_as_a_loop(rendering: Rendering) {
    let workloads = [Workload::of("backend").settings(ONE_WORKER), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        for (caller, address) in [
            (outsider, backend.address(family)),
            // Not redirected at all, unlike the other.
            (backend, backend.address(family)),
            (backend, family.loopback()),
        ] {
            refused_once(&mesh, caller, SocketAddr::new(address, 15006));
        }
    }
}

#[test]
fn connection_to_the_outbound_listener_is_refused_as_a_loop_by_nft() {
    connection_to_the_outbound_listener_is_refused_as_a_loop(Rendering::Nft);
}

#[test]
fn connection_to_the_outbound_listener_is_refused_as_a_loop_by_iptables() {
    connection_to_the_outbound_listener_is_refused_as_a_loop(Rendering::Iptables);
}

fn connection_to_the_outbound_listener_is_refused_as_a_loop(rendering: Rendering) {
    let workloads = [Workload::of("backend").settings(ONE_WORKER), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(rendering, &workloads) else { return };
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        refused_once(&mesh, backend, SocketAddr::new(family.loopback(), 15001));
        // From elsewhere it is a port as any other: inbound takes it, and nobody listens there but on loopback.
        let path = format!("/{family:?}");
        let answer = outsider.curl(&[&backend.at(family, 15001, &path)]);
        assert_eq!(answer.status, 503, "{answer}");
        backend.logged_path(&path);
        nothing_is_open(backend);
    }
}

/// One connection, one refusal, and nothing after it.
#[track_caller]
fn refused_once(mesh: &Mesh, caller: &Pod, listener: SocketAddr) {
    let [backend, outsider] = ["backend", "outsider"].map(|name| mesh.pod(name));
    let seen = backend.access_log().len();
    caller.curl(&[&format!("http://{listener}/")]).assert_closed(&listener.to_string());
    let line = until("an access log line", || backend.access_log().into_iter().nth(seen));
    assert_eq!(line["response_flags"], "LOOP", "{listener}: {line:#}");
    nothing_is_open(backend);
    // The next thing that happens to this proxy is the next thing in its log.
    outsider.curl(&[&backend.at(Family::V4, HTTP_PORT, "/next")]).assert_ok("afterwards");
    let line = until("an access log line", || backend.access_log().into_iter().nth(seen + 1));
    assert_eq!(line["path"], "/next", "{listener}: {line:#}");
}

#[track_caller]
fn nothing_is_open(backend: &Pod) {
    for direction in ["inbound", "outbound"] {
        let open = format!("mesh_connections{{direction=\"{direction}\"}}");
        until(&format!("no open {direction} connection"), || {
            backend.metric(&open).is_none_or(|open| open == 0.0).then_some(())
        });
    }
}

/// The first of several, the one that the sidecar runs as and the last, and a group: with none of their traffic being anybody's else.
#[test]
fn what_any_of_several_users_of_the_proxy_sends_is_not_captured_and_its_self_calls_are_by_nft() {
    what_any_of_several_users_of_the_proxy_sends_is_not_captured_and_its_self_calls_are(Rendering::Nft);
}

#[test]
fn what_any_of_several_users_of_the_proxy_sends_is_not_captured_and_its_self_calls_are_by_iptables() {
    what_any_of_several_users_of_the_proxy_sends_is_not_captured_and_its_self_calls_are(Rendering::Iptables);
}

fn what_any_of_several_users_of_the_proxy_sends_is_not_captured_and_its_self_calls_are(rendering: Rendering) {
    let frontend = Workload::of("frontend").registry_only().redirected(&["-u", "1336,1337,1338", "-g", "1339"]);
    let Some(mesh) = Mesh::start(rendering, &[frontend, Workload::outside("unknown")]) else { return };
    let [frontend, unknown] = ["frontend", "unknown"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        for user in [1336, 1338, 1339] {
            frontend.curl_as(user, &[&unknown.at(family, HTTP_PORT, "/")]).assert_ok("to elsewhere");
            let path = format!("/{user}-{family:?}");
            frontend.curl_as(user, &[&frontend.at(family, HTTP_PORT, &path)]).assert_ok("to its own pod");
            let line = frontend.logged_path(&path);
            assert_eq!(line["direction"], "inbound", "{line:#}");
        }
        let answer = frontend.curl(&[&unknown.at(family, HTTP_PORT, "/")]);
        assert!(answer.status >= 500, "{answer}");
    }
}

#[test]
fn what_the_proxys_user_sends_is_not_captured_by_nft() {
    what_the_proxys_user_sends_is_not_captured(Rendering::Nft);
}

#[test]
fn what_the_proxys_user_sends_is_not_captured_by_iptables() {
    what_the_proxys_user_sends_is_not_captured(Rendering::Iptables);
}

fn what_the_proxys_user_sends_is_not_captured(rendering: Rendering) {
    let Some(mesh) = Mesh::of_two(rendering) else { return };
    let [frontend, backend] = ["frontend", "backend"].map(|name| mesh.pod(name));
    for family in Family::BOTH {
        let path = format!("/{family:?}");
        frontend.curl_as(PROXY_USER, &[&backend.at(family, HTTP_PORT, &path)]).assert_ok("as the proxy");
        // The same from the application has the frontend's identity: see the tests of the source address.
        let line = backend.logged_path(&path);
        assert!(line.get("peer").is_none(), "{line:#}");
    }
}
