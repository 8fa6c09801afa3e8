//! On a paused clock, against a gateway at the other end of a pipe in memory.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::server;
use http::Response;
use meshgate_config::GatewayAddress;
use serde_json::json;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::clusters::wire::{CONTENT_TYPE, HEARTBEAT};
use crate::error::ErrorKind;

const KEY: &str = "default/default/default/cluster-1";

/// What a dialled gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Says a list of as many services, and beats.
    Says(usize),
    /// Says that, and falls silent.
    SaysAndIsSilent(usize),
    /// Says that, and closes.
    SaysAndCloses(usize),
    /// Takes the connection, and nothing more.
    IsSilent,
    /// Answers with a status.
    Answers(u16),
    /// Says this line.
    Talks(&'static str),
    /// Is not there.
    Refuses,
    /// Is not there, and nobody says so.
    TimesOut,
    /// Is somebody else.
    IsAnother,
}

/// What the dialled gateway does, and when it was dialled.
#[derive(Debug)]
struct Script {
    does: Cell<Does>,
    dialled: RefCell<Vec<Instant>>,
    outdated: Notify,
    serving: RefCell<Option<JoinHandle<()>>>,
}

impl Script {
    fn new(does: Does) -> Rc<Self> {
        Rc::new(Self {
            does: Cell::new(does),
            dialled: RefCell::default(),
            outdated: Notify::new(),
            serving: RefCell::default(),
        })
    }

    /// From now on it does that; a session that is open is broken.
    fn turn(&self, does: Does) {
        self.does.set(does);
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }

    fn dialled(&self) -> usize {
        self.dialled.borrow().len()
    }
}

impl Dial for Rc<Script> {
    type Stream = DuplexStream;

    async fn dial(&mut self) -> Result<DuplexStream, ProxyError> {
        self.dialled.borrow_mut().push(Instant::now());
        let does = self.does.get();
        match does {
            Does::Refuses => return Err(ProxyError::new(ErrorKind::GatewayFailed, "refused")),
            Does::TimesOut => {
                sleep(Duration::from_secs(2)).await;
                return Err(ProxyError::new(ErrorKind::GatewayFailed, "timed out"));
            }
            Does::IsAnother => return Err(ProxyError::new(ErrorKind::GatewayTls, "expected somebody else")),
            _ => {}
        }
        let (ours, theirs) = duplex(64 * 1024);
        let serving = tokio::task::spawn_local(async move {
            // A broken session is what some of these are about.
            let _ = serve(theirs, does).await;
        });
        self.serving.replace(Some(serving));
        Ok(ours)
    }

    async fn outdated(&mut self) {
        self.outdated.notified().await;
    }
}

fn list(services: usize) -> String {
    let service = |n| {
        let ports = json!([{"port": 80, "path": "/", "ready": n + 1}]);
        json!({"namespace": "default", "name": format!("s{n}"), "serviceAccountName": "app", "ports": ports})
    };
    let exports: Vec<_> = (0..services).map(service).collect();
    json!({"clusterKey": KEY, "trustDomain": "cluster.local", "exports": exports}).to_string() + "\n"
}

async fn serve(stream: DuplexStream, does: Does) -> Result<(), h2::Error> {
    if does == Does::IsSilent {
        std::future::pending::<()>().await;
    }
    let mut connection = server::handshake(stream).await?;
    let (request, mut respond) = connection.accept().await.expect("a request")?;
    assert_eq!(request.uri().path(), crate::clusters::wire::PATH);
    let talk = async {
        let response = Response::builder().header("content-type", CONTENT_TYPE);
        if let Does::Answers(status) = does {
            respond.send_response(response.status(status).body(()).unwrap(), true)?;
            return std::future::pending().await;
        }
        let mut body = respond.send_response(response.body(()).unwrap(), false)?;
        let line = match does {
            Does::Says(count) | Does::SaysAndIsSilent(count) | Does::SaysAndCloses(count) => list(count),
            Does::Talks(line) => line.to_owned(),
            other => unreachable!("{other:?}"),
        };
        body.send_data(Bytes::from(line), false)?;
        match does {
            Does::Says(_) => loop {
                sleep(HEARTBEAT).await;
                body.send_data(Bytes::from_static(b"\n"), false)?;
            },
            Does::SaysAndCloses(_) => {
                sleep(Duration::from_millis(1)).await;
                Ok(())
            }
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = talk => ended,
        _ = connection.accept() => Ok(()),
    }
}

/// What is looked at while a probe runs.
struct Seen<'a> {
    gateway: &'a Gateway,
    metrics: &'a Metrics,
    discovered: watch::Receiver<Option<Discovered>>,
}

impl Seen<'_> {
    /// Waits until it is up, down or unknown, and says how long that took.
    async fn until(&self, up: Option<bool>) -> Duration {
        let began = Instant::now();
        let mut seen = self.gateway.seen.subscribe();
        let waiting = seen.wait_for(|seen| seen.up == up);
        tokio::time::timeout(Duration::from_secs(600), waiting).await.expect("in time").unwrap();
        began.elapsed()
    }

    fn ready(&self, service: usize) -> Option<u32> {
        self.gateway.ready(&format!("s{service}.default.svc.clusterset.local:80"))
    }

    fn error(&self) -> String {
        self.gateway.told().error.unwrap_or_default()
    }
}

/// Runs a probe while `test` looks.
fn run(script: &Rc<Script>, test: impl AsyncFnOnce(Seen<'_>)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let address = GatewayAddress {
            cluster: KEY.parse().unwrap(),
            host: "192.0.2.1".into(),
            ip: Some("192.0.2.1".parse().unwrap()),
            port: 15443,
            identity: "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway".parse().unwrap(),
        };
        let (clusters, metrics) = (Clusters::default(), Metrics::default());
        let gateway = clusters.gateway(&Arc::new(address));
        let (discovered, said) = watch::channel(None);
        let (clusters, metrics, gateway) = (&clusters, &metrics, &*gateway);
        let probe = Probe { gateway, clusters, metrics, lookup: Lookup::new(gateway), discovered: &discovered };
        tokio::select! {
            () = probe.run(Rc::clone(script)) => unreachable!(),
            () = test(Seen { gateway, metrics, discovered: said }) => {}
        }
    });
}

const SOON: Duration = Duration::from_millis(100);

#[test]
fn a_gateway_that_says_what_it_has_is_up() {
    let script = Script::new(Does::Says(2));
    run(&script, async |seen| {
        assert_eq!(seen.gateway.seen().up, None);
        assert!(seen.until(Some(true)).await < SOON);
        assert_eq!((seen.ready(0), seen.ready(1), seen.ready(2)), (Some(1), Some(2), Some(0)));
        assert_eq!(seen.discovered.borrow().as_ref().unwrap().exports.len(), 2);
        assert!(seen.metrics.render().contains(&format!("mesh_gateway_up{{cluster=\"{KEY}\"}} 1")));
        assert!(seen.gateway.told().since.is_some());
        // A minute of heartbeats later it is the same session.
        sleep(Duration::from_secs(60)).await;
        assert_eq!((script.dialled(), seen.gateway.seen().up), (1, Some(true)));
    });
}

#[test]
fn unknown_stays_unknown_until_the_second_try_has_failed() {
    let script = Script::new(Does::TimesOut);
    run(&script, async |seen| {
        sleep(Duration::from_secs(3)).await;
        assert_eq!((seen.gateway.seen().up, script.dialled()), (None, 2));
        seen.until(Some(false)).await;
        assert_eq!(script.dialled(), 2);
        assert!(seen.metrics.render().contains(&format!("mesh_gateway_up{{cluster=\"{KEY}\"}} 0")));
        assert!(seen.metrics.render().contains("reason=\"unreachable\"} 2"), "{}", seen.metrics.render());
        assert!(seen.error().contains("timed out"), "{}", seen.error());
    });
}

#[test]
fn a_lost_session_is_no_verdict_when_the_next_one_is_had_at_once() {
    let script = Script::new(Does::Says(1));
    run(&script, async |seen| {
        seen.until(Some(true)).await;
        sleep(Duration::from_secs(10)).await;
        let version = seen.gateway.version.load(std::sync::atomic::Ordering::Relaxed);
        script.turn(Does::Says(1));
        sleep(SOON).await;
        assert_eq!(script.dialled(), 2);
        // Nobody was told anything.
        assert_eq!(seen.gateway.version.load(std::sync::atomic::Ordering::Relaxed), version);
        assert_eq!(seen.error(), "");
    });
}

#[test]
fn a_gateway_that_is_gone_is_down_at_once_and_its_last_list_is_kept() {
    let script = Script::new(Does::Says(1));
    run(&script, async |seen| {
        seen.until(Some(true)).await;
        sleep(Duration::from_secs(10)).await;
        script.turn(Does::Refuses);
        assert!(seen.until(Some(false)).await < SOON);
        assert_eq!(seen.ready(0), Some(1));
        assert_eq!(seen.discovered.borrow().as_ref().unwrap().exports.len(), 1);
    });
}

#[test]
fn a_silent_gateway_is_noticed() {
    let script = Script::new(Does::SaysAndIsSilent(1));
    run(&script, async |seen| {
        seen.until(Some(true)).await;
        script.does.set(Does::IsSilent);
        let noticed = seen.until(Some(false)).await;
        // Silence, and a try that is not answered either.
        assert!(noticed > session::SILENCE && noticed < session::SILENCE + Duration::from_secs(4), "{noticed:?}");
        assert!(seen.error().contains("nothing heard"), "{}", seen.error());
    });
}

#[test]
fn a_gateways_return_is_seen_within_five_seconds_however_long_it_was_away() {
    for away in [Does::Refuses, Does::TimesOut, Does::IsSilent, Does::IsAnother, Does::Answers(503)] {
        let script = Script::new(away);
        run(&script, async |seen| {
            sleep(Duration::from_secs(599)).await;
            assert_eq!(seen.gateway.seen().up, Some(false), "{away:?}");
            for _ in 0..20 {
                sleep(Duration::from_millis(777)).await;
                // What is under way already fails.
                script.does.set(Does::Says(1));
                let took = seen.until(Some(true)).await;
                assert!(took < Duration::from_secs(5), "{away:?}: {took:?}");
                script.turn(away);
                seen.until(Some(false)).await;
                sleep(Duration::from_secs(20)).await;
            }
        });
    }
}

#[test]
fn tries_become_no_more_than_a_few_a_second_and_no_fewer_than_one_in_two() {
    let script = Script::new(Does::Refuses);
    run(&script, async |seen| {
        sleep(Duration::from_secs(100)).await;
        let tries = script.dialled();
        assert!((50..110).contains(&tries), "{tries}");
        assert_eq!(seen.gateway.seen().up, Some(false));
    });
}

#[test]
fn a_gateway_that_closes_again_and_again_is_not_dialled_in_a_loop() {
    let script = Script::new(Does::SaysAndCloses(1));
    run(&script, async |_| {
        sleep(Duration::from_secs(100)).await;
        assert!(script.dialled() < 110, "{}", script.dialled());
    });
}

#[test]
fn somebody_else_is_refused_at_the_first_try() {
    let script = Script::new(Does::IsAnother);
    run(&script, async |seen| {
        assert!(seen.until(Some(false)).await < SOON);
        assert_eq!(script.dialled(), 1);
        assert!(seen.error().contains("expected somebody else"), "{}", seen.error());
        assert!(seen.metrics.render().contains("reason=\"identity\"} 1"));
    });
}

#[test]
fn a_gateway_that_says_it_is_another_clusters_is_refused() {
    let line =
        "{\"clusterKey\":\"default/default/default/cluster-2\",\"trustDomain\":\"cluster.local\",\"exports\":[]}\n";
    let script = Script::new(Does::Talks(line));
    run(&script, async |seen| {
        assert!(seen.until(Some(false)).await < SOON);
        assert!(seen.error().contains("cluster-2"), "{}", seen.error());
        assert_eq!((seen.gateway.seen().ready.clone(), seen.discovered.borrow().clone()), (None, None));
    });
}

#[test]
fn a_gateway_that_does_not_know_the_question_is_up_and_asked_again_later() {
    let script = Script::new(Does::Answers(404));
    run(&script, async |seen| {
        assert!(seen.until(Some(true)).await < SOON);
        assert_eq!(seen.ready(0), None);
        assert!(seen.error().contains("404"), "{}", seen.error());
        sleep(Duration::from_secs(60)).await;
        assert_eq!(seen.gateway.seen().up, Some(true));
        assert!((5..9).contains(&script.dialled()), "{}", script.dialled());
        script.does.set(Does::Says(1));
        sleep(Duration::from_secs(11)).await;
        assert_eq!((seen.ready(0), seen.error().as_str()), (Some(1), ""));
        script.turn(Does::Answers(404));
        sleep(SOON).await;
        assert_eq!((seen.gateway.seen().up, seen.ready(0)), (Some(true), None), "what it no longer says is not known");
    });
}

#[test]
fn a_new_identity_makes_a_new_session_and_nobody_notices() {
    let script = Script::new(Does::Says(1));
    run(&script, async |seen| {
        seen.until(Some(true)).await;
        script.outdated.notify_one();
        sleep(SOON).await;
        assert_eq!((script.dialled(), seen.gateway.seen().up), (2, Some(true)));
        assert!(!seen.metrics.render().contains("probe_failures_total{"));
    });
}

#[test]
fn a_list_of_which_something_is_left_out_is_taken_and_told() {
    let line = "{\"clusterKey\":\"default/default/default/cluster-1\",\"trustDomain\":\"cluster.local\",\
                \"exports\":[{\"namespace\":\"-\",\"name\":\"a\",\"serviceAccountName\":\"\",\"ports\":[]}]}\n";
    let script = Script::new(Does::Talks(line));
    run(&script, async |seen| {
        assert!(seen.until(Some(true)).await < SOON);
        sleep(SOON).await;
        assert!(seen.error().contains("left out 1"), "{}", seen.error());
    });
}
