//! HTTP/2 messages that would mean something else in HTTP/1, or to somebody who looks less closely.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meshgate::sandbox::until;
use meshgate_tests::run;

use super::DOORS;
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PSEUDO, begin, fields, frame, get, next, status_of,
};
use super::knock;
use crate::support::app::{App, full};
use crate::support::mesh::{BACKEND, Mesh};

/// Keeps the heads of the requests that arrived, and counts those whose bodies came whole.
async fn keeping() -> (App, Rc<RefCell<Vec<Request<()>>>>, Rc<Cell<u32>>) {
    let (heads, whole) = (Rc::<RefCell<Vec<Request<()>>>>::default(), Rc::<Cell<u32>>::default());
    let (kept, counted) = (Rc::clone(&heads), Rc::clone(&whole));
    let app = App::http2(async move |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        kept.borrow_mut().push(Request::from_parts(head, ()));
        if body.collect().await.is_ok() {
            counted.set(counted.get() + 1);
        }
        Response::new(full("ok"))
    })
    .await;
    (app, heads, whole)
}

async fn status(mesh: &Mesh, door: &str, block: &[u8]) -> u16 {
    status_of(mesh, door, &frame(HEADERS, END_STREAM | END_HEADERS, 1, block)).await
}

/// The usual pseudo fields with one of them changed.
fn with(name: &str, value: &str) -> Vec<u8> {
    let mut list = PSEUDO.to_vec();
    for (_, old) in list.iter_mut().filter(|(other, _)| *other == name) {
        *old = value;
    }
    fields(&list)
}

#[test]
fn http_2_fields_that_would_mean_something_else_in_http_1_go_nowhere() {
    run(async {
        let (app, heads, _) = keeping().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            assert_eq!(status(&mesh, door, &get(&[])).await, 200);
            heads.take();
            for (name, value) in [
                ("connection", "close"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("te", "gzip"),
                ("te", "trailers, gzip"),
                ("Host", "upper.case"),
                ("X", "a"),
                ("x", "a\r\nb: c"),
                ("x", "a\nb"),
                ("x", "a\0b"),
                ("x\r\ny", "a"),
                ("x:", "a"),
                ("x y", "a"),
                ("x\"y", "a"),
                ("", "a"),
                // HTTP/1 would lose the blanks, and what a policy has judged would not be what is read.
                ("x", " a"),
                ("x", "a "),
                ("x", "\ta"),
                ("x", " "),
                ("host", "other.example"),
                ("content-length", "5"),
                ("content-length", ""),
                ("content-length", "+0"),
                ("content-length", "0, 0"),
                (":path", "/again"),
                (":unknown", "a"),
                (":status", "200"),
                (":protocol", "websocket"),
            ] {
                let got = status(&mesh, door, &get(&[(name, value)])).await;
                assert!([0, 400].contains(&got), "{door}: {name:?}: {value:?}: {got}");
            }
            assert!(heads.take().is_empty(), "{door}");
            assert_eq!(status(&mesh, door, &get(&[("te", "trailers"), ("host", BACKEND), ("x", "")])).await, 200);
            assert_eq!(heads.borrow()[0].headers().get("te").map(HeaderValue::as_bytes), Some(&b"trailers"[..]));
        }
    });
}

#[test]
fn pseudo_fields_that_are_not_what_they_should_be_go_nowhere() {
    run(async {
        let (app, heads, _) = keeping().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            for (name, value) in [
                (":method", ""),
                (":method", "GE T"),
                (":method", "GET\r\nx: y"),
                (":method", "GET\0"),
                (":scheme", ""),
                (":scheme", "ftp"),
                (":scheme", "javascript"),
                (":scheme", "http\r\n"),
                (":scheme", "https://x/?"),
                (":path", ""),
                (":path", "nothing"),
                (":path", "#"),
                (":path", "#/admin"),
                (":path", "/a b"),
                (":path", "/a\r\nx: y"),
                (":path", "/a\0"),
                (":path", "*"),
                (":path", "http://other.example/"),
                (":path", "//other.example\\@x"),
                (":authority", ""),
                (":authority", "a@b"),
                (":authority", "user:pass@backend.default.svc.cluster.local"),
                (":authority", "a b"),
                (":authority", "a/b"),
                (":authority", "a\\b"),
                (":authority", "a?b"),
                (":authority", "a#b"),
                (":authority", "a\r\nx: y"),
            ] {
                let got = status(&mesh, door, &with(name, value)).await;
                let merged = value.starts_with("//") && got == 200;
                assert!(merged || [0, 400].contains(&got), "{door}: {name}: {value:?}: {got}");
            }
            for missing in [":method", ":scheme", ":path", ":authority"] {
                let mut list = PSEUDO.to_vec();
                list.retain(|(name, _)| *name != missing);
                let got = status(&mesh, door, &fields(&list)).await;
                assert!([0, 400].contains(&got), "{door}: without {missing}: {got}");
            }
            // Behind another field.
            let late = [fields(&PSEUDO[..3]), fields(&[("x", "a")]), fields(&PSEUDO[3..])].concat();
            assert_eq!(status(&mesh, door, &late).await, 0, "{door}");
            let paths: Vec<_> = heads.take().iter().map(|head| head.uri().path().to_owned()).collect();
            assert!(paths.iter().all(|path| path == "/other.example/@x"), "{door}: {paths:?}");
            // A fragment is none of a request's business, and nobody sees it: neither policy nor application.
            assert_eq!(status(&mesh, door, &with(":path", "/a#b")).await, 200, "{door}");
            assert_eq!(heads.take()[0].uri().path(), "/a");
        }
    });
}

#[test]
fn a_host_field_counts_where_there_is_no_authority() {
    run(async {
        let (app, heads, _) = keeping().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let without = &PSEUDO[..3];
            assert_eq!(status(&mesh, door, &fields(&[without, &[("host", BACKEND)]].concat())).await, 200, "{door}");
            assert_eq!(heads.take()[0].uri().authority().unwrap(), BACKEND);
            for hosts in [&[("host", "a@b")][..], &[("host", BACKEND), ("host", BACKEND)], &[("host", "a/b")]] {
                let got = status(&mesh, door, &fields(&[without, hosts].concat())).await;
                assert!([0, 400].contains(&got), "{door}: {hosts:?}: {got}");
            }
            assert!(heads.take().is_empty());
        }
    });
}

#[test]
fn no_tunnel_is_made_through_http_2() {
    run(async {
        let (app, heads, _) = keeping().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let connect = fields(&[(":method", "CONNECT"), (":authority", BACKEND)]);
            assert_eq!(status(&mesh, door, &connect).await, 405, "{door}");
            let extended = [with(":method", "CONNECT"), Vec::new()].concat();
            assert_eq!(status(&mesh, door, &extended).await, 0, "{door}: with a path");
            let mut list = PSEUDO.to_vec();
            list[0].1 = "CONNECT";
            list.push((":protocol", "websocket"));
            assert_eq!(status(&mesh, door, &fields(&list)).await, 0, "{door}: extended");
        }
        assert!(heads.take().is_empty());
    });
}

#[test]
fn a_body_is_as_long_as_its_head_says_or_nobody_takes_it_for_whole() {
    run(async {
        let (app, heads, whole) = keeping().await;
        let mesh = Mesh::of(app.address()).await;
        let post = |length: &str| {
            let mut list = PSEUDO.to_vec();
            list[0].1 = "POST";
            list.push(("content-length", length));
            frame(HEADERS, END_HEADERS, 1, &fields(&list))
        };
        for door in DOORS {
            let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
            let good = [post("5"), data(0, b"hel"), data(END_STREAM, b"lo")].concat();
            assert_eq!(status_of(&mesh, door, &good).await, 200, "{door}");
            assert_eq!(whole.take(), 1);
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&[("x", "y")]));
            for (what, bytes) in [
                ("too short", [post("5"), data(END_STREAM, b"hell")].concat()),
                ("too long", [post("5"), data(END_STREAM, b"hello!")].concat()),
                ("none", [post("5"), data(END_STREAM, b"")].concat()),
                ("short before trailers", [post("5"), data(0, b"hell"), trailers].concat()),
                ("some where none should be", [post("0"), data(END_STREAM, b"a")].concat()),
                ("two lengths", [post("5, 6"), data(END_STREAM, b"hello")].concat()),
            ] {
                let got = status_of(&mesh, door, &bytes).await;
                assert!([0, 400].contains(&got), "{door}: {what}: {got}");
                assert_eq!(whole.get(), 0, "{door}: {what}");
            }
            // Nor one that its sender gives up, whatever it says of why, with a length or without.
            let mut list = PSEUDO.to_vec();
            list[0].1 = "POST";
            let open = frame(HEADERS, END_HEADERS, 1, &fields(&list));
            for (head, code) in [(post("9"), 8), (post("9"), 0), (open.clone(), 8), (open, 0)] {
                let mut wire = knock(&mesh, door).await;
                heads.take();
                wire.send([begin(), head, data(0, b"a part")].concat()).await;
                let arrived = until("the request", async || (!heads.borrow().is_empty()).then_some(()));
                arrived.await.unwrap();
                wire.send([frame(3, 0, 1, &u32::to_be_bytes(code)), frame(6, 0, 0, &[0; 8])].concat()).await;
                while next(&mut wire).await.is_some_and(|frame| frame.kind != 6) {}
                assert_eq!(status_of(&mesh, door, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &get(&[]))).await, 200);
                assert_eq!(whole.take(), 1, "{door}: {code}: a part was taken for the whole");
            }
        }
    });
}

#[test]
fn trailers_bring_nothing_that_only_a_head_may_say() {
    run(async {
        let seen = Rc::<RefCell<Vec<http::HeaderMap>>>::default();
        let kept = Rc::clone(&seen);
        let app = App::http2(async move |request: Request<Incoming>| {
            if let Ok(body) = request.into_body().collect().await {
                kept.borrow_mut().extend(body.trailers().cloned());
            }
            Response::new(full("ok"))
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        let mut list = PSEUDO.to_vec();
        list[0].1 = "POST";
        let head = frame(HEADERS, END_HEADERS, 1, &fields(&list));
        for door in DOORS {
            let trailers = fields(&[
                (":path", "/other"),
                (":authority", "other.example"),
                ("host", "other.example"),
                ("content-length", "5"),
                ("authorization", "Bearer a"),
                ("x-forwarded-client-cert", "URI=spiffe://a"),
                ("x", "kept"),
            ]);
            let (first, second) = trailers.split_at(30);
            let frames = [
                head.clone(),
                frame(DATA, 0, 1, b"a"),
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ];
            // Malformed, or without what must not be there.
            let got = status_of(&mesh, door, &frames.concat()).await;
            assert!([0, 200, 400].contains(&got), "{door}: {got}");
            for trailers in seen.take() {
                assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x"], "{door}");
            }
        }
    });
}
