//! X1 to X9, X16, X17, X19 and X20: who may call whom, where it is decided, and what is refused.

use http::Method;

use super::{ALL, CLOSED, DENIED, Mesh, OK, ONE, Stopped, THREE, compare};
use crate::cli::demo::report::{Reporter, Tried};
use crate::sandbox::three::setting::{MISSPELT, Setting, TO_CANARY, TO_HTTPBIN, TO_METRICS};
use crate::sandbox::three::{Gateways, HTTPBIN, VIRTUAL_PORT};
use crate::sandbox::{Answer, request, request_with, send_bytes, until};

/// What a caller may not say of itself.
const CLAIMS: [(&str, &str); 3] = [
    ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/curl/sa/admin"),
    ("serviceidentity", "admin.curl"),
    ("l5d-client-id", "admin.curl.serviceaccount.identity.linkerd.cluster.local"),
];

impl Mesh {
    pub(super) async fn who_may_call(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        match step {
            "X1" => {
                let setting = Setting::active_active().targets(1, &[TO_HTTPBIN]);
                self.in_force(reporter, step, "only curl-to-ext-httpbin", setting).await?;
                self.spread_over(&[ONE, THREE]).await?;
                self.counts(reporter, step, 6, "3 from cluster-1, 3 from cluster-3").await
            }
            "X2" => {
                let setting = Setting::active_active().targets(1, &[]);
                self.in_force(reporter, step, "no TrafficTarget any more", setting).await?;
                self.counts(reporter, step, 6, "6 from closed").await
            }
            "X3" => self.two_names(reporter, step).await,
            "X4" => {
                // cluster-1 and cluster-3 are permissive: it is cluster-2's own word that counts.
                self.all_three(reporter, step, "S6").await?;
                for _ in ALL {
                    self.as_curl(reporter, step, Method::POST, "/", DENIED).await?;
                }
                Ok(())
            }
            "X5" => {
                self.all_three(reporter, step, "S6").await?;
                let got = request(self.clusters.stranger.outbound(), HTTPBIN, Method::GET, "/").await;
                compare(reporter, step, "stranger GET /".to_owned(), CLOSED, &got)
            }
            "X6" => self.claims(reporter, step).await,
            "X7" => self.outsider(reporter, step).await,
            "X8" | "X9" => self.far_policy(reporter, step).await,
            "X16" => self.accounts(reporter, step).await,
            "X17" => {
                let setting = Setting::active_active().targets(1, &[TO_METRICS]);
                self.in_force(reporter, step, "only /metrics: curl-to-metrics", setting).await?;
                self.as_curl(reporter, step, Method::GET, "/metrics", OK).await?;
                self.as_curl(reporter, step, Method::GET, "/other?x=/metrics", DENIED).await
            }
            "X19" => self.misspelt(reporter, step).await,
            _ => self.no_http(reporter, step).await,
        }
    }

    /// X3: `/cluster-1/httpbin-mesh` is a string prefix of `/cluster-1/httpbin-mesh-cluster-1`, but not a path prefix.
    async fn two_names(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let text = "another application behind httpbin-cluster-1";
        self.in_force(reporter, step, text, Setting::active_active().different_in_1()).await?;
        self.spread_over(&ALL).await?;
        let host = "httpbin-cluster-1.httpbin:8080";
        let different = "Hi, I am different from cluster-1";
        let by_name = async || request(self.clusters.curl.outbound(), host, Method::GET, "/").await;
        until("the name of cluster-1 alone", async || text_of(&by_name().await).starts_with("Hi").then_some(()))
            .await?;
        let what = |what: &str| what.to_owned();
        let got = text_of(&by_name().await);
        reporter.tried(Tried {
            step,
            what: what("curl GET httpbin-cluster-1"),
            expected: different.to_owned(),
            got,
        })?;
        self.counts(reporter, step, 3, "1 from cluster-1, 1 from cluster-2, 1 from cluster-3").await?;
        let [one, ..] = &self.clusters.members;
        let Some(plain) = one.compatibility() else { return Ok(()) };
        for (path, expected) in [
            ("/cluster-1/httpbin-mesh", "Hi, I am from cluster-1 and controlled by mesh!"),
            ("/cluster-1/httpbin-mesh-cluster-1", different),
            ("/cluster-1/httpbin-mesh-cluster-1/deeper", different),
        ] {
            let got = text_of(&request(plain, HTTPBIN, Method::GET, path).await);
            let what = format!("plain GET {path}");
            reporter.tried(Tried { step, what, expected: expected.to_owned(), got })?;
        }
        let path = "/cluster-1/httpbin-mesh-cluster";
        let got = match request(plain, HTTPBIN, Method::GET, path).await {
            Answer::Http { status, .. } => status.to_string(),
            other => other.to_string(),
        };
        reporter.tried(Tried { step, what: format!("plain GET {path}"), expected: "404".to_owned(), got })
    }

    /// X6: what callers say of themselves counts for nothing, and no application sees it.
    async fn claims(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.all_three(reporter, step, "S6").await?;
        let before = self.requests();
        let callers =
            [("curl", self.clusters.curl.outbound(), OK), ("stranger", self.clusters.stranger.outbound(), CLOSED)];
        for (name, outbound, expected) in callers {
            for _ in ALL {
                let got = request_with(outbound, HTTPBIN, Method::GET, "/", &CLAIMS).await;
                compare(reporter, step, format!("{name} GET /, claiming to be admin"), expected, &got)?;
            }
        }
        let arrived: Vec<_> = before.into_iter().zip(self.requests()).map(|(before, now)| now - before).collect();
        let what = "requests that arrived in each cluster".to_owned();
        reporter.tried(Tried { step, what, expected: "[1, 1, 1]".to_owned(), got: format!("{arrived:?}") })?;
        let mut seen = Vec::new();
        for member in &self.clusters.members {
            let headers = member.application.last_headers();
            let claims = CLAIMS.iter().filter(|(name, claim)| headers.get(*name).is_some_and(|found| found == claim));
            seen.extend(claims.map(|(name, _)| *name));
        }
        let got = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
        reporter.tried(Tried {
            step,
            what: "claims that applications saw".to_owned(),
            expected: "none".to_owned(),
            got,
        })
    }

    fn requests(&self) -> Vec<usize> {
        self.clusters.members.iter().map(|member| member.application.requests()).collect()
    }

    /// X7: the gateway's port is no way in without an identity.
    async fn outsider(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.all_three(reporter, step, "S6").await?;
        let before = self.requests();
        for (name, member) in ALL.into_iter().zip(&self.clusters.members) {
            for gateway in member.tunnels(Gateways::OneAddress).into_iter().chain(member.tunnels(Gateways::OnePort)) {
                let path = format!("/{name}/httpbin-mesh/");
                let got = request(gateway, HTTPBIN, Method::GET, &path).await;
                compare(reporter, step, format!("plain GET {path} at {gateway}"), CLOSED, &got)?;
            }
        }
        let got = if self.requests() == before { "none" } else { "some" };
        let (expected, got) = ("none".to_owned(), got.to_owned());
        reporter.tried(Tried { step, what: "requests that arrived".to_owned(), expected, got })
    }

    /// X8 and X9: the called cluster has the last word, and knows who calls.
    async fn far_policy(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let text = "S6, and cluster-1 in traffic-policy mode without a TrafficTarget";
        self.in_force(reporter, step, text, Setting::both_targets().targets(0, &[])).await?;
        if step == "X8" {
            let expected = format!("2 from {DENIED}, 2 from cluster-2, 2 from cluster-3");
            return self.counts(reporter, step, 6, &expected).await;
        }
        let text = "X8, and curl-to-ext-httpbin in cluster-1 too";
        self.in_force(reporter, step, text, Setting::both_targets().targets(0, &[TO_HTTPBIN])).await?;
        self.spread_over(&ALL).await?;
        let [one, ..] = &self.clusters.members;
        let seen = one.httpbin.access_log().len();
        self.counts(reporter, step, 3, "1 from cluster-1, 1 from cluster-2, 1 from cluster-3").await?;
        let peer = ("peer", "spiffe://cluster.local/ns/curl/sa/curl");
        self.logged(reporter, step, (&one.httpbin, "cluster-1's"), seen, peer).await
    }

    /// X16: each endpoint's own account decides.
    async fn accounts(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let setting = |target| Setting::active_active().canary_in_3().targets(1, &[target]);
        let text = "in cluster-3 httpbin runs as httpbin-canary; curl may call httpbin";
        self.in_force(reporter, step, text, setting(TO_HTTPBIN)).await?;
        self.spread_over(&[ONE]).await?;
        self.counts(reporter, step, 6, "6 from cluster-1").await?;
        self.in_force(reporter, step, "the same; curl may call httpbin-canary", setting(TO_CANARY)).await?;
        let canary = "Hi, I am canary from cluster-3";
        self.spread_over(&[canary]).await?;
        self.counts(reporter, step, 6, &format!("6 from {canary}")).await
    }

    /// X19: a wrong word takes nothing out of force, and the log says where it is.
    async fn misspelt(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.all_three(reporter, step, "S6").await?;
        let setting = Setting::both_targets().policy(MISSPELT);
        self.in_force(reporter, step, "lbType: activeactive", setting).await?;
        let [_, two, _] = &self.clusters.members;
        let file = two.sandbox.path("resources/rules.yaml");
        let text = std::fs::read_to_string(&file)?;
        let line = text.lines().position(|line| line.contains("activeactive")).map_or(0, |index| index + 1);
        let said = format!("{}:{line}", file.display());
        let in_log = async || self.clusters.curl.output().lines().find(|line| line.contains(&said)).map(str::to_owned);
        let got = match until("the line in curl's log", in_log).await {
            Ok(line) if line.contains("activeactive") && line.contains("ActiveActive") => "refused".to_owned(),
            Ok(line) => line,
            Err(error) => error.to_string(),
        };
        let what = format!("curl's sidecar: lbType at rules.yaml:{line}");
        reporter.tried(Tried { step, what, expected: "refused".to_owned(), got })?;
        self.cyclic(reporter, step).await
    }

    /// X20: no byte of what is not HTTP reaches a workload.
    async fn no_http(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let setting = Setting::active_active().targets(1, &[]);
        self.in_force(reporter, step, "S3: no TrafficTarget", setting).await?;
        let before: Vec<_> = self.clusters.members.iter().map(|member| member.application.connections()).collect();
        let address = std::net::SocketAddr::new(self.clusters.curl.address(), VIRTUAL_PORT);
        for bytes in [&b"EHLO curl\r\n"[..], b"\x00\x01\x02\x03"] {
            let got = send_bytes(address, bytes).await;
            let what = format!("{:?} to httpbin's address", String::from_utf8_lossy(bytes));
            compare(reporter, step, what, CLOSED, &got)?;
        }
        let now: Vec<_> = self.clusters.members.iter().map(|member| member.application.connections()).collect();
        let got = if now == before { "none" } else { "some" };
        let (expected, got) = ("none".to_owned(), got.to_owned());
        reporter.tried(Tried { step, what: "connections that arrived".to_owned(), expected, got })
    }
}

fn text_of(answer: &Answer) -> String {
    match answer {
        Answer::Http { status: 200, body, .. } => body.trim_end().to_owned(),
        other => other.to_string(),
    }
}
