//! A running proxy's admin endpoint, as far as it explains.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;

use crate::case::Case;
use crate::cli::{Output, admin};
use crate::runtime;

/// A proxy that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where to ask.
pub(super) struct Remote {
    address: SocketAddr,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    /// What was given is no address.
    #[error("{}", admin::no_address(.0))]
    Address(String),
    /// The proxy could not be asked.
    #[error("cannot ask the proxy at {address}: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The proxy, or whatever is there, did not answer as it should.
    #[error("the proxy at {address} answered {status}: {text}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// The status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// A field of the case is wrong, which only the proxy could know.
    #[error("{field}: {message}")]
    Field {
        /// Its name.
        field: String,
        /// What is wrong.
        message: String,
    },
}

/// What the admin endpoint says of bad input.
#[derive(Deserialize)]
struct Complaint {
    error: ComplaintBody,
}

#[derive(Deserialize)]
struct ComplaintBody {
    field: Option<String>,
    message: String,
}

#[derive(Deserialize)]
struct Verdict {
    verdict: String,
}

impl Remote {
    /// From `address:port`, with or without `http://`.
    pub(super) fn new(written: &str) -> Result<Remote, RemoteError> {
        let found = admin::address(written).map(|address| Remote { address });
        found.ok_or_else(|| RemoteError::Address(written.to_owned()))
    }

    /// Whether the case is allowed, and the answer as it is printed.
    pub(super) fn ask(&self, case: &Case, output: Output) -> Result<(bool, String), RemoteError> {
        let unreachable = |why: String| RemoteError::Unreachable { address: self.address, why };
        let runtime = runtime::local().map_err(|error| unreachable(error.to_string()))?;
        let body = serde_json::to_string(case).map_err(|error| unreachable(error.to_string()))?;
        let accept = if output == Output::Json { "application/json" } else { "text/plain" };
        let exchange = async { tokio::time::timeout(PATIENCE, send(self.address, body, accept)).await };
        let (status, text) = match runtime.block_on(exchange) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {PATIENCE:?}"))),
        };
        match status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST => return Err(self.complaint(status, &text)),
            _ => return Err(RemoteError::Refused { address: self.address, status, text: admin::first_line(&text) }),
        }
        let allowed = match output {
            Output::Text => text.starts_with("allow:"),
            Output::Json => {
                let answer: Verdict =
                    serde_json::from_str(&text).map_err(|error| unreachable(format!("its answer: {error}")))?;
                answer.verdict == "allow"
            }
        };
        Ok((allowed, text.trim_end().to_owned()))
    }

    fn complaint(&self, status: StatusCode, text: &str) -> RemoteError {
        match serde_json::from_str(text) {
            Ok(Complaint { error: ComplaintBody { field: Some(field), message } }) => {
                RemoteError::Field { field, message }
            }
            _ => RemoteError::Refused { address: self.address, status, text: admin::first_line(text) },
        }
    }
}

async fn send(address: SocketAddr, body: String, accept: &str) -> Result<(StatusCode, String), admin::BoxError> {
    let request = Request::post("/explain")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, accept)
        .body(Full::new(Bytes::from(body)))?;
    admin::send(address, request).await
}
