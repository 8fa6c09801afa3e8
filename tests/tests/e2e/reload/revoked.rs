//! Certificates that their authority takes back while connections rest on them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use meshgate::sandbox::{PodSpec, Sandbox};
use rustls::AlertDescription;
use tokio::time::Instant;

use super::certificates::unready;
use super::sessions::{AT_ONCE, begun, endless, ends, mesh};
use super::{echo, echoes};
use crate::support::backend::{BACKEND, Backend, FRONTEND, HELLO, OTHER, counting};
use crate::support::client::{Client, MESH_HTTP1, MESH_HTTP2, MESH_TCP, alert, handshake, tls};
use crate::support::mesh::logged;
use crate::support::pki::{Authority, Credentials, replace};
use crate::support::soon;
use crate::support::tunnel::Outer;

const HANDSHAKES: &str = "mesh_tls_handshakes_total{direction=\"inbound\",outcome=\"error\",reason=\"revoked\"}";
const ENDED: &str = "mesh_tls_sessions_ended_total{direction=\"inbound\",outcome=\"revoked\"}";

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(24 * 3600)
}

fn write(sandbox: &Sandbox, list: &str) {
    replace(&sandbox.path("ca/crl.pem"), list);
}

/// A backend with a list in which nobody is.
async fn backend(change: impl FnOnce(&mut PodSpec)) -> Backend {
    Backend::start_with(|sandbox, pod| {
        write(sandbox, &Authority::of(sandbox).revocation_list(&[], tomorrow()));
        pod.identity = ", crl: [ca/crl.pem]".to_owned();
        change(pod);
    })
    .await
}

fn revoke(backend: &Backend, revoked: &Credentials) {
    write(&backend.sandbox, &backend.authority().revocation_list(&[revoked], tomorrow()));
}

async fn is_refused(backend: &Backend, credentials: &Credentials, why: &str) {
    let seen = backend.sidecar.access_log().len();
    let alert = alert(backend.sidecar.inbound(), tls(Some(credentials), MESH_HTTP1)).await;
    assert_eq!(alert, Ok(AlertDescription::CertificateUnknown));
    let line = backend.sidecar.next_access(seen).await.unwrap();
    assert_eq!(line["response_flags"], "DOWNSTREAM_TLS", "{line}");
    assert!(line["connection_termination_details"].as_str().unwrap().contains(why), "{line}");
}

#[test]
fn a_tcp_connection_of_who_is_revoked_ends_and_no_other_and_it_does_not_come_back() {
    meshgate_tests::run(async {
        let application = echo().await;
        let backend = backend(|pod| pod.application = Some(application.address())).await;
        // The same workload, with two certificates.
        let (revoked, renewed) = (backend.issue(FRONTEND), backend.issue(FRONTEND));
        let inbound = backend.sidecar.inbound();
        let mut ending = mesh(inbound, &revoked, MESH_TCP).await;
        let mut going = mesh(inbound, &renewed, MESH_TCP).await;
        echoes(&mut ending).await.unwrap();
        echoes(&mut going).await.unwrap();
        let start = Instant::now();
        revoke(&backend, &revoked);
        ends(&mut ending, start, AT_ONCE).await;
        let line = logged(&backend.sidecar, |line| line["peer"] == FRONTEND).await;
        assert_eq!(line["response_flags"], "DOWNSTREAM_TLS", "{line}");
        let why = line["connection_termination_details"].as_str().unwrap();
        assert!(why.contains("the peer's certificate has been revoked"), "{line}");
        is_refused(&backend, &revoked, "a certificate of it has been revoked").await;
        echoes(&mut going).await.unwrap();
        backend.sidecar.until_metric(ENDED, |count| count == 1.0).await.unwrap();
        backend.sidecar.until_metric(HANDSHAKES, |count| count == 1.0).await.unwrap();
        let mut back = mesh(inbound, &renewed, MESH_TCP).await;
        echoes(&mut back).await.unwrap();
    });
}

#[test]
fn http_in_progress_and_idle_connections_of_who_is_revoked_end() {
    meshgate_tests::run(async {
        let application = endless().await;
        let backend = backend(|pod| pod.application = Some(application.address())).await;
        let (revoked, other) = (backend.issue(FRONTEND), backend.issue(OTHER));
        let inbound = backend.sidecar.inbound();
        let mut ending = Client::http2(mesh(inbound, &revoked, MESH_HTTP2).await).await;
        let mut going = Client::http2(mesh(inbound, &other, MESH_HTTP2).await).await;
        let (mut ended, _goes_on) = (begun(&mut ending).await, begun(&mut going).await);
        let mut idle = mesh(inbound, &revoked, MESH_HTTP1).await;
        let start = Instant::now();
        revoke(&backend, &revoked);
        ends(&mut idle, start, AT_ONCE).await;
        let end = soon("the end of the answer", ended.frame()).await;
        assert!(matches!(end, Some(Err(_))), "{end:?}");
        let line = logged(&backend.sidecar, |line| line["peer"] == FRONTEND).await;
        let why = line["response_code_details"].as_str().unwrap();
        assert!(why.contains("the peer's certificate has been revoked"), "{line}");
        let _another = begun(&mut going).await;
    });
}

#[test]
fn a_tunnel_of_who_is_revoked_ends_with_what_is_in_it() {
    meshgate_tests::run(async {
        let application = endless().await;
        let backend = backend(|pod| {
            pod.application = Some(application.address());
            pod.hbone = Some("");
        })
        .await;
        let (revoked, other) = (backend.issue(FRONTEND), backend.issue(OTHER));
        let (hbone, target) = (backend.sidecar.hbone(), backend.sidecar.inbound().to_string());
        let ending = Outer::connect(hbone, &revoked).await;
        let going = Outer::connect(hbone, &other).await;
        let mut idle = ending.open(&target).await.unwrap();
        let mut inside = Client::http2(ending.open(&target).await.unwrap()).await;
        let mut whole = Client::http2(going.open(&target).await.unwrap()).await;
        let (mut broken, _whole) = (begun(&mut inside).await, begun(&mut whole).await);
        let start = Instant::now();
        revoke(&backend, &revoked);
        ends(&mut idle, start, AT_ONCE).await;
        let next = soon("the end of the answer", broken.frame()).await;
        assert!(matches!(next, Some(Err(_))), "{next:?}");
        drop(begun(&mut whole).await);
        let refused = alert(hbone, tls(Some(&revoked), "h2")).await;
        assert_eq!(refused, Ok(AlertDescription::CertificateUnknown));
    });
}

#[test]
fn a_list_that_cannot_be_used_keeps_the_one_in_force() {
    meshgate_tests::run(async {
        let (application, _) = counting().await;
        let backend = backend(|pod| pod.application = Some(application.address())).await;
        let (revoked, other) = (backend.issue(FRONTEND), backend.issue(OTHER));
        revoke(&backend, &revoked);
        backend.sidecar.until_metric("mesh_identity_generation", |now| now == 2.0).await.unwrap();
        write(&backend.sandbox, "");
        let failed = "mesh_identity_reloads_total{result=\"error\"}";
        backend.sidecar.until_metric(failed, |count| count >= 1.0).await.unwrap();
        is_refused(&backend, &revoked, "a certificate of it has been revoked").await;
        let stream = handshake(backend.sidecar.inbound(), &Arc::new(tls(Some(&other), MESH_HTTP1))).await.unwrap();
        assert_eq!(Client::http1(stream).await.get("/").await.unwrap(), (200, HELLO.to_owned()));
        let output = backend.sidecar.output();
        assert!(output.contains("crl.pem: there is no revocation list in it"), "{output}");
    });
}

#[test]
fn a_list_that_revokes_the_own_certificate_makes_the_process_unready() {
    meshgate_tests::run(async {
        let backend = backend(|_| {}).await;
        let own = backend.issue(BACKEND);
        own.install(&backend.sandbox, "backend");
        backend.sidecar.until_metric("mesh_identity_generation", |now| now >= 2.0).await.unwrap();
        revoke(&backend, &own);
        assert_eq!(unready(&backend.sidecar).await, "not ready: certificate revoked\n");
    });
}

#[test]
fn a_list_that_has_ended_refuses_whom_it_would_tell_of() {
    meshgate_tests::run(async {
        let backend = backend(|_| {}).await;
        let end = SystemTime::now() - Duration::from_secs(1);
        write(&backend.sandbox, &backend.authority().revocation_list(&[], end));
        backend.sidecar.until_metric("mesh_identity_generation", |now| now == 2.0).await.unwrap();
        is_refused(&backend, &backend.issue(FRONTEND), "the revocation list of an issuer of it has expired").await;
    });
}
