//! Three clusters as a whole: what each part does is tested with it; here is what they do to one another.

use std::collections::BTreeMap;

use http::Method;
use meshgate::sandbox::three::setting::{ACTIVE_ACTIVE, FAIL_OVER, Setting, TO_DEFAULT, TO_METRICS};
use meshgate::sandbox::three::{Gateways, HTTPBIN, ThreeClusters, counted, who};
use meshgate::sandbox::{Answer, request, request_with, until};
use meshgate_tests::run;
use rustls::AlertDescription;

use crate::support::client::{MESH_HTTP2, alert, tls};
use crate::support::gateway::GATEWAY;
use crate::support::pki::{Authority, Credentials};

pub(super) const ALL: [&str; 3] = ["cluster-1", "cluster-2", "cluster-3"];

pub(super) async fn mesh(setting: Setting) -> ThreeClusters {
    let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
    clusters.in_force(setting).await.unwrap();
    clusters
}

/// What gateways say takes a moment to arrive.
pub(super) async fn answered_by(clusters: &ThreeClusters, names: &[&str]) {
    let wanted: BTreeMap<_, _> = names.iter().map(|name| (name.to_owned(), 2)).collect();
    let heard = async || {
        let answers = clusters.who(2 * names.len()).await;
        counted(&answers).keys().eq(wanted.keys()).then_some(())
    };
    until(&format!("{names:?} and nobody else answering"), heard).await.unwrap();
}

/// cluster-3 before cluster-1, when cluster-2 cannot.
fn in_order() -> String {
    FAIL_OVER
        .replace("cluster-1\n", "cluster-1\n    priority: 5\n")
        .replace("cluster-3\n", "cluster-3\n    priority: 1\n")
}

/// Status and body.
fn said(answer: Answer) -> (u16, String) {
    match answer {
        Answer::Http { status, body, .. } => (status, body),
        other => panic!("{other}"),
    }
}

#[test]
fn who_cannot_is_stood_in_for_in_the_order_of_the_policy_and_a_failed_answer_is_asked_for_once_more() {
    run(async {
        let mut clusters = mesh(Setting::exported().with(1, in_order())).await;
        answered_by(&clusters, &["cluster-2"]).await;
        let outbound = clusters.curl.outbound();
        let ask = async |clusters: &ThreeClusters, method: Method, broken: &[usize]| {
            let count = || clusters.members.each_ref().map(|member| member.application.requests());
            let before = count();
            broken.iter().for_each(|at| clusters.members[*at].application.set_broken(true));
            let (status, body) = said(request(outbound, HTTPBIN, method, "/").await);
            broken.iter().for_each(|at| clusters.members[*at].application.set_broken(false));
            let arrived: Vec<_> = before.into_iter().zip(count()).map(|(before, now)| now - before).collect();
            let by = body.strip_prefix("Hi, I am from ").unwrap_or(&body).split(' ').next().unwrap().to_owned();
            (status, by, arrived)
        };
        let says = |status: u16, by: &str, arrived: [usize; 3]| (status, by.to_owned(), arrived.to_vec());
        assert_eq!(ask(&clusters, Method::GET, &[1]).await, says(200, "cluster-3", [0, 1, 1]));
        // The second answer is what it is.
        assert_eq!(ask(&clusters, Method::GET, &[1, 2]).await, says(503, "cluster-3", [0, 1, 1]));
        assert_eq!(ask(&clusters, Method::POST, &[1]).await, says(503, "cluster-2", [0, 1, 0]));
        assert_eq!(ask(&clusters, Method::GET, &[]).await, says(200, "cluster-2", [0, 1, 0]));
        clusters.in_force(Setting::exported().with(1, in_order()).without_httpbin(1)).await.unwrap();
        answered_by(&clusters, &["cluster-3"]).await;
        assert_eq!(ask(&clusters, Method::GET, &[2]).await, says(200, "cluster-1", [1, 0, 1]));
        clusters.members[2].gateway.kill();
        let none_fails = clusters.who(10).await;
        assert_eq!(counted(&none_fails).into_keys().collect::<Vec<_>>(), ["cluster-1"]);
        clusters.members[2].restart_gateway().await.unwrap();
        answered_by(&clusters, &["cluster-3"]).await;
    });
}

#[test]
fn a_failed_answer_is_not_asked_for_where_the_caller_may_not_ask_for_it() {
    run(async {
        let elsewhere = TO_METRICS.replace("name: curl-to-metrics", "name: elsewhere");
        let elsewhere = elsewhere.replace("name: default", "name: httpbin");
        let setting = Setting::exported().policy(FAIL_OVER).targets(1, &[TO_DEFAULT]).with(1, elsewhere);
        let clusters = mesh(setting).await;
        let [one, two, three] = &clusters.members;
        answered_by(&clusters, &["cluster-2"]).await;
        two.application.set_broken(true);
        let answer = said(clusters.get("/").await);
        assert!(answer.0 == 503 && answer.1.contains("cluster-2"), "{answer:?}");
        assert_eq!(one.application.requests() + three.application.requests(), 0);
    });
}

#[test]
fn a_gateway_lets_in_nobody_without_a_certificate_of_a_root_it_knows() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        let [one, ..] = &clusters.members;
        let curl = "spiffe://cluster.local/ns/curl/sa/curl";
        for gateways in [Gateways::OneAddress, Gateways::OnePort] {
            let at = one.tunnels(gateways).unwrap();
            assert_eq!(alert(at, tls(None, MESH_HTTP2)).await, Ok(AlertDescription::CertificateRequired));
            for credentials in [
                Authority::new("cluster.local").issue(curl),
                Authority::new("cluster.local").issue(GATEWAY),
                Credentials::self_signed(curl),
            ] {
                let refused = alert(at, tls(Some(&credentials), MESH_HTTP2)).await;
                let expected = [AlertDescription::UnknownCA, AlertDescription::CertificateUnknown];
                assert!(refused.as_ref().is_ok_and(|alert| expected.contains(alert)), "{gateways:?}: {refused:?}");
            }
            let other = Authority::of(&one.sandbox).issue("spiffe://elsewhere/ns/curl/sa/curl");
            let refused = alert(at, tls(Some(&other), MESH_HTTP2)).await;
            assert!(refused.is_ok(), "{refused:?}");
        }
        assert!(!one.gateway.output().contains("panicked"));
        assert_eq!(one.gateway.access_log().iter().filter(|line| line["response_code"] == 200).count(), 0);
    });
}

#[test]
fn plain_names_and_clusterset_names_have_exact_shares_each_for_itself() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let spanning = "httpbin.httpbin.svc.clusterset.local:8080";
        let (mut plain, mut set) = (Vec::new(), Vec::new());
        for round in 0..30 {
            // Never in step.
            for _ in 0..=round % 2 {
                plain.push(who(&clusters.get("/").await));
            }
            set.push(who(&request(clusters.curl.outbound(), spanning, Method::GET, "/").await));
        }
        assert_eq!(counted(&plain), ALL.into_iter().map(|name| (name, 15)).collect());
        assert_eq!(counted(&set), ALL.into_iter().map(|name| (name, 10)).collect());
    });
}

#[test]
fn what_asks_for_another_protocol_may_be_declined_in_another_cluster() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let fields = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        for _ in ALL {
            let answer = request_with(clusters.curl.outbound(), HTTPBIN, Method::GET, "/", &fields).await;
            assert_eq!(said(answer).0, 200);
        }
        for member in &clusters.members {
            let headers = member.application.last_headers();
            assert_eq!(headers["sec-websocket-version"], "13");
            assert_eq!(headers["upgrade"], "websocket");
        }
    });
}

const FRONT: &str = "apiVersion: v1
kind: Service
metadata: {name: front, namespace: httpbin}
spec: {clusterIP: 10.96.0.40, selector: {app: nobody}, ports: [{name: http, port: 8080, targetPort: 8080}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: front, namespace: httpbin}
spec: {service: front, backends: [{service: httpbin, weight: 3}, {service: httpbin-cluster-2, weight: 1}]}
";

#[test]
fn a_backend_of_a_traffic_split_may_be_in_several_clusters() {
    run(async {
        let clusters = mesh(Setting::active_active().with(1, FRONT)).await;
        answered_by(&clusters, &ALL).await;
        let front = async |requests| {
            let mut answers = Vec::new();
            for _ in 0..requests {
                answers.push(who(&request(clusters.curl.outbound(), "front.httpbin:8080", Method::GET, "/").await));
            }
            answers
        };
        let answers = front(40).await;
        let expected = [("cluster-1", 10), ("cluster-2", 20), ("cluster-3", 10)];
        assert_eq!(counted(&answers), expected.into_iter().collect());
    });
}

/// A service of the same workloads whose requests go where those with the same value of a header went.
fn sticky(at: usize) -> String {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: sticky, namespace: httpbin, \
                   annotations: {meshgate.io/load-balancer: ring-hash, meshgate.io/hash-on: 'header:x-session'}}\n\
                   spec: {clusterIP: 10.96.0.50, selector: {app: httpbin}, ports: [{name: http, port: 8080}]}\n---\n";
    let more = match at {
        1 => {
            let endpoint = |name: &str, port: u16| {
                format!(
                    "    - clusterKey: default/default/default/{name}\n      target:\n        host: 192.168.1.110\n        \
                     ip: 192.168.1.110\n        port: {port}\n        path: /sticky\n"
                )
            };
            format!(
                "apiVersion: flomesh.io/v1alpha1\nkind: ServiceImport\nmetadata: {{name: sticky, namespace: httpbin}}\n\
                 spec:\n  serviceAccountName: httpbin\n  ports:\n  - port: 8080\n    protocol: TCP\n    endpoints:\n{}{}---\n{}",
                endpoint("cluster-1", 81),
                endpoint("cluster-3", 83),
                ACTIVE_ACTIVE.replace("name: httpbin", "name: sticky")
            )
        }
        _ => "apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {name: sticky, namespace: httpbin}\n\
              spec: {serviceAccountName: httpbin, rules: [{portNumber: 8080, path: /sticky, pathType: Prefix}]}\n"
            .to_owned(),
    };
    service.to_owned() + &more
}

#[test]
fn sessions_stay_in_their_cluster_and_only_those_of_one_that_is_gone_move() {
    run(async {
        let setting = (0..3).fold(Setting::active_active(), |setting, at| setting.with(at, sticky(at)));
        let mut clusters = mesh(setting).await;
        answered_by(&clusters, &ALL).await;
        let homes = async |clusters: &ThreeClusters| {
            let mut homes = Vec::new();
            for session in 0..24 {
                let fields = [("x-session", &*format!("session-{session}"))];
                let mut answers = Vec::new();
                for _ in 0..2 {
                    let answer =
                        request_with(clusters.curl.outbound(), "sticky.httpbin:8080", Method::GET, "/", &fields);
                    answers.push(who(&answer.await));
                }
                assert_eq!(answers[0], answers[1], "session {session}");
                homes.push(answers.remove(0));
            }
            homes
        };
        let before = homes(&clusters).await;
        assert_eq!(counted(&before).into_keys().collect::<Vec<_>>(), ALL, "all have some of 24");
        clusters.members[2].gateway.kill();
        answered_by(&clusters, &ALL[..2]).await;
        let without = homes(&clusters).await;
        for (before, without) in before.iter().zip(&without) {
            assert!(if before == "cluster-3" { without != before } else { without == before }, "{before} {without}");
        }
        clusters.members[2].restart_gateway().await.unwrap();
        answered_by(&clusters, &ALL).await;
        assert_eq!(homes(&clusters).await, before);
    });
}
