use rustix::time::{ClockId, clock_gettime};

use super::*;

/// How long this thread has been on a CPU: what others do meanwhile does not count.
fn spent() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// As many sets of labels as make about ten thousand lines, all labels as long as they are in a cluster.
fn much() -> Metrics {
    let metrics = Metrics::default();
    let party = |name: &str| Party {
        workload: name.to_owned(),
        namespace: "shopping-production".to_owned(),
        app: name.to_owned(),
        version: "v1.24.3".to_owned(),
        canonical_service: name.to_owned(),
        canonical_revision: "v1.24.3".to_owned(),
        cluster: "europe-west-1".to_owned(),
        principal: format!("spiffe://cluster.local/ns/shopping-production/sa/{name}"),
    };
    for number in 0..155 {
        let service = Called {
            host: "checkout.shopping-production.svc.cluster.local".to_owned(),
            name: "checkout".to_owned(),
            namespace: "shopping-production".to_owned(),
        };
        let (source, destination) = (party(&format!("frontend-{number}")), party("checkout"));
        let facts = Facts { reporter: "destination", source, destination, service, security: "mutual_tls" };
        let amounts = Amounts { took: Duration::from_millis(7), received: 345, sent: 6789, messages: (0, 0) };
        let ending = Ending { code: 200, flags: "-", grpc: None };
        RequestCounters::new(facts).count(&metrics, ending, &amounts);
    }
    metrics
}

/// A page is made on the thread that also answers probes: ten thousand series are to take no more than 50 ms of a release build.
/// A build for tests is an order of magnitude slower.
#[test]
fn ten_thousand_series_are_written_in_milliseconds() {
    const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 750 } else { 50 });
    let metrics = much();
    let took = |_| {
        let before = spent();
        let page = metrics.render();
        let took = spent() - before;
        let lines = page.lines().filter(|line| !line.starts_with('#')).count();
        assert!((10_000..11_000).contains(&lines), "{lines}");
        (took, lines, page.len())
    };
    let (took, lines, bytes) = (0..5).map(took).min().unwrap();
    println!("{lines} series, {bytes} bytes: {took:?}");
    assert!(took <= MOST, "{took:?}");
}
