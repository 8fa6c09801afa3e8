//! What a pod of the sandbox is, and its bootstrap file.

use std::net::{IpAddr, SocketAddr};

use meshgate_identity::TrustDomain;

use crate::sandbox::{ADMIN_PORT, HBONE_PORT, OUTBOUND_PORT, POD_PORT};

/// Where pods are of which nothing else is said.
pub(super) const NAMESPACE: &str = "default";

/// A pod to be.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// The pod's name.
    pub name: String,
    /// Its namespace; `default` by default.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its label `app`.
    pub app: String,
    /// Where its application really listens.
    pub application: Option<SocketAddr>,
    /// Other meshes it knows: their trust domains, and the files of their roots.
    pub federated: Vec<(String, String)>,
    /// More outbound listeners: their ports, and where connections to them were going.
    pub outbound: Vec<(u16, SocketAddr)>,
    /// Outbound traffic to no known service is refused.
    pub registry_only: bool,
    /// Where tunnels from other clusters come in; with any, the pod is a gateway and nothing else.
    pub gateway: Vec<SocketAddr>,
    /// Where a gateway takes plain HTTP, whose callers nobody knows.
    pub compatibility: Vec<SocketAddr>,
    /// Tunnels are taken for its application, with these limits as fields in YAML.
    pub hbone: Option<&'static str>,
    /// The Workload API that its identity comes from, instead of files of the sandbox's authority.
    pub workload_api: Option<String>,
    /// The authority that it asks for its certificate, as fields in YAML; its roots are the sandbox's.
    pub ca: Option<String>,
    /// More fields of its `identity`, each with a comma before it.
    pub identity: String,
    /// More lines for its bootstrap file.
    pub bootstrap: String,
}

impl Default for PodSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            namespace: NAMESPACE.to_owned(),
            service_account: String::new(),
            app: String::new(),
            application: None,
            federated: Vec::new(),
            outbound: Vec::new(),
            registry_only: false,
            gateway: Vec::new(),
            compatibility: Vec::new(),
            hbone: None,
            workload_api: None,
            ca: None,
            identity: String::new(),
            bootstrap: String::new(),
        }
    }
}

impl PodSpec {
    /// Its bootstrap file, but for what its cluster adds.
    pub(super) fn bootstrap(&self, address: IpAddr, trust_domain: &TrustDomain) -> String {
        let Self { name, namespace, service_account, app, federated, identity, bootstrap, .. } = self;
        let federated: Vec<_> = federated.iter().map(|(domain, file)| format!("{domain}: {file}")).collect();
        let federated = federated.join(", ");
        // It may say so itself.
        let log = match bootstrap.contains("accessLog:") {
            true => String::new(),
            false => format!("accessLog: {{path: logs/{name}.access.log}}\n"),
        };
        let role = if self.gateway.is_empty() { self.sidecar(address) } else { self.gateway() };
        let identity = match (&self.workload_api, &self.ca) {
            (Some(endpoint), _) => format!("{{workloadApi: \"{endpoint}\"{identity}}}"),
            (None, Some(ca)) => {
                format!("{{trustBundle: ca/ca.pem, ca: {{{ca}}}, federated: {{{federated}}}{identity}}}")
            }
            (None, None) => format!(
                "{{certificate: identities/{name}.pem, key: identities/{name}-key.pem, trustBundle: ca/ca.pem, \
                 federated: {{{federated}}}{identity}}}"
            ),
        };
        format!(
            "{role}\
             trustDomain: {trust_domain}\n\
             workload: {{name: {name}, namespace: {namespace}, serviceAccount: {service_account}, labels: {{app: {app}}}}}\n\
             identity: {identity}\n\
             resources: {{directory: resources}}\n\
             admin: {{address: \"{address}:{ADMIN_PORT}\"}}\n\
             {log}{bootstrap}"
        )
    }

    fn gateway(&self) -> String {
        let list = |addresses: &[SocketAddr]| {
            let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
            quoted.join(", ")
        };
        let (listeners, compatibility) = (list(&self.gateway), list(&self.compatibility));
        format!("role: gateway\ngateway:\n  listeners: [{listeners}]\n  compatibility: [{compatibility}]\n")
    }

    fn sidecar(&self, address: IpAddr) -> String {
        let inbound = match self.application {
            Some(application) => format!(
                "inbound:\n  listeners:\n  - address: \"{address}:{POD_PORT}\"\n    \
                 originalDestination: \"{address}:{POD_PORT}\"\n    application: \"{application}\"\n"
            ),
            None => "inbound: {listeners: []}\n".to_owned(),
        };
        let listener = |(port, destination): &(u16, SocketAddr)| {
            format!("  - {{address: \"{address}:{port}\", originalDestination: \"{destination}\"}}\n")
        };
        let outbound: String = self.outbound.iter().map(listener).collect();
        let policy = if self.registry_only { "REGISTRY_ONLY" } else { "ALLOW_ANY" };
        let hbone = match self.hbone {
            Some(limits) => format!("hbone: {{listeners: [\"{address}:{HBONE_PORT}\"], {limits}}}\n"),
            None => String::new(),
        };
        format!(
            "role: sidecar\n\
             {hbone}{inbound}\
             outbound:\n  trafficPolicy: {policy}\n  listeners:\n  \
             - {{address: \"{address}:{OUTBOUND_PORT}\", originalDestination: none}}\n\
             {outbound}"
        )
    }
}
