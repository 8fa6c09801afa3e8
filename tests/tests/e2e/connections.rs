//! What the admin endpoint says of open connections, and how many it lets itself have.

use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Sidecar, request, until};
use meshgate_tests::run;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::app::App;
use super::support::mesh::{BACKEND, Mesh, Spec};

const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";

/// Far more than any time-out that is set here.
const PATIENCE: Duration = Duration::from_secs(20);

async fn page(sidecar: &Sidecar, query: &str) -> Value {
    serde_json::from_str(&sidecar.admin_page(&format!("/connections{query}")).await.unwrap()).unwrap()
}

/// The open connection that is as wanted, once there is one.
async fn connection(sidecar: &Sidecar, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = until("the connection", async || {
        page(sidecar, "").await["connections"].as_array()?.iter().find(|one| wanted(one)).cloned()
    });
    match found.await {
        Ok(found) => found,
        Err(error) => panic!("{error}: {:#}", page(sidecar, "").await),
    }
}

#[test]
fn open_connections_are_shown_with_who_is_there_and_what_they_did() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let mut wire = mesh.wire().await;
        for _ in 0..3 {
            assert_eq!(wire.ask(&format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await.status(), 200);
        }
        let local = wire.stream().local_addr().unwrap().to_string();
        let rests = |one: &Value| one["requests"] == 3 && one["in_flight"] == 0;
        let out = connection(&mesh.frontend, rests).await;
        assert_eq!((&out["direction"], &out["remote"]), (&"outbound".into(), &local.into()), "{out:#}");
        assert_eq!((&out["protocol"], &out["tls"]), (&"http/1.1".into(), &Value::Null));
        let inbound = connection(mesh.backend(), rests).await;
        assert_eq!((&inbound["direction"], &inbound["principal"]), (&"inbound".into(), &FRONTEND.into()));
        assert_eq!(inbound["tls"]["version"], "TLSv1.3", "{inbound:#}");
        assert!(inbound["tls"]["cipher"].as_str().unwrap().starts_with("TLS13_"), "{inbound:#}");
        assert_eq!(inbound["destination"], mesh.backend().inbound().to_string());
        let nobody = page(mesh.backend(), "?principal=sa/nobody").await;
        assert_eq!((&nobody["total"], &nobody["matching"]), (&1.into(), &0.into()), "{nobody:#}");
        let all = page(mesh.backend(), "?principal=ns%2Fdefault%2Fsa%2Ffrontend&direction=inbound&limit=1").await;
        assert_eq!((&all["matching"], &all["next"]), (&1.into(), &Value::Null));
        // More than there is room for on a page is on the next.
        let _others = [mesh.wire().await, mesh.wire().await];
        connection(&mesh.frontend, |one| one["state"] == "opening").await;
        let three = async || Some(page(&mesh.frontend, "?limit=2").await).filter(|page| page["total"] == 3);
        let first = until("all three", three).await.unwrap();
        assert_eq!(first["connections"].as_array().unwrap().len(), 2, "{first:#}");
        let rest = page(&mesh.frontend, &format!("?limit=2&after={}", first["next"])).await;
        assert_eq!((rest["connections"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null), "{rest:#}");
        for wrong in ["?limit=1001", "?limit=0", "?who=x", "?direction=up"] {
            let admin = mesh.frontend.admin();
            let answer = request(admin, "localhost", Method::GET, &format!("/connections{wrong}")).await;
            assert!(answer.to_string().starts_with("400"), "{wrong}: {answer}");
        }
        drop(wire);
        until("its end", async || {
            let left = page(&mesh.frontend, "").await;
            left["connections"].as_array()?.iter().all(|one| one["requests"] == 0).then_some(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn bytes_and_tunnels_are_shown_with_where_they_go() {
    run(async {
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]).with_virtual();
        spec.port_name = "tcp";
        let mesh = Mesh::start(spec).await;
        let mut wire = mesh.virtual_wire().await;
        let asked = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(wire.ask(asked).await.status(), 200);
        let moved = |one: &Value| one["tunnel"]["received"] == asked.len() && one["tunnel"]["sent"].as_u64() > Some(20);
        let seen = connection(mesh.backend(), moved).await;
        assert_eq!((&seen["protocol"], &seen["tunnel"]["to"]), (&"tcp".into(), &app.address().to_string().into()));
        assert_eq!(seen["principal"], FRONTEND);
        let out = connection(&mesh.frontend, moved).await;
        assert_eq!(out["destination"], "10.96.0.10:80", "{out:#}");
        assert_eq!(out["tunnel"]["to"], mesh.backend().inbound().to_string(), "{out:#}");
    });
}

#[test]
fn what_comes_through_a_tunnel_is_shown_beside_the_connection_that_it_is_in() {
    run(async {
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]);
        spec.tunnels = true;
        let mesh = Mesh::start(spec).await;
        let mut wire = mesh.wire().await;
        assert_eq!(wire.ask(&format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await.status(), 200);
        let inner = connection(mesh.backend(), |one| one["within"].is_u64()).await;
        assert_eq!((&inner["requests"], &inner["principal"]), (&1.into(), &FRONTEND.into()), "{inner:#}");
        let outer = connection(mesh.backend(), |one| one["number"] == inner["within"]).await;
        assert_eq!((&outer["protocol"], &outer["in_flight"]), (&"http/2".into(), &1.into()), "{outer:#}");
        assert_eq!(outer["tls"]["version"], "TLSv1.3");
    });
}

/// The first backend with these settings of its admin endpoint, which the sandbox writes itself.
async fn limited(mesh: &mut Mesh, settings: &str) {
    let backend = &mut mesh.backends[0];
    let file = backend.bootstrap().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("admin: {", &format!("admin: {{{settings}, "))).unwrap();
    backend.restart().await.unwrap();
}

async fn sent(backend: &Sidecar, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(backend.admin()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// What comes until the end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("it does not end");
    String::from_utf8_lossy(&read).into_owned()
}

/// One that is busy: of its body nothing ever comes.
const STUCK: &str = "POST /explain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";

const LIMITED: &str = "mesh_admin_limited_total";

#[test]
fn who_only_connects_to_the_admin_endpoint_makes_room_for_who_asks() {
    run(async {
        let app = App::ok().await;
        let mut mesh = Mesh::of(app.address()).await;
        limited(&mut mesh, "connections: 3, eventListeners: 1, idle: 1h, request: 1h").await;
        let backend = mesh.backend();
        let mut idle = Vec::new();
        for _ in 0..3 {
            idle.push(sent(backend, "").await);
        }
        assert_eq!(request(backend.admin(), "localhost", Method::GET, "/live").await.to_string(), "200");
        assert_eq!(rest(&mut idle[0]).await, "", "the first of them had to go");
        assert!(backend.metric(&format!("{LIMITED}{{reason=\"displaced\"}}")).await >= Some(1.0));
        drop(idle);
        // Who is being answered does not have to go: then there is no room.
        let mut busy = Vec::new();
        for asks in [STUCK, STUCK, "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
            let mut stream = sent(backend, asks).await;
            timeout(PATIENCE, stream.read_exact(&mut [0; 12])).await.expect("no sign of it").unwrap();
            busy.push(stream);
        }
        let told = rest(&mut sent(backend, "").await).await;
        assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("admin.connections"), "{told}");
        drop(busy);
        until("room", async || {
            backend.metric(&format!("{LIMITED}{{reason=\"full\"}}")).await.filter(|full| *full >= 1.0)
        })
        .await
        .unwrap();
    });
}

#[test]
fn nobody_keeps_the_admin_endpoint_waiting() {
    run(async {
        let app = App::ok().await;
        let mut mesh = Mesh::of(app.address()).await;
        limited(&mut mesh, "idle: 1s, request: 2s").await;
        let backend = mesh.backend();
        let (mut silent, mut slow) = (sent(backend, "").await, sent(backend, "GET /live HT").await);
        let mut rests = sent(backend, "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let mut stuck = sent(backend, STUCK).await;
        assert_eq!((rest(&mut silent).await, rest(&mut slow).await), (String::new(), String::new()));
        assert!(rest(&mut rests).await.ends_with("live\n"));
        assert!(!rest(&mut stuck).await.contains("200"));
        assert!(backend.metric(&format!("{LIMITED}{{reason=\"slow\"}}")).await >= Some(1.0));
    });
}
