//! HTTP/2 frames that no client library would send.

use std::cell::Cell;
use std::rc::Rc;

use http::{Request, Response};
use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{DOORS, knock};
use crate::support::app::{App, full};
use crate::support::mesh::{BACKEND, Mesh, Spec};
use crate::support::soon;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags of RFC 9113, section 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Streams an attacker sends; far fewer must get through.
const FLOOD: u32 = 6000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field as HPACK's literal without indexing, nothing compressed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text.as_bytes());
    }
    field
}

fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    list.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

fn get(more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", BACKEND)];
    fields(&[&pseudo, more].concat())
}

fn begin() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Writes as much as is taken, reading all the while, and says with which error code the connection was ended: `None` for a
/// close without GOAWAY.
async fn attack(stream: TcpStream, bytes: Vec<u8>) -> Option<u32> {
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::task::spawn_local(async move {
        let _ = write.write_all(&bytes).await;
        // Held open: it is for the proxy to end this.
        std::future::pending::<()>().await;
    });
    let mut received = Vec::new();
    let _ = soon("the end of the attack", read.read_to_end(&mut received)).await;
    writing.abort();
    let mut rest = received.as_slice();
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, next) = after.split_at_checked(length)?;
        if head[3] == GOAWAY {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = next;
    }
    None
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
        let (app, count) = counting().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let mut bytes = begin();
            for stream in (1..FLOOD * 2).step_by(2) {
                bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(&[])));
                bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            }
            count.set(0);
            let stream = knock(&mesh, door).await.into_stream();
            assert_eq!(attack(stream, bytes).await, Some(11), "{door}: not ENHANCE_YOUR_CALM");
            assert!(count.get() < 200, "{door}: {} requests reached the application", count.get());
            others_are_served(&mesh).await;
        }
    });
}

#[test]
fn a_header_block_without_end_is_cut_off() {
    run(async {
        let (app, count) = counting().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let mut bytes = begin();
            bytes.extend(frame(HEADERS, END_STREAM, 1, &get(&[])));
            let more = fields(&[("x", "a".repeat(100).as_str()); 100]);
            for _ in 0..1000 {
                bytes.extend(frame(CONTINUATION, 0, 1, &more));
            }
            attack(knock(&mesh, door).await.into_stream(), bytes).await;
            assert_eq!(count.get(), 0, "{door}");
            others_are_served(&mesh).await;
            count.set(0);
        }
    });
}

#[test]
fn floods_of_control_frames_are_cut_off_or_absorbed_while_others_are_served() {
    run(async {
        let (app, _) = counting().await;
        let mesh = Mesh::of(app.address()).await;
        for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
            let mut attacker = mesh.outside().await;
            attacker.send(begin()).await;
            // Answers are never read, so that they would queue up if nothing bounded them.
            let sent = flood.repeat(40_000);
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), attacker.try_send(sent)).await;
            others_are_served(&mesh).await;
            let status = std::fs::read_to_string(format!("/proc/{}/status", mesh.backend().pid())).unwrap();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
            let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
            assert!(peak < 64 * 1024, "{peak} KiB");
        }
    });
}

/// Sends one request head over HTTP/2 and says what status came; 0 for a reset or an end.
async fn status(mesh: &Mesh, door: &str, block: &[u8]) -> u16 {
    let mut wire = knock(mesh, door).await;
    wire.send([begin(), frame(HEADERS, END_STREAM | END_HEADERS, 1, block)].concat()).await;
    loop {
        let Some(head) = wire.exactly(9).await else { return 0 };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(payload) = wire.exactly(length).await else { return 0 };
        match head[3] {
            // The status is the first field: indexed in the static table, or a literal with an indexed name.
            HEADERS => {
                return match payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    _ => String::from_utf8_lossy(&payload[2..5]).parse().unwrap_or(1),
                };
            }
            RST_STREAM | GOAWAY => return 0,
            _ => {}
        }
    }
}

#[test]
fn http_2_fields_that_would_mean_something_else_in_http_1_go_nowhere() {
    run(async {
        let (app, count) = counting().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            assert_eq!(status(&mesh, door, &get(&[])).await, 200);
            count.set(0);
            for (name, value) in [
                ("connection", "close"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("Host", "upper.case"),
                ("x", "a\r\nb: c"),
                ("x", "a\0b"),
                ("x\r\ny", "a"),
                ("x y", "a"),
                ("", "a"),
                ("host", "other.example"),
                ("te", "gzip"),
                ("content-length", "5"),
                (":path", "/again"),
                (":unknown", "a"),
            ] {
                let got = status(&mesh, door, &get(&[(name, value)])).await;
                let fine = name == "te" && got == 200;
                assert!(fine || [0, 400].contains(&got), "{door}: {name:?}: {value:?}: {got}");
            }
            for (name, value) in [(":path", "nothing"), (":path", "/a b"), (":path", ""), (":authority", "a@b")] {
                let mut pseudo = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", BACKEND)];
                pseudo.retain(|(other, _)| *other != name);
                pseudo.push((name, value));
                let got = status(&mesh, door, &fields(&pseudo)).await;
                assert!([0, 400].contains(&got), "{door}: {name}: {value:?}: {got}");
            }
            assert!(count.get() <= 1, "{door}: {} reached the application", count.get());
        }
    });
}

#[test]
fn a_host_field_counts_where_there_is_no_authority() {
    run(async {
        let (app, _) = counting().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let block = fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", BACKEND)]);
            assert_eq!(status(&mesh, door, &block).await, 200, "{door}");
            let block = fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]);
            assert!([0, 400].contains(&status(&mesh, door, &block).await), "{door}");
        }
    });
}

#[test]
fn a_half_sent_http_2_head_is_not_waited_for_without_end() {
    run(async {
        let (app, _) = counting().await;
        let mut spec = Spec::of(&[app.address()]);
        let short = "timeouts: {idle: 300ms, requestHeader: 300ms}\n";
        (spec.frontend, spec.backend) = (short.to_owned(), short.to_owned());
        let mesh = Mesh::start(spec).await;
        for door in DOORS {
            let half = frame(HEADERS, END_STREAM, 1, &get(&[]));
            attack(knock(&mesh, door).await.into_stream(), [begin(), half].concat()).await;
        }
    });
}
