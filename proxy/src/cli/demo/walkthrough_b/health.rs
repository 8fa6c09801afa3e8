//! X10 to X15 and X18: which cluster is next, and what becomes of requests when one is in trouble.

use http::Method;

use super::{ALL, Mesh, ONE, Stopped, THREE, TWO, compare, in_words};
use crate::cli::demo::report::{Reporter, Tried};
use crate::sandbox::three::setting::{FAIL_OVER, LOCALITY, Setting, WEIGHT_ZERO, WEIGHTS};
use crate::sandbox::three::{Gateways, HTTPBIN, who};
use crate::sandbox::{Answer, Caller, request};

/// Requests of which some are under way when something breaks.
const LOAD: usize = 200;

/// Connections that stay open, and requests on each.
const KEPT: (usize, usize) = (10, 30);

impl Mesh {
    pub(super) async fn balance(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        match step {
            "X10" => self.gateway_dies(reporter, step).await,
            "X11" => self.nothing_ready(reporter, step).await,
            "X12" => self.fail_over(reporter, step).await,
            "X13" => {
                let setting = Setting::both_targets().policy(LOCALITY).without_httpbin(1);
                self.in_force(reporter, step, "Locality, and no httpbin in cluster-2", setting).await?;
                let seen = self.clusters.curl.access_log().len();
                let got = status(&self.clusters.get("/").await);
                let (what, expected) = ("curl GET /".to_owned(), "503".to_owned());
                reporter.tried(Tried { step, what, expected, got })?;
                self.logged(reporter, step, (&self.clusters.curl, "curl's"), seen, ("response_flags", "UH")).await
            }
            "X14" => {
                self.all_three(reporter, step, "S6").await?;
                self.in_force(reporter, step, "weights 20 and 60", Setting::both_targets().policy(WEIGHTS)).await?;
                let expected = "20 from cluster-1, 100 from cluster-2, 60 from cluster-3";
                self.counts(reporter, step, 180, expected).await?;
                let setting = Setting::both_targets().policy(WEIGHT_ZERO);
                self.in_force(reporter, step, "weight 0 for cluster-1", setting).await?;
                self.spread_over(&[TWO, THREE]).await?;
                self.counts(reporter, step, 60, "30 from cluster-2, 30 from cluster-3").await
            }
            "X15" => self.one_port(reporter, step).await,
            _ => self.two_workers(reporter, step).await,
        }
    }

    /// X10: nobody notices that a gateway is killed, or that it is back.
    async fn gateway_dies(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.all_three(reporter, step, "S6, and under load cluster-3's gateway is killed").await?;
        let mut answers = self.clusters.who(LOAD / 4).await;
        let [.., three] = &mut self.clusters.members;
        three.gateway.kill();
        answers.extend(self.clusters.who(LOAD - LOAD / 4).await);
        let what = format!("curl GET /, {LOAD} times, the gateway dying");
        at_most_one_failed(reporter, step, what, &answers)?;
        self.counts(reporter, step, 60, "30 from cluster-1, 30 from cluster-2").await?;
        reporter.heading(step, "the gateway is there again")?;
        let [.., three] = &mut self.clusters.members;
        three.restart_gateway().await?;
        self.spread_over(&ALL).await?;
        self.counts(reporter, step, 60, "20 from cluster-1, 20 from cluster-2, 20 from cluster-3").await
    }

    /// X11: the same for what is behind a gateway that is well.
    async fn nothing_ready(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.all_three(reporter, step, "S6, and under load httpbin goes from cluster-3").await?;
        let mut answers = self.clusters.who(LOAD / 4).await;
        let gone = Setting::both_targets().without_httpbin(2);
        self.put(gone).await?;
        answers.extend(self.clusters.who(LOAD - LOAD / 4).await);
        let what = format!("curl GET /, {LOAD} times, the pod going");
        at_most_one_failed(reporter, step, what, &answers)?;
        self.counts(reporter, step, 60, "30 from cluster-1, 30 from cluster-2").await?;
        self.all_three(reporter, step, "it is there again").await?;
        self.counts(reporter, step, 60, "20 from cluster-1, 20 from cluster-2, 20 from cluster-3").await
    }

    /// X12: FailOver.
    async fn fail_over(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let setting = || Setting::both_targets().policy(FAIL_OVER);
        self.in_force(reporter, step, "FailOver, httpbin up in cluster-2", setting()).await?;
        self.counts(reporter, step, 6, "6 from cluster-2").await?;
        self.in_force(reporter, step, "FailOver, no httpbin in cluster-2", setting().without_httpbin(1)).await?;
        self.spread_over(&[ONE, THREE]).await?;
        self.counts(reporter, step, 6, "3 from cluster-1, 3 from cluster-3").await?;
        self.answering_503(reporter, step).await?;
        self.nothing_sent(reporter, step).await
    }

    /// A GET is asked for once more elsewhere, a POST is not.
    async fn answering_503(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        // Without TrafficTargets, which here let nobody POST.
        let setting = Setting::exported().policy(FAIL_OVER);
        self.in_force(reporter, step, "FailOver, permissive, httpbin in cluster-2 answers 503", setting).await?;
        for (method, status_expected, requests_expected) in [("GET", "200", "1 and 1"), ("POST", "503", "1 and 0")] {
            let [_, two, _] = &self.clusters.members;
            two.application.set_broken(true);
            let before = self.arrived();
            let method: Method = method.parse().unwrap_or_default();
            let answer = request(self.clusters.curl.outbound(), HTTPBIN, method.clone(), "/").await;
            let (local, remote) = self.arrived();
            two.application.set_broken(false);
            let (what, expected) = (format!("curl {method} /"), status_expected.to_owned());
            reporter.tried(Tried { step, what, expected, got: status(&answer) })?;
            let what = "requests in cluster-2, and elsewhere".to_owned();
            let got = format!("{} and {}", local - before.0, remote - before.1);
            reporter.tried(Tried { step, what, expected: requests_expected.to_owned(), got })?;
        }
        Ok(())
    }

    /// A POST of which nothing was sent is sent elsewhere.
    async fn nothing_sent(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        reporter.heading(step, "httpbin's sidecar in cluster-2 is killed")?;
        let [_, two, _] = &mut self.clusters.members;
        two.httpbin.kill();
        let answer = request(self.clusters.curl.outbound(), HTTPBIN, Method::POST, "/").await;
        let [_, two, _] = &mut self.clusters.members;
        two.restart_httpbin().await?;
        compare(reporter, step, "curl POST /, of which nothing was sent".to_owned(), "200", &answer)
    }

    fn arrived(&self) -> (usize, usize) {
        let [one, two, three] = &self.clusters.members;
        (two.application.requests(), one.application.requests() + three.application.requests())
    }

    /// X15: endpoints are told apart by cluster, not by port.
    async fn one_port(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.clusters.place(Gateways::OnePort).await?;
        self.all_three(reporter, step, "S6, gateways at different addresses and one port").await?;
        let expected = "100 from cluster-1, 100 from cluster-2, 100 from cluster-3";
        self.counts(reporter, step, 300, expected).await?;
        self.clusters.place(Gateways::OneAddress).await?;
        Ok(())
    }

    /// X18: the turn is everybody's, whichever worker and connection.
    async fn two_workers(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        self.all_three(reporter, step, "S6, curl's sidecar with two workers").await?;
        let (connections, each) = KEPT;
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(Caller::connect(self.clusters.curl.outbound()).await);
        }
        let mut answers = Vec::new();
        for _ in 0..each {
            for caller in &mut callers {
                answers.push(match caller {
                    Ok(caller) => who(&caller.request(HTTPBIN, Method::GET, "/").await),
                    Err(answer) => answer.to_string(),
                });
            }
        }
        let what = format!("curl GET /, {each} times on each of {connections} connections");
        let expected = "100 from cluster-1, 100 from cluster-2, 100 from cluster-3".to_owned();
        reporter.tried(Tried { step, what, expected, got: in_words(&answers) })
    }
}

/// Whatever was on its way when it broke may fail, and nothing after it.
fn at_most_one_failed(
    reporter: &Reporter,
    step: &'static str,
    what: String,
    answers: &[String],
) -> Result<(), Stopped> {
    let failed: Vec<_> = answers.iter().filter(|answer| !ALL.contains(&answer.as_str())).cloned().collect();
    let expected = "at most one failed".to_owned();
    let got = if failed.len() <= 1 { expected.clone() } else { format!("{} failed: {failed:?}", failed.len()) };
    reporter.tried(Tried { step, what, expected, got })
}

fn status(answer: &Answer) -> String {
    match answer {
        Answer::Http { status, .. } => status.to_string(),
        other => other.to_string(),
    }
}
