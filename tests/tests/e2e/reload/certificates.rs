//! Certificates, keys and roots that are replaced while the process runs.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use meshgate::sandbox::{Answer, Sandbox, Sidecar, request, until};

use crate::support::backend::{BACKEND, Backend, FRONTEND, HOST, OTHER, mtls, pod, service};
use crate::support::client::{Client, MESH_HTTP1, handshake, tls};
use crate::support::pki::{Authority, Credentials, replace};

/// Readings of the identity files that came to nothing.
const REFUSED_IDENTITIES: &str = "mesh_identity_reloads_total{result=\"error\"}";

/// The certificate that new connections are shown.
async fn shown(sidecar: &Sidecar, caller: &Credentials) -> Vec<u8> {
    let stream = handshake(sidecar.inbound(), &Arc::new(tls(Some(caller), MESH_HTTP1))).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

pub(super) async fn until_shown(sidecar: &Sidecar, caller: &Credentials, wanted: &Credentials) {
    let found = async || (shown(sidecar, caller).await == *wanted.certificate).then_some(());
    until("the new certificate", found).await.unwrap();
}

#[test]
fn rotation_of_certificates_under_load_fails_no_request() {
    meshgate_tests::run(async {
        let backend = Backend::start_with(|sandbox, _| sandbox.write_resource("strict.yaml", &mtls("STRICT")).unwrap());
        let mut backend = backend.await;
        backend.put("workloads.yaml", &service(backend.sidecar.inbound().ip())).await;
        let address = backend.sandbox.next_address();
        let frontend = backend.sandbox.start(&pod("frontend"), address).await.unwrap();
        let (authority, outbound) = (backend.authority(), frontend.outbound());
        let caller = authority.issue(FRONTEND);

        let served = Rc::new(Cell::new(0));
        let counted = Rc::clone(&served);
        let load = tokio::task::spawn_local(async move {
            loop {
                match request(outbound, HOST, Method::GET, "/").await {
                    Answer::Http { status: 200, .. } => counted.set(counted.get() + 1),
                    answer => return answer,
                }
            }
        });
        let goes_on = async || {
            let before = served.get();
            until("more requests", async || (served.get() > before + 2).then_some(())).await.unwrap();
        };
        for round in 2..5 {
            goes_on().await;
            let rotated = authority.issue(BACKEND);
            rotated.install(&backend.sandbox, "backend");
            until_shown(&backend.sidecar, &caller, &rotated).await;
            authority.issue(FRONTEND).install(&backend.sandbox, "frontend");
            frontend.until_metric("mesh_identity_generation", |now| now >= f64::from(round)).await.unwrap();
        }
        goes_on().await;
        assert!(!load.is_finished(), "a request failed: {}", load.await.unwrap());
    });
}

#[test]
fn unusable_key_file_keeps_the_identity_in_force() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let (authority, key) = (backend.authority(), backend.sandbox.path("identities/backend-key.pem"));
        let caller = authority.issue(FRONTEND);
        let before = shown(&backend.sidecar, &caller).await;
        let next = authority.issue(BACKEND);
        let good = fs::read_to_string(&key).unwrap();
        let half = &next.key_pem[..next.key_pem.len() / 2];
        for (bad, why) in [
            (half, "backend-key.pem: it is not PEM: "),
            ("", "backend-key.pem: 0 unencrypted private keys are in it"),
            (&next.key_pem, "backend-key.pem: it is not the key of the certificate in "),
        ] {
            replace(&key, bad);
            let refused = async || backend.sidecar.output().contains(why).then_some(());
            until(why, refused).await.unwrap();
            assert!(shown(&backend.sidecar, &caller).await == before, "another certificate is shown");
        }
        backend.sidecar.until_metric(REFUSED_IDENTITIES, |count| count >= 3.0).await.unwrap();
        assert_eq!(backend.sidecar.admin_page("/ready").await.as_deref(), Some("ready\n"));
        replace(&key, &good);
        let told = async || backend.sidecar.output().contains("the identity is good again").then_some(());
        until("that it is good again", told).await.unwrap();
        replace(&key, &next.key_pem);
        backend.sidecar.until_metric(REFUSED_IDENTITIES, |count| count >= 4.0).await.unwrap();
        // The key that is there now was only early.
        next.install(&backend.sandbox, "backend");
        until_shown(&backend.sidecar, &caller, &next).await;
    });
}

#[test]
fn certificate_of_another_workload_is_not_taken_into_use() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let caller = backend.issue(FRONTEND);
        let before = shown(&backend.sidecar, &caller).await;
        backend.issue(OTHER).install(&backend.sandbox, "backend");
        let looked_at = async || {
            let taken = backend.sidecar.metric("mesh_identity_generation").await? > 1.0;
            (taken || backend.sidecar.output().contains(OTHER)).then_some(())
        };
        until("a look at the other workload's certificate", looked_at).await.unwrap();
        assert!(shown(&backend.sidecar, &caller).await == before, "it is shown to clients");
    });
}

/// Whether a peer is let in.
async fn lets_in(sidecar: &Sidecar, peer: &Credentials) -> bool {
    let config = Arc::new(tls(Some(peer), MESH_HTTP1));
    let Ok(stream) = handshake(sidecar.inbound(), &config).await else { return false };
    Client::http1(stream).await.get("/").await.is_ok_and(|(status, _)| status == 200)
}

#[test]
fn roots_can_be_replaced_with_an_overlap() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let (old, new) = (backend.authority(), Authority::new("cluster.local"));
        let (old_peer, new_peer) = (old.issue(FRONTEND), new.issue(FRONTEND));
        let bundle = backend.sandbox.path("ca/ca.pem");
        let until_in = async |peer: &Credentials, wanted: bool| {
            let found = async || (lets_in(&backend.sidecar, peer).await == wanted).then_some(());
            until("the new trust bundle", found).await.unwrap();
        };
        assert!(lets_in(&backend.sidecar, &old_peer).await);
        assert!(!lets_in(&backend.sidecar, &new_peer).await);
        // The own certificate's root cannot go before the certificate does.
        replace(&bundle, &new.pem);
        backend.sidecar.until_metric(REFUSED_IDENTITIES, |count| count >= 1.0).await.unwrap();
        assert!(lets_in(&backend.sidecar, &old_peer).await);

        replace(&bundle, &(old.pem.clone() + &new.pem));
        until_in(&new_peer, true).await;
        assert!(lets_in(&backend.sidecar, &old_peer).await);
        let own = new.issue(BACKEND);
        own.install(&backend.sandbox, "backend");
        until_shown(&backend.sidecar, &old_peer, &own).await;
        replace(&bundle, &new.pem);
        until_in(&old_peer, false).await;
        assert!(lets_in(&backend.sidecar, &new_peer).await);
    });
}

#[test]
fn swap_of_a_mounted_secret_takes_effect() {
    meshgate_tests::run(async {
        let version = |dir: &std::path::Path, credentials: &Credentials| {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("backend.pem"), &credentials.certificate_pem).unwrap();
            fs::write(dir.join("backend-key.pem"), &credentials.key_pem).unwrap();
        };
        // As the kubelet lays it out: certificate and key change in one step.
        let backend = Backend::start_with(|sandbox, _| {
            let own = Authority::of(sandbox).issue(BACKEND);
            version(&sandbox.path("identities/..2026_01"), &own);
            symlink("..2026_01", sandbox.path("identities/..data")).unwrap();
            for file in ["backend.pem", "backend-key.pem"] {
                symlink(format!("..data/{file}"), sandbox.path("identities").join(file)).unwrap();
            }
        });
        let backend = backend.await;
        let (caller, next) = (backend.issue(FRONTEND), backend.issue(BACKEND));
        version(&backend.sandbox.path("identities/..2026_02"), &next);
        symlink("..2026_02", backend.sandbox.path("identities/..data_tmp")).unwrap();
        fs::rename(backend.sandbox.path("identities/..data_tmp"), backend.sandbox.path("identities/..data")).unwrap();
        until_shown(&backend.sidecar, &caller, &next).await;
        assert_eq!(backend.sidecar.metric(REFUSED_IDENTITIES).await, Some(0.0));
    });
}

#[test]
fn certificate_that_has_ended_makes_the_process_unready_until_it_is_renewed() {
    meshgate_tests::run(async {
        let now = SystemTime::now();
        let ended = now + Duration::from_secs(3);
        let soon = |params: &mut rcgen::CertificateParams| {
            params.not_before = (now - Duration::from_secs(60)).into();
            params.not_after = ended.into();
        };
        let issue = |sandbox: &Sandbox| Authority::of(sandbox).issue_with(BACKEND, soon).install(sandbox, "backend");
        let backend = Backend::start_with(|sandbox, _| issue(sandbox)).await;
        // Long before: a date to alert on, and a line in the log once it should have been renewed.
        let date = backend.sidecar.metric("mesh_certificate_expiry_timestamp_seconds").await.unwrap();
        let seconds = ended.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((seconds - date).abs() <= 1.0, "{date} is not {seconds}");
        let late = "our own certificate ends soon and is not renewed";
        until(late, async || backend.sidecar.output().contains(late).then_some(())).await.unwrap();

        assert_eq!(unready(&backend.sidecar).await, "not ready: certificate expired\n");
        assert!(SystemTime::now() >= ended, "before its end");
        assert!(backend.sidecar.output().contains("our own certificate has ended"));
        let (caller, renewed) = (backend.issue(FRONTEND), backend.issue(BACKEND));
        renewed.install(&backend.sandbox, "backend");
        until_shown(&backend.sidecar, &caller, &renewed).await;
        let ready = async || (backend.sidecar.admin_page("/ready").await.as_deref() == Some("ready\n")).then_some(());
        until("being ready again", ready).await.unwrap();
        let date = backend.sidecar.metric("mesh_certificate_expiry_timestamp_seconds").await.unwrap();
        assert!(date > seconds + 3600.0, "{date}");
    });
}

/// Why a process is not ready, once it is not.
pub(super) async fn unready(sidecar: &Sidecar) -> String {
    let unready = async || match request(sidecar.admin(), "admin", Method::GET, "/ready").await {
        Answer::Http { status: 503, body, .. } => Some(body),
        _ => None,
    };
    until("the end of being ready", unready).await.unwrap()
}
