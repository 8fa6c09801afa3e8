//! One endpoint for one key: rendezvous hashing.
//!
//! The one idea (Thaler and Ravishankar, 1998): every member gets a score for the key, and the highest has it. When a member goes,
//! only its own keys move, and each to who was second; when one comes, it takes its share of keys and no other key moves. The
//! same keys have the same order in every worker and every process. That is what a ring of hashes is for, without a ring.

use http::header::COOKIE;
use meshgate_config::HashOn;

use super::candidate::Caller;

/// The hash of something's name or of a key's value. FNV-1a, made even by a finaliser: fixed for all time and machines.
pub(super) fn of(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The score of a member for a key.
pub(super) fn score(key: u64, member: u64) -> u64 {
    mix(key ^ member)
}

/// The same where members have weights: each is the highest for its weight's share of keys.
pub(super) fn weighted(key: u64, member: u64, weight: u32) -> f64 {
    // Evenly in (0, 1], from as many bits as a fraction has. An exponential race: the shortest time at this rate wins.
    let fraction = ((score(key, member) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    f64::from(weight.max(1)) / -fraction.ln()
}

/// The caller's key; that of its address where it lacks what the service goes by.
pub(super) fn key(on: &HashOn, caller: Caller<'_>) -> u64 {
    let named = match (on, caller.headers) {
        (HashOn::SourceIp, _) | (_, None) => None,
        (HashOn::Header(name), Some(headers)) => headers.get(name.as_ref()).map(http::HeaderValue::as_bytes),
        (HashOn::Cookie(name), Some(headers)) => {
            let all =
                headers.get_all(COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
            all.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
        }
    };
    match (named, caller.source) {
        (Some(value), _) => of(value),
        (None, std::net::IpAddr::V4(address)) => of(&address.octets()),
        (None, std::net::IpAddr::V6(address)) => of(&address.octets()),
    }
}

/// The finaliser of splitmix64: every bit of the input changes half of the output's.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::HeaderMap;

    use super::*;

    fn winner(key: u64, members: &[(u64, u32)]) -> u64 {
        let scored = members.iter().map(|(member, weight)| (weighted(key, *member, *weight), *member));
        scored.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    }

    #[test]
    fn weights_are_shares_of_keys_and_only_the_keys_of_who_goes_move() {
        let members: Vec<_> =
            [("a", 20), ("b", 100), ("c", 60)].iter().map(|(name, weight)| (of(name.as_bytes()), *weight)).collect();
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for n in 0..18_000_u64 {
            let key = of(&n.to_be_bytes());
            let before = winner(key, &members);
            *counts.entry(before).or_default() += 1;
            let after = winner(key, &members[1..]);
            assert!(before == members[0].0 || before == after, "key {n} moved although its member stayed");
        }
        for (member, weight) in members {
            let got = counts[&member] as f64 / f64::from(weight) / 100.0;
            assert!((0.93..1.07).contains(&got), "weight {weight}: {got} of its share");
        }
    }

    #[test]
    fn equal_members_get_equal_shares_of_addresses_that_lie_side_by_side() {
        let members: Vec<_> = (1..=5_u8).map(|n| of(format!("10.0.0.{n}:80").as_bytes())).collect();
        let mut counts = [0_u32; 5];
        for n in 0..10_000_u32 {
            let key = of(&(0x0a01_0000 + n).to_be_bytes());
            let best = (0..5).max_by_key(|at| score(key, members[*at])).unwrap();
            counts[best] += 1;
        }
        assert!(counts.iter().all(|count| (1850..2150).contains(count)), "{counts:?}");
    }

    #[test]
    fn keys_are_addresses_headers_and_cookies() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "u1".parse().unwrap());
        headers.append("cookie", "ab=no; a=1".parse().unwrap());
        headers.append("cookie", "b=2;c=x=y".parse().unwrap());
        let with = Caller { source: [10, 0, 0, 1].into(), headers: Some(&headers) };
        let without = Caller { headers: None, ..with };
        let address = key(&HashOn::SourceIp, with);
        assert_eq!(address, of(&[10, 0, 0, 1]));
        assert_eq!(key(&HashOn::Header("x-user".into()), with), of(b"u1"));
        assert_eq!(key(&HashOn::Header("x-user".into()), without), address);
        assert_eq!(key(&HashOn::Header("x-other".into()), with), address);
        for (name, value) in [("a", "1"), ("b", "2"), ("c", "x=y")] {
            assert_eq!(key(&HashOn::Cookie(name.into()), with), of(value.as_bytes()), "{name}");
        }
        assert_eq!(key(&HashOn::Cookie("d".into()), with), address);
    }
}
