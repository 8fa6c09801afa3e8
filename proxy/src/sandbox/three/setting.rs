//! What is in force in the three clusters, made of the files of `examples/walkthrough-b`.

use std::net::SocketAddr;

macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../../examples/walkthrough-b/", $name))
    };
}

const SERVICES: [&str; 3] =
    [example!("cluster-1/services.yaml"), example!("cluster-2/services.yaml"), example!("cluster-3/services.yaml")];
const EXPORTS: [Option<&str>; 3] =
    [Some(example!("cluster-1/exports.yaml")), None, Some(example!("cluster-3/exports.yaml"))];
const IMPORTS: &str = example!("cluster-2/imports.yaml");
const DIFFERENT: &str = example!("cluster-1/services-different.yaml");
const CANARY: [&str; 2] = [example!("cluster-3/services-canary.yaml"), example!("cluster-3/exports-canary.yaml")];
const IMPORTS_CANARY: &str = example!("cluster-2/imports-canary.yaml");
const PERMISSIVE: &str = example!("permissive.yaml");
const TRAFFIC_POLICY: &str = example!("traffic-policy.yaml");
const ROUTES: &str = example!("routes.yaml");

/// Every cluster in turn.
pub const ACTIVE_ACTIVE: &str = example!("cluster-2/active-active.yaml");
/// cluster-1, by the name that it alone has.
pub const ONLY_CLUSTER_1: &str = example!("cluster-2/active-active-cluster-1.yaml");
/// 20 for cluster-1 and 60 for cluster-3, against 100.
pub const WEIGHTS: &str = example!("cluster-2/weights.yaml");
/// Nothing for cluster-1.
pub const WEIGHT_ZERO: &str = example!("cluster-2/weight-zero.yaml");
/// The others when cluster-2 cannot.
pub const FAIL_OVER: &str = example!("cluster-2/fail-over.yaml");
/// cluster-2 alone.
pub const LOCALITY: &str = example!("cluster-2/locality.yaml");
/// An `lbType` that there is not.
pub const MISSPELT: &str = example!("cluster-2/misspelt.yaml");
/// curl may GET from the account `default`.
pub const TO_DEFAULT: &str = example!("curl-to-httpbin.yaml");
/// curl may GET from the account `httpbin`.
pub const TO_HTTPBIN: &str = example!("curl-to-ext-httpbin.yaml");
/// curl may GET from the account `httpbin-canary`.
pub const TO_CANARY: &str = example!("curl-to-canary.yaml");
/// curl may GET `/metrics` from the account `default`.
pub const TO_METRICS: &str = example!("curl-to-metrics.yaml");

/// The documents in force in the three clusters, and where `httpbin` has a pod.
#[derive(Debug, Clone)]
pub struct Setting {
    clusters: [Cluster; 3],
    policy: Option<&'static str>,
    imports: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Cluster {
    services: &'static str,
    mode: &'static str,
    exports: Option<&'static str>,
    targets: Vec<&'static str>,
    more: Vec<String>,
    has_httpbin: bool,
}

/// What is in force in one cluster.
#[derive(Debug)]
pub struct State {
    /// Whether `httpbin` has a pod.
    pub has_httpbin: bool,
    /// What else is known there, in YAML.
    pub documents: Vec<String>,
}

/// The guide's host of all gateways.
const GUIDE_ADDRESS: &str = "192.168.1.110";

/// A document with the gateways where `gateway` says, by the key of their cluster, in place of the guide's. One of which it says
/// nothing stays where it is.
pub fn placed(document: &str, gateway: impl Fn(&str) -> Option<SocketAddr>) -> String {
    let mut lines = Vec::new();
    let mut ours = None;
    for line in document.lines() {
        let key = line.trim_start_matches([' ', '-']);
        if let Some(cluster) = key.strip_prefix("clusterKey: ") {
            ours = gateway(cluster);
        }
        let (start, text) = line.split_at(line.len() - key.len());
        lines.push(match (text.split_once(": "), ours) {
            (Some((field @ ("host" | "ip"), GUIDE_ADDRESS)), Some(ours)) => format!("{start}{field}: {}", ours.ip()),
            (Some(("port", "81" | "83")), Some(ours)) => format!("{start}port: {}", ours.port()),
            _ => line.to_owned(),
        });
    }
    lines.join("\n") + "\n"
}

impl Setting {
    /// S0: permissive everywhere, nothing exported.
    pub fn new() -> Self {
        let clusters = SERVICES.map(|services| Cluster {
            services,
            mode: PERMISSIVE,
            exports: None,
            targets: Vec::new(),
            more: Vec::new(),
            has_httpbin: true,
        });
        Self { clusters, policy: None, imports: None }
    }

    /// S1: cluster-1 and cluster-3 export; cluster-2 imports.
    pub fn exported() -> Self {
        let mut setting = Self { imports: Some(IMPORTS), ..Self::new() };
        for (cluster, exports) in setting.clusters.iter_mut().zip(EXPORTS) {
            cluster.exports = exports;
        }
        setting
    }

    /// S2: cluster-2 spreads over all three.
    pub fn active_active() -> Self {
        Self::exported().policy(ACTIVE_ACTIVE)
    }

    /// S6: curl may call all three, and cluster-2 says so.
    pub fn both_targets() -> Self {
        Self::active_active().targets(1, &[TO_DEFAULT, TO_HTTPBIN])
    }

    /// With this GlobalTrafficPolicy for `httpbin`.
    #[must_use]
    pub fn policy(self, policy: &'static str) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// A cluster, counted from 0, is in traffic-policy mode with these TrafficTargets.
    #[must_use]
    pub fn targets(self, cluster: usize, targets: &[&'static str]) -> Self {
        self.change(cluster, |cluster| {
            cluster.mode = TRAFFIC_POLICY;
            cluster.targets = [&[ROUTES], targets].concat();
        })
    }

    /// One more document in a cluster, counted from 0.
    #[must_use]
    pub fn with(self, cluster: usize, document: impl Into<String>) -> Self {
        self.change(cluster, |cluster| cluster.more.push(document.into()))
    }

    /// `httpbin` has no pod in a cluster, counted from 0.
    #[must_use]
    pub fn without_httpbin(self, cluster: usize) -> Self {
        self.change(cluster, |cluster| cluster.has_httpbin = false)
    }

    /// X3: `httpbin-cluster-1` is another application, and can be called.
    #[must_use]
    pub fn different_in_1(self) -> Self {
        self.change(0, |cluster| cluster.services = DIFFERENT).with(1, ONLY_CLUSTER_1)
    }

    /// X16: in cluster-3, `httpbin` runs with another account.
    #[must_use]
    pub fn canary_in_3(self) -> Self {
        let [services, exports] = CANARY;
        let setting = self.change(2, |cluster| (cluster.services, cluster.exports) = (services, Some(exports)));
        Self { imports: Some(IMPORTS_CANARY), ..setting }
    }

    /// Without what cluster-2 reads of imports: gateways say what there is.
    #[must_use]
    pub fn without_imports(self) -> Self {
        Self { imports: None, ..self }
    }

    fn change(mut self, cluster: usize, change: impl FnOnce(&mut Cluster)) -> Self {
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            change(cluster);
        }
        self
    }

    /// What is in force in each cluster, and where. The policy comes last, so that a bad one is read after everything else.
    pub fn states(self) -> [State; 3] {
        let [one, mut two, three] = self.clusters;
        let own = self.imports.into_iter().chain(self.policy);
        two.more.extend(own.map(str::to_owned));
        [one, two, three].map(|cluster| {
            let Cluster { services, mode, exports, targets, more, has_httpbin } = cluster;
            let written = [services, mode].into_iter().chain(exports).chain(targets);
            State { has_httpbin, documents: written.map(str::to_owned).chain(more).collect() }
        })
    }
}

impl Default for Setting {
    fn default() -> Self {
        Self::new()
    }
}
