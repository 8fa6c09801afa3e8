//! A caller and a service it calls, each endpoint with a sidecar process of its own.

use std::net::{IpAddr, SocketAddr};

use http::Method;
use meshgate::sandbox::{Answer, POD_PORT, PodSpec, Sandbox, Sidecar, request, until};
use serde_json::Value;

use super::wire::Wire;

/// The service's name.
pub(crate) const BACKEND: &str = "backend.default.svc.cluster.local";

/// The service's cluster address.
pub(crate) const VIRTUAL: &str = "10.96.0.10:80";

/// Where a frontend with [`Spec::with_virtual`] listens for connections to [`VIRTUAL`].
pub(crate) const VIRTUAL_PORT: u16 = 15101;

const GENERATION: &str = "mesh_config_generation";

/// A mesh to be: what is not the usual.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// The application of each backend.
    pub(crate) applications: Vec<SocketAddr>,
    /// More lines for the backends' bootstrap files.
    pub(crate) backend: String,
    /// More lines for the frontend's bootstrap file.
    pub(crate) frontend: String,
    /// The frontend's own application.
    pub(crate) frontend_application: Option<SocketAddr>,
    /// More outbound listeners of the frontend.
    pub(crate) outbound: Vec<(u16, SocketAddr)>,
    /// The backends take tunnels, and say so by their label.
    pub(crate) tunnels: bool,
    pub(crate) registry_only: bool,
    /// The name of the service's port.
    pub(crate) port_name: &'static str,
    /// More labels of the backend pods, as YAML.
    pub(crate) labels: &'static str,
    pub(crate) policies: &'static str,
}

impl Spec {
    /// One backend for each application.
    pub(crate) fn of(applications: &[SocketAddr]) -> Self {
        Self {
            applications: applications.to_vec(),
            backend: String::new(),
            frontend: String::new(),
            frontend_application: None,
            outbound: Vec::new(),
            tunnels: false,
            registry_only: false,
            port_name: "http",
            labels: "",
            policies: "",
        }
    }

    /// Connections to port [`VIRTUAL_PORT`] of the frontend count as redirected from the service's cluster address.
    pub(crate) fn with_virtual(mut self) -> Self {
        self.outbound.push((VIRTUAL_PORT, VIRTUAL.parse().unwrap()));
        self
    }
}

/// A running mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) sandbox: Sandbox,
    pub(crate) frontend: Sidecar,
    pub(crate) backends: Vec<Sidecar>,
}

impl Mesh {
    pub(crate) async fn start(spec: Spec) -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let frontend_address = sandbox.next_address();
        let addresses: Vec<IpAddr> = spec.applications.iter().map(|_| sandbox.next_address()).collect();
        sandbox.write_resource("workloads.yaml", &workloads(&spec, frontend_address, &addresses)).unwrap();
        sandbox.write_resource("policies.yaml", spec.policies).unwrap();
        let mut backends = Vec::new();
        for (index, (application, address)) in spec.applications.iter().zip(addresses).enumerate() {
            let pod = PodSpec {
                name: format!("backend-{index}"),
                service_account: "backend".to_owned(),
                app: "backend".to_owned(),
                application: Some(*application),
                hbone: spec.tunnels.then_some(""),
                bootstrap: spec.backend.clone(),
                ..PodSpec::default()
            };
            backends.push(sandbox.start(&pod, address).await.unwrap());
        }
        let pod = PodSpec {
            name: "frontend".to_owned(),
            service_account: "frontend".to_owned(),
            app: "frontend".to_owned(),
            application: spec.frontend_application,
            outbound: spec.outbound,
            registry_only: spec.registry_only,
            bootstrap: spec.frontend,
            ..PodSpec::default()
        };
        let frontend = sandbox.start(&pod, frontend_address).await.unwrap();
        Self { sandbox, frontend, backends }
    }

    /// The usual mesh in front of one application.
    pub(crate) async fn of(application: SocketAddr) -> Self {
        Self::start(Spec::of(&[application])).await
    }

    /// The first backend's sidecar.
    pub(crate) fn backend(&self) -> &Sidecar {
        &self.backends[0]
    }

    /// One GET to the service, on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        request(self.frontend.outbound(), BACKEND, Method::GET, path).await
    }

    /// A connection of the caller's application to its sidecar.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self.frontend.outbound()).await
    }

    /// A connection of the caller's application that it thinks goes to the service's cluster address.
    pub(crate) async fn virtual_wire(&self) -> Wire {
        Wire::connect(SocketAddr::new(self.frontend.outbound().ip(), VIRTUAL_PORT)).await
    }

    /// A connection from outside of the mesh to the first backend.
    pub(crate) async fn outside(&self) -> Wire {
        Wire::connect(self.backend().inbound()).await
    }

    /// Puts policies in force at every backend.
    pub(crate) async fn policies(&self, yaml: &str) {
        let mut before = Vec::new();
        for backend in &self.backends {
            before.push(backend.metric(GENERATION).await.unwrap());
        }
        self.sandbox.write_resource("policies.yaml", yaml).unwrap();
        for (backend, before) in self.backends.iter().zip(before) {
            backend.until_metric(GENERATION, |now| now > before).await.unwrap();
        }
    }
}

/// Waits for the access log line that satisfies a condition.
pub(crate) async fn logged(sidecar: &Sidecar, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = until("an access log line", async || sidecar.access_log().into_iter().find(|line| wanted(line))).await;
    found.unwrap_or_else(|error| panic!("{error}; the lines: {:#?}", sidecar.access_log()))
}

/// As [`logged`], for the request to `path`.
pub(crate) async fn logged_path(sidecar: &Sidecar, path: &str) -> Value {
    logged(sidecar, |line| line["path"] == path).await
}

/// An AuthorizationPolicy for the backend.
pub(crate) fn policy(name: &str, action: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{selector: {{matchLabels: {{app: backend}}}}, action: {action}, rules: {rules}}}\n---\n"
    )
}

fn workloads(spec: &Spec, frontend: IpAddr, backends: &[IpAddr]) -> String {
    let Spec { port_name, .. } = spec;
    let tunnel = if spec.tunnels { ", networking.istio.io/tunnel: http" } else { "" };
    let labels = &format!("{}{tunnel}", spec.labels);
    let mut yaml = format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: backend, namespace: default}}
spec:
  clusterIP: 10.96.0.10
  selector: {{app: backend}}
  ports: [{{name: "{port_name}", port: 80, targetPort: {POD_PORT}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: frontend, namespace: default}}
spec:
  clusterIP: 10.96.0.11
  selector: {{app: frontend}}
  ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]
"#
    );
    yaml += &pod("frontend", "frontend", frontend, "");
    for (index, address) in backends.iter().enumerate() {
        yaml += &pod(&format!("backend-{index}"), "backend", *address, labels);
    }
    yaml
}

/// A Pod as a cluster's API server would have it.
pub(crate) fn pod(name: &str, app: &str, address: IpAddr, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: {app}{labels}}}}}\n\
         spec: {{serviceAccountName: {app}}}\nstatus: {{podIP: {address}}}\n"
    )
}
