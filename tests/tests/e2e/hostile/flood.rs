//! HTTP/2 floods: who sends them is ended, at little cost, and others are served meanwhile.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use meshgate::sandbox::{Sidecar, until};
use meshgate_tests::run;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, attack,
    begin, bomb, fields, frame, get, next, request,
};
use super::{DOORS, knock};
use crate::support::app::{App, Local, full};
use crate::support::mesh::{BACKEND, Mesh, Spec};
use crate::support::soon;

/// HTTP/2's ENHANCE_YOUR_CALM.
const CALM: Option<u32> = Some(11);

/// Streams an attacker sends; far fewer must get through.
const FLOOD: u32 = 6000;

/// Bytes that an attack may add to the proxy.
const MOST: u64 = 16 << 20;

/// How long anybody else may wait meanwhile. It is a tenth of it on a machine that does nothing else; here others build and test.
const PATIENCE: Duration = Duration::from_secs(1);

/// Frames that make us reset the stream they are for.
type Way<'a> = (&'a str, &'a dyn Fn(u32) -> Vec<u8>);

/// What an attack did to its victim and to others.
#[derive(Debug)]
struct Cost {
    /// Bytes of memory added at the worst moment.
    memory: u64,
    /// The slowest answer that somebody else got.
    slowest: Duration,
}

impl Cost {
    fn is_bearable(&self, attack: &str) {
        println!("{attack}: +{} KiB, others' slowest answer {:?}", self.memory / 1024, self.slowest);
        assert!(self.memory < MOST && self.slowest < PATIENCE, "{attack}: {self:?}");
    }
}

/// A line of a process's status, in bytes.
fn memory(sidecar: &Sidecar, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Carries an attack on the backend's sidecar out while somebody else calls through it, one request after the other.
async fn under<T>(mesh: &Mesh, attack: impl Future<Output = T>) -> (T, Cost) {
    let sidecar = mesh.backend();
    let stream = TcpStream::connect(sidecar.inbound()).await.unwrap();
    let (mut sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    let mut ask = async || {
        let started = Instant::now();
        let call = Request::get(format!("http://{BACKEND}/")).body(Empty::<Bytes>::new()).unwrap();
        let answer = soon("another's answer", sender.send_request(call)).await.unwrap();
        assert_eq!(answer.status(), 200);
        soon("another's body", answer.into_body().collect()).await.unwrap();
        started.elapsed()
    };
    ask().await;
    // The peak begins anew (proc(5)).
    std::fs::write(format!("/proc/{}/clear_refs", sidecar.pid()), "5").unwrap();
    let before = memory(sidecar, "VmRSS:");
    let ended = Cell::new(false);
    let others = async {
        let mut slowest = Duration::ZERO;
        while !ended.get() {
            slowest = slowest.max(ask().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        slowest.max(ask().await)
    };
    let attack = async {
        let outcome = attack.await;
        ended.set(true);
        outcome
    };
    let (outcome, slowest) = tokio::join!(attack, others);
    (outcome, Cost { memory: memory(sidecar, "VmHWM:").saturating_sub(before), slowest })
}

/// Counts requests.
async fn counting() -> (App, Rc<Cell<u32>>) {
    let count = Rc::<Cell<u32>>::default();
    let counted = Rc::clone(&count);
    let app = App::http2(async move |_: Request<_>| {
        counted.set(counted.get() + 1);
        Response::new(full("ok"))
    })
    .await;
    (app, count)
}

/// Counts the requests that come by another path than `/`, which alone are never answered.
async fn hanging() -> (App, Rc<Cell<u32>>) {
    let count = Rc::<Cell<u32>>::default();
    let counted = Rc::clone(&count);
    let app = App::http2(async move |request: Request<_>| {
        if request.uri().path() != "/" {
            counted.set(counted.get() + 1);
            std::future::pending::<()>().await;
        }
        Response::new(full("ok"))
    })
    .await;
    (app, count)
}

/// One worker, so that whoever is attacked is whoever serves the others.
async fn narrow(app: &App) -> Mesh {
    let mut spec = Spec::of(&[app.address()]);
    (spec.frontend, spec.backend) = ("workers: 1\n".to_owned(), "workers: 1\n".to_owned());
    Mesh::start(spec).await
}

/// A GET that is not answered.
fn hang(stream: u32, flags: u8) -> Vec<u8> {
    let block = fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/hang"), (":authority", BACKEND)]);
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// Somebody else is served.
async fn others_are_served(mesh: &Mesh) {
    let url = format!("http://{}/", mesh.frontend.outbound());
    let host = format!("host: {BACKEND}");
    let output = crate::support::curl(&["--http2-prior-knowledge", "-H", &host, &url]).await;
    assert!(output.is_none_or(|output| output.stdout == b"ok"), "another client was not served");
}

#[test]
fn rapid_reset_ends_the_attacker_and_nobody_else() {
    run(async {
        let (app, count) = hanging().await;
        let mesh = narrow(&app).await;
        let bytes: Vec<u8> =
            (1..FLOOD * 2).step_by(2).flat_map(|stream| [hang(stream, END_STREAM), cancel(stream)].concat()).collect();
        for door in DOORS {
            count.set(0);
            let stream = knock(&mesh, door).await.into_stream();
            let (ended, cost) = under(&mesh, attack(stream, [begin(), bytes.clone()].concat())).await;
            assert_eq!(ended, CALM, "{door}: not ENHANCE_YOUR_CALM");
            println!("{door}: {} requests reached the application", count.get());
            assert!(count.get() <= 200, "{door}: {} requests reached the application", count.get());
            cost.is_bearable("rapid reset");
            others_are_served(&mesh).await;
        }
    });
}

#[test]
fn rapid_reset_that_waits_until_each_request_has_arrived_is_ended_as_well() {
    run(async {
        let (app, count) = hanging().await;
        let mesh = narrow(&app).await;
        let mut wire = mesh.outside().await;
        wire.send(begin()).await;
        for number in 0..FLOOD {
            let stream = 2 * number + 1;
            if !wire.try_send(hang(stream, END_STREAM)).await {
                break;
            }
            let arrived = tokio::time::timeout(Duration::from_secs(1), async {
                while count.get() <= number {
                    tokio::task::yield_now().await;
                }
            });
            if arrived.await.is_err() || !wire.try_send(cancel(stream)).await {
                break;
            }
        }
        println!("{} requests reached the application", count.get());
        assert!((100..=200).contains(&count.get()), "{} requests reached the application", count.get());
        let mut ended = None;
        while let Some(frame) = next(&mut wire).await {
            ended = Some(frame);
        }
        assert_eq!(ended.map(|frame| frame.payload[4..8].to_vec()), Some(vec![0, 0, 0, 11]));
        mesh.backend()
            .until_metric("mesh_http2_excess_total{peer=\"downstream\",reason=\"resets\"}", |n| n == 1.0)
            .await
            .unwrap();
        others_are_served(&mesh).await;
    });
}

#[test]
fn streams_that_a_peer_makes_us_reset_end_it_as_well() {
    run(async {
        let (app, count) = hanging().await;
        let mesh = narrow(&app).await;
        let zero = |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
        let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        let after_end = |stream| frame(DATA, 0, stream, b"more");
        let itself = |stream: u32| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat());
        let ways: [Way<'_>; 4] =
            [("zero", &zero), ("overflow", &overflow), ("after end", &after_end), ("itself", &itself)];
        for (what, made) in ways {
            count.set(0);
            let bytes = (1..6000).step_by(2).flat_map(|stream| [hang(stream, END_STREAM), made(stream)].concat());
            let bytes = begin().into_iter().chain(bytes).collect();
            let (ended, cost) = under(&mesh, attack(mesh.outside().await.into_stream(), bytes)).await;
            // h2 takes some of these for errors of the connection, which is as good.
            assert!(ended == CALM || ended == Some(1), "{what}: {ended:?}");
            println!("{what}: {} requests reached the application", count.get());
            assert!(count.get() <= 200, "{what}: {} requests reached the application", count.get());
            cost.is_bearable(what);
        }
    });
}

#[test]
fn a_header_block_without_end_is_cut_off() {
    run(async {
        let (app, count) = counting().await;
        let mesh = narrow(&app).await;
        let more = fields(&[("x", "a".repeat(100).as_str()); 100]);
        for piece in [more.as_slice(), &more[..1040], &[]] {
            for door in DOORS {
                let mut bytes = begin();
                bytes.extend(frame(HEADERS, END_STREAM, 1, &get(&[])));
                bytes.extend(frame(CONTINUATION, 0, 1, piece).repeat(10_000));
                let stream = knock(&mesh, door).await.into_stream();
                let (ended, cost) = under(&mesh, attack(stream, bytes)).await;
                assert_eq!(ended, CALM, "{door}");
                cost.is_bearable("CONTINUATION");
            }
        }
        // A head is no larger than its limit in few frames either.
        for size in [4096, 16384] {
            let mut bytes = [begin(), frame(HEADERS, END_STREAM, 1, &get(&[]))].concat();
            bytes.extend(frame(CONTINUATION, 0, 1, &vec![0x1f; size]).repeat(100));
            assert!(attack(mesh.outside().await.into_stream(), bytes).await.is_some());
        }
        count.set(0);
        others_are_served(&mesh).await;
        assert!(count.get() <= 1);
    });
}

#[test]
fn small_blocks_that_grow_large_are_refused_before_they_do() {
    run(async {
        let (app, count) = counting().await;
        let mesh = narrow(&app).await;
        for name in ["x", "cookie"] {
            // Each would be 14 MiB.
            let first = bomb(&get(&[]), name, 3600);
            let again = [get(&[]), vec![0xbe; 3600]].concat();
            let mut streams: Vec<TcpStream> = Vec::new();
            for _ in 0..40 {
                streams.push(mesh.outside().await.into_stream());
            }
            let bytes = |block: &[u8], stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, block);
            let all: Vec<u8> = (3..80).step_by(2).flat_map(|stream| bytes(&again, stream)).collect();
            let all = [begin(), bytes(&first, 1), all].concat();
            count.set(0);
            let attacks = async {
                let attacks: Vec<_> =
                    streams.into_iter().map(|stream| tokio::task::spawn_local(attack(stream, all.clone()))).collect();
                for attack in attacks {
                    assert_eq!(attack.await.unwrap(), CALM, "{name}");
                }
            };
            let ((), cost) = under(&mesh, attacks).await;
            cost.is_bearable("HPACK bomb");
        }
        // Many small fields, in bytes and in number: a crumb is none of its own, and has its bytes counted all the same.
        let many = |name: &str, times: usize| [get(&[]), fields(&[(name, "a")]).repeat(times)].concat();
        for (name, times, wanted) in [("x", 99, 200), ("x", 110, 431), ("cookie", 200, 200), ("cookie", 1600, 431)] {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &many(name, times));
            for door in DOORS {
                assert_eq!(super::frames::status_of(&mesh, door, &head).await, wanted, "{door}: {times} times {name}");
            }
        }
    });
}

#[test]
fn floods_of_frames_that_move_nothing_are_cut_off_while_others_are_served() {
    run(async {
        let (app, _) = hanging().await;
        let mesh = narrow(&app).await;
        let one = 1_u32.to_be_bytes();
        for (what, flood) in [
            ("PING", frame(PING, 0, 0, &[0; 8]).repeat(40_000)),
            ("PING that answers", frame(PING, 1, 0, &[0; 8]).repeat(40_000)),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(40_000)),
            ("empty SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(40_000)),
            ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(40_000)),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &one).repeat(40_000)),
            ("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, &one).repeat(40_000)),
            ("unknown", frame(0x77, 0, 0, &[0; 100]).repeat(40_000)),
            ("empty DATA", frame(DATA, 0, 1, &[]).repeat(300_000)),
            ("padding", frame(DATA, 8, 1, &[3, 0, 0, 0]).repeat(300_000)),
        ] {
            let stream = mesh.outside().await.into_stream();
            let (ended, cost) = under(&mesh, attack(stream, [begin(), hang(1, 0), flood].concat())).await;
            assert_eq!(ended, CALM, "{what}");
            cost.is_bearable(what);
        }
    });
}

#[test]
fn whoever_does_not_read_the_answers_to_a_flood_costs_no_more() {
    run(async {
        let (app, _) = counting().await;
        let mesh = narrow(&app).await;
        for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[]), frame(DATA, 0, 9, b"of no stream")] {
            let mut attacker = mesh.outside().await;
            attacker.send(begin()).await;
            let sending = tokio::time::timeout(Duration::from_secs(1), attacker.try_send(flood.repeat(40_000)));
            let (_, cost) = under(&mesh, sending).await;
            cost.is_bearable("flood without reading");
        }
    });
}

#[test]
fn answers_that_nobody_takes_wait_in_bounded_memory() {
    run(async {
        let app = App::http2(async |request: Request<_>| {
            let size = if request.uri().path() == "/hang" { 1 << 20 } else { 2 };
            Response::new(Full::from(vec![b'a'; size]))
        })
        .await;
        let mesh = narrow(&app).await;
        let setting =
            |number: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, number][..], &value.to_be_bytes()].concat());
        let calls: Vec<u8> = (1..200).step_by(2).flat_map(|stream| hang(stream, END_STREAM)).collect();
        let drip: Vec<u8> = (0..20_000_u32)
            .flat_map(|number| frame(WINDOW_UPDATE, 0, 2 * (number % 100) + 1, &1_u32.to_be_bytes()))
            .collect();
        for (what, settings, after) in [
            ("a window of nothing", setting(4, 0), Vec::new()),
            ("a window that grows by a byte", setting(4, 0), drip),
            (
                "a window without end, and no reader",
                setting(4, 0x7fff_ffff),
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()),
            ),
            ("a huge table", [setting(1, u32::MAX), setting(4, 0)].concat(), Vec::new()),
        ] {
            let mut attacker = mesh.outside().await;
            let bytes = [begin(), settings, calls.clone(), after].concat();
            let holding = async {
                let _ = tokio::time::timeout(Duration::from_secs(1), attacker.try_send(bytes)).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            };
            let ((), cost) = under(&mesh, holding).await;
            cost.is_bearable(what);
        }
    });
}

#[test]
fn a_half_sent_http_2_head_is_not_waited_for_without_end() {
    run(async {
        const LIMIT: Duration = Duration::from_millis(300);
        let (app, count) = hanging().await;
        let mut spec = Spec::of(&[app.address()]);
        let short = "timeouts: {idle: 60s, requestHeader: 300ms}\n";
        (spec.frontend, spec.backend) = (short.to_owned(), short.to_owned());
        let mesh = Mesh::start(spec).await;
        let head = request(3);
        let flat = frame(HEADERS, END_STREAM, 3, &get(&[]));
        for (what, half) in [("no preface", &b""[..]), ("half a frame", &head[..20]), ("no END_HEADERS", &flat)] {
            for door in DOORS {
                // A call in progress does not make it wait longer: nothing can come of the connection.
                let before = match what {
                    "no preface" => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                    _ => [begin(), hang(1, END_STREAM)].concat(),
                };
                let started = Instant::now();
                attack(knock(&mesh, door).await.into_stream(), [&before, half].concat()).await;
                let took = started.elapsed();
                assert!(took >= LIMIT / 2 && took < LIMIT + Duration::from_secs(1), "{door}: {what}: {took:?}");
            }
        }
        assert!(count.get() >= 2);
    });
}

#[test]
fn pings_do_not_keep_an_idle_connection_open() {
    run(async {
        let (app, _) = counting().await;
        let mut spec = Spec::of(&[app.address()]);
        let short = "timeouts: {idle: 300ms, requestHeader: 300ms}\n";
        (spec.frontend, spec.backend) = (short.to_owned(), short.to_owned());
        let mesh = Mesh::start(spec).await;
        for (what, frames) in [
            ("PING", frame(PING, 0, 0, &[0; 8])),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
            ("PRIORITY", frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 1])),
        ] {
            for door in DOORS {
                let mut wire = knock(&mesh, door).await;
                wire.send([begin(), request(1)].concat()).await;
                let started = Instant::now();
                let closed = until("the close", async || {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    (!wire.try_send(&frames).await).then_some(())
                });
                closed.await.unwrap();
                assert!(started.elapsed() < Duration::from_secs(3), "{door}: {what}: {:?}", started.elapsed());
            }
        }
    });
}
