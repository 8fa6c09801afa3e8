//! One authority a request: HTTP/1 has it in Host or in the target, HTTP/2 in `:authority`, and each may contradict itself.

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};

use super::bad;
use crate::error::ProxyError;

/// Leaves a request with one authority, which `hosts` lines of Host and its target agree on.
pub(super) fn settle<B>(hosts: usize, request: &mut Request<B>) -> Result<(), ProxyError> {
    if hosts > 1 {
        return Err(bad("more than one Host"));
    }
    if request.version() == Version::HTTP_2 {
        return http2_authority(request);
    }
    // Of every HTTP/1.1 request, also of one whose target says what Host says (RFC 9112, section 3.2).
    if hosts == 0 && request.version() == Version::HTTP_11 {
        return Err(bad("no Host"));
    }
    if let Some(authority) = request.uri().authority() {
        // Absolute form: its authority replaces Host (RFC 9112, section 3.2.2). An authority alone is CONNECT's form, and what
        // is of another scheme is not ours to read as a path.
        if !is_http(request.uri()) {
            return Err(bad("target of another form"));
        }
        valid_host(authority.as_str().as_bytes())?;
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("authority"))?;
        // Made anew from its text: a cut-off fragment leaves a path that reads as / and is written as nothing.
        let origin = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let origin = PathAndQuery::try_from(origin).map_err(|error| bad("target").caused_by(error))?;
        *request.uri_mut() = Uri::from(origin);
        request.headers_mut().insert(header::HOST, value);
        return Ok(());
    }
    request.headers().get(header::HOST).map_or(Ok(()), |host| valid_host(host.as_bytes()))
}

fn is_http(uri: &Uri) -> bool {
    uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme))
}

fn http2_authority<B>(request: &mut Request<B>) -> Result<(), ProxyError> {
    if request.uri().scheme().is_some() && !is_http(request.uri()) {
        return Err(bad("scheme other than http and https"));
    }
    match (request.uri().authority(), request.headers().get(header::HOST)) {
        (Some(authority), Some(host)) if authority.as_str().as_bytes() != host.as_bytes() => {
            return Err(bad(":authority and host differ"));
        }
        (Some(authority), _) => valid_host(authority.as_str().as_bytes())?,
        (None, None) => return Err(bad("neither :authority nor host")),
        (None, Some(host)) => {
            // Host stands in where there is no :authority (RFC 9113, section 8.3.1).
            valid_host(host.as_bytes())?;
            let authority = Authority::try_from(host.as_bytes()).map_err(|error| bad("host").caused_by(error))?;
            let mut parts = request.uri().clone().into_parts();
            parts.authority = Some(authority);
            parts.scheme.get_or_insert(Scheme::HTTP);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|error| bad("host").caused_by(error))?;
        }
    }
    request.headers_mut().remove(header::HOST);
    Ok(())
}

/// An authority without userinfo (RFC 3986, section 3.2): a name, or an address in brackets, and a port. An empty one is allowed
/// (RFC 9112, section 3.2).
fn valid_host(host: &[u8]) -> Result<(), ProxyError> {
    // Written out, this is a few comparisons; a list would be searched for each byte of every Host.
    let in_name = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&'..=b',' | b';' | b'=')
    };
    let in_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let (valid, port) = match host.strip_prefix(b"[") {
        Some(address) => {
            let end = address.iter().position(|byte| *byte == b']').unwrap_or(address.len());
            let (address, port) = address.split_at(end);
            (!address.is_empty() && address.iter().all(in_address), port.strip_prefix(b"]"))
        }
        None => {
            // What ends a name is a port, or nothing that may stand here.
            let end = host.iter().position(|byte| !in_name(byte)).unwrap_or(host.len());
            (true, host.get(end..))
        }
    };
    let is_port = |digits: &[u8]| digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    let valid_port = port.is_some_and(|port| port.is_empty() || port.strip_prefix(b":").is_some_and(is_port));
    if valid && valid_port { Ok(()) } else { Err(bad("Host is not a host")) }
}
