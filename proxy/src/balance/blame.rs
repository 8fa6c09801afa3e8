//! Whose fault a failed try was: the gateway's on the way, the service's, or nobody's there.

use crate::error::ErrorKind;

/// Whom a failure counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Whom the connection was made to: a gateway with all services behind it, or the endpoint itself where there is none.
    Gateway,
    /// The endpoint, or the service behind a gateway.
    Service,
    /// Neither: it says nothing about whether the next request would fare better.
    Nobody,
}

/// Whom a failure of this kind counts against.
pub(super) fn blames(kind: ErrorKind) -> Blame {
    match kind {
        ErrorKind::ConnectFailed | ErrorKind::ConnectTimeout | ErrorKind::GatewayFailed | ErrorKind::GatewayTls => {
            Blame::Gateway
        }
        // A gateway that has no ready endpoint says so; TLS and what comes after it are with the far workload.
        ErrorKind::NoEndpoint
        | ErrorKind::TunnelRefused
        | ErrorKind::TunnelNoEndpoint
        | ErrorKind::Unreached
        | ErrorKind::UpstreamTls
        | ErrorKind::UpstreamReset
        | ErrorKind::UpstreamTimeout
        | ErrorKind::Stalled
        | ErrorKind::TooLong
        | ErrorKind::UpstreamProtocol => Blame::Service,
        ErrorKind::BadRequest
        | ErrorKind::HeadTooLarge
        | ErrorKind::ConnectNotAllowed
        | ErrorKind::DownstreamTls
        | ErrorKind::DownstreamGone
        | ErrorKind::NoRoute
        | ErrorKind::OutOfReach
        | ErrorKind::BackendOutOfReach
        | ErrorKind::Loop
        | ErrorKind::NotExported
        | ErrorKind::NotForCaller
        | ErrorKind::TooMany
        // The client's own haste.
        | ErrorKind::DeadlineExceeded
        | ErrorKind::ExpectationFailed
        | ErrorKind::Overflow
        | ErrorKind::SlowRequest
        | ErrorKind::Internal => Blame::Nobody,
    }
}
