//! A new process takes over from the one that runs: nobody is refused, nothing is cut, and one that fails changes nothing.

use std::cell::Cell;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Sidecar, request, until};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use crate::support::app::{App, ok};
use crate::support::backend::{Backend, HELLO, HOST, deny_path, ended, service, signal};
use crate::support::wire::Wire;
use crate::support::{Bound, as_process_1};

/// In the bootstrap file.
const HAND_OVER: &str = "handOver: {socket: hand-over.sock}\n";

/// Of each kind of caller.
const CALLERS: usize = 3;

async fn with(lines: &str) -> Backend {
    Backend::start_with(|sandbox, pod| {
        pod.bootstrap = lines.to_owned();
        sandbox.write_resource("policy.yaml", &deny_path("/denied")).unwrap();
    })
    .await
}

/// Whose application answers a request for `/held` when the sender says so, and tells the receiver that it has it.
async fn holding() -> (Backend, App, watch::Sender<bool>, mpsc::Receiver<()>) {
    let (release, released) = watch::channel(false);
    let (arrive, arrived) = mpsc::channel(1);
    let application = App::tcp(async move |stream| {
        let mut wire = Wire::over(stream);
        while let Some(request) = wire.request().await {
            if request.target() == "/held" {
                arrive.send(()).await.unwrap();
                released.clone().wait_for(|released| *released).await.unwrap();
            }
            wire.send(ok("late")).await;
        }
    })
    .await;
    let backend = Backend::start_with(|_, pod| {
        pod.application = Some(application.address());
        pod.bootstrap = HAND_OVER.to_owned();
    });
    (backend.await, application, release, arrived)
}

/// Puts something else into the bootstrap file that the next process reads.
fn edit(sidecar: &Sidecar, from: &str, to: &str) {
    let text = fs::read_to_string(sidecar.bootstrap()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(sidecar.bootstrap(), text.replacen(from, to, 1)).unwrap();
}

/// Starts another process and waits until the one that runs has ended, and well.
async fn upgrade(backend: &mut Backend) {
    let next = backend.sidecar.successor().unwrap();
    let status = ended(&mut backend.sidecar).await;
    let log = next.output();
    assert!(status.success() && !log.contains("panicked"), "{status}; {log}");
    assert!(!log.contains("closing what is left"), "something was cut: {log}");
    backend.sidecar = next;
    backend.sidecar.until_ready().await.unwrap();
}

/// Starts another process, which fails with this status and these words.
async fn fails(backend: &Backend, words: &[&str]) {
    let before = backend.sidecar.output().len();
    let mut next = backend.sidecar.successor().unwrap();
    let status = ended(&mut next).await;
    let log = backend.sidecar.output().split_off(before);
    assert_eq!(status.code(), Some(2), "{log}");
    words.iter().for_each(|words| assert!(log.contains(words), "{words:?} is not in {log}"));
    assert_eq!(backend.get("/").await.to_string(), "200");
}

/// Callers that never rest; each says how many answers it got.
struct Load {
    over: Rc<Cell<bool>>,
    callers: Vec<JoinHandle<usize>>,
}

impl Load {
    /// GET and POST, on a connection each and on one that is kept.
    fn start(address: SocketAddr) -> Self {
        let over = Rc::new(Cell::new(false));
        let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 4\r\n\r\nbody");
        let kinds = [(get.clone(), true), (get, false), (post.clone(), true), (post, false)];
        let caller =
            |(request, keeps): &(String, bool)| spawn_local(call(address, request.clone(), *keeps, Rc::clone(&over)));
        let callers = (0..CALLERS).flat_map(|_| kinds.iter().map(caller).collect::<Vec<_>>()).collect();
        Self { over, callers }
    }

    async fn stop(self) -> usize {
        self.over.set(true);
        let mut answers = 0;
        for caller in self.callers {
            answers += caller.await.unwrap();
        }
        answers
    }
}

async fn call(address: SocketAddr, request: String, keeps: bool, over: Rc<Cell<bool>>) -> usize {
    let (mut answers, mut kept) = (0, None);
    while !over.get() {
        let mut wire = match kept.take() {
            Some(wire) => wire,
            None => Wire::connect(address).await,
        };
        wire.send(&request).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, HELLO), "after {answers}: {request}");
        answers += 1;
        kept = (keeps && answer.field("connection") != Some("close")).then_some(wire);
    }
    answers
}

#[test]
fn under_load_each_request_is_answered_by_the_old_process_or_the_new_one() {
    meshgate_tests::run(async {
        let mut backend = with(&format!("workers: 2\n{HAND_OVER}")).await;
        backend.put("service.yaml", &service(backend.sidecar.address())).await;
        let loads = [backend.sidecar.inbound(), backend.sidecar.outbound()].map(Load::start);
        let served = backend.hits();
        until("load", async || (backend.hits() > served + 200).then_some(())).await.unwrap();
        // As many workers, fewer, and more than there are sockets.
        for workers in [2, 1, 4] {
            let before = fs::read_to_string(backend.sidecar.bootstrap()).unwrap();
            let line = before.lines().find(|line| line.starts_with("workers")).unwrap();
            edit(&backend.sidecar, line, &format!("workers: {workers}"));
            upgrade(&mut backend).await;
            let served = backend.hits();
            until("load", async || (backend.hits() > served + 200).then_some(())).await.unwrap();
        }
        for load in loads {
            println!("{} requests, none lost", load.stop().await);
        }
        assert_eq!(backend.sidecar.output().matches("took over from the running process").count(), 3);
    });
}

#[test]
fn what_has_begun_is_finished_by_the_old_process_while_the_new_one_serves() {
    meshgate_tests::run(async {
        let (mut backend, _application, release, mut arrived) = holding().await;
        let inbound = backend.sidecar.inbound();
        let answer = spawn_local(async move { request(inbound, HOST, Method::GET, "/held").await });
        arrived.recv().await.unwrap();
        let next = backend.sidecar.successor().unwrap();
        let took = async || next.output().contains("took over from the running process").then_some(());
        until("the hand-over", took).await.unwrap();
        // For longer than the old process waits for last comers.
        let end = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < end {
            assert_eq!(backend.get("/").await.to_string(), "200");
        }
        assert!(backend.sidecar.child().try_wait().unwrap().is_none(), "it did not wait");
        signal(&backend.sidecar, "TERM");
        assert_eq!(backend.get("/").await.to_string(), "200");
        release.send(true).unwrap();
        assert_eq!(answer.await.unwrap().to_string(), "200");
        assert!(ended(&mut backend.sidecar).await.success());
        assert_eq!(backend.get("/").await.to_string(), "200");
        drop(next);
    });
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    meshgate_tests::run(async {
        let mut backend = with(HAND_OVER).await;
        edit(&backend.sidecar, "role: sidecar", "role: sidecat");
        fails(&backend, &["unknown variant `sidecat`"]).await;
        edit(&backend.sidecar, "role: sidecat", "role: sidecar");
        // Found out only when it has the listeners already.
        let taken = TcpListener::bind((backend.sidecar.address(), 0)).unwrap();
        let more =
            format!("  listeners:\n  - {{address: \"{}\", originalDestination: none}}\n", taken.local_addr().unwrap());
        edit(&backend.sidecar, "  listeners:\n  - {address", &format!("{more}  - {{address"));
        fails(&backend, &["cannot listen on", "in use"]).await;
        drop(taken);
        upgrade(&mut backend).await;
        assert_eq!(backend.get("/").await.to_string(), "200");
        assert!(backend.get("/denied").await.to_string().starts_with("403"));
    });
}

#[test]
fn the_file_of_a_process_that_was_killed_is_in_nobodys_way() {
    meshgate_tests::run(async {
        let mut backend = with(HAND_OVER).await;
        backend.sidecar.restart().await.unwrap();
        assert_eq!(backend.get("/").await.to_string(), "200");
        upgrade(&mut backend).await;
        assert_eq!(backend.get("/").await.to_string(), "200");
    });
}

#[test]
fn after_sigterm_connections_are_refused_also_where_they_could_be_handed_over() {
    meshgate_tests::run(async {
        let (mut backend, _application, release, mut arrived) = holding().await;
        let inbound = backend.sidecar.inbound();
        let answer = spawn_local(async move { request(inbound, HOST, Method::GET, "/held").await });
        arrived.recv().await.unwrap();
        signal(&backend.sidecar, "TERM");
        let refused = async || (TcpStream::connect(inbound).await.is_err()).then_some(());
        until("refusal", refused).await.unwrap();
        assert!(backend.sidecar.child().try_wait().unwrap().is_none(), "it did not wait");
        release.send(true).unwrap();
        assert_eq!(answer.await.unwrap().to_string(), "200");
        assert!(ended(&mut backend.sidecar).await.success());
    });
}

#[test]
fn without_a_socket_for_it_a_second_process_does_not_start() {
    meshgate_tests::run(async {
        let backend = with("").await;
        fails(&backend, &["cannot listen on", "in use"]).await;
    });
}

/// Processes of two containers, which see each other without a number.
#[test]
fn processes_of_other_pid_namespaces_take_over_and_are_followed() {
    let Some(mut there) = as_process_1() else { return };
    meshgate_tests::run(async {
        let mut backend = with(HAND_OVER).await;
        let output = File::create(backend.sandbox.path("there")).unwrap();
        there.args(["run", "--bootstrap"]).arg(backend.sidecar.bootstrap());
        there.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut there = Bound(there.spawn().unwrap());
        let log = || fs::read_to_string(backend.sandbox.path("there")).unwrap();
        let status = ended(&mut backend.sidecar).await;
        assert!(status.success() && log().contains("took over from the running process"), "{status}; {}", log());
        assert_eq!(backend.get("/").await.to_string(), "200");
        let back = backend.sidecar.successor().unwrap();
        let ended = until("the end", async || there.0.try_wait().unwrap()).await.unwrap();
        assert!(ended.success(), "{ended}; {}", log());
        assert_eq!(backend.get("/").await.to_string(), "200");
        drop(back);
    });
}
