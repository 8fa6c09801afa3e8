//! Workloads that ask an authority for their certificates over Istio's protocol, and `meshgate ca serve`, which is one.

#![expect(clippy::needless_pass_by_value, reason = "values are written where they are used, with json!")]

mod asked;
mod foreign;
mod rotated;
mod served;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Application, POD_PORT, PodSpec, Sandbox, Sidecar, request, until};
use meshgate_tests::run;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::backend::{BACKEND, FRONTEND, HELLO, HOST, counting, mtls, pod, service};
use served::CaServer;

const GENERATION: &str = "mesh_identity_generation";
const FAILED: &str = "mesh_certificate_requests_total{result=\"error\"}";

/// A caller and whom it calls, neither with a certificate file.
struct Pair {
    sandbox: Sandbox,
    ca: CaServer,
    frontend: Sidecar,
    backend: Sidecar,
    _application: Option<Application>,
}

impl Pair {
    async fn start(options: &[&str], more: &str) -> Self {
        let (application, _) = counting().await;
        let pair = Self::before(application.address(), options, more).await;
        Self { _application: Some(application), ..pair }
    }

    /// With an application that somebody else keeps.
    async fn before(application: SocketAddr, options: &[&str], more: &str) -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let ca = CaServer::start(&mut sandbox, options).await;
        let (to, from) = (sandbox.next_address(), sandbox.next_address());
        sandbox.write_resource("service.yaml", &service(to)).unwrap();
        sandbox.write_resource("mtls.yaml", &mtls("STRICT")).unwrap();
        let asking = |name: &str| PodSpec { ca: Some(ca.fields(name) + more), ..pod(name) };
        let backend = PodSpec { application: Some(application), ..asking("backend") };
        let backend = sandbox.start(&backend, to).await.unwrap();
        let frontend = sandbox.start(&asking("frontend"), from).await.unwrap();
        Self { sandbox, ca, frontend, backend, _application: None }
    }

    async fn talk(&self) -> Result<(), String> {
        let answer = request(self.frontend.outbound(), HOST, Method::GET, "/").await;
        let said = format!("{answer:?}");
        if said.contains(HELLO) && said.contains("200") { Ok(()) } else { Err(said) }
    }
}

#[test]
fn sidecars_without_files_get_their_identities_and_what_was_issued_is_written_down() {
    run(async {
        let pair = Pair::start(&[], ", lifetime: 1h").await;
        pair.talk().await.unwrap();
        let access = pair.backend.next_access(0).await.unwrap();
        assert!(access.to_string().contains(FRONTEND), "{access}");
        let journal = pair.ca.journal();
        let identities: Vec<_> = journal.iter().map(|line| line["identity"].as_str().unwrap()).collect();
        assert_eq!(identities, [BACKEND, FRONTEND]);
        for line in &journal {
            assert_eq!(line["proof"], "token", "{line}");
            assert_eq!(line["serial"].as_str().unwrap().len(), 32, "{line}");
            assert!(line["peer"].as_str().unwrap().starts_with("127."), "{line}");
        }
        let text = fs::read_to_string(pair.sandbox.path("ca/issued.jsonl")).unwrap();
        assert!(!text.contains("BEGIN") && !text.contains("eyJ"), "{text}");
        let ends = pair.backend.metric("mesh_certificate_expiry_timestamp_seconds").await.unwrap();
        let now = crate::jwt::issuer::now() as f64;
        assert!((now + 3500.0..=now + 3600.0).contains(&ends), "{}", ends - now);
        // No key of theirs is anywhere but in memory.
        let bootstrap = fs::read_to_string(pair.backend.bootstrap()).unwrap();
        assert!(!bootstrap.contains("identities/"), "{bootstrap}");
    });
}

#[test]
fn certificates_of_seconds_are_renewed_and_no_request_fails() {
    run(async {
        let pair = Pair::start(&["--max-ttl", "3s", "--min-ttl", "1s"], "").await;
        let (begun, mut requests) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(12) {
            pair.talk().await.unwrap_or_else(|error| panic!("after {:?}: {error}", begun.elapsed()));
            requests += 1;
        }
        let generation = pair.backend.metric(GENERATION).await.unwrap();
        assert!((7.0..=13.0).contains(&generation), "{generation} generations");
        assert!(requests > 100, "{requests} only");
        assert_eq!(pair.backend.metric(FAILED).await, Some(0.0));
    });
}

#[test]
fn a_renewal_may_be_proven_by_the_certificate_itself() {
    run(async {
        let pair = Pair::start(&["--max-ttl", "3s", "--min-ttl", "1s"], ", mutualTls: true").await;
        for account in ["frontend", "backend"] {
            fs::remove_file(pair.ca.token_file(account)).unwrap();
        }
        pair.backend.until_metric(GENERATION, |now| now >= 4.0).await.unwrap();
        pair.talk().await.unwrap();
        let last = pair.ca.journal().pop().unwrap();
        assert_eq!(last["proof"], "certificate", "{last}");
    });
}

#[test]
fn a_token_that_was_replaced_is_read_again() {
    run(async {
        let pair = Pair::start(&["--max-ttl", "3s", "--min-ttl", "1s"], "").await;
        fs::write(pair.ca.token_file("backend"), "nonsense").unwrap();
        pair.backend.until_metric(FAILED, |count| count >= 1.0).await.unwrap();
        fs::write(pair.ca.token_file("backend"), pair.ca.token("backend", json!({}))).unwrap();
        let before = pair.backend.metric(GENERATION).await.unwrap();
        pair.backend.until_metric(GENERATION, |now| now > before).await.unwrap();
        let output = pair.backend.output();
        assert!(output.contains("status 16") && !output.contains("nonsense"), "{output}");
    });
}

#[test]
fn nothing_listens_before_the_authority_is_there() {
    run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let mut ca = CaServer::stopped(&mut sandbox, &[]);
        let (application, _) = counting().await;
        let address = sandbox.next_address();
        let spec =
            PodSpec { application: Some(application.address()), ca: Some(ca.fields("backend")), ..pod("backend") };
        let log = sandbox.path("logs").join("backend.log");
        let waits = async move || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            said.contains("no certificate from the authority yet").then_some(())
        };
        let coming = tokio::task::spawn_local(async move {
            until("a sidecar that waits", waits).await.unwrap();
            let refused = TcpStream::connect((address, POD_PORT)).await.is_err();
            ca.restart().await;
            (refused, ca)
        });
        let sidecar = sandbox.start(&spec, address).await.unwrap();
        let (refused, _ca) = coming.await.unwrap();
        assert!(refused, "{}", sidecar.output());
        TcpStream::connect(sidecar.inbound()).await.unwrap();
    });
}

#[test]
fn without_the_authority_the_last_certificate_serves_until_it_ends_and_then_nobody_is_ready() {
    run(async {
        // The frontend shows its certificate besides, and that it has ended is not what keeps it from getting another.
        let mut pair = Pair::start(&["--max-ttl", "6s", "--min-ttl", "1s"], ", mutualTls: true").await;
        pair.ca.kill();
        pair.backend.until_metric(FAILED, |count| count >= 1.0).await.unwrap();
        pair.backend.until_ready().await.unwrap();
        pair.talk().await.unwrap();
        let unready = async || {
            let page = request(pair.backend.admin(), "localhost", Method::GET, "/ready").await;
            format!("{page:?}").contains("certificate expired").then_some(())
        };
        until("an end of readiness", unready).await.unwrap();
        pair.ca.restart().await;
        pair.backend.until_ready().await.unwrap();
        pair.frontend.until_ready().await.unwrap();
        pair.talk().await.unwrap();
    });
}
