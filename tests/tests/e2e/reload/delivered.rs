//! An identity that comes from a Workload API and not from files.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use meshgate::sandbox::until;
use spiffe::{TrustDomain, WorkloadApiClient, X509Context};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::sessions::{AT_ONCE, ends, mesh};
use super::{echo, echoes};
use crate::support::backend::{BACKEND, Backend, FRONTEND, HELLO, OTHER};
use crate::support::client::{Client, MESH_HTTP1, MESH_TCP, handshake, tls};
use crate::support::pki::{Authority, Credentials};
use crate::support::workload_api::{Answer, WorkloadApi, answer, der, list_der, svid};

const GENERATION: &str = "mesh_identity_generation";
const REFUSED: &str = "mesh_identity_reloads_total{result=\"error\"}";

/// A backend and whom it has its identity from.
struct Delivered {
    backend: Backend,
    api: WorkloadApi,
    authority: Authority,
}

impl Delivered {
    async fn start(first: impl FnOnce(&Authority) -> Answer) -> Self {
        let mut made = None;
        let backend = Backend::start_with(|sandbox, pod| {
            let authority = Authority::of(sandbox);
            let api = WorkloadApi::start(&sandbox.path("agent.sock"), Some(first(&authority)));
            pod.workload_api = Some(api.endpoint());
            made = Some((api, authority));
        })
        .await;
        let (api, authority) = made.unwrap();
        Self { backend, api, authority }
    }

    async fn generation(&self, wanted: f64) {
        self.backend.sidecar.until_metric(GENERATION, |now| now >= wanted).await.unwrap();
    }

    async fn lets_in(&self, peer: &Credentials) -> bool {
        let config = Arc::new(tls(Some(peer), MESH_HTTP1));
        let Ok(stream) = handshake(self.backend.sidecar.inbound(), &config).await else { return false };
        Client::http1(stream).await.get("/").await.is_ok_and(|answer| answer == (200, HELLO.to_owned()))
    }
}

#[test]
fn of_several_identities_ours_is_taken_and_other_domains_and_lists_come_along() {
    meshgate_tests::run(async {
        let partner = Authority::new("partner.example");
        let delivered = Delivered::start(|authority| {
            let other = svid(OTHER, &authority.issue(OTHER), authority);
            let ours = svid(BACKEND, &authority.issue(BACKEND), authority);
            let federated = [("spiffe://partner.example".to_owned(), der(&partner.pem))];
            Answer { svids: vec![other, ours], crl: Vec::new(), federated_bundles: federated.into() }
        })
        .await;
        let caller = delivered.backend.issue(FRONTEND);
        assert!(delivered.lets_in(&caller).await);
        assert!(delivered.lets_in(&partner.issue("spiffe://partner.example/ns/default/sa/frontend")).await);
        let mut next = answer(&delivered.authority, BACKEND);
        let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
        next.crl = vec![list_der(&delivered.authority.revocation_list(&[&caller], tomorrow))];
        delivered.api.send(next);
        delivered.generation(2.0).await;
        assert!(!delivered.lets_in(&caller).await);
        assert!(delivered.lets_in(&delivered.backend.issue(FRONTEND)).await);
        // The domain is known no more.
        assert!(!delivered.lets_in(&partner.issue("spiffe://partner.example/ns/default/sa/frontend")).await);
    });
}

#[test]
fn renewal_every_second_fails_no_request() {
    meshgate_tests::run(async {
        let delivered = Delivered::start(|authority| answer(authority, BACKEND)).await;
        let caller = delivered.backend.issue(FRONTEND);
        let mut kept = Client::http1(mesh(delivered.backend.sidecar.inbound(), &caller, MESH_HTTP1).await).await;
        let (begun, mut renewals, mut requests) = (Instant::now(), 0, 0);
        while renewals < 10 {
            if begun.elapsed() >= Duration::from_secs(renewals + 1) {
                delivered.api.send(answer(&delivered.authority, BACKEND));
                renewals += 1;
            }
            assert!(delivered.lets_in(&caller).await, "after {renewals} renewals");
            assert_eq!(kept.get("/").await.unwrap().0, 200, "after {renewals} renewals");
            requests += 2;
        }
        delivered.generation(11.0).await;
        assert!(requests > 100, "{requests} only");
        assert_eq!(delivered.backend.sidecar.metric(REFUSED).await, Some(0.0));
    });
}

#[test]
fn what_is_open_of_a_root_that_the_agent_takes_out_ends() {
    meshgate_tests::run(async {
        let (application, new) = (echo().await, Authority::new("cluster.local"));
        let mut made = None;
        let backend = Backend::start_with(|sandbox, pod| {
            let mut both = answer(&new, BACKEND);
            let old = Authority::of(sandbox);
            both.append_root(&old);
            let api = WorkloadApi::start(&sandbox.path("agent.sock"), Some(both));
            pod.workload_api = Some(api.endpoint());
            pod.application = Some(application.address());
            made = Some((api, old));
        })
        .await;
        let (api, old) = made.unwrap();
        let inbound = backend.sidecar.inbound();
        let mut ending = mesh(inbound, &old.issue(FRONTEND), MESH_TCP).await;
        let mut going = mesh(inbound, &new.issue(OTHER), MESH_TCP).await;
        echoes(&mut ending).await.unwrap();
        echoes(&mut going).await.unwrap();
        let start = Instant::now();
        api.send(answer(&new, BACKEND));
        ends(&mut ending, start, AT_ONCE).await;
        echoes(&mut going).await.unwrap();
    });
}

#[test]
fn an_agent_may_go_and_come_back() {
    meshgate_tests::run(async {
        let Delivered { backend, api, authority } = Delivered::start(|authority| answer(authority, BACKEND)).await;
        let caller = backend.issue(FRONTEND);
        drop(api);
        let gone = async || backend.sidecar.output().contains("the workload API is gone").then_some(());
        until("the agent to be missed", gone).await.unwrap();
        let again = WorkloadApi::start(&backend.sandbox.path("agent.sock"), Some(answer(&authority, BACKEND)));
        let delivered = Delivered { backend, api: again, authority };
        assert!(delivered.lets_in(&caller).await);
        delivered.generation(2.0).await;
        delivered.api.send(answer(&delivered.authority, BACKEND));
        delivered.generation(3.0).await;
        assert!(delivered.lets_in(&caller).await);
    });
}

#[test]
fn somebody_elses_identity_is_not_taken_into_use() {
    meshgate_tests::run(async {
        let delivered = Delivered::start(|authority| answer(authority, BACKEND)).await;
        delivered.api.send(answer(&delivered.authority, OTHER));
        delivered.backend.sidecar.until_metric(REFUSED, |count| count >= 1.0).await.unwrap();
        let output = delivered.backend.sidecar.output();
        assert!(output.contains(&format!("the certificate is for {OTHER}, this workload is {BACKEND}")), "{output}");
        assert!(delivered.lets_in(&delivered.backend.issue(FRONTEND)).await);
        delivered.api.send(answer(&delivered.authority, BACKEND));
        delivered.generation(2.0).await;
    });
}

#[test]
fn nothing_listens_before_there_is_an_identity() {
    meshgate_tests::run(async {
        let mut waiting = None;
        let backend = Backend::start_with(|sandbox, pod| {
            let path = sandbox.path("agent.sock");
            let (api, authority) = (WorkloadApi::start(&path, None), Authority::of(sandbox));
            pod.workload_api = Some(api.endpoint());
            let begun = Instant::now();
            waiting = Some(tokio::task::spawn_local(async move {
                // Longer than a start takes that does not wait.
                sleep(Duration::from_secs(2)).await;
                api.send(answer(&authority, BACKEND));
                (api, begun)
            }));
        })
        .await;
        let (_api, begun) = waiting.unwrap().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(2));
        let output = backend.sidecar.output();
        assert!(output.contains("no identity issued") && output.contains("status 7"), "{output}");
        TcpStream::connect(backend.sidecar.inbound()).await.unwrap();
    });
}

/// What is behind these tests is the protocol, and not what our client and our double agree upon: a client of other people's, which
/// holds every certificate to the standard of X.509 SVIDs, reads the same.
#[test]
fn another_client_reads_the_same_from_the_agent() {
    meshgate_tests::run(async {
        let folder = tempfile::tempdir().unwrap();
        let (authority, partner) = (Authority::new("cluster.local"), Authority::new("partner.example"));
        let credentials = authority.issue(BACKEND);
        let mut first = answer(&authority, OTHER);
        first.svids.insert(0, svid(BACKEND, &credentials, &authority));
        first.federated_bundles = [("spiffe://partner.example".to_owned(), der(&partner.pem))].into();
        first.crl = vec![list_der(&authority.revocation_list(&[&credentials], SystemTime::now()))];
        let api = WorkloadApi::start(&folder.path().join("agent.sock"), None);
        let client = WorkloadApiClient::connect_to(api.endpoint()).await.unwrap();
        let refused = client.fetch_x509_context().await.unwrap_err();
        assert!(refused.to_string().contains("no identity issued"), "{refused}");

        api.send(first);
        let mut contexts = client.stream_x509_contexts().await.unwrap();
        let context = contexts.next().await.unwrap().unwrap();
        let ids: Vec<_> = context.svids().iter().map(|svid| svid.spiffe_id().to_string()).collect();
        assert_eq!(ids, [BACKEND, OTHER]);
        let ours = context.default_svid().unwrap();
        assert_eq!(ours.cert_chain()[0].as_bytes(), credentials.certificate.as_ref());
        assert_eq!(ours.hint(), Some("internal"));
        let roots = |context: &X509Context, domain| -> Vec<Vec<u8>> {
            let bundle = context.bundle_set().get(&TrustDomain::new(domain).unwrap()).unwrap();
            bundle.authorities().iter().map(|root| root.as_bytes().to_vec()).collect()
        };
        assert_eq!(roots(&context, "cluster.local"), [der(&authority.pem)]);
        assert_eq!(roots(&context, "partner.example"), [der(&partner.pem)]);

        let new = Authority::new("cluster.local");
        let mut both = answer(&new, BACKEND);
        both.append_root(&authority);
        api.send(both);
        let context = contexts.next().await.unwrap().unwrap();
        assert_eq!(roots(&context, "cluster.local"), [der(&new.pem), der(&authority.pem)]);
    });
}
