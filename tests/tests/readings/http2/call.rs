//! Requests over HTTP/2 that have fooled somebody before, and what is near them: lists of fields, pieces of bodies, trailers.

use crate::dice::Dice;

pub(super) type Field = (Vec<u8>, Vec<u8>);

const METHODS: [&str; 12] =
    ["GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "get", "G(T", "GE T", "GET / HTTP/1.1\r\nx:"];
const SCHEMES: [&str; 8] = ["http", "http", "https", "HTTP", "ftp", "", "http\r\nx: y", "http://a/?"];
const AUTHORITIES: [&str; 16] = [
    "a",
    "a",
    "a:80",
    "A",
    "b",
    "",
    "a@b",
    "a b",
    "a,b",
    "a/b",
    "a#b",
    "a:b",
    "[::1]:80",
    "a\r\nx: y",
    "a?b",
    "\u{e9}",
];
const PATHS: [&str; 24] = [
    "/",
    "/a",
    "/a",
    "/a/b?c=d",
    "//a/./b",
    "/a%2fb",
    "/a/../b",
    "/%61",
    "/a;b",
    "/..;/a",
    "*",
    "",
    "a",
    "http://b/a",
    "/a#b",
    "#",
    "/a b",
    "/a HTTP/1.1\r\nhost: b\r\n\r\n",
    "/a\tb",
    "/a\0",
    "/\u{e9}",
    "/a?b c",
    "/a\\b",
    "/<a>",
];
const LENGTHS: [&str; 13] =
    ["0", "4", "5", "05", "+5", "-1", "5, 5", "5 5", "0x5", "", "18446744073709551621", "5\u{b}", "5\r\nx: y"];
const LENGTH_NAMES: [&str; 6] =
    ["content-length", "content-length", "content-length", "Content-Length", "content_length", "content-length "];
const FIELDS: [(&str, &str); 44] = [
    ("x", "y"),
    ("x", "y"),
    ("x", "z"),
    ("x", ""),
    ("x-y", "z"),
    ("X", "y"),
    ("x", " y"),
    ("x", "y\t"),
    ("x", "a\r\nb: c"),
    ("x", "a\nb: c"),
    ("x", "a\rb: c"),
    ("x", "a\0b"),
    ("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("x", "\u{e9}"),
    ("x\r\ny", "a"),
    ("x: y\r\nz", "a"),
    ("x:", "a"),
    ("x y", "a"),
    (" x", "a"),
    ("", "a"),
    ("host", "a"),
    ("host", "a"),
    ("host", "b"),
    ("Host", "b"),
    ("host_", "b"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("transfer_encoding", "chunked"),
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding ", "chunked"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("te", "trailers, chunked"),
    ("connection", "close"),
    ("connection", "x, host, content-length"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("upgrade", "h2c"),
    ("http2-settings", "AAMAAABkAAQAAP__"),
    ("expect", "nothing"),
    ("cookie", "a=b"),
    ("cookie", "c=d"),
    ("cookie", ""),
    ("trailer", "content-length"),
];
const PSEUDO: [(&str, &str); 8] = [
    (":method", "PUT"),
    (":path", "/b"),
    (":authority", "b"),
    (":scheme", "https"),
    (":status", "200"),
    (":protocol", "websocket"),
    (":host", "b"),
    (":", "b"),
];
const PIECES: [&str; 8] =
    ["hello", "hello", "hello", "", "hell", "0\r\n\r\n", "5\r\nhello\r\n", "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"];
const TRAILERS: [(&str, &str); 16] = [
    ("x", "y"),
    ("x", "y"),
    ("x", "y"),
    ("content-length", "3"),
    ("transfer-encoding", "chunked"),
    ("host", "b"),
    ("X", "y"),
    ("x", "a\r\nb: c"),
    ("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("x\r\ny", "a"),
    ("", "a"),
    (":path", "/b"),
    (":method", "PUT"),
    ("connection", "close"),
    ("authorization", "b"),
    ("content_length", "3"),
];
const NASTY: &[u8] = b"\r\n\0 :;,\t_#0aA\x0b\x7f\xff/-%";

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With what comes last.
    Last,
    /// With a frame of its own that has nothing in it.
    Empty,
    /// It is reset.
    Reset,
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Pseudo fields and others, as they stand in the head.
    pub(super) fields: Vec<Field>,
    pub(super) data: Vec<Vec<u8>>,
    pub(super) trailers: Option<Vec<Field>>,
    pub(super) end: End,
    /// Its head and its trailers come in several frames, cut anywhere.
    pub(super) cut: bool,
    /// Nothing is wrong with it.
    pub(super) plain: bool,
}

impl Call {
    pub(super) fn thrown(dice: &mut Dice) -> Self {
        let plain = dice.one_in(3);
        let mut call = if plain { Self::plain(dice) } else { Self::odd(dice) };
        if !plain && dice.one_in(16) {
            call.end = End::Reset;
        }
        call.cut = dice.one_in(6);
        call
    }

    pub(super) fn body(&self) -> Vec<u8> {
        self.data.concat()
    }

    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.0 == name.as_bytes()).map(|field| field.1.as_slice())
    }

    fn plain(dice: &mut Dice) -> Self {
        let method = dice.of(&["GET", "POST", "PUT"]);
        let pseudo = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", "/a")];
        let mut fields: Vec<Field> = pseudo.into_iter().map(field).collect();
        fields.extend((0..dice.below(3)).map(|_| field(("x", dice.of(&["y", "z", ""])))));
        let data = pieces(dice, &["hello", "hello", ""]);
        let length = data.concat().len();
        if length > 0 && dice.one_in(2) {
            fields.push(field(("content-length", &length.to_string())));
        }
        let trailers = dice.one_in(6).then(|| vec![field(("x", "y"))]);
        let end = if dice.one_in(4) && trailers.is_none() { End::Empty } else { End::Last };
        Self { fields, data, trailers, end, cut: false, plain: true }
    }

    fn odd(dice: &mut Dice) -> Self {
        let mut part = |plain: &'static str, odd: &[&'static str]| if dice.one_in(8) { dice.of(odd) } else { plain };
        let pseudo = [
            (":method", part("POST", &METHODS)),
            (":scheme", part("http", &SCHEMES)),
            (":authority", part("a", &AUTHORITIES)),
            (":path", part("/a", &PATHS)),
        ];
        let mut fields: Vec<Field> = pseudo.into_iter().map(field).collect();
        for _ in 0..dice.below(3) {
            fields.push(field(FIELDS[dice.below(FIELDS.len())]));
        }
        let data = pieces(dice, &PIECES);
        match dice.below(6) {
            0 | 1 => fields.push(field(("content-length", &data.concat().len().to_string()))),
            2 => fields.push(field((dice.of(&LENGTH_NAMES), dice.of(&LENGTHS)))),
            3 if dice.one_in(3) => {
                fields.push(field(("content-length", &data.concat().len().to_string())));
                fields.push(field((dice.of(&LENGTH_NAMES), dice.of(&LENGTHS))));
            }
            _ => {}
        }
        out_of_order(dice, &mut fields);
        let trailers = dice.one_in(4).then(|| {
            let count = 1 + dice.below(2);
            (0..count).map(|_| field(TRAILERS[dice.below(TRAILERS.len())])).collect()
        });
        let mut call = Self { fields, data, trailers, end: End::Last, cut: false, plain: false };
        if dice.one_in(4) {
            call.end = End::Empty;
        }
        while dice.one_in(4) {
            call.mutate(dice);
        }
        call
    }

    /// Another byte somewhere in a name or a value.
    fn mutate(&mut self, dice: &mut Dice) {
        let at = dice.below(self.fields.len());
        let in_name = dice.one_in(3);
        let text = if in_name { &mut self.fields[at].0 } else { &mut self.fields[at].1 };
        let byte = if dice.one_in(3) { dice.below(256) as u8 } else { NASTY[dice.below(NASTY.len())] };
        let place = dice.below(text.len() + 1);
        match dice.below(3) {
            0 if place < text.len() => text[place] = byte,
            1 if place < text.len() => {
                text.remove(place);
            }
            _ => text.insert(place, byte),
        }
    }
}

/// Now and then a pseudo field is missing, doubled, unknown, or behind others.
fn out_of_order(dice: &mut Dice, fields: &mut Vec<Field>) {
    match dice.below(16) {
        0 => {
            fields.remove(dice.below(4));
        }
        1 => fields.insert(dice.below(5), field(PSEUDO[dice.below(PSEUDO.len())])),
        2 => {
            let late = fields.remove(dice.below(4));
            fields.push(late);
        }
        3 => fields.push(field(PSEUDO[dice.below(PSEUDO.len())])),
        4 => fields.swap(dice.below(4), dice.below(4)),
        _ => {}
    }
}

fn pieces(dice: &mut Dice, of: &[&'static str]) -> Vec<Vec<u8>> {
    (0..dice.below(4)).map(|_| dice.of(of).as_bytes().to_vec()).collect()
}

fn field((name, value): (&str, &str)) -> Field {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}
