//! One cluster's files: an authority, identities, bootstrap files and resources, where sidecars may read them.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use meshgate::sandbox::Sandbox;

/// The sidecar runs as this user, Istio's; the redirection tells it by that.
const PROXY_USER: u32 = 1337;

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
    pub(crate) sandbox: Sandbox,
}

impl Cluster {
    /// Of an authority that is there already.
    pub(crate) fn of(sandbox: Sandbox) -> Self {
        fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).unwrap();
        fs::copy(sandbox.path("ca/ca.pem"), sandbox.path("ca.pem")).unwrap();
        let rules =
            crate::command::command(crate::binary()).args(["iptables", "print", "--format", "nft"]).output().unwrap();
        fs::write(sandbox.path("rules.nft"), rules.stdout).unwrap();
        Self { sandbox }
    }

    /// The folder that its pods read.
    pub(crate) fn folder(&self) -> PathBuf {
        self.sandbox.path("")
    }

    /// Issues a workload's certificate, and writes its bootstrap file: `listeners` says what it takes.
    pub(crate) fn admit(&self, workload: &Workload, listeners: &str) {
        let Workload { name, namespace, account, .. } = workload;
        self.sandbox.issue_in(name, namespace, account).unwrap();
        for file in [format!("{name}.pem"), format!("{name}-key.pem")] {
            chown(self.sandbox.path("identities").join(file), Some(PROXY_USER), Some(PROXY_USER)).unwrap();
        }
        fs::set_permissions(self.sandbox.path("identities"), Permissions::from_mode(0o755)).unwrap();
        let key = self.sandbox.key().map_or_else(String::new, |key| format!("clusterKey: {key}\n"));
        let bootstrap = format!(
            "{key}\
             workload: {{name: {name}, namespace: {namespace}, serviceAccount: {account}, labels: {{app: {name}}}}}\n\
             identity: {{certificate: identities/{name}.pem, key: identities/{name}-key.pem, trustBundle: ca.pem}}\n\
             resources: {{directory: resources}}\n\
             {listeners}"
        );
        fs::write(self.sandbox.path(&format!("{name}.yaml")), bootstrap).unwrap();
    }

    /// Lets its proxies know another cluster's roots.
    pub(crate) fn trust(&self, name: &str, other: &Self) {
        fs::copy(other.sandbox.path("ca.pem"), self.sandbox.path(&format!("{name}.pem"))).unwrap();
    }
}
