//! Streams of bytes that have fooled somebody before, and what is near them.

use crate::dice::Dice;

const METHODS: [&str; 7] = ["GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS"];
const TARGETS: [&str; 12] =
    ["/", "/a", "/a", "/a/b?c=d", "//a/./b", "/a%2fb", "http://a/x", "*", "/a#b", "/%61", "/a b", "/\u{e9}"];
const VERSIONS: [&str; 9] =
    ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1"];
const LENGTHS: [&str; 14] =
    ["0", "4", "4", "5", "05", "+5", "-1", "5, 5", "5 5", "0x5", "", "18446744073709551621", "\t5 ", "5\u{b}"];
const LENGTH_NAMES: [&str; 7] = [
    "content-length",
    "content-length",
    "Content-Length",
    "content_length",
    "content-length ",
    " content-length",
    "content\u{0}-length",
];
const CODINGS: [&str; 14] = [
    "chunked",
    "chunked",
    "chunked",
    "Chunked",
    "chunked, chunked",
    "gzip, chunked",
    "chunked, gzip",
    "identity",
    "xchunked",
    "\u{b}chunked",
    "chunked;q=1",
    "",
    "\"chunked\"",
    " chunked\t",
];
const CODING_NAMES: [&str; 7] = [
    "transfer-encoding",
    "transfer-encoding",
    "Transfer-Encoding",
    "transfer_encoding",
    "transfer-encoding ",
    "\ttransfer-encoding",
    "transfer-encoding\u{0}",
];
const FIELDS: [&str; 14] = [
    "x: y",
    "x: y",
    "x:",
    "X-Y: z",
    "host: b",
    "Host: a",
    "x : y",
    ": y",
    "no colon",
    " folded",
    "x: a\u{0}b",
    "x: a\rb",
    "connection: x, content-length, host",
    "expect: nothing",
];
const ENDS: [&str; 20] = [
    "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n",
    "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r\n",
];
const SIZES: [&str; 14] =
    ["5", "5", "5", "005", "5;x=y", "5 ", "5 ;x", "0x5", "+5", "", "5;a\u{0}", "g", "100000000000000005", "5\t"];
const LAST: [&str; 9] = ["0", "0", "0", "0", "000", "0;x", "0 ", "-0", "0x0"];
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
const NASTY: &[u8] = b"\r\n\r\n\0 :;,\t_#0aA\x0b\x7f\xff/-";

/// A stream, how many messages were meant to be in it, and where it is cut.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) messages: usize,
    cuts: Vec<usize>,
}

impl Stream {
    pub(crate) fn requests(dice: &mut Dice) -> Self {
        let messages = 1 + dice.below(3);
        let mut bytes = Vec::new();
        for _ in 0..messages {
            if dice.one_in(20) {
                bytes.extend_from_slice(dice.of(&ENDS).as_bytes());
            }
            let start = format!("{} {} {}", dice.of(&METHODS), dice.of(&TARGETS), dice.of(&VERSIONS));
            message(dice, &mut bytes, &start, true);
        }
        Self::of(dice, bytes, messages)
    }

    pub(crate) fn answer(dice: &mut Dice) -> Self {
        let mut bytes = Vec::new();
        let codes = ["200", "200", "200", "204", "304", "404", "500", "099", "1000", "20", "103"];
        if dice.one_in(8) {
            bytes.extend_from_slice(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n");
        }
        let start = format!("{} {}{}", dice.of(&VERSIONS), dice.of(&codes), dice.of(&[" OK", " OK", "", " ", "\tOK"]));
        message(dice, &mut bytes, &start, false);
        if dice.one_in(8) {
            bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
        }
        Self::of(dice, bytes, 1)
    }

    fn of(dice: &mut Dice, mut bytes: Vec<u8>, messages: usize) -> Self {
        while dice.one_in(4) {
            let at = dice.below(bytes.len());
            let byte = if dice.one_in(3) { dice.below(256) as u8 } else { NASTY[dice.below(NASTY.len())] };
            match dice.below(3) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        let count = if dice.one_in(2) { 0 } else { dice.below(6) };
        let mut cuts: Vec<usize> = (0..count).map(|_| dice.below(bytes.len())).collect();
        cuts.sort_unstable();
        Self { bytes, messages, cuts }
    }

    pub(crate) fn segments(&self) -> Vec<&[u8]> {
        let ends = self.cuts.iter().copied().chain([self.bytes.len()]);
        let mut start = 0;
        ends.map(|end| &self.bytes[std::mem::replace(&mut start, end)..end]).filter(|cut| !cut.is_empty()).collect()
    }
}

/// One message. Most have one thing in them that is not as it should be, some more, some none.
fn message(dice: &mut Dice, bytes: &mut Vec<u8>, start: &str, is_request: bool) {
    let odd = !dice.one_in(3);
    let end = |dice: &mut Dice| if odd { dice.of(&ENDS) } else { "\r\n" };
    let start = if odd {
        start.to_owned()
    } else if is_request {
        "POST /a HTTP/1.1".into()
    } else {
        "HTTP/1.1 200 OK".into()
    };
    let mut lines = vec![start];
    if is_request && !dice.one_in(30) {
        lines.push("host: a".into());
    }
    for _ in 0..dice.below(3) {
        lines.push(if odd { dice.of(&FIELDS) } else { "x: y" }.into());
    }
    let framing = dice.below(4);
    let mut add = |dice: &mut Dice, names: &[&str], values: &[&str], plain: &str| {
        let (name, value) = if odd && dice.one_in(3) { (dice.of(names), dice.of(values)) } else { (names[0], plain) };
        lines.push(format!("{name}: {value}"));
    };
    if framing == 1 || (odd && dice.one_in(6)) {
        add(dice, &LENGTH_NAMES, &LENGTHS, "5");
    }
    if framing >= 2 || (odd && dice.one_in(6)) {
        add(dice, &CODING_NAMES, &CODINGS, "chunked");
    }
    if odd && dice.one_in(6) {
        add(dice, &LENGTH_NAMES, &LENGTHS, "5");
    }
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(end(dice).as_bytes());
    }
    bytes.extend_from_slice(end(dice).as_bytes());
    match framing {
        1 => bytes.extend_from_slice(b"hello"),
        2.. => chunks(dice, bytes, odd),
        _ => {}
    }
    if odd && dice.one_in(4) {
        bytes.extend_from_slice(SMUGGLED.as_bytes());
    }
}

fn chunks(dice: &mut Dice, bytes: &mut Vec<u8>, odd: bool) {
    let is_odd = |dice: &mut Dice| odd && dice.one_in(4);
    for _ in 0..dice.below(3) {
        bytes.extend_from_slice(if is_odd(dice) { dice.of(&SIZES) } else { "5" }.as_bytes());
        bytes.extend_from_slice(if is_odd(dice) { dice.of(&ENDS) } else { "\r\n" }.as_bytes());
        bytes.extend_from_slice(
            if is_odd(dice) { dice.of(&["hell", "helloX", "hel\nl", "0\r\n\r\n"]) } else { "hello" }.as_bytes(),
        );
        bytes.extend_from_slice(if is_odd(dice) { dice.of(&ENDS) } else { "\r\n" }.as_bytes());
    }
    bytes.extend_from_slice(if is_odd(dice) { dice.of(&LAST) } else { "0" }.as_bytes());
    bytes.extend_from_slice(if is_odd(dice) { dice.of(&ENDS) } else { "\r\n" }.as_bytes());
    if dice.one_in(3) {
        bytes.extend_from_slice(if is_odd(dice) { dice.of(&FIELDS) } else { "content-length: 3" }.as_bytes());
        bytes.extend_from_slice(if is_odd(dice) { dice.of(&ENDS) } else { "\r\n" }.as_bytes());
    }
    bytes.extend_from_slice(if is_odd(dice) { dice.of(&ENDS) } else { "\r\n" }.as_bytes());
}
