//! First bytes, of which nobody has proved anything yet.

use meshgate::detect::bytes::{H2_PREFACE, Seen, classify};
use meshgate::detect::{Detected, in_prefix};

/// Of longer prefixes only some are looked at: each is parsed anew.
const EACH: usize = 48;
/// Bytes from one of these to the next: coprime to what fields and records begin at.
const STEP: usize = 61;

/// What is known of the first bytes stays known, whatever follows and however it is cut; and what it is, is so.
pub fn detection(data: &[u8]) {
    let mut known = None;
    let some = (EACH..data.len()).step_by(STEP);
    for len in (0..=data.len().min(EACH)).chain(some).chain([data.len()]) {
        let Some(bytes) = data.get(..len) else { continue };
        let seen = classify(bytes);
        if let Some(known) = known {
            assert_eq!(seen, known, "what was known of fewer bytes");
        }
        match seen {
            Seen::Known(detected) => {
                is_so(bytes, detected);
                known = Some(seen);
            }
            Seen::Open(detected) => {
                assert!(matches!(detected, Detected::TimedOut | Detected::Http2 | Detected::Tls { mesh: false }));
            }
        }
        let inside = in_prefix(bytes);
        assert!(!matches!(inside, Seen::Known(Detected::Tls { .. }) | Seen::Open(Detected::Tls { .. })));
    }
}

fn is_so(bytes: &[u8], detected: Detected) {
    match detected {
        Detected::Tls { .. } => assert!(bytes.starts_with(&[0x16, 0x03])),
        Detected::Http2 => assert!(bytes.starts_with(H2_PREFACE)),
        Detected::Http1 => {
            let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
            assert!(!method.is_empty() && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-'));
        }
        Detected::Opaque => assert!(!bytes.starts_with(b"GET ") && !bytes.starts_with(H2_PREFACE)),
        Detected::TimedOut | Detected::Closed => panic!("nothing that bytes can say: {detected:?}"),
    }
}
