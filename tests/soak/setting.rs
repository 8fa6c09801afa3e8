//! What the soak runs in: a caller and a service of two endpoints, each with a sidecar process of its own.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use meshgate::sandbox::{POD_PORT, PodSpec, Sandbox, Sidecar};

use crate::echo::Echo;

/// The service's name.
pub(crate) const SERVICE: &str = "echo.default.svc.cluster.local";

/// The pods behind the service; the caller is `caller`.
pub(crate) const BACKENDS: [&str; 2] = ["echo-0", "echo-1"];

/// Unused upstream connections go soon, so that the end can be compared with the beginning.
const BOOTSTRAP: &str = "timeouts: {upstreamIdle: 2s}\n";

pub(crate) struct Setting {
    pub(crate) sandbox: Sandbox,
    pub(crate) caller: Sidecar,
    pub(crate) backends: Vec<Sidecar>,
    pub(crate) applications: Vec<RefCell<Echo>>,
}

impl Setting {
    pub(crate) async fn start() -> Self {
        let mut sandbox = Sandbox::new(Path::new(env!("CARGO_BIN_EXE_meshgate-under-test"))).unwrap();
        let caller_address = sandbox.next_address();
        let addresses = BACKENDS.map(|_| sandbox.next_address());
        sandbox.write_resource("workloads.yaml", &workloads(caller_address, &addresses)).unwrap();
        sandbox.write_resource("policies.yaml", "").unwrap();
        let (mut backends, mut applications) = (Vec::new(), Vec::new());
        for (name, address) in BACKENDS.into_iter().zip(addresses) {
            let application = Echo::start().await;
            let pod = pod(name, "echo", Some(application.address()));
            backends.push(sandbox.start(&pod, address).await.unwrap());
            applications.push(RefCell::new(application));
        }
        let caller = sandbox.start(&pod("caller", "caller", None), caller_address).await.unwrap();
        Self { sandbox, caller, backends, applications }
    }

    /// Every process, with its name.
    pub(crate) fn sidecars(&self) -> impl Iterator<Item = (&'static str, &Sidecar)> {
        std::iter::once(("caller", &self.caller)).chain(BACKENDS.into_iter().zip(&self.backends))
    }
}

fn pod(name: &str, account: &str, application: Option<SocketAddr>) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        service_account: account.to_owned(),
        app: account.to_owned(),
        application,
        bootstrap: BOOTSTRAP.to_owned(),
        ..PodSpec::default()
    }
}

fn workloads(caller: IpAddr, backends: &[IpAddr]) -> String {
    let pod = |name: &str, account: &str, address: IpAddr| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: {account}}}}}\n\
             spec: {{serviceAccountName: {account}}}\nstatus: {{podIP: {address}}}\n"
        )
    };
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: echo, namespace: default}}\n\
         spec: {{selector: {{app: echo}}, ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]}}\n"
    );
    let pods = BACKENDS.iter().zip(backends).map(|(name, address)| pod(name, "echo", *address));
    service + &pod("caller", "caller", caller) + &pods.collect::<String>()
}
