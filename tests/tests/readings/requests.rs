//! Requests, with any bytes.

use std::collections::BTreeMap;

use meshgate_policy::normalize::Level;

use crate::dice::Dice;
use crate::levels;
use crate::pipe::{self, Outcome, Passed};
use crate::reader::{CARELESS, Kind, Message, READERS, STRICT};
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
            assert!(tally.get(kind).is_some_and(|times| *times > count / 200), "{kind}: {tally:?}");
        }
    });
}

/// One connection.
fn judge(bytes: &[u8], outcome: &Outcome, tally: &mut BTreeMap<&str, usize>) {
    let what = || format!("{}: {outcome:#?}", bytes.escape_ascii());
    let mut at = 0;
    for passed in &outcome.passed {
        if passed.refused {
            let Ok(read) = CARELESS.read(Kind::Request, bytes, at) else { break };
            at = read.end;
            continue;
        }
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
    let answered = text.matches("HTTP/1.1 200").count() + text.matches("HTTP/1.0 200").count();
    assert_eq!(answered, served, "answered what was not passed: {}", what());
    if text.contains(" 400 Bad Request") {
        *tally.entry("refused").or_default() += 1;
    }
    if STRICT.read(Kind::Request, bytes, 0).is_ok() {
        *tally.entry("one reading").or_default() += 1;
    }
}

fn goes_out_as_read(read: &Message, passed: &Passed, what: &dyn Fn() -> String) {
    let [method, target, _] = &read.start;
    // In absolute form the target has the authority, and Host is nobody's.
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case(b"http://"));
    let (authority, origin) = match scheme.and_then(|_| target.get(7..)) {
        Some(rest) => {
            let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
            (Some(authority.to_vec()), path)
        }
        None => (None, target.clone()),
    };
    let target = levels::path(&origin, levels::Level::MergeSlashes);
    assert_eq!((Some(&passed.target), &passed.method), (target.as_ref(), method), "judged otherwise: {}", what());
    // HTTP/1.0 needs none, and goes out with an empty one.
    let host = std::slice::from_ref(&passed.host);
    let named = match authority {
        Some(authority) => vec![authority],
        None if read.hosts.is_empty() => vec![Vec::new()],
        None => read.hosts.clone(),
    };
    assert_eq!(host, named, "another host: {}", what());
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
    let stream =
        b"\r\nPOST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx: y\r\n\r\n\
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
