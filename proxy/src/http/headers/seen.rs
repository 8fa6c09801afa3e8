//! Which of the rare headers are there, and the removal of those that belong to one hop.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http::proxy_status::PROXY_STATUS;

use super::{FORWARDED_FOR, HTTP2_SETTINGS, KEEP_ALIVE, PROXY_CONNECTION, claims_identity, is_misspelled};

/// One pass over the headers tells which of the rare ones are there, so that the common request pays no look-ups.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) hosts: usize,
    pub(super) content_lengths: usize,
    pub(super) transfer_encodings: usize,
    pub(super) connection: bool,
    pub(super) hop_by_hop: bool,
    pub(super) te: bool,
    pub(super) cookies: bool,
    pub(super) identity: bool,
    pub(super) misspelled: bool,
    pub(super) proxy_status: bool,
}

impl Seen {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        // Line by line: what stands in two is seen twice.
        for (name, _) in headers {
            if *name == header::HOST {
                seen.hosts += 1;
            } else if *name == header::COOKIE {
                seen.cookies = true;
            } else if *name == header::CONNECTION {
                seen.connection = true;
            } else if *name == header::CONTENT_LENGTH {
                seen.content_lengths += 1;
            } else if *name == header::TRANSFER_ENCODING {
                seen.transfer_encodings += 1;
            } else if *name == header::TE {
                seen.te = true;
            } else if *name == header::UPGRADE
                || *name == KEEP_ALIVE
                || *name == PROXY_CONNECTION
                || *name == HTTP2_SETTINGS
                || *name == header::PROXY_AUTHORIZATION
                || *name == header::PROXY_AUTHENTICATE
            {
                seen.hop_by_hop = true;
            } else if *name == PROXY_STATUS {
                seen.proxy_status = true;
            } else if claims_identity(name) {
                seen.identity = true;
            } else if is_misspelled(name) {
                seen.misspelled = true;
            }
        }
        seen
    }

    pub(super) fn remove_hop_by_hop(&self, headers: &mut HeaderMap) {
        if self.connection {
            remove_named_in_connection(headers);
            headers.remove(header::CONNECTION);
        }
        if self.transfer_encodings > 0 {
            // The body's own framing decides it anew on the next hop.
            headers.remove(header::TRANSFER_ENCODING);
        }
        if self.te {
            let trailers = headers.get_all(header::TE).iter().any(|value| value.as_bytes() == b"trailers");
            headers.remove(header::TE);
            if trailers {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
        if self.hop_by_hop {
            for name in [&header::UPGRADE, &KEEP_ALIVE, &PROXY_CONNECTION, &HTTP2_SETTINGS] {
                headers.remove(name);
            }
            headers.remove(header::PROXY_AUTHORIZATION);
            headers.remove(header::PROXY_AUTHENTICATE);
        }
    }
}

/// Removes the headers that `Connection` names, but never those that frame, route or authorise the message: naming them
/// there is an attack, not a wish.
fn remove_named_in_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // What most answers over HTTP/1 say. The field of that name goes anyway.
        .filter(|name| !name.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| {
            let kept = [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE, header::TE];
            !kept.contains(name) && *name != FORWARDED_FOR
        })
        .collect();
    for name in named {
        headers.remove(name);
    }
}
