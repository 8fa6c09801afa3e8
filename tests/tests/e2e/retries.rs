//! Requests that are tried again, through a real sidecar: endpoints that break off, hang or are gone.

mod unreached;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use meshgate::sandbox::{POD_PORT, PodSpec, Sandbox, Sidecar, until};
use meshgate_tests::run;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::app::{App, ok};
use crate::support::mesh::{BACKEND, Mesh, Spec, logged_path, pod, policy};
use crate::support::wire::Wire;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")
}

fn with_body(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// What an endpoint does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Answer,
    Close,
    Reset,
    Hang,
    /// Says what only the sidecar of an endpoint may say.
    Claim,
}

/// A pod outside of the mesh that counts what it is sent.
struct Endpoint {
    act: Rc<Cell<Act>>,
    /// Start lines and bodies.
    seen: Rc<RefCell<Vec<(String, String)>>>,
    ended: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

impl Endpoint {
    async fn start(address: IpAddr, act: Act) -> Self {
        let listener = TcpListener::bind((address, POD_PORT)).await.unwrap();
        let (act, seen, ended) =
            (Rc::new(Cell::new(act)), Rc::<RefCell<Vec<_>>>::default(), Rc::<Cell<usize>>::default());
        let (does, kept, over) = (Rc::clone(&act), Rc::clone(&seen), Rc::clone(&ended));
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (does, kept, over) = (Rc::clone(&does), Rc::clone(&kept), Rc::clone(&over));
                tokio::task::spawn_local(async move {
                    serve(stream, &does, &kept).await;
                    over.set(over.get() + 1);
                });
            }
        });
        Self { act, seen, ended, task }
    }

    fn take_seen(&self) -> Vec<(String, String)> {
        self.seen.take()
    }

    /// Once it has ended, somebody else may have its address.
    async fn end(self) {
        self.task.abort();
        // However it ended.
        let _ = self.task.await;
    }
}

async fn serve(stream: TcpStream, act: &Cell<Act>, seen: &RefCell<Vec<(String, String)>>) {
    let mut wire = Wire::over(stream);
    while let Some(request) = wire.request().await {
        seen.borrow_mut().push((request.start.clone(), request.text()));
        match act.get() {
            Act::Answer => wire.send(ok("good")).await,
            Act::Close => return,
            Act::Reset => return wire.stream().set_zero_linger().unwrap(),
            Act::Hang => drop(wire.rest().await),
            Act::Claim => wire.send(unreached::CLAIM).await,
        }
    }
}

/// A frontend with a sidecar, and a service of endpoints without one.
struct Caller {
    sidecar: Sidecar,
    endpoints: Vec<Endpoint>,
    sandbox: Sandbox,
}

impl Caller {
    /// Runs a test of it.
    fn run(acts: &[Act], bootstrap: &str, test: impl AsyncFnOnce(&Self)) {
        run(async {
            let caller = Self::of(acts, bootstrap).await;
            test(&caller).await;
            let Self { sidecar, endpoints, sandbox } = caller;
            for endpoint in endpoints {
                endpoint.end().await;
            }
            drop((sidecar, sandbox));
        });
    }

    async fn of(acts: &[Act], bootstrap: &str) -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let own = sandbox.next_address();
        let mut endpoints = Vec::new();
        let mut yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: backend, namespace: default}}\n\
             spec: {{selector: {{app: backend}}, ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]}}\n"
        );
        for (index, act) in acts.iter().enumerate() {
            let address = sandbox.next_address();
            endpoints.push(Endpoint::start(address, *act).await);
            yaml += &pod(&format!("backend-{index}"), "backend", address, ", security.istio.io/tlsMode: disabled");
        }
        sandbox.write_resource("workloads.yaml", &yaml).unwrap();
        let spec = PodSpec {
            name: "frontend".to_owned(),
            service_account: "frontend".to_owned(),
            app: "frontend".to_owned(),
            bootstrap: format!("workers: 1\n{bootstrap}"),
            ..PodSpec::default()
        };
        let sidecar = sandbox.start(&spec, own).await.unwrap();
        Self { sidecar, endpoints, sandbox }
    }

    async fn wire(&self) -> Wire {
        Wire::connect(self.sidecar.outbound()).await
    }

    async fn ask(&self, request: &str) -> (u16, String) {
        let answer = self.wire().await.ask(request).await;
        (answer.status(), answer.text())
    }

    /// All that the endpoints were sent, in their order.
    fn take_seen(&self) -> Vec<(String, String)> {
        self.endpoints.iter().flat_map(Endpoint::take_seen).collect()
    }
}

#[test]
fn what_is_safe_to_send_again_is_sent_to_the_next_endpoint_and_nothing_else() {
    for act in [Act::Close, Act::Reset] {
        // Enough budget for every other request, and nobody leaves the rotation for what they do.
        let keeps = "retries: {budgetPercent: 100}\noutlierDetection: {consecutiveFailures: 0}\n";
        Caller::run(&[act, Act::Answer], keeps, async |caller| {
            for method in ["GET", "PUT", "DELETE"] {
                for turn in 0..4 {
                    let request = with_body(method, &format!("/{turn}"), "body");
                    assert_eq!(caller.ask(&request).await, (200, "good".to_owned()), "{method} {turn}");
                }
                // Whoever was first in turn, each request was answered once, and its bytes were the same each time.
                let all = caller.endpoints[1].take_seen();
                assert_eq!(all.len(), 4, "{method}");
                let lost = caller.endpoints[0].take_seen();
                assert!(!lost.is_empty() && lost.iter().all(|lost| all.contains(lost)), "{lost:?} of {all:?}");
                assert!(all.iter().all(|(_, body)| body == "body"), "{all:?}");
            }
            let mut codes = Vec::new();
            for turn in 0..4 {
                codes.push(caller.ask(&with_body("POST", &format!("/{turn}"), "body")).await.0);
            }
            let seen = caller.take_seen();
            assert_eq!(seen.len(), 4, "a POST was sent twice: {seen:?}");
            codes.sort_unstable();
            assert_eq!(codes, [200, 200, 503, 503]);
        });
    }
}

#[test]
fn the_access_log_and_the_metrics_tell_of_every_try() {
    Caller::run(&[Act::Close, Act::Close, Act::Close, Act::Close], "", async |caller| {
        assert_eq!(caller.ask(&get("/lost")).await.0, 503);
        assert_eq!(caller.take_seen().len(), 3);
        let line = logged_path(&caller.sidecar, "/lost").await;
        assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("UC,URX"), Some(3)), "{line:#}");
        let lost = "mesh_retries_total{reason=\"lost\",outcome=\"failed\"}";
        caller.sidecar.until_metric(lost, |count| count == 2.0).await.unwrap();
    });
}

#[test]
fn without_budget_nothing_is_sent_again() {
    let none = "retries: {budgetPercent: 0, budgetMinPerSecond: 0}\n";
    Caller::run(&[Act::Close, Act::Close], none, async |caller| {
        for turn in 0..6 {
            assert_eq!(caller.ask(&get(&format!("/{turn}"))).await.0, 503);
        }
        assert_eq!(caller.take_seen().len(), 6);
        caller.sidecar.until_metric("mesh_retry_budget_exhausted_total", |count| count == 6.0).await.unwrap();
        let line = logged_path(&caller.sidecar, "/5").await;
        assert_eq!((line["response_flags"].as_str(), line.get("attempts")), (Some("UC"), None), "{line:#}");
    });
}

#[test]
fn an_endpoint_that_hangs_is_left_after_its_time() {
    run(async {
        let caller =
            Caller::of(&[Act::Hang, Act::Answer], "retries: {perTryTimeout: 100ms, budgetPercent: 100}\n").await;
        for turn in 0..4 {
            assert_eq!(caller.ask(&get(&format!("/{turn}"))).await, (200, "good".to_owned()));
        }
        let hung = caller.endpoints[0].take_seen();
        assert_eq!((hung.len(), caller.endpoints[1].take_seen().len()), (2, 4));
        until("their ends", async || (caller.endpoints[0].ended.get() == 2).then_some(())).await.unwrap();
        caller.endpoints[1].act.set(Act::Hang);
        let answer = caller.ask(&with_body("POST", "/post", "body")).await;
        assert_eq!(answer, (504, "upstream request timeout".to_owned()));
        assert_eq!(caller.take_seen().len(), 1);
        assert_eq!(logged_path(&caller.sidecar, "/post").await["response_flags"], "UT");
        assert_eq!(caller.ask(&get("/both")).await.0, 504);
        assert_eq!(caller.take_seen().len(), 2);
    });
}

#[test]
fn a_client_that_goes_away_while_it_is_tried_again_ends_all_of_it() {
    Caller::run(&[Act::Close, Act::Hang, Act::Hang], "", async |caller| {
        let mut client = caller.wire().await;
        client.send(get("/gone")).await;
        until("the second try", async || {
            let tries: usize = caller.endpoints.iter().map(|endpoint| endpoint.seen.borrow().len()).sum();
            (tries == 2).then_some(())
        })
        .await
        .unwrap();
        drop(client);
        until("the ends of both", async || {
            let ended: usize = caller.endpoints.iter().map(|endpoint| endpoint.ended.get()).sum();
            (ended == 2).then_some(())
        })
        .await
        .unwrap();
        let line = logged_path(&caller.sidecar, "/gone").await;
        assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("DC"), Some(2)), "{line:#}");
        assert_eq!(caller.take_seen().len(), 2);
    });
}

#[test]
fn a_body_that_is_too_long_to_keep_is_sent_once() {
    Caller::run(&[Act::Close, Act::Close], "retries: {bufferBytes: 1000}\n", async |caller| {
        for (len, tries) in [(1000, 2), (1001, 1), (1_000_000, 1)] {
            let body = "x".repeat(len);
            assert_eq!(caller.ask(&with_body("PUT", "/", &body)).await.0, 503);
            let seen = caller.take_seen();
            assert_eq!(seen.len(), tries, "{len}");
            assert!(seen.iter().all(|(_, seen)| *seen == body));
        }
    });
}

#[test]
fn an_application_that_ends_a_kept_connection_under_a_get_is_asked_once_more() {
    run(async {
        let closing = Rc::new(Cell::new(false));
        let (closes, count) = (Rc::clone(&closing), Rc::new(RefCell::new(Vec::new())));
        let counted = Rc::clone(&count);
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            while let Some(request) = wire.request().await {
                counted.borrow_mut().push(request.start);
                // Once.
                if closes.take() {
                    return;
                }
                wire.send(ok("fine")).await;
            }
        })
        .await;
        let mut spec = Spec::of(&[app.address()]);
        spec.backend = "workers: 1\n".to_owned();
        let mesh = Mesh::start(spec).await;
        assert_eq!(mesh.get("/first").await.to_string(), "200");
        closing.set(true);
        assert_eq!(mesh.get("/second").await.to_string(), "200");
        assert_eq!((count.take().len(), app.connections()), (3, 2));
        let line = logged_path(mesh.backend(), "/second").await;
        assert_eq!(line["attempts"], 2, "{line:#}");
        // What may have been done is not done again.
        closing.set(true);
        assert_eq!(mesh.wire().await.ask(with_body("POST", "/third", "x")).await.status(), 503);
        assert_eq!(count.take().len(), 1);
    });
}

#[test]
fn a_request_that_is_tried_again_is_still_judged_by_new_configuration() {
    run(async {
        let tries = Rc::new(Cell::new(0));
        let tried = Rc::clone(&tries);
        let app = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            while wire.request().await.is_some() {
                tried.set(tried.get() + 1);
                match tried.get() {
                    1 => wire.send(ok("fine")).await,
                    2 => return,
                    _ => drop(wire.rest().await),
                }
            }
        })
        .await;
        let mut spec = Spec::of(&[app.address()]);
        spec.backend = "workers: 1\n".to_owned();
        let mesh = Mesh::start(spec).await;
        assert_eq!(mesh.outside().await.ask(get("/first")).await.status(), 200);
        let mut client = mesh.outside().await;
        client.send(get("/second")).await;
        until("the second try", async || (tries.get() == 3).then_some(())).await.unwrap();
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        assert_eq!(client.rest().await, b"");
        let line = logged_path(mesh.backend(), "/second").await;
        assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("RBAC"), Some(2)), "{line:#}");
        assert_eq!(tries.get(), 3);
    });
}
