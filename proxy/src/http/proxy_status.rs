//! What the proxy beside an application tells the proxy that called it: that a request has not got to the application, or has
//! had no answer from it (`Proxy-Status`, RFC 9209).
//!
//! The one idea: an error of the called side is an answer to whoever is no part of the mesh, and as good as a failed connection
//! to the calling side, which knows of other endpoints. It is said in one of two fixed texts, of 503s and of gRPC's UNAVAILABLE
//! only, to callers who have shown a certificate; believed only of an upstream whose certificate was checked, over a connection
//! that ends there. A text of this name never passes from an application to a caller ([`remove_ours`]). Why the application could
//! not be reached is not said.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::error::{ErrorKind, ProxyError};
use crate::http::headers;
use crate::http::pool::{Security, Slot};
use crate::http::retry::Ended;

/// `proxy-status`.
pub static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The name that we give ourselves; nobody else's text has it in it.
const OURS: &[u8] = b"meshgate";

/// See [`Unserved::Unreached`].
const UNREACHED: &str = "meshgate; error=destination_unavailable";
/// See [`Unserved::Lost`].
const LOST: &str = "meshgate; error=connection_terminated";

/// In trailers; in the head where there is no message before them.
const GRPC_STATUS: &str = "grpc-status";

/// Of gRPC's status codes the one that says that somebody else may be asked.
const UNAVAILABLE: &str = "14";

/// How far a request came that the called side has no answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// The application got nothing of it, or has said that it looked at nothing.
    Unreached,
    /// It may have got it, and went away without an answer.
    Lost,
}

impl Unserved {
    /// As it is told.
    pub fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Unreached => UNREACHED,
            Self::Lost => LOST,
        })
    }

    /// What the answer of the upstream behind `slot` tells, if it tells anything and can be believed. Inside a tunnel to a workload
    /// it cannot: whoever ends the tunnel may have no look at what is in it.
    pub fn told<B>(slot: &Slot, response: &Response<B>) -> Option<Self> {
        let proved = matches!(slot.upstream().security, Security::Mtls { .. });
        if !proved || status(response) != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let mut said = response.headers().get_all(&PROXY_STATUS).iter();
        let only = said.next().filter(|_| said.next().is_none())?;
        [Self::Unreached, Self::Lost].into_iter().find(|told| told.value() == *only)
    }

    /// What is to be reported of it, and how its try ended.
    pub fn failed(self, slot: &Slot) -> (ProxyError, Ended) {
        match self {
            Self::Unreached => {
                let detail = format!("{}: its proxy did not reach the application", slot.label());
                (ProxyError::new(ErrorKind::Unreached, detail), Ended::Unreached)
            }
            Self::Lost => {
                let detail = format!("{}: its proxy had no answer from the application", slot.label());
                (ProxyError::new(ErrorKind::UpstreamReset, detail), Ended::Lost { reused: false })
            }
        }
    }
}

/// The status that an answer comes to for whoever is asked next: gRPC says in a head of 200 that nobody is available.
pub fn status<B>(response: &Response<B>) -> StatusCode {
    let fields = response.headers();
    // What is asked first of an answer is what most of them are not.
    let unavailable = headers::is_grpc(fields) && fields.get(GRPC_STATUS).is_some_and(|said| said == UNAVAILABLE);
    if unavailable { StatusCode::SERVICE_UNAVAILABLE } else { response.status() }
}

/// Removes the field from an answer that is passed on, where any line of it has our name: what others say of themselves stays.
pub fn remove_ours(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| value.as_bytes().windows(OURS.len()).any(|part| part == OURS);
    if headers.get_all(&PROXY_STATUS).iter().any(is_ours) {
        headers.remove(&PROXY_STATUS);
    }
}

#[cfg(test)]
mod tests;
