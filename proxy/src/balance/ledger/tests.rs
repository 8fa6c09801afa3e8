use super::super::testing::*;
use super::super::{Choice, Outcome};
use super::*;

const ROUND: meshgate_config::Balancer = meshgate_config::Balancer::RoundRobin;
const FAILED: Outcome = Outcome::Answered(503);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn service(mesh: &Mesh, endpoints: u8) -> Choice {
    mesh.choice("a", &[("own", 100, 0, endpoints)], &ROUND)
}

/// The endpoints that get requests.
fn who(choice: &Choice) -> Vec<u8> {
    let mut all: Vec<_> = firsts(choice, 60).into_iter().map(|(_, endpoint)| endpoint).collect();
    all.sort_unstable();
    all.dedup();
    all
}

async fn pass(mesh: &Mesh, time: Duration) {
    tokio::time::advance(time).await;
    mesh.ledgers.tick(Instant::now());
}

fn metric(mesh: &Mesh, name: &str) -> String {
    let text = mesh.metrics.render();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or("-").to_owned()
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_and_a_success_between_starts_the_row_anew() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 3);
    for outcome in [FAILED, RESET, REFUSED, FAILED, OK, FAILED, FAILED, FAILED, FAILED] {
        ask(&choice, (0, 2), 1, outcome);
    }
    assert_eq!(who(&choice), [1, 2, 3]);
    ask(&choice, (0, 2), 1, FAILED);
    assert_eq!(who(&choice), [1, 3]);
    assert_eq!(metric(&mesh, "mesh_endpoint_ejections_total{reason=\"consecutive_failures\"}"), "1");
    assert_eq!(metric(&mesh, "mesh_endpoints_ejected"), "1");
}

#[tokio::test(start_paused = true)]
async fn after_its_time_it_is_back_on_probation_where_one_failure_ejects_for_longer_and_one_success_clears() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 2);
    mesh.ledgers.tick(Instant::now());
    ask(&choice, (0, 1), 5, FAILED);
    pass(&mesh, secs(4)).await;
    assert_eq!(who(&choice), [2], "five seconds are not over");
    pass(&mesh, secs(1)).await;
    assert_eq!(who(&choice), [1, 2]);
    ask(&choice, (0, 1), 1, FAILED);
    assert_eq!(who(&choice), [2], "the first failure on probation");
    assert_eq!(metric(&mesh, "mesh_endpoint_ejections_total{reason=\"probation\"}"), "1");
    pass(&mesh, secs(9)).await;
    assert_eq!(who(&choice), [2], "twice as long the second time");
    pass(&mesh, secs(1)).await;
    assert_eq!(who(&choice), [1, 2]);
    ask(&choice, (0, 1), 1, OK);
    ask(&choice, (0, 1), 4, FAILED);
    assert_eq!(who(&choice), [1, 2], "a success has cleared it");
    assert_eq!(metric(&mesh, "mesh_endpoints_ejected"), "0");
}

#[tokio::test(start_paused = true)]
async fn times_out_grow_up_to_the_longest_and_shrink_with_good_behaviour() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 2);
    mesh.ledgers.tick(Instant::now());
    let mut out = Vec::new();
    for failures in [5, 1, 1, 1] {
        ask(&choice, (0, 1), failures, FAILED);
        let begun = Instant::now();
        while who(&choice) == [2] {
            pass(&mesh, secs(1)).await;
        }
        out.push(begun.elapsed().as_secs());
    }
    assert_eq!(out, [5, 10, 12, 12]);
    ask(&choice, (0, 1), 1, OK);
    for _ in 0..5 {
        pass(&mesh, secs(10)).await;
    }
    ask(&choice, (0, 1), 5, FAILED);
    pass(&mesh, secs(5)).await;
    assert_eq!(who(&choice), [1, 2], "as long as the first time");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_share_are_out_at_once_one_of_several_in_any_case_and_never_all() {
    for (endpoints, percent, stay) in
        [(4, 50, 2), (3, 50, 2), (3, 10, 2), (2, 100, 1), (4, 100, 1), (1, 100, 1), (4, 0, 4)]
    {
        let mesh = Mesh::new(OutlierDetection { max_ejection_percent: percent, ..settings() });
        let choice = service(&mesh, endpoints);
        for n in 1..=endpoints {
            ask(&choice, (0, n), 9, FAILED);
        }
        assert_eq!(who(&choice).len(), stay, "{percent}% of {endpoints}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_kept_failing_while_there_was_no_room_is_out_when_there_is() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 2);
    mesh.ledgers.tick(Instant::now());
    ask(&choice, (0, 1), 5, FAILED);
    ask(&choice, (0, 2), 7, FAILED);
    assert_eq!(who(&choice), [2]);
    pass(&mesh, secs(5)).await;
    ask(&choice, (0, 2), 1, FAILED);
    assert_eq!(who(&choice), [1]);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_success_is_compared_once_an_interval() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 6);
    mesh.ledgers.tick(Instant::now());
    for n in 1..=6 {
        // Never five in a row.
        for _ in 0..40 {
            ask(&choice, (0, n), 2, OK);
            ask(&choice, (0, n), 1, if n == 3 { Outcome::Answered(500) } else { OK });
        }
    }
    pass(&mesh, secs(9)).await;
    assert_eq!(who(&choice), [1, 2, 3, 4, 5, 6]);
    pass(&mesh, secs(1)).await;
    assert_eq!(who(&choice), [1, 2, 4, 5, 6]);
    assert_eq!(metric(&mesh, "mesh_endpoint_ejections_total{reason=\"success_rate\"}"), "1");
    // The next interval begins with nothing counted.
    pass(&mesh, secs(10)).await;
    assert_eq!(who(&choice), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn health_outlives_a_route_and_an_endpoint_that_is_gone_for_good_is_forgotten() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 3);
    mesh.ledgers.tick(Instant::now());
    ask(&choice, (0, 3), 5, FAILED);
    drop(choice);
    assert_eq!(who(&service(&mesh, 3)), [1, 2]);
    let ledger = mesh.ledgers.of("a", 80, Family::Any);
    let known = |ledger: &Ledger| locked(&ledger.book).entries.len();
    let fewer = service(&mesh, 2);
    pass(&mesh, secs(10)).await;
    pass(&mesh, REMEMBERED - secs(10)).await;
    assert_eq!(known(&ledger), 3);
    pass(&mesh, secs(10)).await;
    assert_eq!((known(&ledger), who(&fewer)), (2, vec![1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_takes_its_ejections_off_the_gauge() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 2);
    ask(&choice, (0, 1), 5, FAILED);
    assert_eq!(metric(&mesh, "mesh_endpoints_ejected"), "1");
    mesh.ledgers.retain(|host, port| (host, port) != ("a", 80));
    drop(choice);
    assert_eq!(metric(&mesh, "mesh_endpoints_ejected"), "0");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_a_configuration_no_longer_has_do_not_make_room() {
    let mesh = Mesh::new(settings());
    drop(service(&mesh, 4));
    let ledger = mesh.ledgers.of("a", 80, Family::Any);
    let key = |n: u8| Key {
        cluster: None,
        gateway: None,
        address: Some(SocketAddr::from(([10, 0, 0, n], 80))),
        security: Security::Plaintext,
    };
    let healths = ledger.enrol("a:80", 2, [1, 2].map(key).into_iter());
    for health in &healths {
        (0..5).for_each(|_| health.failed());
    }
    assert_eq!(healths.iter().filter(|health| health.is_ejected()).count(), 1, "50% of two, not of four");
}

#[tokio::test(start_paused = true)]
async fn off_is_off() {
    let mesh = Mesh::new(OutlierDetection { consecutive_failures: 0, success_rate_stdev_factor: 0, ..settings() });
    let choice = service(&mesh, 6);
    ask(&choice, (0, 1), 500, FAILED);
    (2..=6).for_each(|n| ask(&choice, (0, n), 500, OK));
    pass(&mesh, secs(0)).await;
    pass(&mesh, secs(11)).await;
    assert_eq!(who(&choice), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn why_an_endpoint_is_out_and_for_how_long_can_be_asked() {
    let mesh = Mesh::new(settings());
    let choice = service(&mesh, 3);
    ask(&choice, (0, 2), 5, FAILED);
    tokio::time::advance(secs(2)).await;
    let hop = |address: &str| Hop {
        address: address.parse().unwrap(),
        security: Security::Plaintext,
        tunnel: false,
        remote: None,
    };
    let ejected = |host: &str, address: &str| mesh.ledgers.ejected(host, 80, &hop(address));
    assert_eq!(ejected("a", "10.0.0.2:80").as_deref(), Some("5 failures in a row, for 3s more"));
    assert_eq!((ejected("a", "10.0.0.1:80"), ejected("b", "10.0.0.2:80")), (None, None));
    pass(&mesh, secs(3)).await;
    assert_eq!(ejected("a", "10.0.0.2:80"), None);
}
