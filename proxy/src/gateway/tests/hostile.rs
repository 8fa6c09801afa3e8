//! What a neighbour does that owns a workload's certificate there, a workload behind our gateway, or a whole gateway.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Method, Response, StatusCode};
use meshgate_identity::{ClientAlpn, SpiffeId, Who};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::edge::{self, CART, Edge, GATEWAY, TWO, WEB};
use super::{LONG, echo, local, raw, request, says_back};
use crate::clusters::wire;
use crate::error::ErrorKind;
use crate::gateway::TAKEN_BACK_MAX;
use crate::http::pool::{HttpVersion, Security, Upstream, Via};
use crate::tls::connect;
use crate::tunnel::{Open, REASON, TunnelStream, pool};

fn authority(name: &str) -> String {
    format!("{name}.shop.svc.clusterset.local:80")
}

/// A listener that takes no connection: its queue is full, and what comes is not answered.
async fn hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (address, mut held) = (listener.local_addr().unwrap(), Vec::new());
    while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        held.push(connected.unwrap());
    }
    (address, held, listener)
}

async fn ask(sender: &SendRequest<Bytes>, name: &str) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    sender.clone().ready().await?.send_request(request(Method::CONNECT, &authority(name)), false)
}

async fn answered(sender: &SendRequest<Bytes>, name: &str) -> (StatusCode, HeaderMap) {
    let (answer, _send) = ask(sender, name).await.unwrap();
    let answer = timeout(LONG, answer).await.unwrap().unwrap();
    (answer.status(), answer.headers().clone())
}

async fn tunnel(sender: &SendRequest<Bytes>, name: &str) -> Option<TunnelStream> {
    let (answer, send) = ask(sender, name).await.ok()?;
    let answer = timeout(LONG, answer).await.unwrap().ok()?;
    (answer.status() == StatusCode::OK).then(|| TunnelStream::new(send, answer.into_body(), Open::default().hold()))
}

/// The way to a workload behind a gateway.
fn upstream(via: Via, connect_timeout: Duration) -> Upstream {
    let expected = meshgate_identity::Expected {
        who: Who::Exactly(CART.parse::<SpiffeId>().unwrap()),
        cluster: Some(edge::ONE.into()),
    };
    Upstream {
        address: "0.0.0.0:0".parse().unwrap(),
        version: HttpVersion::Http1,
        security: Security::Mtls { expected, server_name: "cart.shop.svc.cluster.local".into() },
        source: None,
        connect_timeout,
        via: Some(via),
    }
}

#[tokio::test]
async fn what_fails_inside_a_tunnel_is_not_the_gateways_fault() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        edge.export(&[("cart", &[listener.local_addr().unwrap()], &[])]);
        let worker = &edge.caller.worker;
        let closing = spawn_local(async move {
            for _ in 0..2 {
                drop(listener.accept().await.unwrap());
            }
            listener
        });
        for _ in 0..2 {
            let closed = connect::connect(worker, &upstream(edge.via("cart"), LONG), ClientAlpn::Tcp).await;
            assert_eq!(closed.unwrap_err().kind, ErrorKind::TunnelNoEndpoint);
        }
        let _silent = closing.await.unwrap();
        let way = upstream(edge.via("cart"), Duration::from_millis(500));
        let silent = connect::connect(worker, &way, ClientAlpn::Tcp).await;
        assert_eq!(silent.unwrap_err().kind, ErrorKind::TunnelNoEndpoint);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_for_a_caller_is_to_it_as_if_there_were_none() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let here = echo().await;
        let exports: [(&str, &[SocketAddr], &[&str]); 2] =
            [("cart", &[here], &[]), ("targeted", &[here], &["default/default/default/three"])];
        edge.export(&exports);
        let sender = raw(&edge, "two", WEB).await;
        let nothing = answered(&sender, "missing").await;
        assert_eq!(nothing.0, StatusCode::NOT_FOUND);
        assert_eq!(answered(&sender, "targeted").await, nothing);
        edge.resources(
            "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: edge}, \
             spec: {action: DENY, rules: [{from: [{source: {namespaces: [web]}}]}]}}",
        );
        edge.export(&exports);
        let denied = answered(&sender, "cart").await;
        assert_eq!(denied.0, StatusCode::FORBIDDEN);
        for name in ["missing", "targeted"] {
            assert_eq!(answered(&sender, name).await, denied, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_costs_nobody_its_tunnels() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let (hole, _held, _listener) = hole().await;
        edge.export(&[("cart", &[echo().await], &[]), ("hole", &[hole], &[])]);
        let sender = raw(&edge, "two", WEB).await;
        let mut other = tunnel(&sender, "cart").await.unwrap();
        for _ in 0..3 {
            let mut asked = Vec::new();
            for _ in 0..90 {
                asked.push(ask(&sender, "hole").await.unwrap());
            }
            // Longer than what counts as taken back at once.
            sleep(Duration::from_millis(1300)).await;
            asked.iter_mut().for_each(|(_, send)| send.send_reset(Reason::CANCEL));
        }
        says_back(&mut other, b"still there").await;
        assert!(tunnel(&sender, "cart").await.is_some());
        // Those that are taken back at once do count; the connection takes no more then, and what is open goes on.
        let mut taken_back = 0;
        while taken_back < TAKEN_BACK_MAX + 20
            && let Ok((_, mut send)) = ask(&sender, "hole").await
        {
            taken_back += 1;
            tokio::task::yield_now().await;
            send.send_reset(Reason::CANCEL);
        }
        says_back(&mut other, b"still there").await;
        let refused = async {
            while tunnel(&sender, "cart").await.is_some() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, refused).await.unwrap();
        says_back(&mut other, b"even now").await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_reads_only_so_many_lists() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        edge.export(&[("cart", &[echo().await], &[])]);
        let sender = raw(&edge, "two", WEB).await;
        let get = || async {
            let get = request(Method::GET, &format!("https://gateway{}", wire::PATH));
            sender.clone().ready().await.unwrap().send_request(get, true).unwrap().0.await.unwrap()
        };
        let mut open = Vec::new();
        loop {
            let answer = get().await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                break;
            }
            open.push(answer);
            assert!(open.len() < 50, "nobody counts");
        }
        assert_eq!(open.len(), 4);
        open.clear();
        let again = async {
            while get().await.status() != StatusCode::OK {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONG, again).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn whoever_asked_first_may_go_away_and_the_others_get_their_tunnels() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        edge.export(&[("cart", &[echo().await], &[])]);
        // A slow way to the gateway.
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut via = edge.via("cart");
        edge::gateway_of(&mut via).port = front.local_addr().unwrap().port();
        let (accepted, gateway) = (Rc::new(Cell::new(0)), edge.address);
        let counted = Rc::clone(&accepted);
        spawn_local(async move {
            loop {
                let (mut near, _) = front.accept().await.unwrap();
                counted.set(counted.get() + 1);
                spawn_local(async move {
                    sleep(Duration::from_millis(500)).await;
                    let mut far = TcpStream::connect(gateway).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        let worker = &edge.caller.worker;
        let patient = Instant::now() + LONG;
        let first = timeout(Duration::from_millis(200), pool::open(worker, &via, patient));
        let (gone, opened) = tokio::join!(first, pool::open(worker, &via, patient));
        assert!(gone.is_err());
        says_back(&mut opened.unwrap(), b"hello").await;
        assert_eq!(accepted.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_may_have_comes_back_however_it_ends() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n  tunnelsPerCaller: 2\n  connectionsPerCaller: 3\n").await;
        let (hole, _held, _listener) = hole().await;
        let resetting = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reset = resetting.local_addr().unwrap();
        spawn_local(async move {
            loop {
                let (mut stream, _) = resetting.accept().await.unwrap();
                // Closed upon unread bytes: a reset.
                let _ = stream.readable().await;
                let _ = stream.write_all(b"x").await;
                drop(stream);
            }
        });
        edge.export(&[("cart", &[echo().await], &[]), ("hole", &[hole], &[]), ("reset", &[reset], &[])]);
        let both = |sender: SendRequest<Bytes>| async move {
            let all = async {
                loop {
                    let two = (tunnel(&sender, "cart").await, tunnel(&sender, "cart").await);
                    if let (Some(mut one), Some(mut other)) = two {
                        says_back(&mut one, b"one").await;
                        says_back(&mut other, b"other").await;
                        return;
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(LONG, all).await.unwrap();
        };
        let sender = raw(&edge, "two", WEB).await;
        for _ in 0..5 {
            // Taken back before, and after it was answered.
            let mut asked = [ask(&sender, "hole").await.unwrap(), ask(&sender, "hole").await.unwrap()];
            sleep(Duration::from_millis(20)).await;
            asked.iter_mut().for_each(|(_, send)| send.send_reset(Reason::CANCEL));
            both(sender.clone()).await;
            // Ended by the endpoint.
            let mut broken = tunnel(&sender, "reset").await.unwrap();
            broken.write_all(&[0; 1000]).await.unwrap();
            while broken.read(&mut [0; 10]).await.is_ok_and(|read| read > 0) {}
            drop(broken);
            both(sender.clone()).await;
            // Half closed, and the connection gone under it.
            let second = raw(&edge, "two", WEB).await;
            let (mut half, whole) = (tunnel(&second, "cart").await.unwrap(), tunnel(&second, "cart").await.unwrap());
            half.shutdown().await.unwrap();
            drop((second, half, whole));
            both(sender.clone()).await;
        }
        assert_eq!(edge.gateway.worker.shared.metrics.panics.get(), 0);
        drop(sender);
        let gone = async {
            while edge.gateway.worker.shared.gateways.callers.is_connected(&WEB.parse().unwrap()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, gone).await.unwrap();
    })
    .await;
}

/// A gateway of the right identity that does as it likes with every CONNECT.
async fn gateway(edge: &Edge, does: impl Fn(SendResponse<Bytes>) + 'static) -> Via {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut via = edge.via("cart");
    edge::gateway_of(&mut via).port = listener.local_addr().unwrap().port();
    let (identity, does) = (edge.identity("one", GATEWAY), Rc::new(does));
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (identity, does) = (Arc::clone(&identity), Rc::clone(&does));
            spawn_local(async move {
                let accepted =
                    crate::tls::accept::accept(crate::stream::Stream::new(stream), &identity, LONG).await.unwrap();
                let mut connection = h2::server::handshake(accepted.stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    std::mem::forget(request);
                    does(respond);
                }
            });
        }
    });
    via
}

type Does = Box<dyn Fn(SendResponse<Bytes>)>;

/// What a gateway may answer to CONNECT, and what that is taken for.
fn answers() -> Vec<(&'static str, ErrorKind, Does)> {
    fn answer(status: u16) -> Response<()> {
        Response::builder().status(status).body(()).unwrap()
    }
    vec![
        (
            "200 and no more",
            ErrorKind::TunnelNoEndpoint,
            Box::new(|mut respond| drop(respond.send_response(answer(200), true).unwrap())),
        ),
        (
            "200 and what is no TLS",
            ErrorKind::UpstreamTls,
            Box::new(|mut respond| {
                let mut send = respond.send_response(answer(200), false).unwrap();
                send.send_data(Bytes::from_static(&[b'x'; 10_000]), false).unwrap();
                std::mem::forget(send);
            }),
        ),
        (
            "elsewhere",
            ErrorKind::GatewayFailed,
            Box::new(|mut respond| {
                let mut elsewhere = answer(302);
                elsewhere.headers_mut().insert("location", "https://elsewhere".parse().unwrap());
                respond.send_response(elsewhere, true).unwrap();
            }),
        ),
        (
            "a reason that is none",
            ErrorKind::GatewayFailed,
            Box::new(|mut respond| {
                let mut odd = answer(503);
                odd.headers_mut().insert(REASON, "NO-READY-ENDPOINT".parse().unwrap());
                respond.send_response(odd, true).unwrap();
            }),
        ),
        ("nothing", ErrorKind::TunnelNoEndpoint, Box::new(std::mem::forget)),
        (
            "a great head",
            ErrorKind::GatewayFailed,
            Box::new(|mut respond| {
                let mut large = answer(200);
                large.headers_mut().insert("x-large", "a".repeat(17_000).parse().unwrap());
                std::mem::forget(respond.send_response(large, false));
            }),
        ),
        ("a reset", ErrorKind::GatewayFailed, Box::new(|mut respond| respond.send_reset(Reason::INTERNAL_ERROR))),
    ]
}

#[tokio::test]
async fn a_gateway_that_answers_as_it_likes_ends_nothing_but_the_try() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        edge.export(&[("cart", &[echo().await], &[TWO])]);
        let worker = &edge.caller.worker;
        for (what, expected, does) in answers() {
            let way = upstream(gateway(&edge, does).await, Duration::from_secs(2));
            let error = connect::connect(worker, &way, ClientAlpn::Tcp).await.unwrap_err();
            assert_eq!(error.kind, expected, "{what}: {error}");
            // A good one is not touched by it.
            says_back(&mut edge.open("cart").await.unwrap(), b"fine").await;
        }
        assert_eq!(worker.shared.metrics.panics.get(), 0);
    })
    .await;
}
