//! Walk-through B, and what the demo cannot show of it: the real curl, bytes, names that span clusters, who is who in the logs.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use http::Method;
use meshgate::sandbox::three::setting::{ACTIVE_ACTIVE, Setting, TO_DEFAULT, TO_HTTPBIN};
use meshgate::sandbox::three::{BYTES_PORT, Gateways, HTTPBIN, ThreeClusters, VIRTUAL_PORT, counted, who};
use meshgate::sandbox::{Answer, request, request_with, until};
use meshgate_tests::run;
use serde_json::Value;

use crate::support::app::App;
use crate::support::curl;
use crate::support::more::everywhere;
use crate::support::wire::Wire;

const ALL: [&str; 3] = ["cluster-1", "cluster-2", "cluster-3"];

async fn mesh(setting: Setting) -> ThreeClusters {
    let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
    clusters.in_force(setting).await.unwrap();
    clusters
}

/// What gateways say takes a moment to arrive.
async fn answered_by(clusters: &ThreeClusters, names: &[&str]) {
    let wanted = names.iter().map(|name| (*name, 2)).collect();
    let what = format!("{names:?} and nobody else answering");
    let heard = async || {
        let answers = clusters.who(2 * names.len()).await;
        (counted(&answers) == wanted).then_some(())
    };
    until(&what, heard).await.unwrap();
}

fn status(answer: &Answer) -> u16 {
    match answer {
        Answer::Http { status, .. } => *status,
        _ => 0,
    }
}

/// The exit status of the real curl through this sidecar.
async fn exit_status(outbound: SocketAddr) -> Option<i32> {
    let output = curl(&["-H", &format!("Host: {HTTPBIN}"), &format!("http://{outbound}/")]).await?;
    assert!(output.stdout.is_empty(), "{output:?}");
    output.status.code()
}

#[test]
fn gateways_that_say_what_they_export_do_as_imports_do() {
    let arguments = ["demo", "--json", "--discover", "--step", "B"];
    let output = Command::new(crate::binary()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(results.iter().all(|result| result["ok"] == true), "{text}");
    assert!(results.iter().any(|result| result["step"] == "S6"), "{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn curl_exits_with_52_where_nobody_may_be_called() {
    run(async {
        let mut clusters = mesh(Setting::active_active().targets(1, &[])).await;
        let (curl, stranger) = (clusters.curl.outbound(), clusters.stranger.outbound());
        for _ in 0..3 {
            assert_eq!(exit_status(curl).await.unwrap_or(52), 52, "S3, X2");
        }
        clusters.in_force(Setting::both_targets()).await.unwrap();
        answered_by(&clusters, &ALL).await;
        assert_eq!(exit_status(stranger).await.unwrap_or(52), 52, "X5");
    });
}

#[test]
fn clusterset_names_span_whatever_plain_names_do() {
    run(async {
        let clusters = mesh(Setting::exported()).await;
        let outbound = clusters.curl.outbound();
        let name = "httpbin.httpbin.svc.clusterset.local:8080";
        let ask = async || who(&request(outbound, name, Method::GET, "/").await);
        // cluster-2 does not export its own httpbin.
        let wanted = ["cluster-1", "cluster-3"].into_iter().map(|name| (name, 3)).collect();
        let six = async || {
            let mut answers = Vec::new();
            for _ in 0..6 {
                answers.push(ask().await);
            }
            (counted(&answers) == wanted).then_some(())
        };
        until("cluster-1 and cluster-3 in turn", six).await.unwrap();
        assert_eq!(counted(&clusters.who(6).await).get("cluster-2"), Some(&6));
    });
}

#[test]
fn a_name_of_one_cluster_alone_cannot_be_called_without_a_policy_of_its_own() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let host = "httpbin-cluster-1.httpbin:8080";
        let answer = request(clusters.curl.outbound(), host, Method::GET, "/").await;
        assert_eq!(status(&answer), 503, "{answer:?}");
    });
}

#[test]
fn claimed_identities_reach_no_application_in_any_cluster() {
    run(async {
        let clusters = mesh(Setting::both_targets()).await;
        answered_by(&clusters, &ALL).await;
        let claims = [
            ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/curl/sa/admin"),
            ("serviceidentity", "admin.curl"),
            ("l5d-client-id", "admin.curl"),
        ];
        let fields = [&claims[..], &[("x-other", "kept")]].concat();
        for _ in ALL {
            let answer = request_with(clusters.curl.outbound(), HTTPBIN, Method::GET, "/", &fields).await;
            assert_eq!(status(&answer), 200);
        }
        for member in &clusters.members {
            let headers = member.application.last_headers();
            assert_eq!(headers["x-other"], "kept");
            assert!(claims.iter().all(|(name, _)| !headers.contains_key(*name)), "{headers:?}");
        }
    });
}

#[test]
fn the_far_workload_knows_who_calls_and_the_gateway_only_from_where() {
    run(async {
        let clusters = mesh(Setting::both_targets().targets(0, &[TO_HTTPBIN])).await;
        answered_by(&clusters, &ALL).await;
        let [one, ..] = &clusters.members;
        let line = one.httpbin.next_access(0).await.unwrap();
        assert_eq!(line["peer"], "spiffe://cluster.local/ns/curl/sa/curl");
        assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/".into()));
        // Its line is written when the tunnel ends.
        let mut clusters = clusters;
        clusters.curl.kill();
        let [one, ..] = &clusters.members;
        let tunnel = async || one.gateway.access_log().into_iter().find(|line| line["response_code"] == 200);
        let line = until("a tunnel's line", tunnel).await.unwrap();
        assert_eq!(line["peer"], "spiffe://cluster.local/ns/curl/sa/curl");
        assert_eq!(line["peer_cluster"], "default/default/default/cluster-2");
        assert_eq!(line["authority"], "httpbin.httpbin.svc.clusterset.local:8080");
        assert!(line.get("path").is_none() && line.get("method").is_none(), "{line}");
    });
}

#[test]
fn each_of_many_requests_is_counted_and_shares_are_exact() {
    run(async {
        let clusters = mesh(Setting::both_targets()).await;
        answered_by(&clusters, &ALL).await;
        let before = clusters.members.each_ref().map(|member| member.application.requests());
        clusters.who(300).await;
        let now = clusters.members.each_ref().map(|member| member.application.requests());
        let counts: Vec<_> = before.into_iter().zip(now).map(|(before, now)| now - before).collect();
        assert_eq!(counts, [100, 100, 100]);
    });
}

#[test]
fn bytes_cross_clusters_as_requests_do() {
    run(async {
        let echo = |name: &'static str| {
            App::tcp(async move |mut stream| {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut line = [0; 6];
                if stream.read_exact(&mut line).await.is_ok() {
                    let _ = stream.write_all(format!("{name}\n").as_bytes()).await;
                }
            })
        };
        let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
        let apps = [echo("cluster-1").await, echo("cluster-2").await, echo("cluster-3").await];
        let (setting, _pods) = everywhere(&mut clusters, "tcp", &apps).await;
        let policy = ACTIVE_ACTIVE.replace("name: httpbin", "name: more");
        clusters.in_force(setting.with(1, policy)).await.unwrap();
        let curl = clusters.curl.address();
        let ask = async || {
            let mut wire = Wire::connect(SocketAddr::new(curl, BYTES_PORT)).await;
            wire.send(b"hello\n").await;
            String::from_utf8(wire.rest().await).unwrap().trim_end().to_owned()
        };
        let wanted = ALL.into_iter().map(|name| (name, 2)).collect();
        let six = async || {
            let mut answers = Vec::new();
            for _ in 0..6 {
                answers.push(ask().await);
            }
            (counted(&answers) == wanted).then_some(())
        };
        until("each cluster in turn", six).await.unwrap();
    });
}

#[test]
fn gateways_on_one_port_of_different_addresses_get_a_third_each() {
    run(async {
        let mut clusters = mesh(Setting::active_active().targets(1, &[TO_DEFAULT, TO_HTTPBIN])).await;
        clusters.place(Gateways::OnePort).await.unwrap();
        clusters.in_force(Setting::both_targets()).await.unwrap();
        answered_by(&clusters, &ALL).await;
        let [one, _, three] = &clusters.members;
        let ports = [one, three].map(|member| member.tunnels(Gateways::OnePort).unwrap().port());
        assert_eq!(ports[0], ports[1]);
        let answers = clusters.who(30).await;
        assert_eq!(counted(&answers), ALL.into_iter().map(|name| (name, 10)).collect());
    });
}

#[test]
fn what_is_no_http_is_closed_where_nobody_may_be_called() {
    run(async {
        let clusters = mesh(Setting::active_active().targets(1, &[])).await;
        let mut wire = Wire::connect(SocketAddr::new(clusters.curl.address(), VIRTUAL_PORT)).await;
        wire.send(b"EHLO curl\r\n").await;
        assert_eq!(wire.rest().await, b"");
        assert!(clusters.members.iter().all(|member| member.application.connections() == 0));
    });
}
