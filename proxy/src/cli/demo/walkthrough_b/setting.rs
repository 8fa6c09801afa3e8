//! What is in force at a step of walk-through B, as the files of `examples/walkthrough-b` in the three clusters.

use crate::sandbox::three::State;

macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../../../../../examples/walkthrough-b/", $name))
    };
}

const SERVICES: [&str; 3] =
    [example!("cluster-1/services.yaml"), example!("cluster-2/services.yaml"), example!("cluster-3/services.yaml")];
const EXPORTS: [(usize, &str); 2] = [(0, example!("cluster-1/exports.yaml")), (2, example!("cluster-3/exports.yaml"))];
const IMPORTS: &str = example!("cluster-2/imports.yaml");
const DIFFERENT: &str = example!("cluster-1/services-different.yaml");
const CANARY: [&str; 2] = [example!("cluster-3/services-canary.yaml"), example!("cluster-3/exports-canary.yaml")];
const IMPORTS_CANARY: &str = example!("cluster-2/imports-canary.yaml");
const PERMISSIVE: &str = example!("permissive.yaml");
const TRAFFIC_POLICY: &str = example!("traffic-policy.yaml");
const ROUTES: &str = example!("routes.yaml");

pub(super) const ACTIVE_ACTIVE: &str = example!("cluster-2/active-active.yaml");
pub(super) const ONLY_CLUSTER_1: &str = example!("cluster-2/active-active-cluster-1.yaml");
pub(super) const WEIGHTS: &str = example!("cluster-2/weights.yaml");
pub(super) const WEIGHT_ZERO: &str = example!("cluster-2/weight-zero.yaml");
pub(super) const FAIL_OVER: &str = example!("cluster-2/fail-over.yaml");
pub(super) const LOCALITY: &str = example!("cluster-2/locality.yaml");
pub(super) const MISSPELT: &str = example!("cluster-2/misspelt.yaml");
pub(super) const TO_DEFAULT: &str = example!("curl-to-httpbin.yaml");
pub(super) const TO_HTTPBIN: &str = example!("curl-to-ext-httpbin.yaml");
pub(super) const TO_CANARY: &str = example!("curl-to-canary.yaml");
pub(super) const TO_METRICS: &str = example!("curl-to-metrics.yaml");

/// The documents in force in the three clusters, and where `httpbin` has a pod.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    services: [&'static str; 3],
    mode: [&'static str; 3],
    exports: [Option<&'static str>; 3],
    imports: Vec<&'static str>,
    policies: Vec<&'static str>,
    targets: [Vec<&'static str>; 3],
    httpbin: [bool; 3],
}

impl Setting {
    /// S0: permissive everywhere, nothing exported.
    pub(super) fn new() -> Self {
        Self {
            services: SERVICES,
            mode: [PERMISSIVE; 3],
            exports: [None; 3],
            imports: Vec::new(),
            policies: Vec::new(),
            targets: [const { Vec::new() }; 3],
            httpbin: [true; 3],
        }
    }

    /// S1: cluster-1 and cluster-3 export; cluster-2 imports.
    pub(super) fn exported() -> Self {
        let mut setting = Self::new();
        for (cluster, exports) in EXPORTS {
            if let Some(slot) = setting.exports.get_mut(cluster) {
                *slot = Some(exports);
            }
        }
        setting.imports.push(IMPORTS);
        setting
    }

    /// S2: cluster-2 spreads over all three.
    pub(super) fn active_active() -> Self {
        Self::exported().policy(ACTIVE_ACTIVE)
    }

    /// S6: what curl may call in cluster-2 is all three.
    pub(super) fn both_targets() -> Self {
        Self::active_active().targets(&[TO_DEFAULT, TO_HTTPBIN])
    }

    /// Puts a GlobalTrafficPolicy in the place of the one there is.
    pub(super) fn policy(mut self, policy: &'static str) -> Self {
        self.policies = vec![policy];
        self
    }

    /// Adds a document to those of cluster-2.
    pub(super) fn and(mut self, document: &'static str) -> Self {
        self.policies.push(document);
        self
    }

    /// Cluster-2 is in traffic-policy mode with these TrafficTargets.
    pub(super) fn targets(self, targets: &[&'static str]) -> Self {
        self.targets_in(1, targets)
    }

    /// As [`Setting::targets`], for another cluster.
    pub(super) fn targets_in(mut self, cluster: usize, targets: &[&'static str]) -> Self {
        if let (Some(mode), Some(slot)) = (self.mode.get_mut(cluster), self.targets.get_mut(cluster)) {
            *mode = TRAFFIC_POLICY;
            *slot = [&[ROUTES], targets].concat();
        }
        self
    }

    /// `httpbin` has no pod in a cluster.
    pub(super) fn without_httpbin(mut self, cluster: usize) -> Self {
        if let Some(httpbin) = self.httpbin.get_mut(cluster) {
            *httpbin = false;
        }
        self
    }

    /// X3: `httpbin-cluster-1` is another application, and can be called.
    pub(super) fn different_in_1(mut self) -> Self {
        self.services[0] = DIFFERENT;
        self.and(ONLY_CLUSTER_1)
    }

    /// X16: in cluster-3, `httpbin` runs with another account.
    pub(super) fn canary_in_3(mut self) -> Self {
        let [services, exports] = CANARY;
        self.services[2] = services;
        self.exports[2] = Some(exports);
        self.imports = vec![IMPORTS_CANARY];
        self
    }

    /// The documents of each cluster. Where gateways say what there is, imports are left out.
    pub(super) fn states(self, is_discovered: bool) -> [State; 3] {
        let Self { services, mode, exports, imports, policies, targets, httpbin } = self;
        let mut clusters = services.iter().zip(mode).zip(exports).zip(targets).zip(httpbin).enumerate();
        std::array::from_fn(|_| {
            let Some((index, ((((services, mode), exports), targets), httpbin))) = clusters.next() else {
                return State::default();
            };
            let mut documents = vec![*services, mode];
            documents.extend(exports);
            documents.extend(targets);
            if index == 1 {
                documents.extend(imports.iter().filter(|_| !is_discovered));
                // Last, so that a misspelt one is read after everything else.
                documents.extend(&policies);
            }
            State { httpbin, documents: documents.into_iter().map(str::to_owned).collect() }
        })
    }
}
