//! What comes in through tunnels.

use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use meshgate::sandbox::{ADMIN_PORT, HBONE_PORT, OUTBOUND_PORT, POD_PORT, until};
use meshgate::tunnel::TunnelStream;
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::App;
use crate::support::backend::{BACKEND, Backend, FRONTEND, HELLO, OTHER, deny_path, ended, mtls, policy, signal};
use crate::support::client::{Client, MESH_HTTP1, alert, tls, tls_of};
use crate::support::mesh::{logged, logged_path};
use crate::support::soon;
use crate::support::tunnel::{Outer, ask};
use crate::support::wire::Wire;

/// The backend, with tunnels and the resources that are in force.
async fn backend(resources: &str) -> Backend {
    Backend::start_with(|sandbox, pod| {
        pod.hbone = Some("");
        sandbox.write_resource("policy.yaml", resources).unwrap();
    })
    .await
}

/// The same before an application that sends back what it gets, and the connections that it ever had.
pub(super) async fn echoing(bootstrap: &str) -> (Backend, App) {
    let app = App::tcp(async |mut stream| {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let backend = Backend::start_with(|_, pod| {
        pod.hbone = Some("");
        pod.application = Some(app.address());
        pod.bootstrap = bootstrap.to_owned();
    });
    (backend.await, app)
}

/// How its application is asked for.
pub(super) fn authority(backend: &Backend) -> String {
    backend.sidecar.inbound().to_string()
}

pub(super) async fn outer(backend: &Backend, id: &str) -> Outer {
    Outer::connect(backend.sidecar.hbone(), &backend.issue(id)).await
}

fn only(id: &str) -> String {
    let principal = id.strip_prefix("spiffe://").unwrap();
    policy("only", &format!("{{action: ALLOW, rules: [{{from: [{{source: {{principals: [\"{principal}\"]}}}}]}}]}}"))
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: backend\r\nconnection: close\r\n\r\n")
}

pub(super) async fn echoes(tunnel: &mut TunnelStream) {
    let (sent, mut heard) = ([1, 2, 3, b'\n'], [0; 4]);
    tunnel.write_all(&sent).await.unwrap();
    soon("the echo", tunnel.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, sent);
}

#[test]
fn requests_in_a_tunnel_are_judged_as_requests_of_who_made_the_outer_connection() {
    run(async {
        let backend = backend(&(mtls("STRICT") + "---\n" + &deny_path("/secret*") + "---\n" + &only(FRONTEND))).await;
        let outer = outer(&backend, FRONTEND).await;
        // Several on one outer connection, at the same time.
        let mut first = Client::http1(outer.open(&authority(&backend)).await.unwrap()).await;
        let mut second = Client::http1(outer.open(&authority(&backend)).await.unwrap()).await;
        for client in [&mut first, &mut second] {
            for (path, expected) in [("/", 200), ("/secret", 403), ("/other", 200), ("/secret/%61", 403)] {
                assert_eq!(client.get(path).await.unwrap().0, expected, "{path}");
            }
        }
        assert_eq!(backend.hits(), 4);
        let line = logged_path(&backend.sidecar, "/other").await;
        assert_eq!((&line["peer"], &line["direction"]), (&FRONTEND.into(), &"inbound".into()), "{line:#}");
        assert_eq!(line["downstream_local_address"], authority(&backend));
        let line = logged_path(&backend.sidecar, "/secret").await;
        assert_eq!((&line["peer"], &line["response_code"]), (&FRONTEND.into(), &403.into()), "{line:#}");
        // Whose proxy says so in the request is not who calls.
        let claims = "GET /claims HTTP/1.1\r\nhost: backend\r\nx-forwarded-client-cert: URI=spiffe://cluster.local/ns/a/sa/b\r\n\
                      connection: close\r\n\r\n";
        let answer = ask(&mut outer.open(&authority(&backend)).await.unwrap(), claims).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(HELLO), "{answer}");
        assert_eq!(logged_path(&backend.sidecar, "/claims").await["peer"], FRONTEND);
    });
}

#[test]
fn whom_no_policy_lets_in_gets_no_tunnel_and_is_written_down() {
    run(async {
        let backend = backend(&only(FRONTEND)).await;
        let outer = outer(&backend, OTHER).await;
        assert_eq!(outer.open(&authority(&backend)).await.unwrap_err(), StatusCode::FORBIDDEN);
        let line = logged(&backend.sidecar, |line| line["response_code"] == 403).await;
        assert_eq!((&line["peer"], &line["response_flags"]), (&OTHER.into(), &"RBAC".into()), "{line:#}");
        assert_eq!(line["authority"], authority(&backend));
        assert_eq!(backend.hits(), 0);
    });
}

#[test]
fn what_is_said_beside_a_connect_changes_nothing_about_who_calls_from_where() {
    run(async {
        let block = "{action: ALLOW, rules: [{from: [{source: {remoteIpBlocks: [\"203.0.113.0/24\"]}}]}]}";
        let backend = backend(&policy("from-there", block)).await;
        let outer = outer(&backend, FRONTEND).await;
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7;host=other"),
            (
                "baggage",
                "k8s.namespace.name=other,k8s.pod.name=other,source.principal=spiffe://cluster.local/ns/a/sa/b",
            ),
            ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/default/sa/other"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-envoy-original-dst-host", "127.0.0.1:22"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let refused = outer.open_with(&authority(&backend), headers.clone()).await.unwrap_err();
        assert_eq!((refused, backend.hits()), (StatusCode::FORBIDDEN, 0));
        backend.put("policy.yaml", &only(FRONTEND)).await;
        let mut tunnel = outer.open_with(&authority(&backend), headers).await.unwrap();
        assert!(ask(&mut tunnel, &get("/")).await.ends_with(HELLO));
    });
}

#[test]
fn a_tunnel_leads_to_this_pods_application_and_nowhere_else() {
    run(async {
        let reached = App::ok().await;
        let backend = backend(&mtls("STRICT")).await;
        let outer = outer(&backend, FRONTEND).await;
        let ip = backend.sidecar.address();
        for (authority, expected) in [
            // Another's address, the application's own behind us, names.
            (format!("127.0.0.1:{}", reached.address().port()), 400),
            (reached.address().to_string(), 400),
            (format!("backend.default.svc.cluster.local:{POD_PORT}"), 400),
            ("169.254.169.254:80".to_owned(), 400),
            (format!("[::1]:{POD_PORT}"), 400),
            // No listener leads there.
            (format!("{ip}:9999"), 400),
            // Our own ports.
            (format!("{ip}:{HBONE_PORT}"), 508),
            (format!("{ip}:{OUTBOUND_PORT}"), 508),
            (format!("{ip}:{ADMIN_PORT}"), 508),
        ] {
            let refused = outer.open(&authority).await.unwrap_err();
            assert_eq!(refused.as_u16(), expected, "{authority}");
        }
        let request = |method: Method, path: &str| {
            Request::builder().method(method).uri(format!("https://{}{path}", authority(&backend))).body(()).unwrap()
        };
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            assert_eq!(outer.status(request(method, "/")).await, StatusCode::BAD_REQUEST);
        }
        // CONNECT that has a path, and one for a protocol.
        let mut extended = request(Method::CONNECT, "/");
        extended.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        if let Ok((answer, _)) = outer.send(extended, false).await {
            assert!(soon("a refusal", answer).await.is_err());
        }
        assert_eq!((reached.connections(), backend.hits()), (0, 0));
        let again = self::outer(&backend, FRONTEND).await;
        let mut tunnel = again.open(&authority(&backend)).await.unwrap();
        assert!(ask(&mut tunnel, &get("/")).await.ends_with(HELLO));
    });
}

#[test]
fn who_shows_no_certificate_speaks_plaintext_or_no_http_2_gets_no_tunnel() {
    run(async {
        let backend = backend("").await;
        let address = backend.sidecar.hbone();
        let refused = alert(address, tls(None, "h2")).await;
        assert_eq!(refused, Ok(rustls::AlertDescription::CertificateRequired));
        let frontend = backend.issue(FRONTEND);
        let old = tls_of(&[&rustls::version::TLS12], Some(&frontend), "h2");
        assert_eq!(alert(address, old).await, Ok(rustls::AlertDescription::ProtocolVersion));
        let stranger = crate::support::pki::Authority::new("cluster.local").issue(FRONTEND);
        assert!(Outer::with(address, tls(Some(&stranger), "h2")).await.is_err());
        assert!(Outer::with(address, tls(Some(&frontend), MESH_HTTP1)).await.is_err());
        for plain in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            let mut wire = Wire::connect(address).await;
            wire.send(plain).await;
            assert_eq!(wire.rest().await, b"", "{plain:?}");
        }
        assert_eq!(backend.hits(), 0);
    });
}

#[test]
fn bytes_go_both_ways_and_each_direction_ends_by_itself() {
    run(async {
        let (backend, app) = echoing("").await;
        let outer = outer(&backend, FRONTEND).await;
        let mut tunnel = outer.open(&authority(&backend)).await.unwrap();
        let large = vec![7; 1 << 20];
        let (mut read, mut write) = tokio::io::split(&mut tunnel);
        let writing = async {
            write.write_all(b"\x01").await.unwrap();
            write.write_all(&large).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let (heard_all, ()) = soon("all of it", async { tokio::join!(read.read_to_end(&mut heard), writing) }).await;
        assert_eq!((heard_all.unwrap(), app.connections()), (large.len() + 1, 1));
        let line = logged(&backend.sidecar, |line| line["protocol"] == "TCP").await;
        assert_eq!((&line["peer"], &line["bytes_received"]), (&FRONTEND.into(), &((1 << 20) + 1).into()), "{line:#}");
    });
}

#[test]
fn a_policy_that_is_withdrawn_ends_what_is_open_and_nothing_of_others() {
    run(async {
        let (backend, _app) = echoing("").await;
        let (theirs, others) = (outer(&backend, FRONTEND).await, outer(&backend, OTHER).await);
        let mut forbidden = theirs.open(&authority(&backend)).await.unwrap();
        let mut allowed = others.open(&authority(&backend)).await.unwrap();
        echoes(&mut forbidden).await;
        echoes(&mut allowed).await;
        backend.put("policy.yaml", &only(OTHER)).await;
        let end = soon("the end of the tunnel", forbidden.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert_eq!(theirs.open(&authority(&backend)).await.unwrap_err(), StatusCode::FORBIDDEN);
        echoes(&mut allowed).await;
        let line = logged(&backend.sidecar, |line| line["response_flags"] == "RBAC").await;
        assert_eq!(line["peer"], FRONTEND);
    });
}

#[test]
fn one_caller_has_so_many_tunnels_and_connections_and_no_more() {
    run(async {
        let app = App::ok().await;
        let backend = Backend::start_with(|_, pod| {
            pod.application = Some(app.address());
            pod.hbone = Some("connectionsPerCaller: 2, tunnelsPerCaller: 3, tunnelsPerConnection: 2");
        })
        .await;
        let (first, second) = (outer(&backend, FRONTEND).await, outer(&backend, FRONTEND).await);
        let third = Outer::with(backend.sidecar.hbone(), tls(Some(&backend.issue(FRONTEND)), "h2")).await;
        assert!(third.is_err(), "a third connection of one caller");
        let mut held = Vec::new();
        for outer in [&first, &first, &second] {
            held.push(outer.open(&authority(&backend)).await.unwrap());
        }
        assert_eq!(second.open(&authority(&backend)).await.unwrap_err(), StatusCode::TOO_MANY_REQUESTS);
        // Others have their own, and what is given back can be had again.
        outer(&backend, OTHER).await.open(&authority(&backend)).await.unwrap();
        held.clear();
        let again = until("another tunnel", async || second.open(&authority(&backend)).await.ok());
        again.await.unwrap();
    });
}

#[test]
fn a_drain_refuses_new_tunnels_and_lets_open_ones_end() {
    run(async {
        let (mut backend, _app) = echoing("timeouts: {drain: 60s}\n").await;
        let outer = outer(&backend, FRONTEND).await;
        let mut tunnel = outer.open(&authority(&backend)).await.unwrap();
        echoes(&mut tunnel).await;
        signal(&backend.sidecar, "TERM");
        let request = || {
            let request = Request::builder().method(Method::CONNECT).uri(authority(&backend));
            request.version(http::Version::HTTP_2).body(()).unwrap()
        };
        let refused = until("GOAWAY", async || match outer.send(request(), false).await {
            Err(_) => Some(()),
            Ok((answer, _)) => answer.await.is_err().then_some(()),
        });
        refused.await.unwrap();
        echoes(&mut tunnel).await;
        tunnel.shutdown().await.unwrap();
        assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
        assert!(soon("the end of the process", ended(&mut backend.sidecar)).await.success());
        assert!(outer.is_closed());
    });
}

#[test]
fn who_keeps_asking_and_giving_up_is_sent_away_and_costs_the_application_nothing() {
    run(async {
        let (backend, app) = echoing("").await;
        let outer = outer(&backend, FRONTEND).await;
        let flood = async {
            for sent in 0..100_000 {
                let request = Request::builder().method(Method::CONNECT).uri(authority(&backend));
                let request = request.version(http::Version::HTTP_2).body(()).unwrap();
                let Ok((answer, mut stream)) = outer.send(request, false).await else { return sent };
                if sent % 2 == 0 && answer.await.is_err() {
                    return sent;
                }
                stream.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
            }
            panic!("nobody minds");
        };
        let sent = soon("the end of the connection", flood).await;
        assert!(sent < 10_000, "{sent}");
        assert_eq!(app.connections(), 0);
        let again = self::outer(&backend, OTHER).await;
        let mut tunnel = again.open(&authority(&backend)).await.unwrap();
        echoes(&mut tunnel).await;
    });
}

#[test]
fn our_own_certificate_opens_no_door_that_others_find_closed() {
    run(async {
        let backend = backend(&only(FRONTEND)).await;
        let outer = outer(&backend, BACKEND).await;
        assert_eq!(outer.open(&authority(&backend)).await.unwrap_err(), StatusCode::FORBIDDEN);
    });
}
