//! The root of a mesh is changed for another, with a time in which both count.

use std::path::Path;
use std::process::Command;
use std::{fs, iter};

use http_body_util::BodyExt;
use meshgate::sandbox::{PodSpec, Sidecar, until};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::certificates::until_shown;
use super::rotation::pair;
use super::sessions::{AT_ONCE, about_to_ask, begun, endless, ends, mesh};
use super::{echo, echoes};
use crate::support::app::App;
use crate::support::backend::{BACKEND, Backend, FRONTEND, OTHER};
use crate::support::client::{Client, MESH_HTTP1, MESH_HTTP2, MESH_TCP};
use crate::support::pki::{Authority, replace};
use crate::support::soon;
use crate::support::steady::Steady;
use crate::support::tunnel::Outer;

/// What was built on a root that was taken out, and ended with it.
const CUT: [&str; 2] = [
    "mesh_tls_sessions_ended_total{direction=\"inbound\",outcome=\"untrusted\"}",
    "mesh_tls_sessions_ended_total{direction=\"outbound\",outcome=\"untrusted\"}",
];

/// Runs a command of the guide (docs/identity.md) in a folder.
async fn meshgate(folder: &Path, arguments: &str) {
    let mut command = Command::new(crate::binary());
    command.current_dir(folder).args(arguments.split_whitespace());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = soon(arguments, run).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The fingerprints of a sidecar's roots, and of the one that vouches for its own certificate.
async fn fingerprints(sidecar: &Sidecar) -> (Vec<String>, String) {
    let page: Value = serde_json::from_str(&sidecar.admin_page("/certs").await.unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let roots = page["roots"].as_array().unwrap();
    (roots.iter().map(|root| text(&root["sha256"])).collect(), text(&page["certificate"]["root"]))
}

/// What is counted of a root.
fn by_root(what: &str, direction: &str, root: &str) -> String {
    let root = &root[..16];
    format!("mesh_tls_{what}{{direction=\"{direction}\",trust_domain=\"cluster.local\",root=\"{root}\"}}")
}

async fn until_roots(sidecars: [&Sidecar; 2], count: f64) {
    for sidecar in sidecars {
        sidecar.until_metric("mesh_trust_roots", |roots| roots == count).await.unwrap();
    }
}

#[test]
fn a_new_root_takes_the_place_of_the_old_one_under_load_without_a_failed_request_or_a_restart() {
    meshgate_tests::run(async {
        let application = App::either().await;
        let (backend, frontend) = pair(&application).await;
        let folder = backend.sandbox.path("");
        // As in the guide: authorities in folders of their own, and a bundle that is neither's.
        fs::create_dir(folder.join("old")).unwrap();
        fs::copy(folder.join("ca/ca.pem"), folder.join("old/ca.pem")).unwrap();
        fs::rename(folder.join("ca/ca-key.pem"), folder.join("old/ca-key.pem")).unwrap();
        let sidecars = [&backend.sidecar, &frontend];
        // Whoever else calls, and has a certificate of the new root already.
        meshgate(&folder, "ca init --dir new --trust-domain cluster.local").await;
        let another = Authority::in_folder(&folder.join("new")).issue(OTHER);
        let steady = Steady::on(frontend.outbound());
        steady.more(60).await;
        let old = fingerprints(&backend.sidecar).await.1;

        meshgate(&folder, "ca bundle old/ca.pem new/ca.pem --out ca/ca.pem").await;
        until_roots(sidecars, 2.0).await;
        let new = fingerprints(&frontend).await.0.into_iter().find(|root| *root != old).unwrap();
        let ways = [(&backend.sidecar, "inbound"), (&frontend, "outbound")];
        for (sidecar, way) in ways {
            assert!(sidecar.metric(&by_root("sessions_by_root", way, &old)).await.unwrap() >= 1.0);
            assert_eq!(sidecar.metric(&by_root("sessions_by_root", way, &new)).await, Some(0.0), "{way}: there, and 0");
        }
        let mut idle = mesh(backend.sidecar.inbound(), &another, MESH_HTTP1).await;
        steady.more(60).await;

        // The caller first: so its connections rest on the called one's old certificate until they are told to go.
        for (sidecar, id) in [(&frontend, FRONTEND), (&backend.sidecar, BACKEND)] {
            let before = sidecar.metric("mesh_identity_generation").await.unwrap();
            meshgate(&folder, &format!("ca issue --dir new --id {id} --out identities --force")).await;
            sidecar.until_metric("mesh_identity_generation", |now| now > before).await.unwrap();
            steady.more(60).await;
        }
        // It was shown the old certificate, and had nothing to ask: the last of those that go.
        soon("the end of what rests on the old root", idle.read(&mut [0])).await.unwrap();

        // Nobody depends on the old root any more, and that can be seen.
        for (sidecar, way) in ways {
            assert_eq!(fingerprints(sidecar).await.1, new);
            let own = format!("mesh_certificate_root_info{{root=\"{}\"}}", &new[..16]);
            assert_eq!(sidecar.metric(&own).await, Some(1.0));
            sidecar.until_metric(&by_root("sessions_by_root", way, &old), |left| left == 0.0).await.unwrap();
            assert!(sidecar.metric(&by_root("sessions_by_root", way, &new)).await.unwrap() >= 1.0);
            assert!(sidecar.metric(&by_root("handshakes_by_root_total", way, &new)).await.unwrap() >= 1.0);
        }
        let handshakes = by_root("handshakes_by_root_total", "inbound", &old);
        let before = backend.sidecar.metric(&handshakes).await.unwrap();
        steady.more(60).await;
        assert_eq!(backend.sidecar.metric(&handshakes).await, Some(before));

        meshgate(&folder, "ca bundle new/ca.pem --out ca/ca.pem").await;
        until_roots(sidecars, 1.0).await;
        steady.more(60).await;
        assert_eq!(steady.kept(), 4, "connections of the caller's application ended");
        steady.all_answered().await;
        for (sidecar, cut) in sidecars.into_iter().flat_map(|sidecar| iter::repeat(sidecar).zip(CUT)) {
            assert_eq!(sidecar.metric(cut).await, Some(0.0), "{cut}");
        }
    });
}

/// A backend that two roots vouch in, whose own certificate is of the first; and the second.
async fn overlapping(change: impl FnOnce(&mut PodSpec)) -> (Backend, Authority) {
    let new = Authority::new("cluster.local");
    let backend = Backend::start_with(|sandbox, pod| {
        let old = Authority::of(sandbox);
        old.issue(BACKEND).install(sandbox, "backend");
        replace(&sandbox.path("ca/ca.pem"), &(old.pem + &new.pem));
        change(pod);
    });
    (backend.await, new)
}

#[test]
fn callers_are_told_to_go_when_the_own_certificate_comes_from_another_root() {
    meshgate_tests::run(async {
        let application = endless().await;
        let (backend, new) = overlapping(|pod| {
            pod.application = Some(application.address());
            pod.hbone = Some("");
        })
        .await;
        let (inbound, caller) = (backend.sidecar.inbound(), new.issue(OTHER));
        let mut idle = mesh(inbound, &caller, MESH_HTTP1).await;
        let mut busy = Client::http2(mesh(inbound, &caller, MESH_HTTP2).await).await;
        let outer = Outer::connect(backend.sidecar.hbone(), &caller).await;
        let mut body = begun(&mut busy).await;
        let renewed = new.issue(BACKEND);
        renewed.install(&backend.sandbox, "backend");
        until_shown(&backend.sidecar, &caller, &renewed).await;
        ends(&mut idle, Instant::now(), AT_ONCE).await;
        until("the end of the outer connection", async || outer.is_closed().then_some(())).await.unwrap();
        // What is in progress goes on to its end; there is no next.
        tokio::select! {
            biased;
            next = body.frame() => panic!("{next:?}"),
            () = std::future::ready(()) => {}
        }
        until("no more requests", async || busy.send("/again").await.is_err().then_some(())).await.unwrap();
        // By the new one's word it stays.
        let mut next = Client::http2(mesh(inbound, &caller, MESH_HTTP2).await).await;
        drop(begun(&mut next).await);
    });
}

#[test]
fn a_caller_that_is_in_its_handshake_meanwhile_is_served_and_then_told_to_go() {
    meshgate_tests::run(async {
        let (backend, new) = overlapping(|_| {}).await;
        let (inbound, caller) = (backend.sidecar.inbound(), new.issue(OTHER));
        let (mut stream, rest) = about_to_ask(inbound, &caller, MESH_HTTP1).await;
        let renewed = new.issue(BACKEND);
        renewed.install(&backend.sandbox, "backend");
        until_shown(&backend.sidecar, &caller, &renewed).await;
        stream.write_all(&rest).await.unwrap();
        let end = soon("the end of the connection", stream.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok_and(|answered| answered > 0));
        assert_eq!(backend.hits(), 1);
    });
}

#[test]
fn bytes_go_on_when_the_own_certificate_comes_from_another_root() {
    meshgate_tests::run(async {
        let application = echo().await;
        let (backend, new) = overlapping(|pod| pod.application = Some(application.address())).await;
        let caller = new.issue(OTHER);
        let mut stream = mesh(backend.sidecar.inbound(), &caller, MESH_TCP).await;
        echoes(&mut stream).await.unwrap();
        let renewed = new.issue(BACKEND);
        renewed.install(&backend.sandbox, "backend");
        until_shown(&backend.sidecar, &caller, &renewed).await;
        echoes(&mut stream).await.unwrap();
    });
}
