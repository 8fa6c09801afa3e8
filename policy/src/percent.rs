//! Percent-encoding (RFC 3986, section 2.1), as far as names in a query have to be compared.

use std::borrow::Cow;

/// With `%XX` read once; what is no such escape stays as it is, and so does `+`.
pub fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut rest = bytes.clone();
        let digits = (byte == b'%').then(|| Some((hex(rest.next()?)?, hex(rest.next()?)?))).flatten();
        match digits {
            Some((high, low)) => {
                out.push(high << 4 | low);
                bytes = rest;
            }
            None => out.push(byte),
        }
    }
    Cow::Owned(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_escapes_once_and_leaves_what_is_none() {
        for (text, expected) in [
            ("plain+", "plain+"),
            ("%61%7a", "az"),
            ("%2541", "%41"),
            ("%", "%"),
            ("%4", "%4"),
            ("%+1%g0%4", "%+1%g0%4"),
            ("%%41", "%A"),
        ] {
            assert_eq!(decoded(text), expected.as_bytes(), "{text}");
        }
    }
}
