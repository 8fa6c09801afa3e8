//! Callers of HBONE that mean harm: what bounds anybody else's connections and requests bounds theirs, outside and in a tunnel.

use http::{Method, Request, StatusCode, Version};
use meshgate::sandbox::HBONE_PORT;
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::inbound::{authority, echoes, echoing, get, outer};
use crate::hostile::frames::{HEADERS, PING, RST_STREAM, SETTINGS, begin, fields, frame};
use crate::support::app::App;
use crate::support::backend::{Backend, FRONTEND, OTHER};
use crate::support::client::{handshake, tls};
use crate::support::soon;
use crate::support::tunnel::{Outer, ask};

#[test]
fn floods_on_an_outer_connection_end_it_and_no_other() {
    run(async {
        let (backend, app) = echoing("").await;
        let other = outer(&backend, OTHER).await;
        let mut tunnel = other.open(&authority(&backend)).await.unwrap();
        echoes(&mut tunnel).await;
        let connect = fields(&[(":method", "CONNECT"), (":authority", &authority(&backend))]);
        let rapid = |number: u32| {
            let stream = 2 * number + 1;
            [frame(HEADERS, 4, stream, &connect), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        };
        for (reason, bytes) in [
            ("control_frames", frame(PING, 0, 0, &[0; 8]).repeat(40_000)),
            ("control_frames", frame(SETTINGS, 0, 0, &[]).repeat(40_000)),
            ("", (0..6000).flat_map(rapid).collect()),
            ("", [frame(HEADERS, 0, 1, &connect), frame(9, 0, 1, &[0x82; 999]).repeat(999)].concat()),
        ] {
            let metric = format!("mesh_http2_excess_total{{peer=\"caller\",reason=\"{reason}\"}}");
            let before = backend.sidecar.metric(&metric).await.unwrap_or_default();
            let config = std::sync::Arc::new(tls(Some(&backend.issue(FRONTEND)), "h2"));
            let stream = handshake(backend.sidecar.hbone(), &config).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let sending = tokio::task::spawn_local(async move {
                let _ = write.write_all(&[begin(), bytes].concat()).await;
                write
            });
            // How it ends is the attacker's affair; that it does, and why, is ours.
            let _ = soon("the end of the attacker", read.read_to_end(&mut Vec::new())).await;
            sending.abort();
            // h2 itself may be the first to see streams that are taken back.
            if !reason.is_empty() {
                backend.sidecar.until_metric(&metric, |count| count > before).await.unwrap();
            }
        }
        echoes(&mut tunnel).await;
        assert_eq!(app.connections(), 1, "the application was reached by what was taken back");
    });
}

#[test]
fn a_peers_connections_and_all_requests_are_counted_in_tunnels_too() {
    run(async {
        let app = App::tcp(async |mut stream| {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let backend = Backend::start_with(|_, pod| {
            pod.hbone = Some("");
            pod.application = Some(app.address());
            pod.bootstrap = "limits: {connectionsPerPeer: 3, requestsInFlight: 2}\n".to_owned();
        })
        .await;
        let mut outers = Vec::new();
        for _ in 0..3 {
            outers.push(outer(&backend, FRONTEND).await);
        }
        let fourth = Outer::with(backend.sidecar.hbone(), tls(Some(&backend.issue(OTHER)), "h2")).await;
        assert!(fourth.is_err(), "a fourth connection from one address");
        let mut held = Vec::new();
        for outer in &outers[..2] {
            let mut tunnel = outer.open(&authority(&backend)).await.unwrap();
            tunnel.write_all(get("/held").as_bytes()).await.unwrap();
            held.push(tunnel);
        }
        let reached = || (app.connections() == 2).then_some(());
        meshgate::sandbox::until("two requests", async || reached()).await.unwrap();
        let mut third = outers[2].open(&authority(&backend)).await.unwrap();
        let answer = ask(&mut third, &get("/")).await;
        assert!(["HTTP/1.1 429 ", "HTTP/1.1 503 "].iter().any(|refused| answer.starts_with(refused)), "{answer}");
    });
}

#[test]
fn there_is_no_tunnel_in_a_tunnel() {
    run(async {
        let app = App::ok().await;
        let backend = Backend::start_with(|_, pod| {
            pod.hbone = Some("");
            pod.application = Some(app.address());
        })
        .await;
        let outer = outer(&backend, FRONTEND).await;
        let own = format!("{}:{HBONE_PORT}", backend.sidecar.inbound().ip());
        assert_eq!(outer.open(&own).await.unwrap_err(), StatusCode::LOOP_DETECTED);
        for authority in [&own, &authority(&backend)] {
            let mut tunnel = outer.open(&self::authority(&backend)).await.unwrap();
            let answer = ask(&mut tunnel, &format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            let tunnel = outer.open(&self::authority(&backend)).await.unwrap();
            let (mut sender, connection) = h2::client::handshake(tunnel).await.unwrap();
            tokio::task::spawn_local(connection);
            let request = Request::builder().method(Method::CONNECT).uri(authority.as_str()).version(Version::HTTP_2);
            let (answer, _send) = sender.send_request(request.body(()).unwrap(), false).unwrap();
            let answer = soon("an answer", answer).await.map(|answer| answer.status());
            assert!(answer.as_ref().is_ok_and(StatusCode::is_client_error) || answer.is_err(), "{answer:?}");
        }
        assert_eq!(app.connections(), 0);
    });
}
