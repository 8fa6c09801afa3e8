//! The authority's own root is changed for another under load: docs/certificate-authority.md has the order.

use std::fs;

use meshgate::sandbox::until;
use meshgate_identity::ca::{self, InitOptions};
use meshgate_tests::run;

use super::{BACKEND, FRONTEND, GENERATION, Pair};
use crate::support::app::App;
use crate::support::pki::replace;
use crate::support::steady::Steady;

const ROOTS: &str = "mesh_trust_roots";

#[test]
fn another_root_takes_over_and_no_request_fails() {
    run(async {
        // The certificates of the old root are no proof to the new one, and tokens are.
        let application = App::either().await;
        let options = ["--max-ttl", "8s", "--min-ttl", "1s"];
        let mut pair = Pair::before(application.address(), &options, ", mutualTls: true").await;
        let bundle = pair.sandbox.path("ca/ca.pem");
        let (old, new) = (pair.sandbox.path("old.pem"), pair.sandbox.path("new"));
        fs::copy(&bundle, &old).unwrap();
        ca::init(&new, &InitOptions::new("cluster.local".parse().unwrap())).unwrap();
        let new = fs::read_to_string(new.join(ca::CERTIFICATE_FILE)).unwrap();
        let steady = Steady::on(pair.frontend.outbound());
        steady.more(20).await;

        replace(&bundle, &(fs::read_to_string(old).unwrap() + &new));
        for sidecar in [&pair.backend, &pair.frontend] {
            sidecar.until_metric(ROOTS, |roots| roots == 2.0).await.unwrap();
        }
        pair.ca.restart_in("new").await;
        let proofs = |identity: &str| -> Vec<String> {
            let lines = pair.ca.journal().into_iter().filter(|line| line["identity"] == identity);
            lines.map(|line| line["proof"].as_str().unwrap().to_owned()).collect()
        };
        for (sidecar, id) in [(&pair.backend, BACKEND), (&pair.frontend, FRONTEND)] {
            until("two certificates of the new root", async || (proofs(id).len() >= 2).then_some(()))
                .await
                .unwrap_or_else(|error| panic!("{error}: {}{}", pair.ca.log(), sidecar.output()));
            // The journal is written before the sidecar has what it is about.
            let before = sidecar.metric(GENERATION).await.unwrap();
            sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
            let proofs = proofs(id);
            assert_eq!(proofs[0], "token", "{id}: {proofs:?}");
        }
        steady.more(20).await;

        replace(&bundle, &new);
        for sidecar in [&pair.backend, &pair.frontend] {
            sidecar.until_metric(ROOTS, |roots| roots == 1.0).await.unwrap();
        }
        steady.more(20).await;
        steady.all_answered().await;
    });
}
