//! TrafficSplits: which of several services serves a request that was sent to one of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use meshgate::sandbox::{POD_PORT, PodSpec, Sandbox, Sidecar};
use meshgate_tests::run;
use tokio::io::AsyncWriteExt;

use crate::support::app::{App, ok};
use crate::support::backend::GENERATION;
use crate::support::mesh::{logged, logged_path, pod};
use crate::support::wire::Wire;

const ROOT: &str = "shop.default.svc.cluster.local";
/// Where connections of the frontend count as redirected from the root's address.
const VIRTUAL_PORT: u16 = 15101;

/// A caller, and two versions of a service, each with a sidecar and a service account of its own.
struct Shop {
    sandbox: Sandbox,
    frontend: Sidecar,
    _versions: [Sidecar; 2],
}

fn service(name: &str, port: &str, address: u8, selector: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: 10.96.0.{address}, selector: {{{selector}}}, \
         ports: [{{name: {port}, port: 80, targetPort: {POD_PORT}}}]}}\n---\n"
    )
}

fn split(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{service: shop, {spec}}}\n---\n"
    )
}

const CANARY: &str = "backends: [{service: shop-v1, weight: 90}, {service: shop-v2, weight: 10}]";
const TESTERS: &str = "matches: [{kind: HTTPRouteGroup, name: testers}], backends: [{service: shop-v2, weight: 1}]";
const GROUP: &str = "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\n\
                     metadata: {name: testers, namespace: default}\n\
                     spec: {matches: [{name: by-header, headers: {x-user: alice}}]}\n---\n";

fn strict(accounts: &[&str]) -> String {
    let mode = "apiVersion: config.flomesh.io/v1alpha3\nkind: MeshConfig\nmetadata: {name: m, namespace: fsm-system}\n\
                spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}\n---\n\
                apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: all, namespace: default}\n\
                spec: {matches: [{name: all}]}\n---\n";
    let targets = accounts.iter().map(|account| {
        format!(
            "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: {account}, namespace: default}}\n\
             spec:\n  destination: {{kind: ServiceAccount, name: {account}, namespace: default}}\n  \
             sources: [{{kind: ServiceAccount, name: frontend, namespace: default}}]\n  \
             rules: [{{kind: HTTPRouteGroup, name: all}}]\n---\n"
        )
    });
    mode.to_owned() + &targets.collect::<String>()
}

impl Shop {
    async fn start(applications: [&App; 2], splits: &str) -> Self {
        Self::with_port("http", applications, splits).await
    }

    async fn with_port(port: &str, applications: [&App; 2], splits: &str) -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let addresses: [IpAddr; 3] = std::array::from_fn(|_| sandbox.next_address());
        let yaml = [
            service("shop", port, 10, "tier: shop"),
            service("shop-v1", port, 11, "app: shop-v1"),
            service("shop-v2", port, 12, "app: shop-v2"),
            service("shop-empty", port, 13, "app: nobody"),
            pod("frontend", "frontend", addresses[0], ""),
            pod("shop-v1", "shop-v1", addresses[1], ", tier: shop"),
            pod("shop-v2", "shop-v2", addresses[2], ", tier: shop"),
        ];
        sandbox.write_resource("workloads.yaml", &yaml.concat()).unwrap();
        sandbox.write_resource("splits.yaml", splits).unwrap();
        let spec = |name: &str, application: Option<&App>| PodSpec {
            name: name.to_owned(),
            service_account: name.to_owned(),
            app: name.to_owned(),
            application: application.map(App::address),
            ..PodSpec::default()
        };
        let first = sandbox.start(&spec("shop-v1", Some(applications[0])), addresses[1]).await.unwrap();
        let second = sandbox.start(&spec("shop-v2", Some(applications[1])), addresses[2]).await.unwrap();
        let mut caller = spec("frontend", None);
        caller.outbound.push((VIRTUAL_PORT, "10.96.0.10:80".parse().unwrap()));
        caller.bootstrap = "workers: 2\n".to_owned();
        let frontend = sandbox.start(&caller, addresses[0]).await.unwrap();
        Self { sandbox, frontend, _versions: [first, second] }
    }

    async fn put(&self, splits: &str) {
        let before = self.frontend.metric(GENERATION).await.unwrap();
        self.sandbox.write_resource("splits.yaml", splits).unwrap();
        self.frontend.until_metric(GENERATION, |now| now > before).await.unwrap();
    }

    async fn wire(&self) -> Wire {
        Wire::connect(self.frontend.outbound()).await
    }

    async fn at(&self, port: u16) -> Wire {
        Wire::connect(SocketAddr::new(self.frontend.outbound().ip(), port)).await
    }

    /// How often each answer came: the body, or the status of a refusal. Over several connections.
    async fn answers(&self, connections: usize, requests: usize, header: &str) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for _ in 0..connections {
            let mut wire = self.wire().await;
            for _ in 0..requests {
                let answer = wire.ask(get("/", header)).await;
                let text = if answer.status() == 200 { answer.text() } else { answer.status().to_string() };
                *found.entry(text).or_default() += 1;
            }
        }
        found
    }
}

fn get(path: &str, header: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {ROOT}\r\n{header}\r\n")
}

fn counts(all: &[(&str, usize)]) -> BTreeMap<String, usize> {
    all.iter().map(|(answer, count)| ((*answer).to_owned(), *count)).collect()
}

async fn versions() -> [App; 2] {
    [App::http1(|_| ok("v1")).await, App::http1(|request| ok(request.field("host").unwrap_or("v2"))).await]
}

#[test]
fn requests_are_split_exactly_over_workers_and_connections() {
    run(async {
        let apps = [App::http1(|_| ok("v1")).await, App::http1(|_| ok("v2")).await];
        let shop = Shop::start([&apps[0], &apps[1]], &split("canary", CANARY)).await;
        assert_eq!(shop.answers(10, 10, "").await, counts(&[("v1", 90), ("v2", 10)]));
        // By the root's address as well, and the proportion goes on where it was.
        let mut wire = shop.at(VIRTUAL_PORT).await;
        let mut found = Vec::new();
        for _ in 0..10 {
            found.push(wire.ask(get("/", "")).await.text());
        }
        assert_eq!(found.iter().filter(|answer| *answer == "v2").count(), 1, "{found:?}");
        // A split that is no more, and one that has changed, on connections that are open.
        shop.put(&split("canary", "backends: [{service: shop-v2, weight: 1}, {service: shop-v1, weight: 0}]")).await;
        assert_eq!(wire.ask(get("/", "")).await.text(), "v2");
        // The root's own endpoints are both.
        shop.put("").await;
        assert_eq!(shop.answers(2, 10, "").await, counts(&[("v1", 10), ("v2", 10)]));
        // A root that is its own backend is as it is without the split.
        shop.put(&split("self", "backends: [{service: shop, weight: 1}]")).await;
        assert_eq!(shop.answers(2, 10, "").await, counts(&[("v1", 10), ("v2", 10)]));
    });
}

#[test]
fn a_split_with_matches_takes_what_matches_and_the_host_stays() {
    run(async {
        let apps = versions().await;
        let rest = split("z", "backends: [{service: shop-v1, weight: 1}]");
        let shop = Shop::start([&apps[0], &apps[1]], &(GROUP.to_owned() + &split("a", TESTERS) + &rest)).await;
        assert_eq!(shop.answers(2, 5, "x-user: alice\r\n").await, counts(&[(ROOT, 10)]));
        assert_eq!(shop.answers(2, 5, "x-user: bob\r\n").await, counts(&[("v1", 10)]));
        let mut wire = shop.wire().await;
        wire.ask(get("/logged", "x-user: alice\r\n")).await;
        let line = logged_path(&shop.frontend, "/logged").await;
        let host = "shop-v2.default.svc.cluster.local";
        assert_eq!((&line["upstream_cluster"], &line["split"]), (&host.into(), &"default/a".into()), "{line:#}");
        // Without the other split, what does not match is the root's own.
        shop.put(&(GROUP.to_owned() + &split("a", TESTERS))).await;
        assert_eq!(shop.answers(2, 10, "").await, counts(&[(ROOT, 10), ("v1", 10)]));
        wire.ask(get("/root", "")).await;
        let line = logged_path(&shop.frontend, "/root").await;
        assert_eq!((&line["upstream_cluster"], line.get("split")), (&ROOT.into(), None), "{line:#}");
    });
}

#[test]
fn a_backend_that_may_not_be_called_keeps_its_share() {
    run(async {
        let apps = versions().await;
        let shop = Shop::start([&apps[0], &apps[1]], &(strict(&["shop-v1"]) + &split("canary", CANARY))).await;
        assert_eq!(shop.answers(10, 10, "").await, counts(&[("403", 10), ("v1", 90)]));
        let line = logged(&shop.frontend, |line| line["response_code"] == 403).await;
        let seen = (&line["verdict"], &line["reason"], &line["response_flags"], &line["split"]);
        let expected = (&"deny".into(), &"no_target_matched".into(), &"RBAC".into(), &"default/canary".into());
        assert_eq!(seen, expected, "{line:#}");
        assert_eq!(line["upstream_cluster"], "shop-v2.default.svc.cluster.local");
        assert_eq!(apps[1].connections(), 0);
        // Nobody is left who may be called: as if nobody were there.
        shop.put(&(strict(&[]) + &split("canary", CANARY))).await;
        for mut wire in [shop.wire().await, shop.at(VIRTUAL_PORT).await] {
            wire.send(get("/", "")).await;
            assert_eq!(wire.rest().await, b"");
        }
    });
}

#[test]
fn a_backend_without_endpoints_keeps_its_share() {
    run(async {
        let apps = versions().await;
        let with = |name: &str| {
            split("s", &format!("backends: [{{service: shop-v1, weight: 3}}, {{service: {name}, weight: 1}}]"))
        };
        let shop = Shop::start([&apps[0], &apps[1]], &with("shop-empty")).await;
        assert_eq!(shop.answers(2, 10, "").await, counts(&[("503", 5), ("v1", 15)]));
        shop.put(&with("gone")).await;
        assert_eq!(shop.answers(2, 10, "").await, counts(&[("503", 5), ("v1", 15)]));
    });
}

#[test]
fn connections_are_split_as_requests_are_and_matches_are_not_for_them() {
    run(async {
        let say =
            |word: &'static str| App::tcp(async move |mut stream| stream.write_all(word.as_bytes()).await.unwrap());
        let apps = [say("1").await, say("2").await];
        let splits = GROUP.to_owned() + &split("a", TESTERS) + &split("b", CANARY);
        let shop = Shop::with_port("tcp-raw", [&apps[0], &apps[1]], &splits).await;
        let mut found = BTreeMap::new();
        for _ in 0..20 {
            let heard = String::from_utf8(shop.at(VIRTUAL_PORT).await.exactly(1).await.unwrap()).unwrap();
            *found.entry(heard).or_default() += 1;
        }
        assert_eq!(found, counts(&[("1", 18), ("2", 2)]));
        let v2 = "shop-v2.default.svc.cluster.local";
        let line = logged(&shop.frontend, |line| line["upstream_cluster"] == v2).await;
        assert_eq!((&line["split"], &line["protocol"]), (&"default/b".into(), &"TCP".into()), "{line:#}");
    });
}
