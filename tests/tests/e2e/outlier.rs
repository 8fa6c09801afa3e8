//! Endpoints that fail leave the rotation, and come back.

use std::cell::Cell;
use std::rc::Rc;

use meshgate_tests::run;

use crate::support::app::{App, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, pod};
use crate::support::wire::Wire;

const EJECTED: &str = "mesh_endpoints_ejected";
const IN_A_ROW: &str = "mesh_endpoint_ejections_total{reason=\"consecutive_failures\"}";
const ON_PROBATION: &str = "mesh_endpoint_ejections_total{reason=\"probation\"}";

/// An application that answers 503 while the cell says so.
async fn moody(fails: &Rc<Cell<bool>>) -> App {
    let fails = Rc::clone(fails);
    App::http1(move |_| match fails.get() {
        true => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
        false => ok("ok"),
    })
    .await
}

/// Asks `times` times; says how many answers were no 200. POST: nobody asks again for it.
async fn ask(client: &mut Wire, times: usize) -> usize {
    let mut failed = 0;
    for _ in 0..times {
        let answer = client.ask(format!("POST / HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: 0\r\n\r\n")).await;
        failed += usize::from(answer.status() != 200);
    }
    failed
}

async fn mesh(apps: &[&App], more: &str) -> Mesh {
    let addresses: Vec<_> = apps.iter().map(|app| app.address()).collect();
    let mut spec = Spec::of(&addresses);
    spec.frontend = format!("workers: 2\noutlierDetection: {{{more}}}\n");
    Mesh::start(spec).await
}

#[test]
fn an_endpoint_that_fails_five_times_gets_nothing_until_its_time_is_over_and_on_probation_one_failure_is_enough() {
    run(async {
        let fails = Rc::new(Cell::new(true));
        let (a, b, c) = (App::ok().await, moody(&fails).await, App::ok().await);
        let mesh = mesh(&[&a, &b, &c], "baseEjectionTime: 1s").await;
        let mut client = mesh.wire().await;
        assert_eq!(ask(&mut client, 15).await, 5);
        assert_eq!(mesh.frontend.metric(IN_A_ROW).await, Some(1.0));
        // Its time is over while it still fails: it is out again after the first request that it gets.
        mesh.frontend.until_metric(EJECTED, |now| now == 0.0).await.unwrap();
        assert_eq!(ask(&mut client, 30).await, 1);
        assert_eq!((mesh.frontend.metric(ON_PROBATION).await, b.take_seen().len()), (Some(1.0), 6));
        fails.set(false);
        mesh.frontend.until_metric(EJECTED, |now| now == 0.0).await.unwrap();
        a.take_seen();
        c.take_seen();
        assert_eq!(ask(&mut client, 30).await, 0);
        assert_eq!([&a, &b, &c].map(|app| app.take_seen().len()), [10, 10, 10]);
    });
}

#[test]
fn an_ejection_outlives_a_reload_of_something_else() {
    run(async {
        let fails = Rc::new(Cell::new(true));
        let (a, b) = (App::ok().await, moody(&fails).await);
        let mesh = mesh(&[&a, &b], "baseEjectionTime: 60s").await;
        let mut client = mesh.wire().await;
        assert_eq!(ask(&mut client, 10).await, 5);
        let before = mesh.frontend.metric("mesh_config_generation").await.unwrap();
        mesh.sandbox.write_resource("other.yaml", &pod("other", "other", "127.0.0.98".parse().unwrap(), "")).unwrap();
        mesh.frontend.until_metric("mesh_config_generation", |now| now > before).await.unwrap();
        assert_eq!(ask(&mut client, 10).await, 0);
        assert_eq!(b.take_seen().len(), 5);
    });
}

#[test]
fn the_last_endpoint_is_never_out() {
    run(async {
        let fails = Rc::new(Cell::new(true));
        let (a, b) = (moody(&fails).await, moody(&fails).await);
        let mesh = mesh(&[&a, &b], "baseEjectionTime: 60s, maxEjectionPercent: 100").await;
        let mut client = mesh.wire().await;
        assert_eq!(ask(&mut client, 40).await, 40);
        assert_eq!(mesh.frontend.metric(EJECTED).await, Some(1.0));
        fails.set(false);
        assert_eq!(ask(&mut client, 10).await, 0);
    });
}
