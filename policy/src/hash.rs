//! A hash of short texts, for the index.
//!
//! Not for keeping anybody out: the tables that it fills are made from policies, and whoever chooses a request's path can
//! at most have a rule tried that does not match.

use std::hash::{BuildHasherDefault, Hasher};

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of the bytes, told apart by `seed`.
pub(crate) fn of(seed: u64, bytes: &[u8]) -> u64 {
    fold::<false>(seed, bytes)
}

/// Of the bytes with their capitals read as small letters.
pub(crate) fn of_lowered(seed: u64, bytes: &[u8]) -> u64 {
    fold::<true>(seed, bytes)
}

fn fold<const LOWERED: bool>(seed: u64, bytes: &[u8]) -> u64 {
    let word = |mut bytes: [u8; 8]| {
        if LOWERED {
            bytes.make_ascii_lowercase();
        }
        u64::from_le_bytes(bytes)
    };
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(ODD).rotate_left(27);
    let mut hash = mix(seed.wrapping_mul(ODD), bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for bytes in words {
        hash = mix(hash, word(*bytes));
    }
    if !rest.is_empty() {
        let last = match bytes.last_chunk::<8>() {
            // Some of it for the second time, which is cheaper than to take the rest apart.
            Some(last) => *last,
            None => {
                let mut last = [0; 8];
                for (to, from) in last.iter_mut().zip(rest) {
                    *to = *from;
                }
                last
            }
        };
        hash = mix(hash, word(last));
    }
    let hash = (hash ^ (hash >> 32)).wrapping_mul(ODD);
    hash ^ (hash >> 29)
}

/// For maps whose keys are such hashes.
pub(crate) type Hashed = BuildHasherDefault<Identity>;

/// Takes a hash for what it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = of(self.0, bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tells_short_texts_apart() {
        let texts = (0..20_000).map(|n| format!("/api/v1/data-{n:05}"));
        let short = (0..20_000).map(|n| n.to_string());
        let all: HashSet<u64> = texts.chain(short).map(|text| of(1, text.as_bytes())).collect();
        assert_eq!(all.len(), 40_000);
        assert_ne!(of(1, b"a"), of(2, b"a"));
        assert_ne!(of(1, b"a"), of(1, b"a\0"));
    }

    #[test]
    fn lowers_capitals_only_where_asked_to() {
        for text in ["", "a", "Backend", "BACKEND.default", "Backend.Default.svc:8080"] {
            let lower = text.to_ascii_lowercase();
            assert_eq!(of_lowered(1, text.as_bytes()), of(1, lower.as_bytes()), "{text}");
        }
        assert_ne!(of(1, b"A"), of(1, b"a"));
    }
}
