//! Walk-through C: SMI's TrafficTargets in one cluster.
//!
//! `curl` and `other` call one service with two endpoints that run as different service accounts. What TrafficTargets do not
//! let a caller reach gets no traffic; when nothing is left, the caller's own sidecar closes without a byte, which curl
//! reports with exit status 52.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Method;
use serde_json::Value;

use super::Stopped;
use super::report::{Reporter, Tried};
use crate::sandbox::{Answer, Application, POD_PORT, PodSpec, Sandbox, Sidecar, answer_text, request, until};

const PERMISSIVE: &str = include_str!("../../../../examples/walkthrough-c/permissive.yaml");
const TRAFFIC_POLICY: &str = include_str!("../../../../examples/walkthrough-c/traffic-policy.yaml");
const ROUTES: &str = include_str!("../../../../examples/walkthrough-c/routes.yaml");
const TO_BACKEND: &str = include_str!("../../../../examples/walkthrough-c/curl-to-backend.yaml");
const TO_CANARY: &str = include_str!("../../../../examples/walkthrough-c/curl-to-canary.yaml");
const TO_METRICS: &str = include_str!("../../../../examples/walkthrough-c/curl-to-metrics.yaml");
const DENY_ADMIN: &str = include_str!("../../../../examples/walkthrough-c/deny-admin.yaml");

/// The host that is called.
const BACKEND: &str = "backend.default.svc.cluster.local";

/// The metric that says which configuration is in force.
const GENERATION: &str = "mesh_config_generation";

const OK: &str = "200";
const DENIED: &str = "403 RBAC: access denied";
const CLOSED: &str = "closed";

pub(super) const STEPS: [&str; 8] = ["C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7"];

/// The four workloads, in the order in which they are started.
pub(super) struct Mesh {
    sandbox: Sandbox,
    curl: Sidecar,
    other: Sidecar,
    stable: Sidecar,
    canary: Sidecar,
    rules: String,
    _applications: [Application; 2],
}

impl Mesh {
    /// Makes identities and resources, and starts the sidecars.
    pub(super) async fn start(reporter: &Reporter) -> Result<Self, Stopped> {
        let mut sandbox = Sandbox::new(&std::env::current_exe()?)?;
        let applications =
            [Application::start(answer_text("stable\n")).await?, Application::start(answer_text("canary\n")).await?];
        let [stable_address, canary_address] = [sandbox.next_address(), sandbox.next_address()];
        let [curl_address, other_address] = [sandbox.next_address(), sandbox.next_address()];
        sandbox.write_resource("workloads.yaml", &workloads(stable_address, canary_address))?;
        let [stable_application, canary_application] = &applications;
        let backend = |name: &str, account: &str, application: &Application| PodSpec {
            app: "backend".to_owned(),
            application: Some(application.address()),
            ..pod(name, account)
        };
        let stable = sandbox.start(&backend("stable", "backend", stable_application), stable_address).await?;
        let canary = sandbox.start(&backend("canary", "backend-canary", canary_application), canary_address).await?;
        let curl = sandbox.start(&pod("curl", "curl"), curl_address).await?;
        let other = sandbox.start(&pod("other", "other"), other_address).await?;
        reporter.note("\nAnother mesh, with one service of two endpoints that run as different service accounts:")?;
        for (name, account, sidecar) in [
            ("stable", "backend", &stable),
            ("canary", "backend-canary", &canary),
            ("curl", "curl", &curl),
            ("other", "other", &other),
        ] {
            reporter.note(&format!("   {name:<9} pid {:<8} service account {account}", sidecar.pid()))?;
        }
        let rules = String::new();
        Ok(Self { sandbox, curl, other, stable, canary, rules, _applications: applications })
    }

    /// Goes through the steps, or only through `only`.
    pub(super) async fn walk(&mut self, reporter: &Reporter, only: Option<&str>) -> Result<(), Stopped> {
        for step in STEPS.into_iter().filter(|step| only.is_none_or(|only| only == *step)) {
            self.step(reporter, step).await?;
        }
        Ok(())
    }

    /// What to try on a mesh that was left running.
    pub(super) fn hints(&self) -> Vec<String> {
        let curl = self.curl.outbound();
        vec![
            String::new(),
            format!("The mesh of walk-through C is up. Resources: {}", self.sandbox.path("resources").display()),
            "Change rules.yaml there, then try:".to_owned(),
            format!("  curl -H 'Host: {BACKEND}' http://{curl}/; echo \"exit status $?\"      # as curl"),
            format!(
                "  curl -H 'Host: {BACKEND}' http://{}/; echo \"exit status $?\"      # as other",
                self.other.outbound()
            ),
            format!("  tail -f {}", self.sandbox.path("logs/curl.access.log").display()),
        ]
    }

    async fn step(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        match step {
            "C0" => {
                self.in_force(reporter, step, "permissive mode", &[PERMISSIVE]).await?;
                self.six_requests(reporter, step, "3 from canary, 3 from stable").await
            }
            "C1" => {
                self.in_force(reporter, step, "traffic policy mode, no TrafficTarget", &[TRAFFIC_POLICY]).await?;
                self.as_curl(reporter, step, Method::GET, "/", CLOSED).await?;
                self.server_side(reporter, step).await
            }
            "C2" => {
                self.backend_only(reporter, step).await?;
                self.six_requests(reporter, step, "6 from stable").await?;
                self.left_out(reporter, step).await
            }
            "C3" => {
                self.backend_only(reporter, step).await?;
                self.as_curl(reporter, step, Method::POST, "/", DENIED).await
            }
            "C4" => {
                self.backend_only(reporter, step).await?;
                self.another_caller(reporter, step).await
            }
            "C5" => {
                let rules = [TRAFFIC_POLICY, ROUTES, TO_METRICS];
                self.in_force(reporter, step, "only /metrics: curl-to-metrics", &rules).await?;
                self.as_curl(reporter, step, Method::GET, "/metrics", OK).await?;
                self.as_curl(reporter, step, Method::GET, "/other?x=/metrics", DENIED).await
            }
            "C6" => self.both_families(reporter, step).await,
            _ => {
                let rules = [TRAFFIC_POLICY, ROUTES, TO_BACKEND, TO_CANARY];
                self.in_force(reporter, step, "curl-to-backend, curl-to-canary", &rules).await?;
                self.six_requests(reporter, step, "3 from canary, 3 from stable").await
            }
        }
    }

    async fn backend_only(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.in_force(reporter, step, "curl-to-backend, GET", &[TRAFFIC_POLICY, ROUTES, TO_BACKEND]).await
    }

    /// C6: each family must let a request in.
    async fn both_families(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let rules = [TRAFFIC_POLICY, ROUTES, TO_BACKEND, DENY_ADMIN];
        self.in_force(reporter, step, "curl-to-backend, and an AuthorizationPolicy deny-admin", &rules).await?;
        self.as_curl(reporter, step, Method::GET, "/", OK).await?;
        self.as_curl(reporter, step, Method::GET, "/admin", DENIED).await?;
        self.in_force(reporter, step, "deny-admin without the TrafficTarget", &[TRAFFIC_POLICY, DENY_ADMIN]).await?;
        self.as_curl(reporter, step, Method::GET, "/", CLOSED).await
    }

    /// C1: whoever goes past the caller's sidecar is refused all the same.
    async fn server_side(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let got = request(self.stable.inbound(), BACKEND, Method::GET, "/").await;
        compare(reporter, step, "plaintext GET / past every sidecar but the called one", DENIED, &got)
    }

    /// C2: who was left out, and that the log says so.
    async fn left_out(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let expected = self.canary.inbound().to_string();
        let field = |line: &Value| Some(line.get("endpoints_left_out")?.as_str()?.to_owned());
        let got = until("an access log line", async || self.curl.access_log().iter().rev().find_map(field)).await?;
        let what = "curl's access log: endpoints_left_out is the canary".to_owned();
        reporter.tried(Tried { step, what, expected, got })
    }

    /// C4: closed by the caller's own sidecar, which says why.
    async fn another_caller(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let seen = self.other.access_log().len();
        let got = request(self.other.outbound(), BACKEND, Method::GET, "/").await;
        compare(reporter, step, "other GET /", CLOSED, &got)?;
        let line = self.other.next_access(seen).await?;
        let got = line.get("reason").and_then(Value::as_str).unwrap_or("nothing").to_owned();
        let (what, expected) = ("other's own access log: reason".to_owned(), "no_target_matched".to_owned());
        reporter.tried(Tried { step, what, expected, got })
    }

    /// Puts rules in force, and waits until every sidecar has them.
    async fn in_force(&mut self, reporter: &Reporter, step: &str, text: &str, rules: &[&str]) -> Result<(), Stopped> {
        reporter.heading(step, text)?;
        let yaml = rules.join("---\n");
        if yaml == self.rules {
            return Ok(());
        }
        let sidecars = [&self.curl, &self.other, &self.stable, &self.canary];
        let mut before = Vec::new();
        for sidecar in sidecars {
            before.push(sidecar.metric(GENERATION).await.unwrap_or_default());
        }
        self.sandbox.write_resource("rules.yaml", &yaml)?;
        for (sidecar, before) in sidecars.into_iter().zip(before) {
            sidecar.until_metric(GENERATION, |now| now > before).await?;
        }
        self.rules = yaml;
        Ok(())
    }

    /// Who answered how often.
    async fn six_requests(&self, reporter: &Reporter, step: &'static str, expected: &str) -> Result<(), Stopped> {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..6 {
            let who = match request(self.curl.outbound(), BACKEND, Method::GET, "/").await {
                Answer::Http { status: 200, body, .. } => body.trim_end().to_owned(),
                other => other.to_string(),
            };
            *answers.entry(who).or_default() += 1;
        }
        let counts: Vec<_> = answers.iter().map(|(who, count)| format!("{count} from {who}")).collect();
        let (what, expected, got) = ("curl GET /, six times".to_owned(), expected.to_owned(), counts.join(", "));
        reporter.tried(Tried { step, what, expected, got })
    }

    async fn as_curl(
        &self,
        reporter: &Reporter,
        step: &'static str,
        method: Method,
        path: &str,
        expected: &str,
    ) -> Result<(), Stopped> {
        let what = format!("curl {method} {path}");
        let got = request(self.curl.outbound(), BACKEND, method, path).await;
        compare(reporter, step, &what, expected, &got)
    }
}

fn compare(reporter: &Reporter, step: &'static str, what: &str, expected: &str, got: &Answer) -> Result<(), Stopped> {
    reporter.tried(Tried { step, what: what.to_owned(), expected: expected.to_owned(), got: got.to_string() })
}

fn pod(name: &str, account: &str) -> PodSpec {
    PodSpec { name: name.to_owned(), service_account: account.to_owned(), app: name.to_owned(), ..PodSpec::default() }
}

/// What a cluster's API server would know of the service and its endpoints.
fn workloads(stable: IpAddr, canary: IpAddr) -> String {
    let pod = |name: &str, account: &str, address: IpAddr| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: backend}}}}\n\
             spec: {{serviceAccountName: {account}}}\nstatus: {{podIP: {address}}}\n"
        )
    };
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: backend, namespace: default}}\n\
         spec:\n  clusterIP: 10.96.0.10\n  selector: {{app: backend}}\n  \
         ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]\n{}{}",
        pod("stable", "backend", stable),
        pod("canary", "backend-canary", canary)
    )
}
