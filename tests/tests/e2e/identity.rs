//! Who is let in, and who is talked to: certificates of every kind against a real sidecar.

use std::io;
use std::sync::Arc;

use http::Method;
use meshgate::sandbox::{Answer, Sandbox, request, until};
use rustls::{AlertDescription, HandshakeKind, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::app::{App, full};
use crate::support::backend::{
    BACKEND, Backend, FRONTEND, HELLO, HOST, OTHER, counting, mtls, pod, policy, service, status,
};
use crate::support::client::{Client, MESH_HTTP1, MESH_HTTP2, alert, handshake, tls, tls_of};
use crate::support::curl;
use crate::support::pki::{Authority, Credentials, expired, provider, uri};

const PARTNER: &str = "spiffe://partner.example/ns/default/sa/frontend";

/// Nobody gets in with these credentials: the handshake ends with an alert that tells nothing, the log says why, and
/// the application sees nothing.
async fn is_refused(backend: &Backend, credentials: &Credentials, why: &str) {
    let seen = backend.sidecar.access_log().len();
    let alert = alert(backend.sidecar.inbound(), tls(Some(credentials), MESH_HTTP1)).await;
    assert_eq!(alert, Ok(AlertDescription::CertificateUnknown), "{why}");
    let line = backend.sidecar.next_access(seen).await.unwrap();
    assert_eq!(line["response_flags"], "DOWNSTREAM_TLS", "{line}");
    assert!(text(&line, "connection_termination_details").contains(why), "{line}");
    assert_eq!(line.get("peer"), None, "{line}");
    assert_eq!(backend.hits(), 0);
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}

fn run_refused(credentials: impl FnOnce(&Backend) -> Credentials, why: &str) {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        is_refused(&backend, &credentials(&backend), why).await;
    });
}

/// One request of the frontend with each of the protocols; the log knows the caller and what it spoke.
async fn is_served(backend: &Backend, protocols: [&str; 2], version: &str) {
    let frontend = backend.issue(FRONTEND);
    for (seen, alpn) in protocols.into_iter().enumerate() {
        let config = Arc::new(tls(Some(&frontend), alpn));
        let stream = handshake(backend.sidecar.inbound(), &config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let mut client = if version == "HTTP/2" { Client::http2(stream).await } else { Client::http1(stream).await };
        assert_eq!(client.get("/").await.unwrap(), (200, HELLO.to_owned()), "{alpn}");
        let line = backend.sidecar.next_access(seen).await.unwrap();
        assert_eq!((text(&line, "peer"), text(&line, "protocol")), (FRONTEND, version), "{line}");
        assert_eq!(text(&line, "requested_server_name"), HOST, "{line}");
    }
}

#[test]
fn knows_mesh_peer_over_http1() {
    meshgate_tests::run(async {
        is_served(&Backend::strict().await, [MESH_HTTP1, "http/1.1"], "HTTP/1.1").await;
    });
}

#[test]
fn knows_mesh_peer_over_http2() {
    meshgate_tests::run(async {
        let application = App::http2(async |_| http::Response::new(full(HELLO))).await;
        let backend = Backend::start_with(|sandbox, pod| {
            sandbox.write_resource("policy.yaml", &mtls("STRICT")).unwrap();
            pod.application = Some(application.address());
        });
        is_served(&backend.await, [MESH_HTTP2, "h2"], "HTTP/2").await;
    });
}

#[test]
fn shows_its_own_certificate_to_clients() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let authority = backend.authority();
        let own = authority.issue(BACKEND);
        own.install(&backend.sandbox, "backend");
        backend.sidecar.until_metric("mesh_identity_generation", |generation| generation == 2.0).await.unwrap();
        let config = Arc::new(tls(Some(&authority.issue(FRONTEND)), MESH_HTTP1));
        let stream = handshake(backend.sidecar.inbound(), &config).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates(), Some([own.certificate].as_slice()));
    });
}

#[test]
fn curl_is_known_by_its_certificate_and_refused_without() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let Some(came) = curl_as_frontend(&backend, "--http1.1").await else { return };
        assert_eq!(String::from_utf8_lossy(&came.stdout), HELLO, "{came:?}");
        assert_eq!(text(&backend.sidecar.next_access(0).await.unwrap(), "peer"), FRONTEND);
        let came = curl(&["--insecure", &format!("https://{}/", backend.sidecar.inbound())]).await.unwrap();
        assert!(!came.status.success(), "{came:?}");
        let line = backend.sidecar.next_access(1).await.unwrap();
        assert_eq!(text(&line, "response_flags"), "DOWNSTREAM_TLS", "{line}");
        assert_eq!(backend.hits(), 1);
    });
}

#[test]
fn curl_that_offers_http2_reaches_an_http1_application() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let Some(came) = curl_as_frontend(&backend, "--http2").await else { return };
        assert_eq!(String::from_utf8_lossy(&came.stdout), HELLO, "{came:?}");
    });
}

async fn curl_as_frontend(backend: &Backend, version: &str) -> Option<std::process::Output> {
    backend.sandbox.issue("frontend", "frontend").unwrap();
    let url = format!("https://{}/", backend.sidecar.inbound());
    let file = |name: &str| backend.sandbox.path("identities").join(name).display().to_string();
    let (certificate, key) = (file("frontend.pem"), file("frontend-key.pem"));
    // The certificate has no name that curl could check: the mesh goes by the URI.
    curl(&[version, "--insecure", "--cert", &certificate, "--key", &key, &url]).await
}

#[test]
fn strict_refuses_client_without_certificate() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let alert = alert(backend.sidecar.inbound(), tls(None, MESH_HTTP1)).await;
        assert_eq!(alert, Ok(AlertDescription::CertificateRequired));
        assert_eq!(backend.hits(), 0);
    });
}

#[test]
fn permissive_refuses_mesh_client_without_certificate() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        let alert = alert(backend.sidecar.inbound(), tls(None, MESH_HTTP1)).await;
        assert_eq!(alert, Ok(AlertDescription::CertificateRequired));
    });
}

#[test]
fn refuses_tls_1_2() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let config = tls_of(&[&rustls::version::TLS12], Some(&backend.issue(FRONTEND)), MESH_HTTP1);
        assert_eq!(alert(backend.sidecar.inbound(), config).await, Ok(AlertDescription::ProtocolVersion));
    });
}

#[test]
fn refuses_peer_of_other_trust_domain() {
    run_refused(|_| Authority::new("partner.example").issue(PARTNER), "trust domain without a trust bundle");
}

#[test]
fn refuses_other_trust_domain_signed_by_our_own_root() {
    run_refused(|backend| backend.issue(PARTNER), "trust domain without a trust bundle");
}

#[test]
fn refuses_peer_signed_by_unknown_authority() {
    run_refused(|_| Authority::new("cluster.local").issue(FRONTEND), "its certificate chain is not valid");
}

#[test]
fn refuses_self_signed_peer() {
    run_refused(|_| Credentials::self_signed(FRONTEND), "its certificate chain is not valid");
}

#[test]
fn refuses_peer_with_two_uris() {
    let two = |backend: &Backend| {
        backend.authority().issue_with(FRONTEND, |params| params.subject_alt_names.push(uri(OTHER)))
    };
    run_refused(two, "it has 2 URI names");
}

#[test]
fn refuses_peer_with_the_same_uri_twice() {
    let twice = |backend: &Backend| {
        backend.authority().issue_with(FRONTEND, |params| params.subject_alt_names.push(uri(FRONTEND)))
    };
    run_refused(twice, "it has 2 URI names");
}

#[test]
fn refuses_peer_without_uri() {
    let without = |backend: &Backend| {
        let name = rcgen::SanType::DnsName("frontend.default".try_into().unwrap());
        backend.authority().issue_with(FRONTEND, |params| params.subject_alt_names = vec![name])
    };
    run_refused(without, "it has 0 URI names");
}

#[test]
fn refuses_certificate_authority_as_client() {
    run_refused(|backend| backend.authority().as_credentials(), "certificate of a certificate authority");
}

#[test]
fn refuses_expired_peer() {
    run_refused(|backend| backend.authority().issue_with(FRONTEND, expired), "certificate chain is not valid");
}

#[test]
fn refuses_key_that_may_sign_certificates() {
    let signer = |backend: &Backend| {
        let may_sign = rcgen::KeyUsagePurpose::KeyCertSign;
        backend.authority().issue_with(FRONTEND, |params| params.key_usages.push(may_sign))
    };
    run_refused(signer, "its key usage has keyCertSign");
}

/// A backend that knows partner.example too, and lets in only `principal`.
async fn federated(partner: &Authority, principal: &str) -> Backend {
    let spec = format!("{{rules: [{{from: [{{source: {{principals: [\"{principal}\"]}}}}]}}]}}");
    Backend::start_with(|sandbox, pod| {
        std::fs::write(sandbox.path("partner.pem"), &partner.pem).unwrap();
        sandbox.write_resource("policy.yaml", &[mtls("STRICT"), policy("allow-one", &spec)].join("---\n")).unwrap();
        pod.federated = vec![("partner.example".to_owned(), "partner.pem".to_owned())];
    })
    .await
}

#[test]
fn policies_see_federated_peer_under_its_own_trust_domain() {
    meshgate_tests::run(async {
        let partner = Authority::new("partner.example");
        let backend = federated(&partner, "partner.example/ns/default/sa/frontend").await;
        let mut theirs = Client::mesh(backend.sidecar.inbound(), &partner.issue(PARTNER)).await;
        assert_eq!(theirs.get("/").await.unwrap().0, 200);
        assert_eq!(text(&backend.sidecar.next_access(0).await.unwrap(), "peer"), PARTNER);
        let mut ours = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        assert_eq!(ours.get("/").await.unwrap().0, 403);
    });
}

#[test]
fn each_root_vouches_for_its_own_trust_domain_only() {
    meshgate_tests::run(async {
        let partner = Authority::new("partner.example");
        let backend = federated(&partner, "*").await;
        is_refused(&backend, &partner.issue(FRONTEND), "its certificate chain is not valid").await;
        is_refused(&backend, &backend.issue(PARTNER), "its certificate chain is not valid").await;
        is_refused(&backend, &partner.issue("spiffe://third.example/ns/a/sa/b"), "without a trust bundle").await;
    });
}

#[test]
fn callers_of_a_cluster_with_roots_of_its_own_come_in_as_long_as_the_roots_are_listed() {
    meshgate_tests::run(async {
        let [two, three] = [(); 2].map(|()| Authority::new("cluster.local"));
        let backend = Backend::start_with(|sandbox, pod| {
            std::fs::write(sandbox.path("two.pem"), &two.pem).unwrap();
            sandbox.write_resource("policy.yaml", &mtls("STRICT")).unwrap();
            pod.bootstrap = "multicluster: {clusters: [{clusterKey: a/b/c/two, trustBundle: two.pem}]}\n".to_owned();
        })
        .await;
        is_refused(&backend, &three.issue(FRONTEND), "its certificate chain is not valid").await;
        for known in [&two, &backend.authority()] {
            let mut client = Client::mesh(backend.sidecar.inbound(), &known.issue(FRONTEND)).await;
            assert_eq!(client.get("/").await.unwrap().0, 200);
        }
        let (hits, seen) = (backend.hits(), backend.sidecar.access_log().len());
        assert_eq!(hits, 2);
        std::fs::write(backend.sandbox.path("two.pem"), &three.pem).unwrap();
        backend.sidecar.until_metric("mesh_identity_generation", |generation| generation == 2.0).await.unwrap();
        let mut client = Client::mesh(backend.sidecar.inbound(), &three.issue(FRONTEND)).await;
        assert_eq!(client.get("/").await.unwrap().0, 200);
        let refused = alert(backend.sidecar.inbound(), tls(Some(&two.issue(FRONTEND)), MESH_HTTP1)).await;
        assert_eq!(refused, Ok(AlertDescription::CertificateUnknown));
        assert_eq!(backend.hits(), hits + 1);
        assert_eq!(text(&backend.sidecar.next_access(seen).await.unwrap(), "peer"), FRONTEND);
    });
}

#[test]
fn sends_nothing_to_server_that_is_not_the_service_account_of_the_pod() {
    meshgate_tests::run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let (application, hits) = counting().await;
        let (backend_address, frontend_address) = (sandbox.next_address(), sandbox.next_address());
        sandbox.write_resource("workloads.yaml", &service(backend_address)).unwrap();
        let mut impostor = pod("backend");
        impostor.service_account = "impostor".to_owned();
        impostor.application = Some(application.address());
        let backend = sandbox.start(&impostor, backend_address).await.unwrap();
        let frontend = sandbox.start(&pod("frontend"), frontend_address).await.unwrap();
        let answer = request(frontend.outbound(), HOST, Method::GET, "/").await;
        let Answer::Http { status, body, .. } = answer else { panic!("{answer}") };
        assert_eq!((status, body.as_str()), (503, "upstream identity not accepted"));
        let line = frontend.next_access(0).await.unwrap();
        assert_eq!((text(&line, "response_flags"), &line["response_code"]), ("TLS_FAILURE", &503.into()), "{line}");
        let details = text(&line, "response_code_details");
        assert!(details.contains("the server is spiffe://cluster.local/ns/default/sa/impostor"), "{line}");
        let failed = "mesh_tls_handshakes_total{direction=\"inbound\",outcome=\"error\"}";
        backend.until_metric(failed, |count| count >= 1.0).await.unwrap();
        assert_eq!(hits.get(), 0);
    });
}

/// An application that serves its own TLS: whoever completes a handshake is greeted.
async fn greeter(credentials: &Credentials) -> io::Result<std::net::SocketAddr> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(credentials.resolver());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await?);
    let address = listener.local_addr()?;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                stream.write_all(HELLO.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    });
    Ok(address)
}

#[test]
fn permissive_passes_the_applications_own_tls_as_bytes_of_nobody() {
    meshgate_tests::run(async {
        let own = Credentials::self_signed("https://backend.example/");
        let address = greeter(&own).await.unwrap();
        let backend = Backend::start_with(|_, spec| spec.application = Some(address)).await;
        // Even a client with a certificate of the mesh: nobody but the application could have asked for it.
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), "http/1.1"));
        let mut stream = handshake(backend.sidecar.inbound(), &config).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates(), Some([own.certificate].as_slice()));
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, HELLO);
        drop(stream);
        let line = backend.sidecar.next_access(0).await.unwrap();
        assert_eq!((text(&line, "protocol"), line.get("peer")), ("TCP", None), "{line}");

        let by_port = "{rules: [{to: [{operation: {ports: [\"8080\"]}}]}]}";
        backend.put("policy.yaml", &policy("allow", by_port)).await;
        handshake(backend.sidecar.inbound(), &config).await.unwrap();
        let authenticated = "{rules: [{from: [{source: {principals: [\"*\"]}}]}]}";
        backend.put("policy.yaml", &policy("allow", authenticated)).await;
        handshake(backend.sidecar.inbound(), &config).await.unwrap_err();
        let refused = async || {
            let lines = backend.sidecar.access_log();
            lines.into_iter().find(|line| line["response_flags"] == "RBAC")
        };
        let line = until("a refusal", refused).await.unwrap();
        assert_eq!(text(&line, "reason"), "no_allow_matched", "{line}");
    });
}

#[test]
fn never_resumes_a_session() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        // One configuration for both connections: it would keep tickets, were there any.
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP1));
        for _ in 0..2 {
            let stream = handshake(backend.sidecar.inbound(), &config).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            let mut client = Client::http1(stream).await;
            assert_eq!(client.get("/").await.unwrap().0, 200);
        }
    });
}

#[test]
fn live_plaintext_connection_is_closed_once_strict_is_switched_on() {
    meshgate_tests::run(async {
        let backend = Backend::start(&mtls("PERMISSIVE")).await;
        let mut plain = Client::plain(backend.sidecar.inbound()).await;
        let mut mesh = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        assert_eq!(plain.get("/").await.unwrap().0, 200);
        assert_eq!(mesh.get("/").await.unwrap().0, 200);
        backend.put("policy.yaml", &mtls("STRICT")).await;
        let closed = async || plain.is_closed().then_some(());
        until("the end of the plaintext connection", closed).await.unwrap();
        plain.get("/").await.unwrap_err();
        assert_eq!(mesh.get("/").await.unwrap().0, 200);
        assert_eq!(status(&backend.get("/").await), 0);
        assert_eq!(backend.hits(), 3);
    });
}
