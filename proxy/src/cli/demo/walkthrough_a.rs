//! Walk-through A: access control between two services of one mesh.
//!
//! `frontend`, `backend` and `other` each have a sidecar. Each step puts resources in force, waits until the backend's
//! sidecar says that it has read them, and sends a request.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use http::Method;
use serde_json::Value;

use super::Stopped;
use super::report::{Reporter, Tried};
use crate::sandbox::{Answer, Application, POD_PORT, PodSpec, Sandbox, Sidecar, TRUST_DOMAIN, answer_text, request};

const DENY_ALL: &str = include_str!("../../../../examples/walkthrough-a/deny-all-backend.yaml");
const ALLOW_GET: &str = include_str!("../../../../examples/walkthrough-a/allow-frontend-get-data.yaml");
const ALLOW_NOTHING: &str = include_str!("../../../../examples/walkthrough-a/allow-nothing.yaml");
const STRICT: &str = include_str!("../../../../examples/walkthrough-a/strict.yaml");
const AUDIT: &str = include_str!("../../../../examples/walkthrough-a/audit.yaml");
const DRY_RUN: &str = include_str!("../../../../examples/walkthrough-a/dry-run.yaml");

/// The host that the frontend calls.
const BACKEND: &str = "backend.default.svc.cluster.local";
const DATA: &str = "/api/v1/data";
const OTHER_PATH: &str = "/api/v1/other";

/// The metric that says which configuration is in force.
const GENERATION: &str = "mesh_config_generation";

const OK: &str = "200";
const DENIED: &str = "403 RBAC: access denied";

pub(super) const STEPS: [&str; 10] = ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10"];

/// Which bootstrap the backend's sidecar runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Istio,
    Baseline,
}

/// What a step's requests expect, in order of the requests in [`Mesh::four_requests`].
type FourAnswers = [&'static str; 4];

/// The three workloads.
pub(super) struct Mesh {
    sandbox: Sandbox,
    frontend: Sidecar,
    other: Sidecar,
    backend: Sidecar,
    backend_spec: PodSpec,
    backend_address: IpAddr,
    reading: Reading,
    policies: String,
    binary: PathBuf,
    _application: Application,
}

impl Mesh {
    /// Makes identities and resources, and starts the sidecars.
    pub(super) async fn start(reporter: &Reporter) -> Result<Self, Stopped> {
        let binary = std::env::current_exe()?;
        let mut sandbox = Sandbox::new(&binary)?;
        let application = Application::start(answer_text("Hello from backend\n")).await?;
        let (frontend_address, backend_address, other_address) =
            (sandbox.next_address(), sandbox.next_address(), sandbox.next_address());
        sandbox.write_resource("workloads.yaml", &workloads(backend_address))?;
        let backend_spec = PodSpec { application: Some(application.address()), ..pod("backend") };
        let backend = sandbox.start(&backend_spec, backend_address).await?;
        let frontend = sandbox.start(&pod("frontend"), frontend_address).await?;
        let other = sandbox.start(&pod("other"), other_address).await?;
        reporter.note("A mesh of three workloads in namespace default, each with a sidecar process of its own:")?;
        for (name, sidecar) in [("frontend", &frontend), ("backend", &backend), ("other", &other)] {
            let id = format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/{name}");
            reporter.note(&format!("   {name:<9} pid {:<8} {id}", sidecar.pid()))?;
        }
        let reading = Reading::Istio;
        Ok(Self {
            sandbox,
            frontend,
            other,
            backend,
            backend_spec,
            backend_address,
            reading,
            policies: String::new(),
            binary,
            _application: application,
        })
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
        let (frontend, backend) = (self.frontend.outbound(), self.backend.inbound());
        vec![
            String::new(),
            format!("The mesh is up. Resources: {}", self.sandbox.path("resources").display()),
            "Change them, then try:".to_owned(),
            format!("  curl -i -H 'Host: {BACKEND}' http://{frontend}{DATA}      # as frontend"),
            format!("  curl -i -H 'Host: {BACKEND}' http://{}{DATA}      # as other", self.other.outbound()),
            format!("  curl -i http://{backend}{DATA}      # plaintext, from outside of the mesh"),
            format!("  curl http://{}/metrics", self.backend.admin()),
            format!("  tail -f {}", self.sandbox.path("logs/backend.access.log").display()),
        ]
    }

    async fn step(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        match step {
            "A1" => {
                self.in_force(reporter, step, "no policies", Reading::Istio, &[]).await?;
                self.as_frontend(reporter, step, Method::GET, "/", OK).await
            }
            "A2" => {
                self.in_force(reporter, step, "deny-all-backend", Reading::Istio, &[DENY_ALL]).await?;
                self.as_frontend(reporter, step, Method::GET, "/", DENIED).await
            }
            "A3" => {
                let text = "deny-all-backend, allow-frontend-get-data";
                self.in_force(reporter, step, text, Reading::Istio, &[DENY_ALL, ALLOW_GET]).await?;
                self.as_frontend(reporter, step, Method::GET, DATA, DENIED).await?;
                self.check_warns(reporter, step)?;
                self.explain_names_the_rule(reporter, step)
            }
            "A4" | "A5" | "A6" | "A7" => self.allow_nothing(reporter, step).await,
            "A8" => self.outsider(reporter, step).await,
            "A9" => {
                let text = "A3's policies, with authorization.catchAllDeny: baseline";
                self.in_force(reporter, step, text, Reading::Baseline, &[DENY_ALL, ALLOW_GET]).await?;
                self.four_requests(reporter, step, [OK, DENIED, DENIED, DENIED]).await
            }
            _ => self.shadows(reporter, step).await,
        }
    }

    async fn allow_nothing(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let text = "allow-nothing, allow-frontend-get-data";
        self.in_force(reporter, step, text, Reading::Istio, &[ALLOW_NOTHING, ALLOW_GET]).await?;
        match step {
            "A4" => self.as_frontend(reporter, step, Method::GET, DATA, OK).await,
            "A5" => self.as_frontend(reporter, step, Method::POST, DATA, DENIED).await,
            "A6" => self.as_frontend(reporter, step, Method::GET, OTHER_PATH, DENIED).await,
            _ => self.as_other(reporter, step, DENIED).await,
        }
    }

    /// A8: plaintext, past every client-side sidecar.
    async fn outsider(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let what = "plaintext GET /api/v1/data from outside the mesh";
        let policies = [ALLOW_NOTHING, ALLOW_GET];
        self.in_force(reporter, step, "A4's, mutual TLS PERMISSIVE", Reading::Istio, &policies).await?;
        self.plaintext(reporter, step, what, DENIED).await?;
        let policies = [ALLOW_NOTHING, ALLOW_GET, STRICT];
        self.in_force(reporter, step, "A4's, mutual TLS STRICT", Reading::Istio, &policies).await?;
        self.plaintext(reporter, step, what, "closed").await
    }

    /// A10: policies that only say what they would do.
    async fn shadows(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let policies = [ALLOW_NOTHING, ALLOW_GET, AUDIT, DRY_RUN];
        self.in_force(reporter, step, "A4's, an AUDIT policy, a dry-run DENY", Reading::Istio, &policies).await?;
        let seen = self.backend.access_log().len();
        self.as_frontend(reporter, step, Method::GET, DATA, OK).await?;
        let line = self.backend.next_access(seen).await?;
        let field = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or("nothing").to_owned();
        let what = "the backend's access log: ";
        for (name, expected) in [
            ("peer", "spiffe://cluster.local/ns/default/sa/frontend"),
            ("policy", "default/allow-frontend-get-data rule 0"),
            ("audit", "default/audit-data rule 0"),
            ("dry_run_deny", "deny"),
            ("dry_run_deny_policy", "default/try-deny-data rule 0"),
        ] {
            let (what, expected) = (format!("{what}{name}"), expected.to_owned());
            reporter.tried(Tried { step, what, expected, got: field(name) })?;
        }
        Ok(())
    }

    /// Puts policies in force, and waits until the backend's sidecar has them.
    async fn in_force(
        &mut self,
        reporter: &Reporter,
        step: &str,
        text: &str,
        reading: Reading,
        policies: &[&str],
    ) -> Result<(), Stopped> {
        reporter.heading(step, text)?;
        let yaml = policies.join("---\n");
        if yaml != self.policies {
            let before = self.backend.metric(GENERATION).await.unwrap_or_default();
            self.sandbox.write_resource("policies.yaml", &yaml)?;
            self.backend.until_metric(GENERATION, |now| now > before).await?;
            self.policies = yaml;
        }
        if reading != self.reading {
            self.restart_backend(reading).await?;
        }
        Ok(())
    }

    /// `catchAllDeny` is a bootstrap setting, fixed for a process.
    async fn restart_backend(&mut self, reading: Reading) -> Result<(), Stopped> {
        self.backend.kill();
        let bootstrap = match reading {
            Reading::Istio => String::new(),
            Reading::Baseline => "authorization: {catchAllDeny: baseline}\n".to_owned(),
        };
        self.backend_spec.bootstrap = bootstrap;
        self.backend = self.sandbox.start(&self.backend_spec, self.backend_address).await?;
        self.reading = reading;
        Ok(())
    }

    /// The requests of A4 to A7.
    async fn four_requests(
        &self,
        reporter: &Reporter,
        step: &'static str,
        expected: FourAnswers,
    ) -> Result<(), Stopped> {
        let [get, post, other_path, other_caller] = expected;
        self.as_frontend(reporter, step, Method::GET, DATA, get).await?;
        self.as_frontend(reporter, step, Method::POST, DATA, post).await?;
        self.as_frontend(reporter, step, Method::GET, OTHER_PATH, other_path).await?;
        self.as_other(reporter, step, other_caller).await
    }

    async fn as_frontend(
        &self,
        reporter: &Reporter,
        step: &'static str,
        method: Method,
        path: &str,
        expected: &str,
    ) -> Result<(), Stopped> {
        let what = format!("frontend {method} {path}");
        let got = request(self.frontend.outbound(), BACKEND, method, path).await;
        compare(reporter, step, what, expected, &got)
    }

    async fn as_other(&self, reporter: &Reporter, step: &'static str, expected: &str) -> Result<(), Stopped> {
        let got = request(self.other.outbound(), BACKEND, Method::GET, DATA).await;
        compare(reporter, step, format!("other GET {DATA}"), expected, &got)
    }

    async fn plaintext(
        &self,
        reporter: &Reporter,
        step: &'static str,
        what: &str,
        expected: &str,
    ) -> Result<(), Stopped> {
        let got = request(self.backend.inbound(), BACKEND, Method::GET, DATA).await;
        compare(reporter, step, what.to_owned(), expected, &got)
    }

    fn check_warns(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let report = self.ask(&["check"])?;
        let warnings = report.get("problems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let dead = warnings.iter().find(|warning| warning.get("field").and_then(Value::as_str) == Some("MG001"));
        let got = dead.and_then(|warning| warning.get("object")?.as_str()).unwrap_or("no such warning").to_owned();
        let what = "meshgate check: an ALLOW that is dead (MG001)".to_owned();
        let expected = "AuthorizationPolicy default/allow-frontend-get-data".to_owned();
        reporter.tried(Tried { step, what, expected, got })
    }

    fn explain_names_the_rule(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let peer = format!("{TRUST_DOMAIN}/ns/default/sa/frontend");
        let answer = self.ask(&["explain", "--peer", &peer, "--method", "GET", "--path", DATA, "--host", BACKEND])?;
        let rule =
            answer.get("rule").and_then(|rule| Some((rule.get("policy")?.as_str()?, rule.get("rule")?.as_u64()?)));
        let got = rule.map_or_else(|| "no rule".to_owned(), |(policy, rule)| format!("{policy} rule {rule}"));
        let what = "meshgate explain: the rule that decides".to_owned();
        reporter.tried(Tried { step, what, expected: "default/deny-all-backend rule 0".to_owned(), got })
    }

    /// Runs this binary's own command, as a user would, and reads its JSON.
    fn ask(&self, arguments: &[&str]) -> Result<Value, Stopped> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .arg("--bootstrap")
            .arg(self.sandbox.path("backend.yaml"))
            .args(["--output", "json"])
            .stdin(Stdio::null())
            .output()?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }
}

fn compare(reporter: &Reporter, step: &'static str, what: String, expected: &str, got: &Answer) -> Result<(), Stopped> {
    reporter.tried(Tried { step, what, expected: expected.to_owned(), got: got.to_string() })
}

fn pod(name: &str) -> PodSpec {
    PodSpec { name: name.to_owned(), service_account: name.to_owned(), app: name.to_owned(), ..PodSpec::default() }
}

/// What a cluster's API server would know of the backend. Port 80 needs root to listen on, so the pod's port is another.
fn workloads(backend: IpAddr) -> String {
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: backend, namespace: default}}
spec:
  clusterIP: 10.96.0.10
  selector: {{app: backend}}
  ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: backend, namespace: default, labels: {{app: backend}}}}
spec: {{serviceAccountName: backend}}
status: {{podIP: {backend}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: backend-1, namespace: default, labels: {{kubernetes.io/service-name: backend}}}}
addressType: IPv4
ports: [{{name: http, port: {POD_PORT}}}]
endpoints:
- addresses: ["{backend}"]
  conditions: {{ready: true}}
  targetRef: {{kind: Pod, name: backend, namespace: default}}
"#
    )
}
