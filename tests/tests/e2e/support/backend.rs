//! One workload with its sidecar, and the words for what is put in force there.

use std::cell::Cell;
use std::fs;
use std::net::IpAddr;
use std::process::{Command, ExitStatus};
use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use meshgate::sandbox::{Answer, Application, POD_PORT, PodSpec, Sandbox, Sidecar, request, until};

use super::pki::{Authority, Credentials};

/// How the backend is called.
pub(crate) const HOST: &str = "backend.default.svc.cluster.local";
/// A caller in the mesh.
pub(crate) const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";
/// Another.
pub(crate) const OTHER: &str = "spiffe://cluster.local/ns/default/sa/other";
/// The backend itself.
pub(crate) const BACKEND: &str = "spiffe://cluster.local/ns/default/sa/backend";
/// What its application says.
pub(crate) const HELLO: &str = "hello";

/// Which configuration is in force.
pub(crate) const GENERATION: &str = "mesh_config_generation";

/// The workload `backend`, called at its inbound address.
pub(crate) struct Backend {
    pub(crate) sandbox: Sandbox,
    pub(crate) sidecar: Sidecar,
    hits: Rc<Cell<usize>>,
    _application: Application,
}

impl Backend {
    /// With these resources in force.
    pub(crate) async fn start(resources: &str) -> Self {
        Self::start_with(|sandbox, _| sandbox.write_resource("policy.yaml", resources).unwrap()).await
    }

    /// That takes mutual TLS only.
    pub(crate) async fn strict() -> Self {
        Self::start(&mtls("STRICT")).await
    }

    /// After `change` was made to its sandbox and its pod.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Sandbox, &mut PodSpec)) -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let (application, hits) = counting().await;
        let address = sandbox.next_address();
        let mut spec = PodSpec { application: Some(application.address()), ..pod("backend") };
        change(&mut sandbox, &mut spec);
        let sidecar = sandbox.start(&spec, address).await.unwrap();
        Self { sandbox, sidecar, hits, _application: application }
    }

    /// How many requests reached the application.
    pub(crate) fn hits(&self) -> usize {
        self.hits.get()
    }

    /// The mesh's own authority.
    pub(crate) fn authority(&self) -> Authority {
        Authority::of(&self.sandbox)
    }

    /// A certificate of the mesh's own authority.
    pub(crate) fn issue(&self, id: &str) -> Credentials {
        self.authority().issue(id)
    }

    /// GET in the clear on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        request(self.sidecar.inbound(), HOST, Method::GET, path).await
    }

    /// Writes a resource file, and waits until it is in force.
    pub(crate) async fn put(&self, file: &str, yaml: &str) {
        let before = self.generation().await;
        self.sandbox.write_resource(file, yaml).unwrap();
        self.sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
    }

    /// Removes a resource file, and waits until what was in it is no longer in force.
    pub(crate) async fn remove(&self, file: &str) {
        let before = self.generation().await;
        fs::remove_file(self.sandbox.path("resources").join(file)).unwrap();
        self.sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
    }

    async fn generation(&self) -> f64 {
        self.sidecar.metric(GENERATION).await.unwrap()
    }
}

/// An application that says [`HELLO`] and counts who asks.
pub(crate) async fn counting() -> (Application, Rc<Cell<usize>>) {
    let hits = Rc::new(Cell::new(0));
    let counted = Rc::clone(&hits);
    let application = Application::start(move |_| {
        counted.set(counted.get() + 1);
        Response::new(Full::<Bytes>::from(HELLO))
    });
    (application.await.unwrap(), hits)
}

/// A pod whose name, service account and label are the same.
pub(crate) fn pod(name: &str) -> PodSpec {
    PodSpec { name: name.to_owned(), service_account: name.to_owned(), app: name.to_owned(), ..PodSpec::default() }
}

/// What a cluster's API server would know of the workload `backend`.
pub(crate) fn service(address: IpAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: backend, namespace: default}}\n\
         spec:\n  clusterIP: 10.96.0.10\n  selector: {{app: backend}}\n  \
         ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: backend, namespace: default, labels: {{app: backend}}}}\n\
         spec: {{serviceAccountName: backend}}\nstatus: {{podIP: {address}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: backend-1, namespace: default, labels: {{kubernetes.io/service-name: backend}}}}\n\
         addressType: IPv4\n\
         ports: [{{name: http, port: {POD_PORT}}}]\nendpoints: [{{addresses: [{address}]}}]\n"
    )
}

/// An AuthorizationPolicy.
pub(crate) fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

/// A DENY policy for a path.
pub(crate) fn deny_path(path: &str) -> String {
    policy("deny-path", &format!("{{action: DENY, rules: [{{to: [{{operation: {{paths: [\"{path}\"]}}}}]}}]}}"))
}

/// The mutual TLS mode of the namespace.
pub(crate) fn mtls(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

/// The status of an HTTP answer; 0 for anything else.
pub(crate) fn status(answer: &Answer) -> u16 {
    match answer {
        Answer::Http { status, .. } => *status,
        _ => 0,
    }
}

/// Sends a process a signal, such as `TERM`.
pub(crate) fn signal(sidecar: &Sidecar, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(sidecar.pid().to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

/// Waits for a process's end.
pub(crate) async fn ended(sidecar: &mut Sidecar) -> ExitStatus {
    let child = sidecar.child();
    until("the end of the process", async || child.try_wait().unwrap()).await.unwrap()
}
