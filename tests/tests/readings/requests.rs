//! Requests: over HTTP/1.1 with any bytes, over HTTP/2 with any fields that its framing can carry.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use meshgate_policy::normalize::Level;
use tokio::io::duplex;

use crate::dice::Dice;
use crate::levels;
use crate::pipe::{self, Outcome, Passed};
use crate::reader::{Kind, Message, READERS, STRICT, Stop};
use crate::streams::Stream;
use crate::{generated, seed};

#[test]
fn what_passes_has_one_reading_and_goes_out_as_it_was_read() {
    let (count, seed) = (generated(12_000), seed());
    pipe::run(async {
        let mut dice = Dice::new(seed);
        let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
        let mut messages = 0;
        while messages < count {
            let stream = Stream::requests(&mut dice);
            messages += stream.messages;
            let outcome = pipe::requests(Level::MergeSlashes, &stream.segments()).await;
            judge(&stream.bytes, &outcome, &mut tally);
        }
        println!("seed {seed}, {messages} messages: {tally:?}");
        for kind in ["passed", "broken off", "refused", "one reading"] {
            assert!(tally.get(kind).is_some_and(|times| *times > count / 100), "{kind}: {tally:?}");
        }
    });
}

/// One connection.
fn judge(bytes: &[u8], outcome: &Outcome, tally: &mut BTreeMap<&str, usize>) {
    let what = || format!("{}: {outcome:#?}", bytes.escape_ascii());
    let mut at = 0;
    for passed in &outcome.passed {
        if !passed.answered {
            // By nobody's reading is what went out a whole request.
            for reader in READERS.iter().filter(|reader| !reader.name.contains("length")) {
                let read = reader.read(Kind::Request, &passed.sent, 0);
                assert!(read.is_err(), "{}: whole upstream although broken off: {}", reader.name, what());
            }
            *tally.entry("broken off").or_default() += 1;
            break;
        }
        let strict = STRICT.read(Kind::Request, bytes, at);
        let Ok(strict) = strict else { panic!("passed, and by the letter there is none at {at}: {}", what()) };
        for reader in READERS {
            let read = reader.read(Kind::Request, bytes, at);
            assert_eq!(read.as_ref(), Ok(&strict), "{} reads it differently at {at}: {}", reader.name, what());
        }
        goes_out_as_read(&strict, passed, &what);
        at = strict.end;
        *tally.entry("passed").or_default() += 1;
    }
    let served = outcome.passed.iter().filter(|passed| passed.answered).count();
    let text = String::from_utf8_lossy(&outcome.answers);
    assert_eq!(text.matches("HTTP/1.1 200").count(), served, "answered what was not passed: {}", what());
    if text.contains("HTTP/1.1 400") {
        *tally.entry("refused").or_default() += 1;
    }
    if STRICT.read(Kind::Request, bytes, 0).is_ok() {
        *tally.entry("one reading").or_default() += 1;
    }
}

fn goes_out_as_read(read: &Message, passed: &Passed, what: &dyn Fn() -> String) {
    let [method, target, _] = &read.start;
    let origin = target.strip_prefix(b"http://a").unwrap_or(target);
    let target = levels::path(origin, levels::Level::MergeSlashes);
    assert_eq!((Some(&passed.target), &passed.method), (target.as_ref(), method), "judged otherwise: {}", what());
    let host: &[Vec<u8>] = if passed.host.is_empty() { &[] } else { std::slice::from_ref(&passed.host) };
    if !read.hosts.is_empty() {
        assert_eq!(host, read.hosts, "another host: {}", what());
    }
    for reader in READERS {
        let sent = reader.read(Kind::Request, &passed.sent, 0);
        let Ok(sent) = sent else { panic!("{} does not read what went out ({sent:?}): {}", reader.name, what()) };
        assert_eq!(sent.end, passed.sent.len(), "{}: something behind what went out: {}", reader.name, what());
        assert_eq!(sent.start[..2], [passed.method.clone(), passed.target.clone()], "{}: {}", reader.name, what());
        assert_eq!((sent.hosts.as_slice(), &sent.body), (host, &read.body), "{}: {}", reader.name, what());
    }
}

#[test]
fn a_request_that_is_as_it_should_be_passes_however_it_is_cut() {
    let stream = b"\r\nPOST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx: y\r\n\r\n\
        POST http://a/b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    pipe::run(async {
        for at in 0..stream.len() {
            let (one, other) = stream.split_at(at);
            let outcome = pipe::requests(Level::MergeSlashes, &[one, other]).await;
            assert_eq!(outcome.passed.iter().filter(|passed| passed.answered).count(), 3, "cut at {at}: {outcome:#?}");
            judge(stream, &outcome, &mut BTreeMap::new());
        }
    });
}

#[test]
fn what_comes_over_http2_goes_out_with_one_reading() {
    let (count, seed) = (generated(4_000) / 3, seed());
    pipe::run(async {
        let mut dice = Dice::new(seed);
        let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
        let mut messages = 0;
        while messages < count {
            let calls: Vec<Call> = (0..50).map(|_| Call::thrown(&mut dice)).collect();
            messages += calls.len();
            http2(&calls, &mut tally).await;
        }
        println!("seed {seed}, {messages} messages: {tally:?}");
        for kind in ["passed", "not passed"] {
            assert!(tally.get(kind).is_some_and(|times| *times > count / 20), "{kind}: {tally:?}");
        }
    });
}

/// A request over HTTP/2: its fields and the pieces of its body.
#[derive(Debug)]
struct Call {
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, &'static [u8])>,
    body: Vec<&'static str>,
}

impl Call {
    fn thrown(dice: &mut Dice) -> Self {
        let targets = ["http://a/", "http://a/a?b", "http://a//b/../c", "https://a:80/x", "http://u@a/", "http://a,b/"];
        let fields: [(&str, &[u8]); 18] = [
            ("x", b"y"),
            ("x-y", b"a\xffb"),
            ("host", b"a"),
            ("host", b"b"),
            ("content-length", b"5"),
            ("content-length", b"4"),
            ("content-length", b"5, 5"),
            ("content_length", b"5"),
            ("transfer_encoding", b"chunked"),
            ("transfer-encoding", b"chunked"),
            ("connection", b"close"),
            ("keep-alive", b"x"),
            ("upgrade", b"h2c"),
            ("te", b"trailers"),
            ("te", b"gzip"),
            ("cookie", b"a=b"),
            ("cookie", b"c=d"),
            ("expect", b"100-continue"),
        ];
        let fields = (0..dice.below(4)).map(|_| fields[dice.below(fields.len())]).collect();
        let pieces = ["hello", "0\r\n\r\n", "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n", "5\r\n", "", "\r\n"];
        let body = (0..dice.below(3)).map(|_| *dice.of(&pieces.each_ref())).collect();
        Self { method: *dice.of(&["GET", "POST", "PUT"].each_ref()), target: *dice.of(&targets.each_ref()), fields, body }
    }
}

async fn http2(calls: &[Call], tally: &mut BTreeMap<&str, usize>) {
    let (near, far) = duplex(1 << 20);
    let passed = Rc::<RefCell<Vec<Passed>>>::default();
    let kept = Rc::clone(&passed);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let kept = Rc::clone(&kept);
        async move { Ok::<_, Infallible>(pipe::serve(Level::MergeSlashes, request, &kept).await) }
    });
    let builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    tokio::task::spawn_local(builder.serve_connection(TokioIo::new(far), service));
    // A client that checks little of what it sends.
    let (mut client, connection) = h2::client::handshake(near).await.unwrap();
    tokio::task::spawn_local(connection);
    for call in calls {
        let mut request = Request::builder().method(call.method).uri(call.target).body(()).unwrap();
        for (name, value) in &call.fields {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        client = client.ready().await.unwrap();
        let Ok((answer, mut stream)) = client.send_request(request, call.body.is_empty()) else {
            *tally.entry("not sent").or_default() += 1;
            continue;
        };
        for (index, piece) in call.body.iter().enumerate() {
            let _ = stream.send_data(Bytes::from_static(piece.as_bytes()), index + 1 == call.body.len());
        }
        let status = answer.await.map(|answer| answer.status().as_u16());
        let passed = passed.take();
        let what = || format!("{call:?}: {status:?} {passed:#?}");
        let body = call.body.concat();
        for passed in &passed {
            for reader in READERS.iter().filter(|_| passed.answered) {
                let sent = reader.read(Kind::Request, &passed.sent, 0);
                let Ok(sent) = sent else { panic!("{} does not read what went out ({sent:?}): {}", reader.name, what()) };
                assert_eq!(sent.end, passed.sent.len(), "{}: something behind: {}", reader.name, what());
                assert_eq!(sent.body, body.as_bytes(), "{}: {}", reader.name, what());
                assert_eq!(sent.start[..2], [passed.method.clone(), passed.target.clone()], "{}: {}", reader.name, what());
                assert_eq!(sent.hosts, std::slice::from_ref(&passed.host), "{}: {}", reader.name, what());
            }
            assert!(passed.answered || STRICT.read(Kind::Request, &passed.sent, 0) != Err(Stop::Bad), "{}", what());
        }
        let through = passed.iter().any(|passed| passed.answered);
        assert_eq!(through, matches!(status, Ok(200)), "{}", what());
        *tally.entry(if through { "passed" } else { "not passed" }).or_default() += 1;
    }
}
