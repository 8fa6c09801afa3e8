//! `x-request-id`: which request it is, in everybody's logs.
//!
//! The one idea: an identifier that came with the request stays, so that one request has one name along its way; where there is
//! none, or none that can stand in a log, it gets a random UUID (RFC 9562, version 4). It is a name and no secret: nothing may be
//! decided by it.

use http::header::{HeaderMap, HeaderValue};

use super::headers::REQUEST_ID;
use crate::random::Random;

/// Bytes of the longest identifier that is passed on; those of tracing systems have at most 128.
const LONGEST: usize = 128;

/// Makes identifiers, on one worker.
#[derive(Debug, Default)]
pub struct RequestIds(Random);

impl RequestIds {
    /// Gives a request an identifier that has no usable one.
    pub fn ensure(&self, headers: &mut HeaderMap) {
        let mut lines = headers.get_all(&REQUEST_ID).iter();
        if lines.next().is_some_and(is_usable) && lines.next().is_none() {
            return;
        }
        // Made of hexadecimal digits, so it can stand in a header.
        if let Ok(id) = HeaderValue::from_bytes(&self.uuid()) {
            headers.insert(&REQUEST_ID, id);
        }
    }

    fn uuid(&self) -> [u8; 36] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bits = u128::from(self.0.next()) << 64 | u128::from(self.0.next());
        // The version, 4, and the variant, binary 10.
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let mut text = [b'-'; 36];
        let mut left = 128;
        for (at, character) in text.iter_mut().enumerate() {
            if !matches!(at, 8 | 13 | 18 | 23) {
                left -= 4;
                *character = DIGITS.get((bits >> left & 15) as usize).copied().unwrap_or(b'0');
            }
        }
        text
    }
}

fn is_usable(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn after(lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&REQUEST_ID, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        RequestIds::default().ensure(&mut headers);
        assert_eq!(headers.get_all(&REQUEST_ID).iter().count(), 1);
        headers[&REQUEST_ID].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_came_with_the_request_stays_if_it_can_stand_in_a_log() {
        let longest = "x".repeat(LONGEST);
        for id in ["1", "4bf92f3577b34da6a3ce929d0e0e4736", "a/b:c=d", &longest] {
            assert_eq!(after(&[id]), id);
        }
        for lines in [&[][..], &[""], &["a b"], &["a", "a"], &["\u{e9}"], &[&format!("{longest}x")]] {
            assert_eq!(after(lines).len(), 36, "{lines:?}");
        }
    }

    #[test]
    fn identifiers_are_random_uuids_of_version_4() {
        let ids = RequestIds::default();
        let made: BTreeSet<String> = (0..1000).map(|_| String::from_utf8(ids.uuid().to_vec()).unwrap()).collect();
        assert_eq!(made.len(), 1000);
        for id in made {
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            assert!(parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())), "{id}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
        }
    }
}
