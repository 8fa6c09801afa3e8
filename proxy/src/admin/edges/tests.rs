use std::time::Duration;

use meshgate_config::MetricsSettings;

use super::*;
use crate::metrics::edge::Edge as Labels;
use crate::metrics::{Amounts, Called};

fn facts(reporter: &'static str, caller: &str, service: &str, security: &'static str) -> Facts {
    let mut facts = Facts::unknown(reporter);
    facts.source.workload = caller.to_owned();
    facts.destination.workload = format!("{service}-pod");
    facts.service =
        Called { host: format!("{service}.shop.svc"), name: service.to_owned(), namespace: "shop".to_owned() };
    facts.security = security;
    facts
}

fn count(metrics: &Metrics, facts: &Facts, code: u16, grpc: Option<&'static str>, flags: &'static str, millis: u64) {
    let edge = Labels::new(facts.clone());
    let protocol = if grpc.is_some() { "grpc" } else { "http" };
    let labels = RequestLabels { edge, protocol, code: Some(code), grpc, flags };
    let amounts = Amounts { took: Duration::from_millis(millis), received: 10, sent: 20, messages: (0, 0) };
    metrics.requests.get_or_create(&labels).count(&amounts);
}

#[test]
fn series_of_one_caller_and_service_are_one_edge_whose_classes_add_up() {
    let metrics = Metrics::new(MetricsSettings::default());
    let web = facts("destination", "web", "cart", "mutual_tls");
    for (code, grpc, flags) in [
        (200, None, "-"),
        (302, None, "-"),
        (403, None, "RBAC"),
        (404, None, "-"),
        (503, None, "UF"),
        (0, None, "DC"),
        (200, Some("0"), "-"),
        (200, Some("7"), "RBAC"),
        (200, Some("14"), "-"),
        (200, Some(UNKNOWN), "UC"),
    ] {
        count(&metrics, &web, code, grpc, flags, 3);
    }
    count(&metrics, &facts("source", "web", "cart", UNKNOWN), 200, None, "-", 3);
    count(&metrics, &facts("destination", "other", "cart", "none"), 200, None, "-", 3);
    let page = page(&metrics);
    assert_eq!(page.edges.len(), 3);
    let edge = page.edges.iter().find(|edge| edge.source.workload == "web" && edge.reporter == "destination").unwrap();
    let Requests { total, ok, client_errors, server_errors, unanswered, unclassified, refused } = edge.requests;
    assert_eq!((total, ok, client_errors, server_errors, unanswered, unclassified), (10, 3, 3, 3, 1, 0));
    assert_eq!((refused, edge.bytes.received, edge.bytes.sent), (2, 100, 200));
    assert_eq!((edge.security, edge.destination.name.as_str()), ("mutual_tls", "cart"));
}

#[test]
fn protection_is_told_of_all_traffic_together() {
    let metrics = Metrics::new(MetricsSettings::default());
    for security in ["mutual_tls", "none"] {
        count(&metrics, &facts("destination", "web", "cart", security), 200, None, "-", 1);
    }
    assert_eq!(page(&metrics).edges[0].security, "mixed");
    let mut proved = facts("source", "web", "cart", UNKNOWN);
    assert_eq!(security(&proved), "plaintext");
    proved.destination.principal = "spiffe://a/ns/b/sa/c".to_owned();
    assert_eq!(security(&proved), "mutual_tls");
    assert_eq!(security(&Facts::unknown("source")), UNKNOWN);
}

#[test]
fn connections_count_beside_requests() {
    let metrics = Metrics::new(MetricsSettings::default());
    let edge = Labels::new(facts("destination", "web", "db", "mutual_tls"));
    let open = metrics.tcp.get_or_create(&TcpLabels { edge: edge.clone(), flags: "-" });
    open.opened();
    open.moved(7, 8);
    metrics.tcp.get_or_create(&TcpLabels { edge, flags: "RBAC" }).closed();
    let page = page(&metrics);
    let [edge] = &page.edges[..] else { panic!("{page:?}") };
    assert_eq!((edge.tcp.opened, edge.tcp.closed, edge.tcp.refused), (1, 1, 1));
    assert_eq!((edge.bytes.received, edge.bytes.sent, edge.latency.p50_ms), (7, 8, None));
}

#[test]
fn quantiles_are_interpolated_within_a_bucket_and_end_with_the_last_bound() {
    let mut buckets = [0; 20];
    assert_eq!(quantile(&buckets, &bounds(), 0.5), None);
    // From 5 to 10 ms.
    buckets[3] = 10;
    assert_eq!(quantile(&buckets, &bounds(), 0.5), Some(7.5));
    buckets[19] = 90;
    assert_eq!(quantile(&buckets, &bounds(), 0.99), Some(3_600_000.0));
}

#[test]
fn what_was_one_series_too_many_is_an_edge_of_which_nothing_is_known() {
    let metrics = Metrics::new(MetricsSettings { max_series: 1, ..MetricsSettings::default() });
    for caller in ["a", "b", "c"] {
        count(&metrics, &facts("destination", caller, "cart", "mutual_tls"), 200, None, "-", 1);
    }
    let page = page(&metrics);
    let overflow = page.edges.iter().find(|edge| edge.reporter == "overflow").unwrap();
    assert_eq!((overflow.requests.total, overflow.requests.unclassified, overflow.security), (2, 2, UNKNOWN));
}
