//! What the soak runs in: a caller, a service of two endpoints, and one that is called over plain TCP, each with a sidecar process
//! of its own.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use meshgate::sandbox::{POD_PORT, PodSpec, Sandbox, Sidecar};

use crate::echo::Echo;

/// The service's name.
pub(crate) const SERVICE: &str = "echo.default.svc.cluster.local";

/// The pods behind the service; the caller is `caller`.
pub(crate) const BACKENDS: [&str; 2] = ["echo-0", "echo-1"];

/// The pod behind the other service, whose application is never killed.
const RAW: &str = "raw";

/// Every pod's service account.
pub(crate) const ACCOUNTS: [(&str, &str); 4] =
    [("caller", "caller"), (BACKENDS[0], "echo"), (BACKENDS[1], "echo"), (RAW, RAW)];

/// Where the service that is called over TCP seems to be, and where the caller's sidecar takes connections to it.
const VIRTUAL: (&str, u16) = ("10.96.0.10", 9000);
const VIRTUAL_PORT: u16 = 15101;

/// Unused upstream connections go soon, so that the end can be compared with the beginning.
const BOOTSTRAP: &str = "timeouts: {upstreamIdle: 2s}\n";

pub(crate) struct Setting {
    pub(crate) sandbox: Sandbox,
    pub(crate) caller: Sidecar,
    pub(crate) backends: Vec<Sidecar>,
    pub(crate) applications: Vec<RefCell<Echo>>,
    raw: Sidecar,
    _raw_application: Echo,
}

impl Setting {
    pub(crate) async fn start() -> Self {
        let mut sandbox = Sandbox::new(Path::new(env!("CARGO_BIN_EXE_meshgate-under-test"))).unwrap();
        let caller_address = sandbox.next_address();
        let addresses = BACKENDS.map(|_| sandbox.next_address());
        let raw_address = sandbox.next_address();
        let all: Vec<_> = [&[caller_address][..], &addresses, &[raw_address]].concat();
        sandbox.write_resource("workloads.yaml", &workloads(&all)).unwrap();
        sandbox.write_resource("policies.yaml", "").unwrap();
        let (mut backends, mut applications) = (Vec::new(), Vec::new());
        for (name, address) in BACKENDS.into_iter().zip(addresses) {
            let application = Echo::start().await;
            let pod = pod(name, "echo", Some(application.address()));
            backends.push(sandbox.start(&pod, address).await.unwrap());
            applications.push(RefCell::new(application));
        }
        let raw_application = Echo::start().await;
        let raw = sandbox.start(&pod(RAW, RAW, Some(raw_application.address())), raw_address).await.unwrap();
        let (address, port) = VIRTUAL;
        let outbound = vec![(VIRTUAL_PORT, SocketAddr::new(address.parse().unwrap(), port))];
        let caller = PodSpec { outbound, ..pod("caller", "caller", None) };
        let caller = sandbox.start(&caller, caller_address).await.unwrap();
        Self { sandbox, caller, backends, applications, raw, _raw_application: raw_application }
    }

    /// Where the caller reaches the service that is called over TCP.
    pub(crate) fn virtual_address(&self) -> SocketAddr {
        SocketAddr::new(self.caller.address(), VIRTUAL_PORT)
    }

    /// The lines of all access logs about requests of these names.
    pub(crate) fn said(&self, names: &[String]) -> Vec<String> {
        let is_meant = |line: &serde_json::Value| names.iter().any(|name| line["request_id"] == name.as_str());
        let of = |(pod, sidecar): (&str, &Sidecar)| {
            let lines = sidecar.access_log().into_iter().filter(is_meant);
            lines.map(|line| format!("{pod}: {line}")).collect::<Vec<_>>()
        };
        self.sidecars().flat_map(of).collect()
    }

    /// Every process, with its name.
    pub(crate) fn sidecars(&self) -> impl Iterator<Item = (&'static str, &Sidecar)> {
        [("caller", &self.caller), (RAW, &self.raw)].into_iter().chain(BACKENDS.into_iter().zip(&self.backends))
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

fn workloads(addresses: &[IpAddr]) -> String {
    let pod = |((name, account), address): (&(&str, &str), &IpAddr)| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: {account}}}}}\n\
             spec: {{serviceAccountName: {account}}}\nstatus: {{podIP: {address}}}\n"
        )
    };
    let service = |name: &str, more: &str, port: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{{more}selector: {{app: {name}}}, ports: [{{{port}, targetPort: {POD_PORT}}}]}}\n"
        )
    };
    let (address, port) = VIRTUAL;
    service("echo", "", "name: http, port: 80")
        + &service(RAW, &format!("clusterIP: {address}, "), &format!("name: tcp-any, port: {port}"))
        + &ACCOUNTS.iter().zip(addresses).map(pod).collect::<String>()
}
