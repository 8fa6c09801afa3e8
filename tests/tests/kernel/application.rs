//! Where the application listens. The proxy calls it where its caller called it, so that an address at which nobody outside of the
//! pod could call it without a mesh is none with one.

use crate::support::pod::{HTTP_PORT, OTHER_PORT};
use crate::support::{Family, Mesh, Rendering, Workload};

#[test]
fn application_on_loopback_alone_stays_out_of_reach_over_ipv4() {
    loopback_stays_out_of_reach("127.0.0.1", Family::V4);
}

#[test]
fn application_on_loopback_alone_stays_out_of_reach_over_ipv6() {
    loopback_stays_out_of_reach("[::1]", Family::V6);
}

fn loopback_stays_out_of_reach(listens_on: &'static str, family: Family) {
    let workloads =
        [Workload::of("frontend"), Workload::of("backend").listening_on(listens_on), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(Rendering::Nft, &workloads) else { return };
    let [frontend, backend, outsider] = ["frontend", "backend", "outsider"].map(|name| mesh.pod(name));
    let answer = frontend.curl(&[&backend.service(family, "/service")]);
    assert_eq!(answer.status, 503, "{answer}");
    let line = backend.logged_path("/service");
    assert_eq!(line["response_flags"], "UF", "{line:#}");
    let answer = outsider.curl(&[&backend.at(family, HTTP_PORT, "/pod")]);
    assert_eq!(answer.status, 503, "{answer}");
    // The pod's own containers reach it as ever, and nothing of that is the mesh's.
    let own = std::net::SocketAddr::new(family.loopback(), HTTP_PORT);
    let answer = backend.curl(&[&format!("http://{own}/")]).assert_ok("its neighbour");
    assert_eq!(answer.said("peer"), family.loopback().to_string());
}

#[test]
fn application_on_the_pods_address_alone_is_reached_over_ipv4() {
    // The second pod's.
    pods_address_is_reached("10.77.0.2", Family::V4);
}

#[test]
fn application_on_the_pods_address_alone_is_reached_over_ipv6() {
    pods_address_is_reached("[fd00:77::2]", Family::V6);
}

fn pods_address_is_reached(listens_on: &'static str, family: Family) {
    let workloads =
        [Workload::of("frontend"), Workload::of("backend").listening_on(listens_on), Workload::outside("outsider")];
    let Some(mesh) = Mesh::start(Rendering::Nft, &workloads) else { return };
    let [frontend, backend, outsider] = ["frontend", "backend", "outsider"].map(|name| mesh.pod(name));
    for (caller, url) in [
        (frontend, backend.service(family, "/")),
        (outsider, backend.at(family, OTHER_PORT, "/")),
        (backend, backend.service(family, "/itself")),
    ] {
        let answer = caller.curl(&[&url]).assert_ok(&url);
        assert_eq!(answer.said("peer"), family.inbound_source(), "{url}");
    }
}
