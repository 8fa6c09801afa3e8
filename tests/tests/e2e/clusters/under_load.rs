//! Things that happen to gateways and sidecars while requests go through them; nobody notices.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use meshgate::sandbox::three::setting::Setting;
use meshgate::sandbox::three::{HTTPBIN, ThreeClusters};
use meshgate::sandbox::{PodSpec, Sidecar, until};
use meshgate_tests::run;
use tokio::time::Instant;

use super::whole::{ALL, answered_by, mesh};
use crate::support::backend::{GENERATION, ended, signal};
use crate::support::gateway::GATEWAY;
use crate::support::load::Load;
use crate::support::pki::Authority;

const CLIENTS: usize = 4;

/// A certificate is in use.
const IDENTITY: &str = "mesh_identity_generation";

/// The longest that a request through a gateway that hangs may take: it is noticed in ten seconds, and then asked elsewhere.
const HUNG_MAX: Duration = Duration::from_secs(12);

#[test]
fn a_gateway_that_hangs_holds_up_requests_for_seconds_only_and_has_its_share_again_when_it_goes_on() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let [.., three] = &clusters.members;
        let load = Load::on(clusters.curl.outbound(), HTTPBIN, CLIENTS);
        load.more(30).await;
        signal(&three.gateway, "STOP");
        let up = format!("mesh_gateway_up{{cluster=\"{}\"}}", three.sandbox.key().unwrap());
        clusters.curl.until_metric(&up, |up| up == 0.0).await.unwrap();
        answered_by(&clusters, &ALL[..2]).await;
        signal(&three.gateway, "CONT");
        answered_by(&clusters, &ALL).await;
        let answers = load.all_answered().await;
        let longest = answers.iter().map(|(_, took)| *took).max().unwrap();
        println!("{} requests, the longest {longest:?}", answers.len());
        assert!(longest < HUNG_MAX, "{longest:?}");
    });
}

#[test]
fn a_caller_that_hangs_keeps_no_tunnel() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let [.., three] = &clusters.members;
        let tunnels = || three.gateway.access_log().iter().filter(|line| line["response_code"] == 200).count();
        let before = tunnels();
        signal(&clusters.curl, "STOP");
        until("the end of its tunnels", async || (tunnels() > before).then_some(())).await.unwrap();
        signal(&clusters.curl, "CONT");
        answered_by(&clusters, &ALL).await;
    });
}

#[test]
fn new_certificates_for_everybody_on_the_way_fail_no_request() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let load = Load::on(clusters.curl.outbound(), HTTPBIN, CLIENTS);
        let [one, two, three] = &clusters.members;
        let httpbin = "spiffe://cluster.local/ns/httpbin/sa/httpbin";
        for _ in 0..2 {
            for (member, process, name, id) in [
                (three, &three.gateway, "gateway", GATEWAY),
                (two, &clusters.curl, "curl", "spiffe://cluster.local/ns/curl/sa/curl"),
                (three, &three.httpbin, "httpbin", httpbin),
                (one, &one.gateway, "gateway", GATEWAY),
                (one, &one.httpbin, "httpbin", httpbin),
            ] {
                let before = process.metric(IDENTITY).await.unwrap();
                Authority::of(&member.sandbox).issue(id).install(&member.sandbox, name);
                process.until_metric(IDENTITY, |now| now > before).await.unwrap();
                load.more(10).await;
            }
        }
        load.all_answered().await;
        answered_by(&clusters, &ALL).await;
    });
}

/// A service that was not there before, and its export.
fn another(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: other, namespace: httpbin}}\n\
         spec: {{clusterIP: 10.96.1.{number}, selector: {{app: httpbin}}, ports: [{{name: http, port: 8080}}]}}\n---\n\
         apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {{name: other, namespace: httpbin}}\n\
         spec: {{serviceAccountName: httpbin, rules: [{{portNumber: 8080, path: /other-{number}, pathType: Prefix}}]}}\n"
    )
}

#[test]
fn configurations_that_come_and_go_in_every_cluster_fail_no_request() {
    run(async {
        let clusters = mesh(Setting::active_active()).await;
        answered_by(&clusters, &ALL).await;
        let mut before = clusters.curl.metric(GENERATION).await.unwrap();
        let load = Load::on(clusters.curl.outbound(), HTTPBIN, CLIENTS);
        for round in 1..=25 {
            for member in &clusters.members {
                // Now and then one that cannot be read.
                let yaml = if round % 7 == 0 { "kind: [".to_owned() } else { another(round) };
                member.sandbox.write_resource("other.yaml", &yaml).unwrap();
            }
            load.more(8).await;
            // Several writings may be one reading; so that there are some, now and then one is waited for.
            if round % 5 == 0 {
                before = clusters.curl.until_metric(GENERATION, |now| now > before).await.unwrap();
            }
        }
        load.all_answered().await;
        answered_by(&clusters, &ALL).await;
    });
}

/// What cluster-2 knows of `httpbin` elsewhere: one gateway of cluster-1, two of cluster-3.
fn import(gateways: [SocketAddr; 3]) -> String {
    let endpoint = |(name, gateway): (&str, SocketAddr)| {
        let (ip, port) = (gateway.ip(), gateway.port());
        format!(
            "    - clusterKey: default/default/default/{name}\n      \
             target: {{host: \"{ip}\", ip: \"{ip}\", port: {port}, path: /}}\n"
        )
    };
    let endpoints: String = ["cluster-1", "cluster-3", "cluster-3"].into_iter().zip(gateways).map(endpoint).collect();
    format!(
        "apiVersion: flomesh.io/v1alpha1\nkind: ServiceImport\nmetadata: {{name: httpbin, namespace: httpbin}}\n\
         spec:\n  serviceAccountName: httpbin\n  ports:\n  - port: 8080\n    protocol: TCP\n    endpoints:\n{endpoints}"
    )
}

/// A second gateway of cluster-3, at an IPv6 address if this machine has one, that would wait half a minute for its tunnels to end.
async fn second_gateway(clusters: &mut ThreeClusters) -> (Sidecar, SocketAddr) {
    let [.., three] = &mut clusters.members;
    let address = three.sandbox.next_address();
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let listener = match std::net::TcpListener::bind(any).and_then(|socket| socket.local_addr()) {
        Ok(free) => free,
        Err(error) => {
            eprintln!("SKIPPED, an IPv6 gateway: {error}");
            SocketAddr::new(address, 15443)
        }
    };
    let spec = PodSpec {
        name: "second-gateway".to_owned(),
        namespace: "meshgate-system".to_owned(),
        service_account: "meshgate-gateway".to_owned(),
        app: "gateway".to_owned(),
        gateway: vec![listener],
        bootstrap: "timeouts: {drain: 30s}\n".to_owned(),
        ..PodSpec::default()
    };
    (three.sandbox.start(&spec, address).await.unwrap(), listener)
}

#[test]
fn one_of_a_clusters_two_gateways_ends_and_no_request_fails() {
    run(async {
        let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
        let (mut second, at) = second_gateway(&mut clusters).await;
        let [one, _, three] = &clusters.members;
        let [first, third] =
            [one, three].map(|member| member.tunnels(meshgate::sandbox::three::Gateways::OneAddress).unwrap());
        let imports = import([first, third, at]);
        clusters.in_force(Setting::active_active().without_imports().with(1, imports)).await.unwrap();
        // One that asks no gateway what there is: the import counts, which knows both.
        let [one, two, three] = &mut clusters.members;
        two.sandbox.know(&one.sandbox, None);
        two.sandbox.know(&three.sandbox, None);
        let visitor = PodSpec {
            name: "visitor".to_owned(),
            namespace: "curl".to_owned(),
            service_account: "visitor".to_owned(),
            app: "visitor".to_owned(),
            bootstrap: "workers: 2\n".to_owned(),
            ..PodSpec::default()
        };
        let address = two.sandbox.next_address();
        let visitor = two.sandbox.start(&visitor, address).await.unwrap();
        let load = Load::on(visitor.outbound(), HTTPBIN, CLIENTS);
        load.more(60).await;
        let seen = || three.httpbin.access_log().len();
        signal(&second, "TERM");
        let begun = Instant::now();
        load.more(30).await;
        let status = ended(&mut second).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "it waits for connections that are kept for nothing");
        assert!(status.success(), "{status}: {}", second.output());
        let before = seen();
        load.more(60).await;
        let answers = load.all_answered().await;
        assert!(seen() > before, "cluster-3 has another gateway");
        // By the second gateway, too, while it was there.
        let tunnels = second.access_log().iter().filter(|line| line["response_code"] == 200).count();
        assert!(tunnels > 0, "{} requests, and no tunnel", answers.len());
        // One share for the cluster, however many gateways it has.
        let [one, three] = ["cluster-1", "cluster-3"].map(|name| answers.iter().filter(|(who, _)| who == name).count());
        assert!(one.abs_diff(three) <= 2 + answers.len() / 20, "{one} and {three}");
    });
}
