//! Walk-through B: one service over three clusters, and who may call it where.
//!
//! `curl` in cluster-2 calls `httpbin`, which each cluster has. S0 to S6 are the guide's story, X1 to X20 what it leaves out:
//! each puts a [`Setting`] in force and sends requests, every one on a connection of its own unless the step says otherwise.

mod health;
mod story;
mod trust;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use http::Method;

use super::Stopped;
use super::report::{Reporter, Tried};
use crate::sandbox::three::setting::Setting;
use crate::sandbox::three::{Gateways, HTTPBIN, ThreeClusters, VIRTUAL_PORT, counted};
use crate::sandbox::{Answer, Sidecar, request, until};

pub(super) const STEPS: [&str; 27] = [
    "S0", "S1", "S2", "S3", "S4", "S5", "S6", "X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8", "X9", "X10", "X11",
    "X12", "X13", "X14", "X15", "X16", "X17", "X18", "X19", "X20",
];

const OK: &str = "200";
const DENIED: &str = "403 RBAC: access denied";
const CLOSED: &str = "closed";
const ONE: &str = "cluster-1";
const TWO: &str = "cluster-2";
const THREE: &str = "cluster-3";
const ALL: [&str; 3] = [ONE, TWO, THREE];

/// The three clusters, and what the steps have in common.
pub(super) struct Mesh {
    clusters: ThreeClusters,
    binary: PathBuf,
    is_discovered: bool,
}

impl Mesh {
    /// Makes the clusters; cluster-2 reads ServiceImports, or is told by the gateways what there is.
    pub(super) async fn start(reporter: &Reporter, is_discovered: bool) -> Result<Self, Stopped> {
        let binary = std::env::current_exe()?;
        let clusters = ThreeClusters::start(&binary).await?;
        reporter
            .note("\nThree clusters of one trust domain, each with a root, a gateway and an httpbin of its own:")?;
        for (name, member) in ALL.into_iter().zip(&clusters.members) {
            let tunnels = member.tunnels(Gateways::OneAddress).map_or_else(String::new, |at| at.to_string());
            let (httpbin, gateway) = (member.httpbin.pid(), member.gateway.pid());
            reporter.note(&format!("   {name:<9} httpbin pid {httpbin:<8} gateway pid {gateway:<8} at {tunnels}"))?;
        }
        reporter.note(&format!("   {TWO:<9} curl    pid {}", clusters.curl.pid()))?;
        Ok(Self { clusters, binary, is_discovered })
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
        let (curl, stranger) = (self.clusters.curl.outbound(), self.clusters.stranger.outbound());
        let [one, two, _] = &self.clusters.members;
        let virtual_port = std::net::SocketAddr::new(curl.ip(), VIRTUAL_PORT);
        vec![
            String::new(),
            format!("The mesh of walk-through B is up. Resources: {}", two.sandbox.path("resources").display()),
            "and beside it those of the other clusters. Change rules.yaml there, then try:".to_owned(),
            format!("  curl -H 'Host: {HTTPBIN}' http://{curl}/; echo \"exit status $?\"      # as curl"),
            format!("  curl -H 'Host: {HTTPBIN}' http://{stranger}/; echo \"exit status $?\"      # as stranger"),
            format!("  echo hello | nc {} {}      # no HTTP", virtual_port.ip(), virtual_port.port()),
            format!("  curl -s http://{}/metrics | grep -E 'gateway|discovered'", self.clusters.curl.admin()),
            format!("  kill {}      # the gateway of cluster-1", one.gateway.pid()),
            format!("  tail -f {}", one.sandbox.path("logs/httpbin.access.log").display()),
        ]
    }

    async fn step(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        match step {
            "S0" | "S1" | "S2" | "S3" | "S4" | "S5" | "S6" => self.story(reporter, step).await,
            "X10" | "X11" | "X12" | "X13" | "X14" | "X15" | "X18" => self.balance(reporter, step).await,
            _ => self.who_may_call(reporter, step).await,
        }
    }

    /// Puts a setting in force, and waits until every process has read it.
    async fn in_force(&mut self, reporter: &Reporter, step: &str, text: &str, it: Setting) -> Result<(), Stopped> {
        reporter.heading(step, text)?;
        self.put(it).await
    }

    async fn put(&mut self, setting: Setting) -> Result<(), Stopped> {
        let setting = if self.is_discovered { setting.without_imports() } else { setting };
        Ok(self.clusters.in_force(setting).await?)
    }

    /// S6's setting, which most steps begin with, in force and heard of by curl's sidecar.
    async fn all_three(&mut self, reporter: &Reporter, step: &str, text: &str) -> Result<(), Stopped> {
        self.in_force(reporter, step, text, Setting::both_targets()).await?;
        self.spread_over(&ALL).await
    }

    /// What gateways say takes a moment to arrive. Waits until exactly these answer, in turn.
    async fn spread_over(&self, clusters: &[&str]) -> Result<(), Stopped> {
        let wanted = clusters.iter().map(|cluster| (*cluster, 2)).collect();
        let what = format!("{} and nobody else answering", clusters.join(", "));
        until(&what, async || {
            let answers = self.clusters.who(2 * clusters.len()).await;
            (counted(&answers) == wanted).then_some(())
        })
        .await?;
        Ok(())
    }

    /// Who answers how often.
    async fn counts(
        &self,
        reporter: &Reporter,
        step: &'static str,
        requests: usize,
        expected: &str,
    ) -> Result<(), Stopped> {
        let what = format!("curl GET /, {requests} times");
        let got = in_words(&self.clusters.who(requests).await);
        reporter.tried(Tried { step, what, expected: expected.to_owned(), got })
    }

    /// Each cluster once in any three requests.
    async fn cyclic(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let answers = self.clusters.who(9).await;
        let is_in_turn = answers.windows(3).all(|three| {
            let counts = counted(three);
            ALL.iter().all(|cluster| counts.get(cluster) == Some(&1))
        });
        let expected = "each cluster once in any three".to_owned();
        let got = if is_in_turn { expected.clone() } else { answers.join(", ") };
        reporter.tried(Tried { step, what: "curl GET /, 9 times".to_owned(), expected, got })
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
        let got = request(self.clusters.curl.outbound(), HTTPBIN, method, path).await;
        compare(reporter, step, what, expected, &got)
    }

    /// A field of the next line in an access log after the first `seen`.
    async fn logged(
        &self,
        reporter: &Reporter,
        step: &'static str,
        (sidecar, whose): (&Sidecar, &str),
        seen: usize,
        (field, expected): (&str, &str),
    ) -> Result<(), Stopped> {
        let line = sidecar.next_access(seen).await?;
        let got = line.get(field).and_then(serde_json::Value::as_str).unwrap_or("nothing").to_owned();
        let what = format!("{whose} access log: {field}");
        reporter.tried(Tried { step, what, expected: expected.to_owned(), got })
    }

    /// Runs this binary's own command, as a user would; what it printed.
    fn run(&self, arguments: &[String]) -> Result<String, Stopped> {
        let output = Command::new(&self.binary).args(arguments).stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }
}

fn in_words(answers: &[String]) -> String {
    let counts: Vec<_> = counted(answers).iter().map(|(who, count)| format!("{count} from {who}")).collect();
    counts.join(", ")
}

fn compare(reporter: &Reporter, step: &'static str, what: String, expected: &str, got: &Answer) -> Result<(), Stopped> {
    reporter.tried(Tried { step, what, expected: expected.to_owned(), got: got.to_string() })
}
