//! `x-request-id`: which request it is, in everybody's logs.
//!
//! The one idea: an identifier that came with the request stays, so that one request has one name along its way; where there is
//! none, or none that can stand in a log, it gets a random UUID (RFC 9562, version 4). It is a name and no secret: nothing may be
//! decided by it.

use http::header::{Entry, HeaderMap, HeaderValue};

use super::headers::REQUEST_ID;
use crate::random::Random;

/// Bytes of the longest identifier that is passed on; those of tracing systems have at most 128.
const LONGEST: usize = 128;

const DASH: u64 = b'-' as u64;

/// Makes identifiers, on one worker.
#[derive(Debug, Default)]
pub struct RequestIds(Random);

impl RequestIds {
    /// Gives a request an identifier that has no usable one.
    pub fn ensure(&self, headers: &mut HeaderMap) {
        let entry = headers.entry(&REQUEST_ID);
        if let Entry::Occupied(lines) = &entry {
            let mut lines = lines.iter();
            if lines.next().is_some_and(is_usable) && lines.next().is_none() {
                return;
            }
        }
        // Made of hexadecimal digits, so it can stand in a header.
        let Ok(id) = HeaderValue::from_bytes(&self.uuid()) else { return };
        match entry {
            Entry::Occupied(mut lines) => drop(lines.insert(id)),
            Entry::Vacant(none) => drop(none.insert(id)),
        }
    }

    fn uuid(&self) -> [u8; 36] {
        // The version, 4, and the variant, binary 10.
        let upper = self.0.next() & !0xf000 | 0x4000;
        let lower = self.0.next() & !(0x3 << 62) | 0x2 << 62;
        let (first, second) = (hexadecimal((upper >> 32) as u32), hexadecimal(upper as u32));
        let (third, fourth) = (hexadecimal((lower >> 32) as u32), hexadecimal(lower as u32));
        // 8-4-4-4-12 characters, of which eight at a time are put together: one by one they would show in a profile.
        let text = [
            first,
            DASH << 56 | second >> 32 << 24 | DASH << 16 | second >> 16 & 0xffff,
            second << 48 | DASH << 40 | third >> 32 << 8 | DASH,
            third << 32 | fourth >> 32,
            fourth << 32,
        ];
        let mut uuid = [0; 36];
        for (character, one) in uuid.iter_mut().zip(text.map(u64::to_be_bytes).as_flattened()) {
            *character = *one;
        }
        uuid
    }
}

/// The digits of a number, as eight characters from the upper end.
fn hexadecimal(number: u32) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let apart = u64::from(number);
    let apart = (apart | apart << 16) & 0x0000_ffff_0000_ffff;
    let apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff;
    let apart = (apart | apart << 4) & (EACH * 0xf);
    // Ten and six are sixteen: what overflows into the upper half of its byte is a letter. Between 9 and a are 0x27 others.
    let letters = (apart + EACH * 6) >> 4 & EACH;
    apart + EACH * 0x30 + letters * 0x27
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
    fn digits_are_those_of_the_number() {
        for number in [0, 0x0123_4567, 0x89ab_cdef, 0xdead_beef, u32::MAX] {
            assert_eq!(hexadecimal(number).to_be_bytes().as_slice(), format!("{number:08x}").as_bytes());
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
