//! Where messages end.

use meshgate::http::guard::http1::{Breach, Scanner};

/// The verdict on a stream does not depend on how it is cut into reads; and a message that a plain reading of it all at once
/// finds whole and sound is let through, and over exactly where that reading says.
///
/// The first byte says what the rest is: requests, or the answer to GET or HEAD.
pub fn http1_guard(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let make = || {
        if *kind % 3 == 0 {
            return Scanner::requests();
        }
        let mut scanner = Scanner::answers();
        scanner.ask(*kind % 3 == 1);
        scanner
    };
    let whole = verdict(make(), [bytes].into_iter());
    assert_eq!(verdict(make(), bytes.chunks(1)).map_err(|(_, breach)| breach), whole.map_err(|(_, breach)| breach));
    let size = usize::from(*kind / 3) + 1;
    let cut = verdict(make(), bytes.chunks(size));
    assert_eq!(cut.map_err(|(_, breach)| breach), whole.map_err(|(_, breach)| breach), "in pieces of {size}");
    if let Err((at, _)) = whole {
        assert!(at < bytes.len());
    }
    if *kind % 3 == 0
        && let Some(end) = plain(bytes)
    {
        let (message, _) = bytes.split_at(end);
        assert_eq!(verdict(make(), [message].into_iter()), Ok(true), "sound, and not let through");
        for shorter in [end - 1, end / 2, end.saturating_sub(5)] {
            let (part, _) = message.split_at(shorter);
            assert_eq!(verdict(make(), [part].into_iter()), Ok(shorter == 0), "over before its end");
        }
    }
}

/// Whether all of it is whole messages, or where it breaks the rules.
fn verdict<'a>(mut scanner: Scanner, pieces: impl Iterator<Item = &'a [u8]>) -> Result<bool, (usize, Breach)> {
    let mut before = 0;
    for piece in pieces {
        scanner.scan(piece).map_err(|refused| (before + refused.at, refused.breach))?;
        before += piece.len();
    }
    Ok(scanner.is_between_messages())
}

/// The end of a request with at most one length and no coding, read all at once.
fn plain(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(bytes.get(..head)?).ok()?;
    if text.replace("\r\n", "").contains(['\n', '\r', '#', '_']) || text.starts_with("\r\n") {
        return None;
    }
    let mut length = None;
    let mut hosts = 0;
    for line in text.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => return None,
            "host" => hosts += 1,
            "content-length" if length.is_some() || line.len() > 40 => return None,
            "content-length" => {
                let value = value.trim_matches([' ', '\t']);
                length = Some(value.parse::<u32>().ok().filter(|_| !value.starts_with('+'))?);
            }
            _ => {}
        }
    }
    let end = head + 4 + usize::try_from(length.unwrap_or(0)).ok()?;
    (hosts < 2 && end <= bytes.len() && !text.is_empty()).then_some(end)
}
