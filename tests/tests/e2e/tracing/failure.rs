//! What becomes of spans, and of requests, when the collector does not do what it should.

use super::*;
use crate::support::app::nobody;
use crate::support::collector::Says;

fn metric(result: &str) -> String {
    format!("mesh_trace_spans_total{{result=\"{result}\"}}")
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    run(async {
        let (app, (_socket, address)) = (App::ok().await, nobody());
        let bootstrap = format!(
            "tracing: {{endpoint: \"http://{address}\", sample: 1, interval: 10ms, timeout: 100ms, queue: 4, batch: 2}}\n"
        );
        let mut mesh = mesh(&app, &bootstrap).await;
        let mut wire = mesh.wire().await;
        for _ in 0..40 {
            assert_eq!(wire.ask(get("/", "")).await.status(), 200);
        }
        // Of forty at most four wait and two are on their way.
        mesh.frontend.until_metric(&metric("queue_full"), |spans| spans >= 34.0).await.unwrap();
        signal(&mesh.frontend, "TERM");
        assert!(ended(&mut mesh.frontend).await.success(), "nor does it hold up the end");
        let said = mesh.frontend.output();
        assert!(said.contains("spans are lost") && said.contains("the last spans are lost too"), "{said}");
    });
}

#[test]
fn a_collector_that_says_nothing_holds_up_nobody() {
    run(async {
        for otlp in [Otlp::Http, Otlp::Grpc] {
            let (app, collector) = (App::ok().await, Collector::saying(otlp, |_| Says::Nothing).await);
            let mesh = mesh(&app, &collector.bootstrap(", sample: 1, timeout: 60s, queue: 2, batch: 1")).await;
            let mut wire = mesh.wire().await;
            assert_eq!(wire.ask(get("/", "")).await.status(), 200);
            // It has been asked, and is being waited for.
            collector.until(2).await;
            let before = Instant::now();
            for _ in 0..100 {
                assert_eq!(wire.ask(get("/", "")).await.status(), 200);
            }
            assert!(before.elapsed() < Duration::from_secs(30), "none of them waited for it");
            mesh.frontend.until_metric(&metric("queue_full"), |spans| spans == 98.0).await.unwrap();
            assert_eq!(collector.asked().len(), 2);
        }
    });
}

#[test]
fn what_may_be_sent_again_is_and_what_may_not_is_counted() {
    run(async {
        for (otlp, says, result, requests) in [
            (Otlp::Http, Says::Status(503), "exported", 2),
            (Otlp::Http, Says::Status(429), "exported", 2),
            (Otlp::Grpc, Says::Grpc("14"), "exported", 2),
            (Otlp::Http, Says::Status(400), "failed", 1),
            (Otlp::Http, Says::Status(404), "failed", 1),
            (Otlp::Grpc, Says::Grpc("3"), "failed", 1),
            (Otlp::Grpc, Says::Status(200), "failed", 1),
            (Otlp::Http, Says::Without(1), "rejected", 1),
            (Otlp::Grpc, Says::Without(1), "rejected", 1),
        ] {
            let app = App::ok().await;
            let collector = Collector::saying(otlp, move |number| if number == 0 { says } else { Says::Taken }).await;
            let spec = Spec { frontend: collector.bootstrap(", sample: 1"), ..Spec::of(&[app.address()]) };
            let mesh = Mesh::start(spec).await;
            assert_eq!(mesh.get("/").await.to_string(), "200");
            let count = mesh.frontend.until_metric(&metric(result), |spans| spans == 1.0).await;
            count.unwrap_or_else(|error| panic!("{otlp:?} {says:?}: {error}"));
            assert_eq!(collector.asked().len(), requests, "{otlp:?} {says:?}");
        }
    });
}
