//! One request at one proxy, as a trace tells of it.
//!
//! The one idea: what is recorded is copied into one text that all attributes share, each cut to a length, so that a span costs few allocations
//! and a caller cannot make it large. What OpenTelemetry's protocol wants is made of it away from the request path (`otlp`).

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

/// Bytes of one value: Envoy's for a path, and some twenty of them are five thousand.
const VALUE_MAX: usize = 256;

/// Room for the usual request's values, and how many there are, so that neither has to grow.
const TEXT: usize = 640;
const FIELDS: usize = 32;

/// Which side of a call it tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller's.
    Client,
    /// The called one's; a gateway's, too, which is called.
    Server,
}

/// What is recorded of one request.
#[derive(Debug)]
pub struct Span {
    /// Which trace; not zero.
    pub trace: u128,
    /// Which span; not zero.
    pub id: u64,
    /// Whose child; `None` where the trace begins here.
    pub parent: Option<u64>,
    /// W3C's trace flags.
    pub flags: u8,
    /// The trace's `tracestate`.
    pub state: Option<Box<str>>,
    /// Client or server.
    pub kind: Kind,
    /// What it is called, from a small set of names.
    pub name: String,
    /// When it ended.
    pub ended: SystemTime,
    /// How long it lasted.
    pub took: Duration,
    /// It went wrong, and was not the caller's own fault.
    pub failed: bool,
    text: String,
    fields: Vec<Field>,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// At most 256 bytes.
    Text(&'a str),
    /// A number.
    Number(i64),
}

#[derive(Debug)]
enum Field {
    /// The next so many bytes of the text.
    Text(&'static str, usize),
    Number(&'static str, i64),
}

impl Span {
    /// A span of which nothing is known but where it belongs.
    pub fn new(trace: u128, id: u64, parent: Option<u64>, flags: u8, state: Option<Box<str>>) -> Self {
        Self {
            trace,
            id,
            parent,
            flags,
            state,
            kind: Kind::Server,
            name: String::new(),
            ended: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            failed: false,
            text: String::with_capacity(TEXT),
            fields: Vec::with_capacity(FIELDS),
        }
    }

    /// Adds a text, which may be anything: what is no UTF-8 is marked, and what is too long is cut.
    pub fn text(&mut self, key: &'static str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let from = self.text.len();
        match std::str::from_utf8(value) {
            Ok(value) => self.text.push_str(value),
            Err(_) => self.text.push_str(&String::from_utf8_lossy(value.get(..VALUE_MAX).unwrap_or(value))),
        }
        self.ends(key, from);
    }

    /// Adds a text written by `Display`.
    pub fn display(&mut self, key: &'static str, value: impl Display) {
        let from = self.text.len();
        // Writing into a String cannot fail.
        let _ = write!(self.text, "{value}");
        self.ends(key, from);
    }

    /// Adds a number.
    pub fn number(&mut self, key: &'static str, value: u64) {
        self.fields.push(Field::Number(key, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn ends(&mut self, key: &'static str, from: usize) {
        let mut end = self.text.len().min(from + VALUE_MAX);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.truncate(end);
        self.fields.push(Field::Text(key, end - from));
    }

    /// All that was added.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        let mut rest = self.text.as_str();
        self.fields.iter().map(move |field| match field {
            Field::Number(key, number) => (*key, Value::Number(*number)),
            Field::Text(key, length) => {
                let (value, behind) = rest.split_at_checked(*length).unwrap_or((rest, ""));
                rest = behind;
                (*key, Value::Text(value))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_the_wire_does_not_make_it_large() {
        let mut span = Span::new(1, 2, None, 1, None);
        span.text("plain", "a");
        span.text("long", "\u{20ac}".repeat(20_000));
        span.text("bytes", [b'x', 0xff].repeat(20_000));
        span.number("number", u64::MAX);
        span.display("shown", "y".repeat(20_000));
        span.text("empty", "");
        let attributes: Vec<_> = span.attributes().collect();
        assert_eq!(attributes[0], ("plain", Value::Text("a")));
        assert_eq!(attributes[1], ("long", Value::Text("\u{20ac}".repeat(85).as_str())));
        let Value::Text(bytes) = attributes[2].1 else { panic!() };
        assert!(bytes.starts_with("x\u{fffd}x\u{fffd}") && bytes.len() <= VALUE_MAX, "{bytes}");
        assert_eq!(attributes[3], ("number", Value::Number(i64::MAX)));
        assert_eq!(attributes[4], ("shown", Value::Text("y".repeat(VALUE_MAX).as_str())));
        assert_eq!(attributes[5], ("empty", Value::Text("")));
    }
}
