//! A line that is being written: the fields of one flat JSON object.
//!
//! The one idea: names, and what stands around them, are put together when this is compiled, and of a value only what came from elsewhere
//! is looked at for what has to be escaped.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes that the fields of a connection come to, but for a long name or two.
const PREFIX: usize = 512;

/// One line, begun and not ended.
#[derive(Debug)]
pub struct Line {
    pub(super) bytes: Vec<u8>,
}

impl Line {
    /// The fields that all lines of a connection share, ready to be copied behind the time.
    pub fn prefix(fill: impl FnOnce(&mut Line)) -> Vec<u8> {
        let mut line = Line { bytes: Vec::with_capacity(PREFIX) };
        fill(&mut line);
        // Copied, because it is kept as long as its connection: the allocator would leave it the room that it has.
        line.bytes.as_slice().to_vec()
    }

    /// Adds a text field, whose value may be anything.
    #[inline]
    pub fn text(&mut self, field: Field, value: impl AsRef<[u8]>) {
        self.open(field);
        escape(value.as_ref(), &mut self.bytes);
        self.bytes.push(b'"');
    }

    /// Adds a text field with one of our own words, which needs no escaping either.
    #[inline]
    pub fn word(&mut self, field: Field, word: &'static str) {
        self.open(field);
        self.bytes.extend_from_slice(word.as_bytes());
        self.bytes.push(b'"');
    }

    /// Adds a text field that is put together of these.
    pub fn joined<const N: usize>(&mut self, field: Field, parts: [&str; N]) {
        self.written(field, |bytes| {
            for part in parts {
                bytes.extend_from_slice(part.as_bytes());
            }
        });
    }

    /// Adds a text field written by `Display`.
    pub fn display(&mut self, field: Field, value: impl std::fmt::Display) {
        // Writing into a Vec cannot fail.
        self.written(field, |bytes| drop(write!(bytes, "{value}")));
    }

    /// Adds a text field that is written first and looked at then.
    fn written(&mut self, field: Field, write: impl FnOnce(&mut Vec<u8>)) {
        self.open(field);
        let from = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.get(from..).is_some_and(has_escapes) {
            let written = self.bytes.split_off(from);
            escape(&written, &mut self.bytes);
        }
        self.bytes.push(b'"');
    }

    /// Adds a number.
    #[inline]
    pub fn number(&mut self, field: Field, value: u64) {
        self.name(field);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Adds a duration in milliseconds, to the microsecond.
    #[inline]
    pub fn millis(&mut self, field: Field, value: Duration) {
        self.name(field);
        let millis = value.as_secs().saturating_mul(1000).saturating_add(u64::from(value.subsec_millis()));
        self.bytes.extend_from_slice(itoa::Buffer::new().format(millis).as_bytes());
        let [a, b, c] = three_digits(value.subsec_micros() % 1000);
        self.bytes.extend_from_slice(&[b'.', a, b, c]);
    }

    /// Adds an address.
    pub fn address(&mut self, field: Field, value: SocketAddr) {
        self.open(field);
        let _ = write!(self.bytes, "{value}\"");
    }

    /// Up to the value of a text field.
    #[inline]
    fn open(&mut self, field: Field) {
        self.bytes.extend_from_slice(field.0.as_bytes());
    }

    /// Up to the value of one that has no quotes.
    #[inline]
    fn name(&mut self, field: Field) {
        let name = field.0.strip_suffix('"').unwrap_or(field.0);
        self.bytes.extend_from_slice(name.as_bytes());
    }
}

/// A field's name with all that stands around it, which is put together when this is compiled: see `field!`.
#[derive(Debug, Clone, Copy)]
pub struct Field(&'static str);

impl Field {
    /// As `field!` makes it: from the comma before the name to the quote before the value.
    pub const fn new(opening: &'static str) -> Self {
        Self(opening)
    }
}

/// A [`Field`] by its name, which is ours and needs no escaping.
macro_rules! field {
    ($name:literal) => {
        $crate::access_log::Field::new(concat!(",\"", $name, "\":\""))
    };
}
pub(crate) use field;

#[inline]
fn needs_escape(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

/// Nearly always there are none, and eight bytes are looked at in one.
#[inline]
fn has_escapes(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else { return bytes.iter().any(|byte| needs_escape(*byte)) };
    let (words, _in_last) = bytes.as_chunks();
    let found = words.iter().fold(escapes_among(*last), |found, word| found | escapes_among(*word));
    found & (EACH * 0x80) != 0
}

/// One in each of eight bytes.
const EACH: u64 = 0x0101_0101_0101_0101;

/// The uppermost bit of one of eight bytes is set if and only if one of them needs an escape. Below 0x80 each term sets it for what it
/// looks for alone: below a space, a quote, a backslash, 0x7f; a byte that borrows from the next, or carries into it, is one of those.
#[inline]
fn escapes_among(bytes: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(bytes);
    let is = |byte: u8| (word ^ (EACH * u64::from(byte))).wrapping_sub(EACH);
    word | word.wrapping_sub(EACH * 0x20) | is(b'"') | is(b'\\') | word.wrapping_add(EACH)
}

/// Writes bytes as the inside of a JSON string. Bytes outside ASCII become `\u00XX` one by one, so that a line is always
/// valid UTF-8 whatever the wire held.
fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    if !has_escapes(bytes) {
        return out.extend_from_slice(bytes);
    }
    while let Some(at) = bytes.iter().position(|byte| needs_escape(*byte)) {
        let (plain, rest) = bytes.split_at(at);
        out.extend_from_slice(plain);
        if let Some((special, rest)) = rest.split_first() {
            match special {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                byte => {
                    let _ = write!(out, "\\u{byte:04x}");
                }
            }
            bytes = rest;
        }
    }
    out.extend_from_slice(bytes);
}

/// Of a number below a thousand.
#[inline]
pub(super) fn three_digits(number: u32) -> [u8; 3] {
    [number / 100 % 10, number / 10 % 10, number % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_wire_can_forge_a_line() {
        let mut line = Line { bytes: b"{\"a\":1".to_vec() };
        line.text(field!("path"), b"/\"},{\"x\":\"\r\n\\\xff\x00\x7f");
        line.display(field!("host"), "a\"b\n");
        line.number(field!("bytes"), 12);
        line.millis(field!("duration"), Duration::from_micros(1_204_056));
        line.bytes.push(b'}');
        let text = String::from_utf8(line.bytes).unwrap();
        assert!(!text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["path"], "/\"},{\"x\":\"\r\n\\\u{ff}\0\u{7f}");
        assert_eq!(value["host"], "a\"b\n");
        assert_eq!(value["duration"], 1204.056);
    }

    #[test]
    fn what_needs_an_escape_is_found_wherever_it_stands() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for around in [b' ', b'!', b'#', b'[', b']', b'~'] {
                        let mut bytes = vec![around; length];
                        bytes[at] = byte;
                        assert_eq!(has_escapes(&bytes), needs_escape(byte), "{bytes:?}");
                    }
                }
            }
        }
    }
}
