//! One of the three clusters.

use std::net::{IpAddr, SocketAddr};

use http::Response;
use http_body_util::Full;

use super::Gateways;
use super::httpbin::Httpbin;
use crate::sandbox::{Application, PodSpec, Sandbox, SandboxError, Sidecar};

/// A cluster with `httpbin`, one more workload, and a gateway.
#[derive(Debug)]
pub struct Member {
    /// Its files and identities.
    pub sandbox: Sandbox,
    /// The sidecar of `httpbin`.
    pub httpbin: Sidecar,
    /// The sidecar of the other workload.
    pub second: Sidecar,
    /// The gateway.
    pub gateway: Sidecar,
    /// What answers behind `httpbin`.
    pub application: Httpbin,
    httpbin_spec: PodSpec,
    second_spec: PodSpec,
    gateway_spec: PodSpec,
    _second_application: Application,
    pub(super) in_force: String,
}

/// A cluster to be.
pub(super) struct Plan {
    pub(super) sandbox: Sandbox,
    pub(super) name: &'static str,
    /// The account of `httpbin`.
    pub(super) account: &'static str,
    /// The name and the account of the other workload.
    pub(super) second: [&'static str; 2],
    /// Where the gateway is, besides on the shared address.
    pub(super) gateway: SocketAddr,
    /// The address that all gateways share: for tunnels, and for plain HTTP.
    pub(super) shared: [SocketAddr; 2],
}

impl Member {
    /// Starts httpbin, the other workload and the gateway, with nothing in force.
    pub(super) async fn start(plan: Plan) -> Result<Self, SandboxError> {
        let Plan { mut sandbox, name, account, second: [second, second_account], gateway, shared: [tunnels, plain] } =
            plan;
        let failed = |error| SandboxError::new("an application", error);
        let application = Httpbin::start(name).await.map_err(failed)?;
        let text = format!("Hi, I am {second} from {name}\n");
        let second_application =
            Application::start(move |_| Response::new(Full::from(text.clone()))).await.map_err(failed)?;
        let httpbin_spec = PodSpec { application: Some(application.address()), ..pod("httpbin", account) };
        let second_spec = PodSpec { application: Some(second_application.address()), ..pod(second, second_account) };
        let gateway_spec = PodSpec {
            namespace: "meshgate-system".to_owned(),
            gateway: vec![tunnels, gateway],
            compatibility: vec![plain],
            ..pod("gateway", "meshgate-gateway")
        };
        let [httpbin_address, second_address] = [sandbox.next_address(), sandbox.next_address()];
        Ok(Self {
            httpbin: sandbox.start(&httpbin_spec, httpbin_address).await?,
            second: sandbox.start(&second_spec, second_address).await?,
            gateway: sandbox.start(&gateway_spec, gateway.ip()).await?,
            sandbox,
            application,
            httpbin_spec,
            second_spec,
            gateway_spec,
            _second_application: second_application,
            in_force: String::new(),
        })
    }

    /// Where its gateway takes tunnels.
    pub fn tunnels(&self, gateways: Gateways) -> Option<SocketAddr> {
        let at = match gateways {
            Gateways::OneAddress => self.gateway_spec.gateway.first(),
            Gateways::OnePort => self.gateway_spec.gateway.get(1),
        };
        at.copied()
    }

    /// Where its gateway takes plain HTTP.
    pub fn compatibility(&self) -> Option<SocketAddr> {
        self.gateway_spec.compatibility.first().copied()
    }

    /// Starts the gateway again where it was.
    ///
    /// # Errors
    /// Those of [`Sandbox::start`].
    pub async fn restart_gateway(&mut self) -> Result<(), SandboxError> {
        self.gateway.kill();
        self.gateway = self.sandbox.start(&self.gateway_spec, self.gateway.address()).await?;
        Ok(())
    }

    /// Starts the sidecar of `httpbin` again where it was.
    ///
    /// # Errors
    /// Those of [`Sandbox::start`].
    pub async fn restart_httpbin(&mut self) -> Result<(), SandboxError> {
        self.httpbin.kill();
        self.httpbin = self.sandbox.start(&self.httpbin_spec, self.httpbin.address()).await?;
        Ok(())
    }

    /// The pods, as the cluster's API server would have them.
    pub(super) fn pods(&self, httpbin: bool) -> String {
        let mut pods = listed(&self.second_spec, self.second.address());
        if httpbin {
            pods += &listed(&self.httpbin_spec, self.httpbin.address());
        }
        pods
    }
}

fn pod(name: &str, account: &str) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        namespace: "httpbin".to_owned(),
        service_account: account.to_owned(),
        app: name.to_owned(),
        ..PodSpec::default()
    }
}

fn listed(spec: &PodSpec, address: IpAddr) -> String {
    let PodSpec { name, namespace, service_account, app, .. } = spec;
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}\n\
         spec: {{serviceAccountName: {service_account}}}\nstatus: {{podIP: {address}}}\n"
    )
}
