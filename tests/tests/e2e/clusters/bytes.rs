//! What passes through tunnels: large bodies beside readers that stall, the ends of either direction, tunnels that break.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use meshgate::sandbox::three::setting::{ACTIVE_ACTIVE, FAIL_OVER};
use meshgate::sandbox::three::{BYTES_PORT, ThreeClusters};
use meshgate::sandbox::{PodSpec, until};
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::app::{App, ok};
use crate::support::large::{MIB, count, large, peak, write};
use crate::support::more::{MORE, everywhere};
use crate::support::wire::Wire;

const LARGE: u64 = 64 * MIB;

/// What stalled readers and large bodies may add to a process: windows and buffers of a few tunnels, never the bodies.
const MOST_ADDED: u64 = 32 * MIB;

/// All requests for `more` go to cluster-3.
fn only_cluster_3() -> String {
    let policy = ACTIVE_ACTIVE.replace("name: httpbin", "name: more");
    policy.replace("cluster-1\n", "cluster-2\n    weight: 0\n")
}

/// Applications of which only the last one is ever called.
async fn only(application: App) -> [App; 3] {
    [App::ok().await, App::ok().await, application]
}

#[test]
fn large_bodies_pass_beside_readers_that_stall_in_little_memory() {
    run(async {
        let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
        let apps = only(large(LARGE).await).await;
        let (setting, pods) = everywhere(&mut clusters, "http", &apps).await;
        clusters.in_force(setting.with(1, only_cluster_3())).await.unwrap();
        let processes = [&clusters.curl, &clusters.members[2].gateway, &pods[2]];
        let before = processes.map(peak);
        let get = format!("GET / HTTP/1.1\r\nhost: {MORE}\r\n\r\n");
        let mut stalled = Vec::new();
        // Enough that both workers have some.
        for _ in 0..6 {
            let mut wire = Wire::connect(clusters.curl.outbound()).await;
            wire.send(&get).await;
            assert_eq!(wire.head().await.unwrap().status(), 200);
            stalled.push(wire);
        }
        for _ in 0..2 {
            let mut wire = Wire::connect(clusters.curl.outbound()).await;
            wire.send(&get).await;
            assert_eq!(wire.head().await.unwrap().status(), 200);
            let early = wire.buffered();
            assert_eq!(early + count(wire.stream(), LARGE - early).await, LARGE);
            wire.send(format!("PUT / HTTP/1.1\r\nhost: {MORE}\r\ncontent-length: {LARGE}\r\n\r\n")).await;
            write(wire.stream(), LARGE).await;
            assert_eq!(wire.answer().await.text(), LARGE.to_string());
        }
        for (process, before) in processes.into_iter().zip(before) {
            let added = peak(process) - before;
            println!("added {} KiB", added >> 10);
            assert!(added < MOST_ADDED, "{} MiB", added / MIB);
        }
        // They were held up, not lost.
        let wire = stalled.last_mut().unwrap();
        let early = wire.buffered();
        assert_eq!(early + count(wire.stream(), LARGE - early).await, LARGE);
    });
}

#[test]
fn either_end_of_a_tunnel_may_finish_first() {
    run(async {
        // Reads to the end, then says how much that was; and says `first`, ends, and counts what still comes.
        let counted = Rc::new(Cell::new(0));
        let total = Rc::clone(&counted);
        let app = App::tcp(async move |mut stream| {
            let mut first = [0];
            if stream.read_exact(&mut first).await.is_err() {
                return;
            }
            if &first == b"a" {
                let read = count(&mut stream, u64::MAX).await;
                let _ = stream.write_all(read.to_string().as_bytes()).await;
            } else {
                let _ = stream.write_all(b"first").await;
                let _ = stream.shutdown().await;
                total.set(count(&mut stream, u64::MAX).await);
            }
        });
        let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
        let apps = only(app.await).await;
        let (setting, _pods) = everywhere(&mut clusters, "tcp", &apps).await;
        clusters.in_force(setting.with(1, only_cluster_3())).await.unwrap();
        let at = SocketAddr::new(clusters.curl.address(), BYTES_PORT);
        let mut wire = Wire::connect(at).await;
        wire.send(b"a").await;
        wire.send(vec![b'x'; 300_000]).await;
        wire.end().await;
        assert_eq!(String::from_utf8(wire.rest().await).unwrap(), "300000");
        let mut wire = Wire::connect(at).await;
        wire.send(b"b").await;
        assert_eq!(wire.rest().await, b"first");
        wire.send(vec![b'x'; 300_000]).await;
        wire.end().await;
        until("the rest", async || (counted.get() == 300_000).then_some(())).await.unwrap();
    });
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends_after_the_idle_time() {
    run(async {
        let app = App::tcp(async |mut stream| {
            let mut buffer = [0; 16];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let _ = stream.write_all(&buffer[..read]).await;
            }
        });
        let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
        let apps = only(app.await).await;
        let (setting, _pods) = everywhere(&mut clusters, "tcp", &apps).await;
        clusters.in_force(setting.with(1, only_cluster_3())).await.unwrap();
        let two = &mut clusters.members[1];
        let spec = PodSpec {
            name: "hasty".to_owned(),
            namespace: "curl".to_owned(),
            service_account: "hasty".to_owned(),
            app: "hasty".to_owned(),
            outbound: vec![(BYTES_PORT, "10.96.0.30:9000".parse().unwrap())],
            bootstrap: "timeouts: {idle: 1s}\n".to_owned(),
            ..PodSpec::default()
        };
        let address = two.sandbox.next_address();
        let hasty = two.sandbox.start(&spec, address).await.unwrap();
        let mut wire = Wire::connect(SocketAddr::new(hasty.address(), BYTES_PORT)).await;
        let began = Instant::now();
        for _ in 0..4 {
            wire.send(b"0123456789abcdef").await;
            assert_eq!(wire.exactly(16).await.unwrap(), b"0123456789abcdef");
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        assert!(began.elapsed() > Duration::from_millis(1500), "what moves goes on");
        assert_eq!(wire.rest().await, b"");
        let gateway = &clusters.members[2].gateway;
        let ended = async || gateway.access_log().into_iter().find(|line| line["response_code"] == 200);
        let line = until("the tunnel's line", ended).await.unwrap();
        assert_eq!(line["peer"], "spiffe://cluster.local/ns/curl/sa/hasty");
    });
}

#[test]
fn a_tunnel_that_breaks_before_the_answer_is_asked_for_in_another_cluster_and_a_post_is_not() {
    run(async {
        let (arrive, arrived) = tokio::sync::watch::channel(0);
        // Takes requests and says nothing.
        let silent = App::tcp(async move |stream| {
            let mut wire = Wire::over(stream);
            while wire.request().await.is_some() {
                arrive.send_modify(|requests| *requests += 1);
            }
        });
        let mut clusters = ThreeClusters::start(crate::binary()).await.unwrap();
        let apps = [App::http1(|_| ok("from cluster-1")).await, App::ok().await, silent.await];
        let (setting, mut pods) = everywhere(&mut clusters, "http", &apps).await;
        // cluster-3 first, then cluster-1.
        let policy =
            FAIL_OVER.replace("name: httpbin", "name: more").replace("cluster-1\n", "cluster-1\n    priority: 2\n");
        let policy = policy + "  - clusterKey: default/default/default/cluster-2\n    weight: 0\n";
        clusters.in_force(setting.with(1, policy)).await.unwrap();
        let outbound = clusters.curl.outbound();
        // The two of `httpbin`, and this one: what is ready comes with the same list.
        let exports = "mesh_discovered_exports{cluster=\"default/default/default/cluster-1\"}";
        clusters.curl.until_metric(exports, |exports| exports >= 3.0).await.unwrap();
        // Until cluster-3's gateway has said that it has it, too, cluster-1 answers.
        let asked = async || {
            let mut get = Wire::connect(outbound).await;
            get.send(format!("GET / HTTP/1.1\r\nhost: {MORE}\r\n\r\n")).await;
            let mut here = arrived.clone();
            tokio::select! {
                _ = get.head() => None,
                _ = here.wait_for(|requests| *requests == 1) => Some(()),
            }
            .map(|()| get)
        };
        let mut get = until("a request in cluster-3", asked).await.unwrap();
        apps[0].take_seen();
        let mut post = Wire::connect(outbound).await;
        post.send(format!("POST / HTTP/1.1\r\nhost: {MORE}\r\ncontent-length: 2\r\n\r\nhi")).await;
        until("both in cluster-3", async || (*arrived.borrow() == 2).then_some(())).await.unwrap();
        clusters.members[2].gateway.kill();
        let answer = get.answer().await;
        assert_eq!((answer.status(), &*answer.text()), (200, "from cluster-1"));
        assert_eq!(post.answer().await.status(), 503);
        assert!(apps[0].take_seen().iter().all(|request| request.start.starts_with("GET")));
        pods.clear();
    });
}
