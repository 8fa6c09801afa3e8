//! Both ends of tunnels together, over real sockets.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode, Version};
use meshgate_identity::{ClientAlpn, Expected};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Duration, Instant, timeout};

use crate::clusters::wire::{self, Exported};
use crate::drain::Phase;
use crate::error::ErrorKind;
use crate::http::pool::{HttpVersion, Security, Upstream};
use crate::tls::connect::{self, Connected};
use crate::tunnel::{TunnelStream, dial, pool};
use edge::{CART, Edge, GATEWAY, TWO, WEB};

pub(crate) mod edge;
mod hostile;
mod trust;

const LONG: Duration = Duration::from_secs(20);

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(timeout(LONG * 2, test)).await.expect("in time");
}

/// An endpoint that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            spawn_local(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

/// An address that nobody listens on.
async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn says_back(tunnel: &mut TunnelStream, text: &[u8]) {
    tunnel.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    timeout(LONG, tunnel.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text);
}

/// A bare HTTP/2 connection to the gateway, as somebody makes it.
async fn raw(edge: &Edge, cluster: &str, id: &str) -> SendRequest<Bytes> {
    let gateway = edge.caller.worker.shared.clusters.gateway(&edge.gateway_address());
    let own = &edge.caller.worker.shared.own;
    let stream = dial::dial(&gateway, &edge.identity(cluster, id), own, LONG).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

async fn status(sender: &SendRequest<Bytes>, request: Request<()>) -> Result<StatusCode, h2::Error> {
    let (answer, _send) = sender.clone().ready().await?.send_request(request, true)?;
    Ok(answer.await?.status())
}

fn request(method: Method, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).version(Version::HTTP_2).body(()).unwrap()
}

#[tokio::test]
async fn tunnels_share_a_connection_and_go_to_endpoints_in_turn() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let (first, second) = (echo().await, echo().await);
        edge.export(&[("cart", &[first, closed().await, second], &[])]);
        let mut tunnels = Vec::new();
        for number in 0..12_u8 {
            let mut tunnel = edge.open("cart").await.unwrap();
            says_back(&mut tunnel, &[number; 1000]).await;
            tunnels.push(tunnel);
        }
        assert_eq!(edge.accepted.get(), 1);
        for tunnel in &mut tunnels {
            tunnel.shutdown().await.unwrap();
            assert_eq!(tunnel.read(&mut [0; 1]).await.unwrap(), 0);
        }
        drop(tunnels);
        for endpoint in [first, second] {
            let line = edge.logged(|line| line["upstream_host"] == endpoint.to_string()).await;
            assert_eq!((line["direction"].as_str(), line["peer"].as_str()), (Some("gateway"), Some(WEB)));
            assert_eq!(line["peer_cluster"], TWO);
            assert_eq!(line["upstream_cluster"], "cart.shop.svc.cluster.local");
            assert_eq!(line["authority"], "cart.shop.svc.clusterset.local:80");
            assert_eq!((line["bytes_received"].as_u64(), line["bytes_sent"].as_u64()), (Some(1000), Some(1000)));
            assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(200), Some("-")));
        }
    })
    .await;
}

#[tokio::test]
async fn tells_the_caller_whose_fault_it_is() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let (here, gone) = (echo().await, closed().await);
        let elsewhere = ["default/default/default/three"];
        edge.export(&[
            ("cart", &[here], &[TWO]),
            ("empty", &[], &[]),
            ("broken", &[gone], &[]),
            ("targeted", &[here], &elsewhere),
        ]);
        assert!(edge.open("cart").await.is_ok());
        for (name, expected, flags) in [
            ("missing", ErrorKind::TunnelRefused, "NR"),
            ("targeted", ErrorKind::TunnelRefused, "RBAC"),
            ("empty", ErrorKind::TunnelNoEndpoint, "UH"),
            ("broken", ErrorKind::TunnelNoEndpoint, "UF"),
        ] {
            let error = edge.open(name).await.unwrap_err();
            assert_eq!(error.kind, expected, "{name}: {error}");
            let asked = format!("{name}.shop.svc.clusterset.local:80");
            let line = edge.logged(|line| line["authority"] == asked.as_str()).await;
            assert_eq!(line["response_flags"], flags, "{line}");
        }
        // About the gateway itself.
        let mut via = edge.via("cart");
        let deadline = || Instant::now() + LONG;
        let nobody = closed().await;
        let address = edge::gateway_of(&mut via);
        address.port = nobody.port();
        let error = pool::open(&edge.caller.worker, &via, deadline()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::GatewayFailed, "{error}");
        let mut via = edge.via("cart");
        edge::gateway_of(&mut via).identity = CART.parse().unwrap();
        let error = pool::open(&edge.caller.worker, &via, deadline()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::GatewayTls, "{error}");
        // Who is vouched for by another cluster's roots is nobody's gateway.
        let mut via = edge.via("cart");
        edge::gateway_of(&mut via).cluster = TWO.parse().unwrap();
        assert!(pool::open(&edge.caller.worker, &via, deadline()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn the_workload_sees_the_caller_and_the_gateway_sees_nothing() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        edge.export(&[("cart", &[listener.local_addr().unwrap()], &[])]);
        let cart = edge.identity("one", CART);
        let workload = spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // What the gateway passes on begins like TLS, and is none of its own.
            let mut first = [0; 3];
            stream.peek(&mut first).await.unwrap();
            let mut accepted =
                crate::tls::accept::accept(crate::stream::Stream::new(stream), &cart, LONG).await.unwrap();
            let mut question = [0; 8];
            accepted.stream.read_exact(&mut question).await.unwrap();
            accepted.stream.write_all(b"answer").await.unwrap();
            accepted.stream.shutdown().await.unwrap();
            (first, accepted.peer.id.unwrap().to_string(), question)
        });
        let upstream = Upstream {
            address: "0.0.0.0:0".parse().unwrap(),
            version: HttpVersion::Http1,
            security: Security::Mtls {
                expected: Expected {
                    who: CART.parse::<meshgate_identity::SpiffeId>().map(meshgate_identity::Who::Exactly).unwrap(),
                    cluster: Some(edge::ONE.into()),
                },
                server_name: "cart.shop.svc.cluster.local".into(),
            },
            source: None,
            connect_timeout: LONG,
            via: Some(edge.via("cart")),
        };
        let connected = connect::connect(&edge.caller.worker, &upstream, ClientAlpn::Tcp).await.unwrap();
        let Connected::Tls(mut stream, _) = connected else { panic!("no TLS inside") };
        stream.write_all(b"question").await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        let (first, peer, question) = workload.await.unwrap();
        assert_eq!((first, peer.as_str(), &question), ([22, 3, 1], WEB, b"question"));
        // Another workload behind the same gateway is not taken for it.
        let Security::Mtls { server_name, .. } = upstream.security.clone() else { unreachable!() };
        let expected = Expected::from(GATEWAY.parse::<meshgate_identity::SpiffeId>().unwrap());
        let wrong = Upstream { security: Security::Mtls { expected, server_name }, ..upstream };
        let (listener, cart) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), edge.identity("one", CART));
        edge.export(&[("cart", &[listener.local_addr().unwrap()], &[])]);
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = crate::tls::accept::accept(crate::stream::Stream::new(stream), &cart, LONG).await;
        });
        let error = connect::connect(&edge.caller.worker, &wrong, ClientAlpn::Tcp).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamTls, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_new_configuration_closes_what_it_no_longer_allows() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let here = echo().await;
        edge.export(&[("cart", &[here], &[]), ("stock", &[here], &[])]);
        let (mut cart, mut stock) = (edge.open("cart").await.unwrap(), edge.open("stock").await.unwrap());
        says_back(&mut cart, b"before").await;
        edge.export(&[("stock", &[here], &[])]);
        assert!(timeout(LONG, cart.read(&mut [0; 1])).await.unwrap().is_err());
        says_back(&mut stock, b"still there").await;
        edge.resources(
            "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: edge}, \
             spec: {action: DENY, rules: [{from: [{source: {namespaces: [web]}}]}]}}",
        );
        edge.export(&[("stock", &[here], &[])]);
        assert!(timeout(LONG, stock.read(&mut [0; 1])).await.unwrap().is_err());
        assert_eq!(edge.open("stock").await.unwrap_err().kind, ErrorKind::TunnelRefused);
        let line = edge.logged(|line| line["response_code"] == 403).await;
        assert_eq!((line["verdict"].as_str(), line["policy"].as_str()), (Some("deny"), Some("edge/p rule 0")));
    })
    .await;
}

#[tokio::test]
async fn one_caller_gets_so_much_and_no_more() {
    local(async {
        let limits = "  listeners: ['127.0.0.1:0']\n  tunnelsPerCaller: 3\n  tunnelsPerConnection: 2\n  connectionsPerCaller: 2\n";
        let edge = Edge::new(limits).await;
        let here = echo().await;
        edge.export(&[("cart", &[here], &[])]);
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut tunnel = edge.open("cart").await.unwrap();
            says_back(&mut tunnel, b"hello").await;
            held.push(tunnel);
        }
        assert_eq!(edge.accepted.get(), 2, "the third does not fit on the first connection");
        assert_eq!(edge.open("cart").await.unwrap_err().kind, ErrorKind::TunnelRefused);
        edge.logged(|line| line["response_code"] == 429).await;
        // Somebody else is not concerned.
        let other = raw(&edge, "two", "spiffe://td/ns/web/sa/other").await;
        let asked = request(Method::CONNECT, "cart.shop.svc.clusterset.local:80");
        assert_eq!(status(&other, asked).await.unwrap(), StatusCode::OK);
        drop(held.pop());
        let again = async {
            loop {
                match edge.open("cart").await {
                    Ok(tunnel) => break tunnel,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        says_back(&mut timeout(LONG, again).await.unwrap(), b"again").await;
        // A third connection is closed.
        let third = edge.identity("two", WEB);
        let gateway = edge.caller.worker.shared.clusters.gateway(&edge.gateway_address());
        let stream = dial::dial(&gateway, &third, &edge.caller.worker.shared.own, LONG).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        assert!(timeout(LONG, connection).await.is_ok());
        drop::<SendRequest<Bytes>>(sender);
    })
    .await;
}

#[tokio::test]
async fn tunnels_live_on_while_a_gateway_drains() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let here = echo().await;
        edge.export(&[("cart", &[here], &[])]);
        let mut tunnel = edge.open("cart").await.unwrap();
        says_back(&mut tunnel, b"before").await;
        edge.gateway.drain.advance(Phase::Draining);
        // The same moment is seen by every task; what was told to go away takes no more.
        let refused = async {
            loop {
                match edge.open("cart").await {
                    Ok(_) => tokio::task::yield_now().await,
                    Err(error) => break error,
                }
            }
        };
        let error = timeout(LONG, refused).await.unwrap();
        assert_eq!(error.kind, ErrorKind::GatewayFailed, "{error}");
        says_back(&mut tunnel, b"still there").await;
        tunnel.shutdown().await.unwrap();
        assert_eq!(tunnel.read(&mut [0; 1]).await.unwrap(), 0);
        drop(tunnel);
        timeout(LONG, edge.gateway.worker.open.none_left()).await.unwrap();
    })
    .await;
}

async fn line(body: &mut h2::RecvStream, buffer: &mut Vec<u8>) -> String {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            return String::from_utf8(buffer.drain(..=end).collect()).unwrap().trim_end().to_owned();
        }
        let data = timeout(LONG, body.data()).await.unwrap().unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        buffer.extend_from_slice(&data);
    }
}

#[tokio::test]
async fn says_what_a_caller_may_call_and_again_when_that_changes() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let here = echo().await;
        edge.export(&[("cart", &[here], &[]), ("stock", &[], &[TWO]), ("other", &[here], &["a/b/c/d"])]);
        let sender = raw(&edge, "two", WEB).await;
        let get = request(Method::GET, &format!("https://gateway{}", wire::PATH));
        let (answer, _) = sender.clone().ready().await.unwrap().send_request(get, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["content-type"], wire::CONTENT_TYPE);
        let (mut body, mut buffer) = (answer.into_body(), Vec::new());
        let ready = |said: &str| {
            let said: Exported = serde_json::from_str(said).unwrap();
            assert_eq!((said.cluster_key.as_str(), said.trust_domain.as_str()), (edge::ONE, "td"));
            said.exports.iter().map(|s| (s.name.clone(), s.ports[0].ready)).collect::<Vec<_>>()
        };
        let said = line(&mut body, &mut buffer).await;
        assert_eq!(ready(&said), [("cart".into(), 1), ("stock".into(), 0)]);
        edge.export(&[("cart", &[here], &[]), ("stock", &[here], &[TWO])]);
        let said = line(&mut body, &mut buffer).await;
        assert_eq!(ready(&said), [("cart".into(), 1), ("stock".into(), 1)]);
        assert_eq!(line(&mut body, &mut buffer).await, "", "somebody is still there");
        edge.resources(
            "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: edge}, \
             spec: {action: DENY, rules: [{to: [{operation: {hosts: ['stock.*']}}]}]}}",
        );
        edge.export(&[("cart", &[here], &[]), ("stock", &[here], &[TWO])]);
        let mut said = String::new();
        while said.is_empty() {
            said = line(&mut body, &mut buffer).await;
        }
        assert_eq!(ready(&said), [("cart".into(), 1)], "what a policy does not let it call it is not told of");
        edge.gateway.drain.advance(Phase::Draining);
        assert!(timeout(LONG, async { while body.data().await.is_some_and(|data| data.is_ok()) {} }).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn takes_mutual_tls_alone() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        edge.export(&[("cart", &[echo().await], &[])]);
        let mut plain = TcpStream::connect(edge.address).await.unwrap();
        plain.write_all(b"GET /cart HTTP/1.1\r\nHost: gateway\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(LONG, plain.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty());
        edge.logged(|line| line["response_flags"] == "DOWNSTREAM_TLS").await;
        // Of an authority that nobody here knows.
        let stranger = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let gateway = edge.caller.worker.shared.clusters.gateway(&edge.gateway_address());
        let dialled = dial::dial(&gateway, &stranger.identity("two", WEB), &edge.caller.worker.shared.own, LONG).await;
        assert_eq!(dialled.unwrap_err().kind, ErrorKind::GatewayTls);
    })
    .await;
}

#[tokio::test]
async fn hostile_requests_end_nothing_but_themselves() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let here = echo().await;
        edge.export(&[("cart", &[here], &[])]);
        let sender = raw(&edge, "two", WEB).await;
        for (method, uri, expected) in [
            (Method::GET, "https://gateway/", 404),
            (Method::GET, "https://gateway/meshgate/v1/exports/", 404),
            (Method::POST, "https://gateway/meshgate/v1/exports", 405),
            (Method::TRACE, "https://gateway/", 405),
            (Method::CONNECT, "127.0.0.1:22", 400),
            (Method::CONNECT, "cart.shop.svc.clusterset.local:81", 404),
            (Method::CONNECT, "user@cart.shop.svc.clusterset.local:80", 400),
        ] {
            let got = status(&sender, request(method.clone(), uri)).await.map(|status| status.as_u16());
            assert_eq!(got.unwrap(), expected, "{method} {uri}");
        }
        let mut extended = request(Method::CONNECT, "https://cart.shop.svc.clusterset.local/");
        extended.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        assert!(status(&sender, extended).await.is_err());
        let mut large = request(Method::CONNECT, "cart.shop.svc.clusterset.local:80");
        large.headers_mut().insert("x-large", "a".repeat(20_000).parse().unwrap());
        assert!(!matches!(status(&sender, large).await, Ok(StatusCode::OK)));
        let again = raw(&edge, "two", WEB).await;
        let fine = status(&again, request(Method::CONNECT, "cart.shop.svc.clusterset.local:80")).await;
        assert_eq!(fine.unwrap(), StatusCode::OK);
        assert_eq!(edge.gateway.worker.shared.metrics.panics.get(), 0);
    })
    .await;
}

/// A HEADERS frame that ends nothing, with every field written out.
fn headers(stream: u8, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend([0, u8::try_from(name.len()).unwrap()]);
        block.extend(name.bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(*value);
    }
    [&[0, 0, u8::try_from(block.len()).unwrap(), 1, 4, 0, 0, 0, stream], &block[..]].concat()
}

#[tokio::test]
async fn a_connect_that_is_none_is_reset_and_the_connection_goes_on() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        edge.export(&[("cart", &[echo().await], &[])]);
        let gateway = edge.caller.worker.shared.clusters.gateway(&edge.gateway_address());
        let identity = edge.identity("two", WEB);
        let mut stream = dial::dial(&gateway, &identity, &edge.caller.worker.shared.own, LONG).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let (method, authority) =
            ((":method", &b"CONNECT"[..]), (":authority", &b"cart.shop.svc.clusterset.local:80"[..]));
        let asked: [&[(&str, &[u8])]; 6] = [
            &[method, authority, (":scheme", b"https")],
            &[method, authority, (":path", b"/")],
            &[method, authority, (":protocol", b"websocket"), (":scheme", b"https"), (":path", b"/")],
            &[method, (":authority", b"cart shop")],
            &[method, method, authority],
            &[method, authority, ("connection", b"close")],
        ];
        for (number, fields) in (0..).zip(asked) {
            stream.write_all(&headers(1 + 2 * number, fields)).await.unwrap();
        }
        // Asks for nothing, and is answered as what it is: no name.
        stream.write_all(&headers(13, &[method])).await.unwrap();
        stream.write_all(&headers(15, &[method, authority])).await.unwrap();
        stream.flush().await.unwrap();
        let mut ends = std::collections::BTreeMap::new();
        while ends.len() < 8 {
            let mut head = [0; 9];
            timeout(LONG, stream.read_exact(&mut head)).await.unwrap().unwrap();
            let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], 7, "the connection was ended: {payload:?}");
            if matches!(head[3], 1 | 3) && head[8] != 0 {
                ends.entry(head[8]).or_insert((head[3], payload[0]));
            }
        }
        for (stream, (kind, first)) in ends {
            match stream {
                // 0x88 is `:status: 200` (RFC 7541, appendix A).
                15 => assert_eq!((kind, first), (1, 0x88)),
                13 => assert!(kind == 3 || first != 0x88),
                _ => assert_eq!(kind, 3, "stream {stream}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_keeps_taking_back_what_it_asked_for_is_sent_away() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        // Nobody answers there, so that what is taken back has not been answered.
        edge.export(&[("cart", &["192.0.2.1:80".parse().unwrap()], &[])]);
        let sender = raw(&edge, "two", WEB).await;
        let flood = async {
            for sent in 0..100_000 {
                let asked = request(Method::CONNECT, "cart.shop.svc.clusterset.local:80");
                let Ok(mut ready) = sender.clone().ready().await else { return sent };
                let Ok((answer, mut stream)) = ready.send_request(asked, false) else { return sent };
                tokio::task::yield_now().await;
                stream.send_reset(h2::Reason::CANCEL);
                drop((answer, stream));
            }
            panic!("nobody minds");
        };
        let sent = timeout(LONG, flood).await.unwrap();
        assert!(sent < 10_000, "{sent}");
        let gone = async {
            while edge.gateway.worker.shared.gateways.callers.is_connected(&WEB.parse().unwrap()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, gone).await.unwrap();
        let mut tunnel = {
            edge.export(&[("cart", &[echo().await], &[])]);
            edge.open("cart").await.unwrap()
        };
        says_back(&mut tunnel, b"still serving").await;
        let _: Rc<_> = Rc::clone(&edge.gateway.worker);
    })
    .await;
}
