//! S0 to S6: the guide's story.

use super::{ALL, Mesh, ONE, Stopped, THREE};
use crate::cli::demo::report::{Reporter, Tried};
use crate::sandbox::three::Gateways;
use crate::sandbox::three::setting::{Setting, TO_DEFAULT};

impl Mesh {
    pub(super) async fn story(&mut self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        match step {
            "S0" => {
                self.in_force(reporter, step, "permissive everywhere, nothing exported", Setting::new()).await?;
                self.counts(reporter, step, 6, "6 from cluster-2").await
            }
            "S1" => {
                let text = "cluster-1 and cluster-3 export; no GlobalTrafficPolicy";
                self.in_force(reporter, step, text, Setting::exported()).await?;
                self.counts(reporter, step, 6, "6 from cluster-2").await
            }
            "S2" => {
                self.in_force(reporter, step, "ActiveActive", Setting::active_active()).await?;
                self.spread_over(&ALL).await?;
                self.cyclic(reporter, step).await
            }
            "S3" => {
                let text = "cluster-2 in traffic-policy mode, no TrafficTarget";
                self.in_force(reporter, step, text, Setting::active_active().targets(1, &[])).await?;
                self.counts(reporter, step, 6, "6 from closed").await
            }
            "S4" => {
                let text = "+ curl-to-httpbin: curl may GET from default";
                self.in_force(reporter, step, text, Setting::active_active().targets(1, &[TO_DEFAULT])).await?;
                self.counts(reporter, step, 60, "60 from cluster-2").await
            }
            "S5" => {
                let text = "the same: what the gateways say has not changed";
                self.in_force(reporter, step, text, Setting::active_active().targets(1, &[TO_DEFAULT])).await?;
                self.import(reporter, step)
            }
            _ => {
                self.all_three(reporter, step, "+ curl-to-ext-httpbin: curl may GET from httpbin").await?;
                self.cyclic(reporter, step).await?;
                let expected = "100 from cluster-1, 100 from cluster-2, 100 from cluster-3";
                self.counts(reporter, step, 300, expected).await
            }
        }
    }
}

impl Mesh {
    /// S5: the import is what it was, whoever may call.
    fn import(&self, reporter: &Reporter, step: &'static str) -> Result<(), Stopped> {
        let [one, two, three] = &self.clusters.members;
        let bootstrap = two.sandbox.path("curl.yaml").display().to_string();
        let mut arguments = vec!["import".to_owned(), "--bootstrap".to_owned(), bootstrap];
        for member in [one, three] {
            let (key, at) = (member.sandbox.key(), member.tunnels(Gateways::OneAddress));
            let gateway = key.zip(at).map(|(key, at)| format!("{key}={at}"));
            arguments.extend(gateway.into_iter().flat_map(|gateway| ["--from-gateway".to_owned(), gateway]));
        }
        let said = self.run(&arguments)?;
        let got = said.split("---\n").find_map(looked_at).unwrap_or(said);
        let key = |name| format!("default/default/default/{name}");
        let expected = format!("{}, {}: serviceAccountName httpbin", key(ONE), key(THREE));
        reporter.tried(Tried {
            step,
            what: "meshgate import: httpbin, as curl's cluster may import it".to_owned(),
            expected,
            got,
        })
    }
}

/// A ServiceImport, as far as S5 looks at it.
fn looked_at(document: &str) -> Option<String> {
    let field = |line: &str, name: &str| line.trim_start_matches([' ', '-']).strip_prefix(name).map(str::to_owned);
    let is_it = document.contains("kind: ServiceImport") && document.lines().any(|line| line == "  name: httpbin");
    let clusters: Vec<_> = document.lines().filter_map(|line| field(line, "clusterKey: ")).collect();
    let account = document.lines().find_map(|line| field(line, "serviceAccountName: "))?;
    is_it.then(|| format!("{}: serviceAccountName {}", clusters.join(", "), account.trim_matches('"')))
}
