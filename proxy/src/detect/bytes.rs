//! What first bytes say, without any I/O.
//!
//! The one idea: what is known stays known, whatever follows and however it is cut into segments; and of what is still open it is
//! said what it counts as should nothing follow. Who begins like HTTP or TLS and then hesitates is not taken for something else.

use rustls::server::Acceptor;

use meshgate_identity::alpn;

use super::Detected;

/// The start of every HTTP/2 connection (RFC 9113, section 3.4).
pub const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What of the preface no HTTP/1 client sends: there is no method of that name (RFC 9113, section 11.6).
const PRI: &[u8] = b"PRI ";

/// The longest method we take for HTTP before a blank: `UPDATEREDIRECTREF` is the longest registered with IANA.
const METHOD_MAX: usize = 17;

/// What first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This, whatever follows.
    Known(Detected),
    /// It depends on what follows; this, if nothing does. [`Detected::TimedOut`] where it could be anything.
    Open(Detected),
}

/// Looks at the first bytes of a connection.
pub fn classify(bytes: &[u8]) -> Seen {
    use Seen::{Known, Open};
    match bytes {
        [] | [0x16] => Open(Detected::TimedOut),
        // Record version major 3 for every TLS there is.
        [0x16, 0x03, ..] => client_hello(bytes),
        [0x16, ..] => Known(Detected::Opaque),
        _ if bytes.starts_with(H2_PREFACE) => Known(Detected::Http2),
        _ if H2_PREFACE.starts_with(bytes) && bytes.starts_with(PRI) => Open(Detected::Http2),
        _ => request_line(bytes),
    }
}

fn client_hello(bytes: &[u8]) -> Seen {
    let mut acceptor = Acceptor::default();
    let mut reader = bytes;
    loop {
        let read = acceptor.read_tls(&mut reader);
        match acceptor.accept() {
            // A record that says it is a handshake and is none: the TLS accept will answer with the proper alert.
            Err(_) => return Seen::Known(Detected::Tls { mesh: false }),
            Ok(Some(accepted)) => {
                let mesh = accepted.client_hello().alpn().is_some_and(|mut offered| offered.any(alpn::is_mesh));
                return Seen::Known(Detected::Tls { mesh });
            }
            Ok(None) if reader.is_empty() || !matches!(read, Ok(1..)) => {
                return Seen::Open(Detected::Tls { mesh: false });
            }
            Ok(None) => {}
        }
    }
}

/// A method and a blank is HTTP/1; the request line itself is the HTTP parser's to judge. Methods are capitals and hyphens, as
/// all registered ones are: other protocols too begin with words, and must not wait for a client that has said all it wants to.
fn request_line(bytes: &[u8]) -> Seen {
    let end = bytes.iter().position(|byte| !byte.is_ascii_uppercase() && *byte != b'-');
    match end {
        None if bytes.len() <= METHOD_MAX => Seen::Open(Detected::TimedOut),
        Some(at) if (1..=METHOD_MAX).contains(&at) && bytes.get(at) == Some(&b' ') => Seen::Known(Detected::Http1),
        _ => Seen::Known(Detected::Opaque),
    }
}

#[cfg(test)]
pub(super) mod tests;
