//! What the authority says to whoever asks it, in the right way and in every other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use meshgate::sandbox::{Sandbox, until};
use meshgate_identity::{ca as authority, peer_identity};
use meshgate_tests::run;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::served::{Asked, CaServer, CertificateResponse, ca, csr, framed, message};
use crate::jwt::issuer::{ISSUER, Issuer, now};
use crate::support::backend::{BACKEND, FRONTEND};
use crate::support::pki::{Authority, Credentials, expired};

async fn served(options: &[&str]) -> (Sandbox, CaServer) {
    let mut sandbox = Sandbox::new(crate::binary()).unwrap();
    let server = CaServer::start(&mut sandbox, options).await;
    (sandbox, server)
}

/// Whose a certificate is, and how many seconds of it are left.
fn issued(response: &CertificateResponse) -> (String, u64) {
    let leaf = CertificateDer::from_pem_slice(response.cert_chain[0].as_bytes()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("leaf.pem");
    fs::write(&file, &response.cert_chain[0]).unwrap();
    let [shown] = meshgate_identity::ca::show(&file).unwrap().try_into().unwrap();
    assert!(shown.problems.is_empty() && !shown.is_ca, "{shown}");
    let left = shown.not_after.duration_since(std::time::SystemTime::now()).unwrap();
    (peer_identity(&leaf).unwrap().to_string(), left.as_secs())
}

#[test]
fn a_good_token_gets_a_certificate_for_its_account_and_what_is_asked_too_much_or_too_little_is_not_given() {
    run(async {
        let (sandbox, server) = served(&["--max-ttl", "2h", "--min-ttl", "5m"]).await;
        let token = server.token("frontend", json!({}));
        for (seconds, given) in [(0, 7200), (-5, 7200), (3600, 3600), (1, 300), (i64::MAX, 7200)] {
            let asked = Asked { body: message(&csr(&[FRONTEND]), seconds), ..Asked::by(&token) };
            let response = server.ask(&asked).await.unwrap();
            let (id, left) = issued(&response);
            assert_eq!(id, FRONTEND);
            assert!((given - 10..=given).contains(&left), "{seconds}: {left}");
            let [_, root] = response.cert_chain.as_slice() else { panic!("{response:?}") };
            assert_eq!(root.trim(), fs::read_to_string(sandbox.path("ca/ca.pem")).unwrap().trim());
        }
        assert_eq!(issued(&server.ask(&Asked::by(&token)).await.unwrap()).0, FRONTEND);
        assert_eq!(server.journal().len(), 6);
    });
}

#[test]
fn without_a_good_proof_there_is_no_certificate() {
    const NO: &str = "16 request authenticate failure";
    run(async {
        let (_sandbox, server) = served(&[]).await;
        let good = server.token("frontend", json!({}));
        let (head, rest) = good.split_once('.').unwrap();
        let refused = [
            server.token("frontend", json!({"aud": "kubernetes.default.svc"})),
            server.token("frontend", json!({"aud": []})),
            server.token("frontend", json!({"iss": "https://other.example"})),
            server.token("frontend", json!({"exp": now() - 3600})),
            server.token("frontend", json!({"nbf": now() + 3600})),
            server.token("frontend", json!({"sub": "alice"})),
            server.token("a/b", json!({})),
            server.token("", json!({})),
            Issuer::new("k1").token("RS256", &json!({"iss": "https://idp.example", "aud": "istio-ca"})),
            format!("{head}.{}.", rest.split('.').next().unwrap()),
            String::new(),
            "x".to_owned(),
        ];
        for token in &refused {
            assert_eq!(server.ask(&Asked::by(token)).await, Err(NO.to_owned()), "{token}");
        }
        for authorization in [
            vec![],
            vec![format!("Basic {good}")],
            vec![good.clone()],
            vec![format!("Bearer {good}"), format!("Bearer {good}")],
        ] {
            let asked = Asked { authorization, ..Asked::by("") };
            assert_eq!(server.ask(&asked).await, Err(NO.to_owned()), "{:?}", asked.authorization);
        }
        assert!(server.ask(&Asked::by(&good)).await.is_ok());
        assert_eq!(server.journal().len(), 1);
        let (log, metrics) = (server.log(), server.page("/metrics").await.unwrap());
        // The reasons are for the operator alone, and no token is for anybody.
        assert!(log.contains("Jwt is expired"), "{log}");
        let audience = "Audiences in Jwt are not allowed; --token-audience is istio-ca";
        let issuer = format!("Jwt issuer is not configured; --token-issuer is {ISSUER}");
        assert!(log.contains(audience) && log.contains(&issuer), "{log}");
        assert!(!log.contains("eyJ"), "{log}");
        assert!(metrics.contains("mesh_ca_refusals_total{result=\"token\"} 15"), "{metrics}");
        assert!(metrics.contains("mesh_ca_refusals_total{result=\"no_proof\"} 1"), "{metrics}");
    });
}

#[test]
fn a_request_for_somebody_else_or_one_that_is_none_is_refused() {
    run(async {
        let (_sandbox, server) = served(&[]).await;
        let token = server.token("frontend", json!({}));
        let ask = async |body: Bytes| server.ask(&Asked { body, ..Asked::by(&token) }).await.unwrap_err();
        let denied = "7 permission denied";
        assert_eq!(ask(message(&csr(&[BACKEND]), 0)).await, denied);
        assert_eq!(ask(message(&csr(&[FRONTEND, BACKEND]), 0)).await, denied);
        assert_eq!(ask(message(&csr(&["https://example.com"]), 0)).await, denied);
        let invalid = "3 invalid certificate request";
        assert_eq!(ask(message("", 0)).await, invalid);
        assert_eq!(
            ask(message("-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n", 0)).await,
            invalid
        );
        assert_eq!(ask(message(&csr(&[]).repeat(2), 0)).await, invalid);
        assert_eq!(ask(message(&forged(), 0)).await, invalid);
        assert_eq!(ask(framed(&[0xff; 20])).await, "3 invalid request");
        assert_eq!(ask(Bytes::new()).await, "3 invalid request");
        let twice = [&message(&csr(&[]), 0)[..], &message(&csr(&[]), 0)[..]].concat();
        assert_eq!(ask(twice.into()).await, "3 invalid request");
        assert_eq!(ask(message(&"x".repeat(100_000), 0)).await, "8 request too large");
        // It is not waited for what its prefix says would be too much.
        let asked = Asked { body: Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), ends: false, ..Asked::by(&token) };
        assert_eq!(server.ask(&asked).await.unwrap_err(), "8 request too large");
        let asked = Asked { path: "/istio.v1.auth.IstioCertificateService/Other", ..Asked::by(&token) };
        assert_eq!(server.ask(&asked).await.unwrap_err(), "12 not implemented");
        let asked = Asked { kind: "application/json", ..Asked::by(&token) };
        assert_eq!(server.ask(&asked).await.unwrap_err(), "415 Unsupported Media Type");
        let large = Asked { authorization: vec![format!("Bearer {}", "x".repeat(40_000))], ..Asked::by("") };
        assert!(server.ask(&large).await.is_err());
        assert!(server.journal().is_empty());
        assert!(server.ask(&Asked::by(&token)).await.is_ok());
        let log = server.log();
        assert!(log.contains(BACKEND) && log.contains("its signature is not by its key"), "{log}");
    });
}

/// A request whose last byte is another.
fn forged() -> String {
    use base64::Engine;
    let good = csr(&[]);
    let mut der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).unwrap().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn a_certificate_gets_another_for_its_own_identity_until_it_is_revoked() {
    run(async {
        let (sandbox, server) = served(&[]).await;
        let authority = Authority::of(&sandbox);
        let ask = async |credentials: &Credentials, authorization: Vec<String>, uris: &[&str]| {
            let body = message(&csr(uris), 0);
            server.ask(&Asked { credentials: Some(credentials), authorization, body, ..Asked::by("") }).await
        };
        let own = authority.issue(FRONTEND);
        assert_eq!(issued(&ask(&own, vec![], &[FRONTEND]).await.unwrap()).0, FRONTEND);
        assert_eq!(ask(&own, vec![], &[BACKEND]).await, Err("7 permission denied".to_owned()));
        let bearer = |account| vec![format!("Bearer {}", server.token(account, json!({})))];
        assert!(ask(&own, bearer("frontend"), &[FRONTEND]).await.is_ok());
        assert_eq!(ask(&own, bearer("backend"), &[]).await, Err("7 permission denied".to_owned()));
        assert_eq!(
            ask(&own, vec!["Bearer x".to_owned()], &[]).await,
            Err("16 request authenticate failure".to_owned())
        );
        // The authority's own name is not for others, whoever signed it.
        let itself = authority.issue("spiffe://cluster.local/meshgate-ca");
        assert_eq!(ask(&itself, vec![], &[]).await, Err("7 permission denied".to_owned()));
        for stranger in [
            Authority::new("cluster.local").issue(FRONTEND),
            Credentials::self_signed(FRONTEND),
            authority.issue_with(FRONTEND, expired),
            authority.as_credentials(),
        ] {
            let error = ask(&stranger, vec![], &[]).await.unwrap_err();
            assert!(!error.starts_with(|digit: char| digit.is_ascii_digit()), "no handshake, no status: {error}");
        }
        let serial = format!("{:x}", own.serial);
        let dir = sandbox.path("ca");
        ca(&["revoke", "--serial", &serial, "--dir"], &[&dir]);
        let refused = async || ask(&own, vec![], &[]).await.is_err().then_some(());
        until("the revocation list to be read", refused).await.unwrap();
        assert!(ask(&authority.issue(FRONTEND), vec![], &[]).await.is_ok());
        let proofs: Vec<_> = server.journal().iter().map(|line| line["proof"].to_string()).collect();
        assert!(proofs.contains(&"\"certificate\"".to_owned()) && proofs.contains(&"\"token\"".to_owned()));
    });
}

#[test]
fn a_connection_does_not_outlive_the_proof_it_began_with() {
    run(async {
        let (sandbox, server) = served(&[]).await;
        let soon = |params: &mut rcgen::CertificateParams| {
            params.not_after = (std::time::SystemTime::now() + Duration::from_secs(3)).into();
        };
        let own = Authority::of(&sandbox).issue_with(FRONTEND, soon);
        let mut open = server.open(Some(&own)).await.unwrap();
        let asked = Asked { authorization: vec![], ..Asked::by("") };
        assert!(open.ask(&asked).await.is_ok());
        let ended = async || open.ask(&asked).await.err();
        assert_eq!(until("the certificate's end", ended).await.unwrap(), "16 request authenticate failure");
    });
}

#[test]
fn what_one_identity_gets_and_how_many_come_at_once_has_a_bound() {
    run(async {
        let options = ["--identity-rate", "1", "--connections-per-address", "8", "--timeout", "3s", "--idle", "1s"];
        let (_sandbox, server) = served(&options).await;
        let token = server.token("frontend", json!({}));
        let begun = Instant::now();
        let mut refused = None;
        for _ in 0..30 {
            if let Err(error) = server.ask(&Asked::by(&token)).await {
                refused = Some(error);
                break;
            }
        }
        assert_eq!(refused.as_deref(), Some("8 too many requests"), "{:?}", begun.elapsed());
        assert!(server.ask(&Asked::by(&server.token("backend", json!({})))).await.is_ok());
        // Eight that say nothing, and there is no room for a ninth until they have been silent for too long.
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(server.address()).await.unwrap());
        }
        let other = server.token("other", json!({}));
        let (connected, outcome) = (Instant::now(), server.ask(&Asked::by(&other)).await);
        assert!(outcome.is_err(), "{:?}: {}", connected.elapsed(), server.log());
        for stream in &mut silent {
            let ended = timeout(Duration::from_secs(10), stream.read(&mut [0; 100])).await.unwrap();
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
        let room = async || server.ask(&Asked::by(&other)).await.ok();
        until("room for one more", room).await.unwrap();
        // A body that does not come, and a connection on which nothing does.
        let asked = Asked { body: Bytes::new(), ends: false, ..Asked::by(&other) };
        assert_eq!(server.ask(&asked).await, Err("4 request timed out".to_owned()));
        let metrics = server.page("/metrics").await.unwrap();
        for result in ["rate", "connections", "handshake", "timeout"] {
            let series = format!("mesh_ca_refusals_total{{result=\"{result}\"}} ");
            let counted = metrics.split_once(&series).is_some_and(|(_, count)| !count.starts_with('0'));
            assert!(counted, "{result}: {metrics}");
        }
        let mut open = server.open(None).await.unwrap();
        timeout(Duration::from_secs(10), open.closed()).await.unwrap();
    });
}

#[test]
fn what_cannot_be_written_down_is_not_given_out() {
    run(async {
        let (sandbox, server) = served(&[]).await;
        let journal = sandbox.path("ca/issued.jsonl");
        fs::remove_file(&journal).unwrap();
        fs::create_dir(&journal).unwrap();
        let token = server.token("frontend", json!({}));
        assert_eq!(server.ask(&Asked::by(&token)).await, Err("14 unavailable".to_owned()));
        fs::remove_dir(&journal).unwrap();
        assert!(server.ask(&Asked::by(&token)).await.is_ok());
        assert_eq!(server.journal().len(), 1);
    });
}

#[test]
fn keys_of_tokens_are_read_again_and_the_last_good_ones_stay() {
    run(async {
        let (sandbox, server) = served(&[]).await;
        let jwks = sandbox.path("jwks.json");
        let before = fs::read(&jwks).unwrap();
        let token = server.token("frontend", json!({}));
        fs::write(&jwks, "nonsense").unwrap();
        let logged = async || server.log().contains("the last good key set stays in force").then_some(());
        until("a look at the key set", logged).await.unwrap();
        assert!(server.ask(&Asked::by(&token)).await.is_ok());
        fs::write(&jwks, Issuer::new("k2").jwks()).unwrap();
        let refused = async || server.ask(&Asked::by(&token)).await.err();
        assert_eq!(until("another key set", refused).await.unwrap(), "16 request authenticate failure");
        fs::write(&jwks, before).unwrap();
        let taken = async || server.ask(&Asked::by(&token)).await.ok();
        until("the first key set", taken).await.unwrap();
    });
}

#[test]
fn it_ends_when_it_is_asked_to_and_its_callers_hear_of_it() {
    run(async {
        let (_sandbox, mut server) = served(&[]).await;
        let mut open = server.open(None).await.unwrap();
        let token = server.token("frontend", json!({}));
        assert!(open.ask(&Asked::by(&token)).await.is_ok());
        let begun = Instant::now();
        assert!(server.terminate().await.success());
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        timeout(Duration::from_secs(5), open.closed()).await.unwrap();
    });
}

#[test]
fn its_log_is_of_json_where_that_is_wanted_and_tells_of_a_key_for_everybody() {
    run(async {
        let (sandbox, mut server) = served(&["--log-format", "json"]).await;
        assert!(!server.log().contains("readable for everybody"), "{}", server.log());
        fs::set_permissions(sandbox.path("ca/ca-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        server.restart().await;
        let log = server.log();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = lines.iter().find(|line| line["level"] == "WARN").unwrap_or_else(|| panic!("{log}"));
        assert!(told["fields"]["key"].as_str().unwrap().ends_with("/ca-key.pem"), "{told}");
        assert!(lines.iter().any(|line| line["fields"]["message"] == "signing for tokens and certificates"), "{log}");
    });
}

#[test]
fn the_manifest_that_comes_with_it_starts_it() {
    run(async {
        let (sandbox, mut server) = served(&[]).await;
        server.restart_as_deployed().await;
        assert!(sandbox.path("issued.jsonl").exists(), "{}", server.log());
        assert!(server.log().contains("signing for tokens and certificates"), "{}", server.log());
        // Its metrics are those that the guide names.
        let made = authority::Authority::open(&sandbox.path("ca")).unwrap();
        made.revoke(&sandbox.path("ca"), &[], &[], authority::DEFAULT_LIST_VALIDITY).unwrap();
        let page = until("a revocation list in force", async || {
            server.page("/metrics").await.filter(|page| page.contains("mesh_revocation_list_expiry_timestamp_seconds "))
        });
        let page = page.await.unwrap();
        let names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names.len(), 5, "{page}");
        let guide = include_str!("../../../../docs/certificate-authority.md");
        assert!(names.iter().all(|name| guide.contains(&format!("`{name}"))), "{page}");
    });
}
