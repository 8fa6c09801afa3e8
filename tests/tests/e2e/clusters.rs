//! A sidecar watches another cluster's gateway: what it exports, whether it is there, and where.

mod bytes;
mod under_load;
mod whole;

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Answer, PodSpec, Sandbox, Sidecar, request, until};
use meshgate_tests::run;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::backend::{FRONTEND, GENERATION, ended, signal};
use crate::support::gateway::{A_WHILE, CLUSTER, FakeGateway, GATEWAY, list, service};
use crate::support::pki::Authority;

/// A sidecar, and what stands at the edge of the other cluster.
struct Clusters {
    sandbox: Sandbox,
    sidecar: Sidecar,
    gateway: FakeGateway,
}

impl Clusters {
    /// The sidecar knows the gateway by its address.
    async fn start(id: &str, line: String) -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let address = SocketAddr::new(sandbox.next_address(), 15443);
        let gateway = FakeGateway::start(&sandbox, address, id, line).await;
        let sidecar = sidecar(&mut sandbox, &address.ip().to_string(), 15443).await;
        Self { sandbox, sidecar, gateway }
    }

    /// What the sidecar tells of the gateway; null when of none.
    async fn told(&self) -> Value {
        match request(self.sidecar.admin(), "localhost", Method::GET, "/clusters").await {
            Answer::Http { status: 200, body, .. } => {
                let mut page: Value = serde_json::from_str(&body).unwrap();
                page["gateways"].get_mut(0).map(Value::take).unwrap_or_default()
            }
            other => panic!("{other}"),
        }
    }

    /// Waits until it tells something of it, and says how long that took.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        match until(what, async || wanted(&self.told().await).then_some(())).await {
            Ok(()) => began.elapsed(),
            Err(error) => panic!("{error}: {:#}\n{}", self.told().await, self.sidecar.output()),
        }
    }

    async fn until_up(&self, up: bool) -> Duration {
        self.until("up or down", |told| told["up"] == json!(up)).await
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        self.sidecar.metric(&format!("{name}{{cluster=\"{CLUSTER}\"}}")).await
    }
}

async fn sidecar(sandbox: &mut Sandbox, host: &str, port: u16) -> Sidecar {
    sidecar_that_knows(sandbox, &format!("{{clusterKey: {CLUSTER}, gateway: {{host: \"{host}\", port: {port}}}}}"))
        .await
}

/// A sidecar with these entries of `multicluster.clusters`.
async fn sidecar_that_knows(sandbox: &mut Sandbox, clusters: &str) -> Sidecar {
    let pod = PodSpec {
        name: "frontend".to_owned(),
        service_account: "frontend".to_owned(),
        app: "frontend".to_owned(),
        bootstrap: format!("multicluster: {{clusters: [{clusters}]}}\n"),
        ..PodSpec::default()
    };
    let address = sandbox.next_address();
    sandbox.start(&pod, address).await.unwrap()
}

/// How many are ready of a service.
fn ready(told: &Value, name: &str) -> Option<u64> {
    told["ready"][format!("{name}.default.svc.clusterset.local:80")].as_u64()
}

#[test]
fn what_a_gateway_exports_is_known_within_seconds_and_changes_arrive() {
    run(async {
        let clusters = Clusters::start(GATEWAY, list(&[service("a", 3)])).await;
        let took = clusters.until("a list", |told| ready(told, "a") == Some(3)).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        let told = clusters.told().await;
        assert_eq!((&told["up"], &told["error"]), (&json!(true), &Value::Null), "{told:#}");
        assert_eq!((&told["cluster"], &told["identity"]), (&json!(CLUSTER), &json!(GATEWAY)), "{told:#}");
        assert_eq!(told["addresses"], json!([clusters.gateway.address().to_string()]));
        assert!(told["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{told:#}");
        clusters.sidecar.until_metric(GENERATION, |generation| generation == 2.0).await.unwrap();
        assert_eq!(clusters.metric("mesh_gateway_up").await, Some(1.0));
        assert_eq!(clusters.metric("mesh_discovered_exports").await, Some(1.0));

        // That one became ready is for the balancer alone.
        clusters.gateway.say(list(&[service("a", 4)]));
        clusters.until("more of it", |told| ready(told, "a") == Some(4)).await;
        clusters.gateway.say(list(&[service("a", 4), service("b", 1)]));
        clusters.until("another", |told| ready(told, "b") == Some(1)).await;
        clusters.sidecar.until_metric(GENERATION, |generation| generation == 3.0).await.unwrap();
        assert_eq!(clusters.metric("mesh_discovered_exports").await, Some(2.0));
        clusters.gateway.say(list(&[]));
        clusters.until("nothing", |told| told["ready"] == json!({})).await;
        assert_eq!(clusters.gateway.sessions(), 1);
    });
}

#[test]
fn the_loss_of_a_gateway_keeps_its_list_and_its_return_is_seen_within_five_seconds() {
    run(async {
        let clusters = Clusters::start(GATEWAY, list(&[service("a", 3)])).await;
        clusters.until("a list", |told| ready(told, "a") == Some(3)).await;
        clusters.gateway.stop().await;
        let gone = clusters.until_up(false).await;
        assert!(gone < Duration::from_secs(3), "{gone:?}");
        let told = clusters.told().await;
        assert_eq!(ready(&told, "a"), Some(3), "{told:#}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains("cannot connect")), "{told:#}");
        assert_eq!(clusters.metric("mesh_gateway_up").await, Some(0.0));
        assert_eq!(clusters.metric("mesh_discovered_exports").await, Some(1.0));
        // Often enough for the pauses between tries to have become as long as they do.
        let tried = format!("mesh_gateway_probe_failures_total{{cluster=\"{CLUSTER}\",reason=\"unreachable\"}}");
        clusters.sidecar.until_metric(&tried, |tries| tries >= 5.0).await.unwrap();
        clusters.gateway.resume().await;
        let back = clusters.until_up(true).await;
        println!("down after {gone:?}, up after {back:?}");
        assert!(back < Duration::from_secs(5), "{back:?}");
        assert_eq!(clusters.told().await["error"], Value::Null);
        // The list is the same: nothing was put into force for it.
        assert_eq!(clusters.sidecar.metric(GENERATION).await, Some(2.0));
        let output = clusters.sidecar.output();
        assert_eq!(
            (output.matches("gateway is up").count(), output.matches("gateway is down").count()),
            (2, 1),
            "{output}"
        );
    });
}

#[test]
fn whoever_is_not_the_gateway_is_refused() {
    run(async {
        let id = "spiffe://cluster.local/ns/default/sa/somebody";
        let clusters = Clusters::start(id, list(&[service("a", 3)])).await;
        clusters.until_up(false).await;
        let told = clusters.told().await;
        let error = told["error"].as_str().unwrap_or_default();
        assert!(error.contains(GATEWAY) && error.contains("somebody"), "{told:#}");
        assert_eq!(told["ready"], Value::Null);
        assert_eq!(clusters.sidecar.metric(GENERATION).await, Some(1.0));
        let refused = format!("mesh_gateway_probe_failures_total{{cluster=\"{CLUSTER}\",reason=\"identity\"}}");
        assert!(clusters.sidecar.metric(&refused).await.is_some_and(|count| count >= 1.0));
        assert!(clusters.sidecar.output().contains("gateway is down"));
    });
}

#[test]
fn another_cluster_of_the_trust_domain_cannot_take_a_gateways_place() {
    run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let [one, three] = [(); 2].map(|()| Authority::new("cluster.local"));
        std::fs::write(sandbox.path("one.pem"), &one.pem).unwrap();
        std::fs::write(sandbox.path("three.pem"), &three.pem).unwrap();
        let at = SocketAddr::new(sandbox.next_address(), 15443);
        let line = || list(&[service("a", 3)]);
        // Everything but the roots is as it should be: address, name, trust domain, what it says.
        let impostor = FakeGateway::of(&three, &sandbox, at, GATEWAY, line()).await;
        let third = CLUSTER.replace('1', "3");
        let known = format!(
            "{{clusterKey: {CLUSTER}, trustBundle: one.pem, gateway: {{host: {}, port: 15443}}}}, \
             {{clusterKey: {third}, trustBundle: three.pem}}",
            at.ip()
        );
        let sidecar = sidecar_that_knows(&mut sandbox, &known).await;
        let clusters = Clusters { sandbox, sidecar, gateway: impostor };
        let refused = async || {
            let is_chain = |told: &Value| {
                told["error"].as_str().is_some_and(|error| error.contains("its certificate chain is not valid"))
            };
            clusters.until("a refusal", |told| told["up"] == json!(false) && is_chain(told)).await;
        };
        refused().await;
        assert_eq!((clusters.told().await["ready"].clone(), clusters.gateway.open()), (Value::Null, 0));
        clusters.gateway.stop().await;
        let genuine = FakeGateway::of(&one, &clusters.sandbox, at, GATEWAY, line()).await;
        clusters.until_up(true).await;
        clusters.until("a list", |told| ready(told, "a") == Some(3)).await;
        // Taken over while it is known; then the cluster's roots are replaced under an open session.
        genuine.stop().await;
        clusters.gateway.resume().await;
        refused().await;
        clusters.gateway.stop().await;
        genuine.resume().await;
        clusters.until_up(true).await;
        std::fs::write(clusters.sandbox.path("one.pem"), &three.pem).unwrap();
        std::fs::write(clusters.sandbox.path("three.pem"), &one.pem).unwrap();
        refused().await;
        assert_eq!(genuine.open(), 0, "what was opened by the former roots is closed");
    });
}

#[test]
fn a_gateway_that_speaks_for_another_cluster_is_not_listened_to() {
    run(async {
        let line = list(&[service("a", 3)]).replace("cluster-1", "cluster-2");
        let clusters = Clusters::start(GATEWAY, line).await;
        clusters.until_up(false).await;
        let told = clusters.told().await;
        assert!(told["error"].as_str().is_some_and(|error| error.contains("cluster-2")), "{told:#}");
        assert_eq!(clusters.sidecar.metric(GENERATION).await, Some(1.0));
    });
}

#[test]
fn a_gateway_that_falls_silent_is_noticed_and_heard_again() {
    run(async {
        let clusters = Clusters::start(GATEWAY, list(&[service("a", 3)])).await;
        clusters.until_up(true).await;
        clusters.gateway.silence(true);
        let gone = clusters.until_up(false).await;
        assert!(gone < Duration::from_secs(12), "{gone:?}");
        clusters.gateway.silence(false);
        let back = clusters.until_up(true).await;
        println!("down after {gone:?}, up after {back:?}");
        assert!(back < Duration::from_secs(5), "{back:?}");
    });
}

#[test]
fn a_gateway_that_changes_its_mind_all_the_time_makes_one_configuration_a_second() {
    run(async {
        let clusters = Clusters::start(GATEWAY, list(&[])).await;
        clusters.until_up(true).await;
        let (began, before) = (Instant::now(), clusters.sidecar.metric(GENERATION).await.unwrap());
        let mut said = 0_u32;
        while began.elapsed() < A_WHILE {
            said += 1;
            clusters.gateway.say(list(&[service(&format!("s{said}"), said)]));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let made = clusters.sidecar.metric(GENERATION).await.unwrap() - before;
        assert!((2.0..=began.elapsed().as_secs_f64() + 2.0).contains(&made), "{made} of {said}");
        // The last word holds.
        clusters.until("the last word", |told| ready(told, &format!("s{said}")) == Some(said.into())).await;
    });
}

#[test]
fn a_new_certificate_makes_a_new_session() {
    run(async {
        let clusters = Clusters::start(GATEWAY, list(&[service("a", 3)])).await;
        clusters.until("a list", |told| ready(told, "a") == Some(3)).await;
        assert_eq!((clusters.gateway.sessions(), clusters.gateway.open()), (1, 1));
        Authority::of(&clusters.sandbox).issue(FRONTEND).install(&clusters.sandbox, "frontend");
        until("a new session", async || (clusters.gateway.sessions() == 2).then_some(())).await.unwrap();
        until("the old one's end", async || (clusters.gateway.open() == 1).then_some(())).await.unwrap();
        let told = clusters.told().await;
        assert_eq!((&told["up"], ready(&told, "a")), (&json!(true), Some(3)), "{told:#}");
        assert_eq!(clusters.sidecar.output().matches("gateway is").count(), 1);
    });
}

#[test]
fn a_gateways_name_is_looked_up() {
    run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let gateway = FakeGateway::start(&sandbox, any, GATEWAY, list(&[service("a", 3)])).await;
        let port = gateway.address().port();
        let sidecar = sidecar(&mut sandbox, "localhost", port).await;
        let clusters = Clusters { sandbox, sidecar, gateway };
        clusters.until("a list", |told| ready(told, "a") == Some(3)).await;
        let told = clusters.told().await;
        let addresses = told["addresses"].as_array().unwrap();
        assert!(addresses.contains(&json!(format!("127.0.0.1:{port}"))), "{told:#}");
        assert_eq!(told["host"], "localhost");
    });
}

#[test]
fn gateways_are_told_of_on_this_machine_under_its_own_name_only() {
    run(async {
        let clusters = Clusters::start(GATEWAY, list(&[])).await;
        clusters.until_up(true).await;
        for (host, method, expected) in
            [("localhost", Method::GET, 200), ("evil.example", Method::GET, 403), ("localhost", Method::POST, 405)]
        {
            match request(clusters.sidecar.admin(), host, method, "/clusters").await {
                Answer::Http { status, .. } => assert_eq!(status, expected, "{host}"),
                other => panic!("{other}"),
            }
        }
    });
}

#[test]
fn a_process_that_asks_in_vain_ends_at_once_all_the_same() {
    run(async {
        let mut clusters = Clusters::start(GATEWAY, list(&[])).await;
        clusters.gateway.silence(true);
        until("a session", async || (clusters.gateway.open() > 0).then_some(())).await.unwrap();
        let began = Instant::now();
        signal(&clusters.sidecar, "TERM");
        let status = ended(&mut clusters.sidecar).await;
        assert!(status.success(), "{status}: {}", clusters.sidecar.output());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    });
}
