//! Walk-through B with real redirection: curl knows the name of a service, and of neither proxies nor clusters.

use std::net::SocketAddr;

use meshgate::sandbox::three::counted;
use meshgate::sandbox::three::setting::{Setting, TO_DEFAULT, TO_HTTPBIN, TO_METRICS};

use crate::support::pod::{HTTP_PORT, PROXY_USER};
use crate::support::three::{HTTPBIN, HTTPBIN_ADDRESS, ThreeClusters};
use crate::support::{Family, Rendering, until};

const ALL: [&str; 3] = ["cluster-1", "cluster-2", "cluster-3"];
/// No answer, and curl's own status for that.
const CLOSED: &str = "000 52";
const CURL: &str = "spiffe://cluster.local/ns/curl/sa/curl";

#[test]
fn walkthrough_b_by_nft() {
    walk(Rendering::Nft);
}

#[test]
fn walkthrough_b_by_iptables() {
    walk(Rendering::Iptables);
}

fn walk(rendering: Rendering) {
    let Some(mut clusters) = ThreeClusters::start(rendering) else { return };
    only_gateways_lead_to_other_clusters(&clusters);
    story(&mut clusters);
    who_may_call(&mut clusters);
    what_is_no_request(&mut clusters);
    a_gateway_dies(&mut clusters);
    nothing_else_arrived(&clusters);
}

/// As the application and as the proxy, whom no rule captures.
fn only_gateways_lead_to_other_clusters(clusters: &ThreeClusters) {
    for user in [1000, PROXY_USER] {
        for far in [0, 2] {
            let answer = clusters.curl.curl_as(user, &[&clusters.httpbins[far].at(Family::V4, HTTP_PORT, "/")]);
            assert!(answer.status != 200, "{user}: {answer}");
        }
    }
}

/// S0 to S6.
fn story(clusters: &mut ThreeClusters) {
    clusters.in_force(Setting::new());
    shares(clusters, "S0", 6, &[("cluster-2", 6)]);
    clusters.in_force(Setting::exported());
    shares(clusters, "S1", 6, &[("cluster-2", 6)]);

    clusters.in_force(Setting::active_active());
    spread_over(clusters, &ALL);
    in_turn(clusters, "S2");

    clusters.in_force(Setting::active_active().targets(1, &[]));
    closed(clusters, "S3");

    clusters.in_force(Setting::active_active().targets(1, &[TO_DEFAULT]));
    shares(clusters, "S4", 60, &[("cluster-2", 60)]);
    // S5: what may be imported has nothing to do with who may call.
    let far = [0, 2].map(|far| format!("default/default/default/{}={}", ALL[far], ThreeClusters::gateway(far)));
    let [one, three] = &far;
    let import = clusters.curl.meshgate(&["import", "--from-gateway", one, "--from-gateway", three]);
    let is_it = |document: &&str| document.lines().any(|line| line == "  name: httpbin");
    let import = import.split("---\n").find(is_it).unwrap_or_else(|| panic!("S5: {import}"));
    for expected in ["kind: ServiceImport", "/cluster-1", "/cluster-3", "serviceAccountName: httpbin"] {
        assert!(import.contains(expected), "S5: {import}");
    }

    clusters.in_force(Setting::both_targets());
    spread_over(clusters, &ALL);
    in_turn(clusters, "S6");
    shares(clusters, "S6", 300, &ALL.map(|cluster| (cluster, 100)));
}

/// X1, X2, X4, X5, X7 and X17.
fn who_may_call(clusters: &mut ThreeClusters) {
    // X4: cluster-1 and cluster-3 are permissive: it is cluster-2's own word that counts.
    for _ in ALL {
        clusters.curl.curl(&["--data", "some", HTTPBIN]).assert_denied("X4");
    }
    assert_eq!(clusters.stranger.who(HTTPBIN, 3), [CLOSED; 3], "X5");

    for (far, name) in ALL.into_iter().enumerate() {
        let url = format!("http://{}/{name}/httpbin-mesh/", ThreeClusters::gateway(far));
        clusters.outsider.curl(&[&url]).assert_closed("X7");
    }

    clusters.in_force(Setting::active_active().targets(1, &[TO_HTTPBIN]));
    spread_over(clusters, &["cluster-1", "cluster-3"]);
    shares(clusters, "X1", 6, &[("cluster-1", 3), ("cluster-3", 3)]);

    clusters.in_force(Setting::active_active().targets(1, &[]));
    closed(clusters, "X2");

    clusters.in_force(Setting::active_active().targets(1, &[TO_METRICS]));
    clusters.curl.curl(&[&format!("{HTTPBIN}metrics")]).assert_ok("X17");
    clusters.curl.curl(&[&format!("{HTTPBIN}other?x=/metrics")]).assert_denied("X17");
}

/// X20: no byte comes back, and none arrives.
fn what_is_no_request(clusters: &mut ThreeClusters) {
    clusters.in_force(Setting::active_active().targets(1, &[]));
    for line in ["EHLO curl", "\u{1}\u{2}\u{3}"] {
        let said = clusters.curl.say(SocketAddr::from(HTTPBIN_ADDRESS), line);
        assert!(said.status.success() && said.stdout.is_empty(), "X20: {said:?}");
    }
}

/// X10.
fn a_gateway_dies(clusters: &mut ThreeClusters) {
    clusters.in_force(Setting::both_targets());
    spread_over(clusters, &ALL);
    let mut answers = clusters.curl.who(HTTPBIN, 50);
    clusters.gateways[2].kill_sidecar();
    answers.extend(clusters.curl.who(HTTPBIN, 150));
    let failed = answers.iter().filter(|answer| !ALL.contains(&answer.as_str())).count();
    assert!(failed <= 1, "X10: {:?}", counted(&answers));
    shares(clusters, "X10", 60, &[("cluster-1", 30), ("cluster-2", 30)]);
    clusters.gateways[2].restart_sidecar();
    spread_over(clusters, &ALL);
    shares(clusters, "X10", 60, &ALL.map(|cluster| (cluster, 20)));
}

/// What gateways say takes a moment to arrive. Waits until exactly these answer, in turn.
fn spread_over(clusters: &ThreeClusters, names: &[&str]) {
    let wanted = names.iter().map(|name| (*name, 2)).collect();
    until(&format!("{names:?} and nobody else answering"), || {
        (counted(&clusters.curl.who(HTTPBIN, 2 * names.len())) == wanted).then_some(())
    });
}

#[track_caller]
fn shares(clusters: &ThreeClusters, step: &str, requests: usize, expected: &[(&str, usize)]) {
    let answers = clusters.curl.who(HTTPBIN, requests);
    assert_eq!(counted(&answers), expected.iter().copied().collect(), "{step}");
}

#[track_caller]
fn in_turn(clusters: &ThreeClusters, step: &str) {
    let answers = clusters.curl.who(HTTPBIN, 9);
    let each_once = |three: &[String]| ALL.iter().all(|cluster| counted(three).get(cluster) == Some(&1));
    assert!(answers.windows(3).all(each_once), "{step}: {answers:?}");
}

/// Nobody may be called: the connection is taken, and closed without a byte.
#[track_caller]
fn closed(clusters: &ThreeClusters, step: &str) {
    assert_eq!(clusters.curl.who(HTTPBIN, 6), [CLOSED; 6], "{step}");
}

/// What was refused on the way (X4, X5, X7, X20) has not come to a workload's sidecar, which is the only way to the workload.
fn nothing_else_arrived(clusters: &ThreeClusters) {
    for httpbin in &clusters.httpbins {
        let log = httpbin.access_log();
        // What curl may not do is refused where it would be done in cluster-2, and before it leaves cluster-2 for elsewhere.
        let is_curls = |line: &serde_json::Value| {
            line["peer"] == CURL && (line["method"] == "GET" || line["response_flags"] == "RBAC")
        };
        assert!(log.len() > 100);
        assert_eq!(log.iter().find(|line| !is_curls(line)), None);
    }
}
