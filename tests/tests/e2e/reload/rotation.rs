//! Certificates that are renewed again and again while requests go through: nobody notices.

use meshgate::sandbox::Sidecar;

use super::certificates::until_shown;
use super::sessions::mesh;
use super::{echo, echoes};
use crate::support::app::App;
use crate::support::backend::{BACKEND, Backend, FRONTEND, OTHER, mtls, pod, service};
use crate::support::client::{Client, MESH_HTTP1, MESH_HTTP2, MESH_TCP};
use crate::support::steady::Steady;

const ROUNDS: u32 = 10;

/// Sets of identity files that came into force after the first.
const TAKEN: &str = "mesh_identity_reloads_total{result=\"ok\"}";

/// A backend that insists on mutual TLS, and a frontend that calls it.
pub(super) async fn pair(application: &App) -> (Backend, Sidecar) {
    let backend = Backend::start_with(|sandbox, pod| {
        sandbox.write_resource("strict.yaml", &mtls("STRICT")).unwrap();
        pod.application = Some(application.address());
    });
    let mut backend = backend.await;
    backend.put("workloads.yaml", &service(backend.sidecar.inbound().ip())).await;
    let address = backend.sandbox.next_address();
    let frontend = backend.sandbox.start(&pod("frontend"), address).await.unwrap();
    (backend, frontend)
}

#[test]
fn ten_renewals_of_both_ends_certificates_fail_no_request_and_end_no_connection() {
    meshgate_tests::run(async {
        let application = App::either().await;
        let (backend, frontend) = pair(&application).await;
        let (authority, inbound) = (backend.authority(), backend.sidecar.inbound());
        let caller = authority.issue(OTHER);
        let mut http1 = Client::http1(mesh(inbound, &caller, MESH_HTTP1).await).await;
        let mut http2 = Client::http2(mesh(inbound, &caller, MESH_HTTP2).await).await;
        let steady = Steady::on(frontend.outbound());
        for round in 1..=ROUNDS {
            steady.more(20).await;
            let renewed = authority.issue(BACKEND);
            renewed.install(&backend.sandbox, "backend");
            authority.issue(FRONTEND).install(&backend.sandbox, "frontend");
            until_shown(&backend.sidecar, &caller, &renewed).await;
            frontend.until_metric(TAKEN, |taken| taken >= f64::from(round)).await.unwrap();
            assert_eq!((http1.get("/").await.unwrap().0, http2.get("/").await.unwrap().0), (200, 200), "round {round}");
        }
        steady.more(20).await;
        // The caller's application has the connections that it began with, and so has who calls from elsewhere.
        assert_eq!(steady.kept(), 4);
        assert!(!http1.is_closed() && !http2.is_closed());
        let answered = steady.all_answered().await;
        println!("{answered} requests, {ROUNDS} renewals");
        let taken = backend.sidecar.metric(TAKEN).await.unwrap();
        assert!(taken >= f64::from(ROUNDS), "{taken} renewals were seen");
    });
}

#[test]
fn a_stream_of_bytes_goes_on_while_the_certificates_of_both_its_ends_are_renewed() {
    meshgate_tests::run(async {
        let application = echo().await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let authority = backend.authority();
        let mut stream = mesh(backend.sidecar.inbound(), &authority.issue(OTHER), MESH_TCP).await;
        for _ in 0..3 {
            echoes(&mut stream).await.unwrap();
            let renewed = authority.issue(BACKEND);
            renewed.install(&backend.sandbox, "backend");
            until_shown(&backend.sidecar, &authority.issue(OTHER), &renewed).await;
        }
        echoes(&mut stream).await.unwrap();
    });
}
