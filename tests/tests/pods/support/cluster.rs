//! One cluster: its authority, what its pods' sidecars read, and the sidecars that read it.

use std::cell::RefCell;
use std::fs;
use std::net::IpAddr;

use meshgate::sandbox::Sandbox;

use super::manifest::{self, config_map, data, of_pod};
use super::{Network, Pod, until, world};

/// The name of what changes among the resources.
const RULES: &str = "rules.yaml";

/// Where the listeners are that the redirection leads to.
const REDIRECTED: &str = "\
inbound: {listeners: [{address: \"0.0.0.0:15006\", originalDestination: kernel}]}
outbound: {listeners: [{address: \"127.0.0.1:15001\", originalDestination: kernel}]}
";

/// What one runs in a cluster: its names, and what its application says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    /// Its name and label `app`.
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    /// Its service account.
    pub(crate) account: &'static str,
    /// The name that its application answers with.
    pub(crate) says: &'static str,
}

impl Workload {
    /// The Pod, as the cluster's API server would have it.
    pub(crate) fn listed(&self, address: IpAddr) -> String {
        let Self { name, namespace, account, .. } = self;
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
             spec: {{serviceAccountName: {account}}}\nstatus: {{podIP: {address}}}\n"
        )
    }
}

/// A cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    sandbox: Sandbox,
    /// What all its bootstrap files say, and other clusters' roots, which they name.
    surroundings: String,
    bundles: Vec<(&'static str, String)>,
    rules: RefCell<String>,
}

impl Cluster {
    /// With an authority that is there already, and these resources.
    pub(crate) fn new(sandbox: Sandbox, rules: String) -> Self {
        Self { sandbox, surroundings: String::new(), bundles: Vec::new(), rules: rules.into() }
    }

    /// Which knows others: lines for its bootstrap files, and the files of roots that these name.
    pub(crate) fn beside(self, surroundings: String, bundles: Vec<(&'static str, String)>) -> Self {
        Self { surroundings, bundles, ..self }
    }

    /// Starts a workload as its user would: its Pod, injected, with what the sidecar needs to read.
    pub(crate) fn run(&self, pod: &str, workload: &Workload, hosts: &[(String, IpAddr)], at: (&Network, u8)) -> Pod {
        let yaml = manifest::injected(pod, &manifest::application(pod, workload, hosts));
        let (network, host) = at;
        Pod::play(pod, &(self.read_by(pod, workload, REDIRECTED) + &yaml), &network.name, network.address(host))
    }

    /// What a proxy reads: ConfigMaps, to be played with it, and a Secret, which is there from now on.
    pub(crate) fn read_by(&self, pod: &str, workload: &Workload, listeners: &str) -> String {
        let Workload { namespace, account, .. } = workload;
        self.sandbox.issue_in(pod, namespace, account).unwrap();
        let file = |name: String| fs::read_to_string(self.sandbox.path("identities").join(name)).unwrap();
        let identity = [
            ("tls.crt", file(format!("{pod}.pem"))),
            ("tls.key", file(format!("{pod}-key.pem"))),
            ("ca.crt", root(&self.sandbox)),
        ];
        let key = self.sandbox.key().map_or_else(String::new, |key| format!("clusterKey: {key}\n"));
        let folder = "/var/lib/meshgate/identity";
        let bootstrap = format!(
            "{key}\
             identity: {{certificate: {folder}/tls.crt, key: {folder}/tls.key, trustBundle: {folder}/ca.crt}}\n\
             {listeners}{}",
            self.surroundings
        );
        let bootstrap = [&[("bootstrap.yaml", bootstrap)], &self.bundles[..]].concat();
        world::keep_secret(&of_pod(pod, "identity"), &data(&identity));
        config_map(&of_pod(pod, "bootstrap"), &bootstrap)
            + &config_map(&of_pod(pod, "resources"), &[(RULES, self.rules.borrow().clone())])
    }

    /// Puts resources in force in sidecars and whoever else reads as much, in place of those before; waits until they are read.
    pub(crate) fn in_force<'a>(&self, rules: String, sidecars: impl IntoIterator<Item = &'a Pod>, others: &[String]) {
        // What does not change is not read anew.
        if *self.rules.borrow() == rules {
            return;
        }
        let sidecars: Vec<_> = sidecars.into_iter().map(|pod| (pod, pod.readings())).collect();
        let read = sidecars.iter().map(|(pod, _)| &pod.name).chain(others);
        for pod in read {
            world::replace(&of_pod(pod, "resources"), RULES, &rules);
        }
        for (pod, before) in sidecars {
            until(&format!("{} reading its resources", pod.name), || (pod.readings() > before).then_some(()));
        }
        self.rules.replace(rules);
    }
}

/// A cluster's root certificate.
pub(crate) fn root(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("ca/ca.pem")).unwrap()
}
