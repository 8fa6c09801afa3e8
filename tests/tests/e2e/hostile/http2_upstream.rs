//! Applications that speak HTTP/2 and mean harm: what they do ends their own requests and connections, and nothing else.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Response;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use meshgate_tests::run;
use tokio::net::TcpStream;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, begin, bomb, frame, next, request, status_in, status_of,
};
use crate::support::app::{App, Local, full};
use crate::support::mesh::Mesh;
use crate::support::wire::Wire;

/// `:status: 200` and what else.
const OK: u8 = 0x88;

/// `:status: 103`, as a literal.
const HINTS: [u8; 5] = [0x08, 3, b'1', b'0', b'3'];

/// The most memory that a proxy may ever have taken, most of which it has without any of this.
const MOST: u64 = 64 << 20;

async fn serve(stream: TcpStream) {
    let service = hyper::service::service_fn(async |_| Ok::<_, std::convert::Infallible>(Response::new(full("good"))));
    let _ = http2::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await;
}

/// A PING that is waited for.
fn mark() -> Vec<u8> {
    frame(PING, 0, 0, b"and then")
}

/// Waits for a request on its first connection, answers it with `bytes`, and then closes or waits; later connections are well.
async fn hostile(bytes: Vec<Vec<u8>>, closes: bool) -> App {
    let first = Rc::new(Cell::new(true));
    App::tcp(async move |stream| {
        if !first.replace(false) {
            return serve(stream).await;
        }
        let mut wire = Wire::over(stream);
        wire.exactly(PREFACE.len()).await;
        wire.try_send(frame(SETTINGS, 0, 0, &[])).await;
        while next(&mut wire).await.is_some_and(|frame| frame.kind != HEADERS) {}
        // What is before the first PING has been read when that is answered.
        for part in bytes.split_inclusive(|part| part.as_slice() == mark()) {
            wire.try_send(part.concat()).await;
            if part.last().is_some_and(|last| *last == mark()) {
                while next(&mut wire).await.is_some_and(|frame| frame.kind != PING) {}
            }
        }
        // Whatever still comes is read and answered, so that nothing but what was meant ends it.
        while !closes && let Some(came) = next(&mut wire).await {
            if came.kind == HEADERS {
                wire.try_send(frame(HEADERS, END_STREAM | END_HEADERS, came.stream, &[OK])).await;
            }
        }
    })
    .await
}

/// What a caller over HTTP/2 sees of its only stream: the status, and how it ended: `Some(code)` for a reset.
async fn seen(mesh: &Mesh) -> (u16, Option<u32>) {
    let mut wire = mesh.outside().await;
    wire.send([begin(), request(1)].concat()).await;
    let mut status = 0;
    loop {
        let frame = next(&mut wire).await.expect("an end of the stream before one of the connection");
        if frame.stream != 1 {
            continue;
        }
        if frame.kind == HEADERS && status == 0 {
            status = status_in(&frame.payload);
        }
        if frame.kind == RST_STREAM {
            return (status, Some(u32::from_be_bytes(frame.payload.try_into().unwrap())));
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            return (status, None);
        }
    }
}

async fn the_next_is_served(mesh: &Mesh, what: &str) {
    assert_eq!(status_of(mesh, "inbound", &request(1)).await, 200, "{what}: the next request");
    let status = std::fs::read_to_string(format!("/proc/{}/status", mesh.backend().pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak = peak.trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    println!("{what}: at most {} KiB", peak / 1024);
    assert!(peak < MOST, "{what}: {peak} bytes");
}

#[test]
fn an_answer_that_breaks_off_is_never_taken_for_whole() {
    run(async {
        // `content-length: 9`, as a literal with an indexed name.
        let long = [OK, 0x0f, 0x0d, 1, b'9'];
        let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
        let goaway = |last: u32, code: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
        let mut wrong = Vec::new();
        let part_of = |head: &[u8]| [frame(HEADERS, END_HEADERS, 1, head), frame(DATA, 0, 1, b"a part")].concat();
        for (what, head, bytes, closes) in [
            ("reset without an error", &[OK][..], reset(0), false),
            ("reset", &[OK], reset(8), false),
            ("goaway without an error", &[OK], goaway(0, 0), true),
            ("goaway", &[OK], goaway(0, 11), false),
            ("close", &[OK], Vec::new(), true),
            ("goaway and close", &[OK], goaway(1, 0), true),
            ("too short", &long, frame(DATA, END_STREAM, 1, b""), false),
            ("too long", &long, frame(DATA, END_STREAM, 1, b"more than nine"), false),
            (
                "an endless block",
                &[OK],
                [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 1, &[]).repeat(9999)].concat(),
                false,
            ),
            ("trailers that end nothing", &[OK], frame(HEADERS, END_HEADERS, 1, &[0, 1, b'x', 1, b'y']), false),
            ("a push", &[OK], frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x86, 0x84]), false),
        ] {
            let app = hostile(vec![part_of(head), mark(), bytes], closes).await;
            let mesh = Mesh::of(app.address()).await;
            let seen = tokio::time::timeout(Duration::from_secs(5), seen(&mesh)).await;
            println!("{what}: {seen:?}");
            let is_broken = seen.is_ok_and(|(status, ended)| status == 200 && ended.is_some_and(|code| code != 0));
            if !is_broken {
                wrong.push(what);
                continue;
            }
            the_next_is_served(&mesh, what).await;
        }
        assert!(wrong.is_empty(), "taken for whole, or not ended: {wrong:?}");
    });
}

#[test]
fn an_application_that_floods_ends_its_own_connection() {
    run(async {
        let hints = |block: &[u8]| frame(HEADERS, END_HEADERS, 1, &[&HINTS, block].concat());
        let first = bomb(&HINTS, "x", 10);
        let bombs = [frame(HEADERS, END_HEADERS, 1, &first), hints(&[0xbe; 13]).repeat(40_000)].concat();
        for (what, bytes) in [
            ("PING", frame(PING, 0, 0, &[0; 8]).repeat(40_000)),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(40_000)),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(40_000)),
            ("unknown", frame(0x77, 0, 0, &[]).repeat(40_000)),
            ("GOAWAY", frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).repeat(40_000)),
            ("hints", hints(&[]).repeat(40_000)),
            ("large hints", bombs),
            (
                "a block without end",
                [frame(HEADERS, 0, 1, &[OK]), frame(CONTINUATION, 0, 1, &[0x88; 999]).repeat(9999)].concat(),
            ),
            ("a block that grows", frame(HEADERS, END_HEADERS, 1, &bomb(&[OK], "x", 3600))),
            ("empty DATA", [frame(HEADERS, END_HEADERS, 1, &[OK]), frame(DATA, 0, 1, &[]).repeat(300_000)].concat()),
            ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x86, 0x84])),
            ("no HTTP", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ] {
            let app = hostile(vec![bytes], false).await;
            let mesh = Mesh::of(app.address()).await;
            let (status, ended) = tokio::time::timeout(Duration::from_secs(20), seen(&mesh)).await.expect(what);
            println!("{what}: {status} {ended:?}");
            assert!(
                status >= 500 || status == 103 || ended.is_some_and(|code| code != 0),
                "{what}: {status} {ended:?}"
            );
            the_next_is_served(&mesh, what).await;
        }
    });
}
