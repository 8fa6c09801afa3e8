//! What can go wrong with a connection or request, whose fault it was, and what the caller is told.
//!
//! One error type carries the facts as data: `kind` says what happened, [`ErrorKind::side`] whose fault it is (which sets the
//! log level). Whether it may be tried again is told by who holds the request, see [`crate::http::client::Failed`]. Status, gRPC
//! status and response flag are total matches over the kind, so a kind without a mapping does not compile. Policy refusals are not errors: they
//! are a plan carried out, see [`crate::http::refusal`]; except where it is that plan that leads nowhere.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use crate::throttle;

/// Whose fault an error is; decides how loudly it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The party that connected to us: logged at debug, since anybody can provoke it at will.
    Downstream,
    /// The party we connected to: logged at warn, throttled.
    Upstream,
    /// This process: logged at error, throttled.
    Local,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request has no single meaning (RFC 9112 framing, Host, target, path).
    BadRequest,
    /// More header fields than a request may have.
    HeadTooLarge,
    /// CONNECT, which only a gateway answers.
    ConnectNotAllowed,
    /// The caller's TLS handshake or certificate was not acceptable, or TLS was demanded and not spoken.
    DownstreamTls,
    /// The caller went away before the answer was complete.
    DownstreamGone,
    /// No service matches the destination.
    NoRoute,
    /// The service has no endpoint that may be used.
    NoEndpoint,
    /// Traffic policy mode, and no TrafficTarget lets this workload call who is there. The caller gets no answer at all where
    /// that can be had; see [`ErrorKind::is_silent`].
    OutOfReach,
    /// As [`ErrorKind::OutOfReach`], of one backend of a TrafficSplit where others may be called: somebody answers.
    BackendOutOfReach,
    /// The connection would come back to this proxy.
    Loop,
    /// The upstream did not accept a connection.
    ConnectFailed,
    /// The upstream did not accept a connection in time.
    ConnectTimeout,
    /// The upstream's own proxy says that it did not reach the application.
    Unreached,
    /// The upstream's TLS handshake or its identity was not acceptable.
    UpstreamTls,
    /// The upstream closed or reset the connection before a complete answer.
    UpstreamReset,
    /// The head of the upstream's answer did not come in time.
    UpstreamTimeout,
    /// The request as a whole took longer than it may, or than its client waits.
    DeadlineExceeded,
    /// An expectation other than 100-continue (RFC 9110, section 10.1.1).
    ExpectationFailed,
    /// The upstream's answer is not valid HTTP.
    UpstreamProtocol,
    /// Another cluster's gateway could not be reached, or broke.
    GatewayFailed,
    /// Another cluster's gateway is not who it must be, or does not accept us.
    GatewayTls,
    /// A gateway answers, and does not let us through: not exported, not to us, too many at once.
    TunnelRefused,
    /// A gateway answers and lets us through, and there is no endpoint behind it that takes a connection, or goes on with it.
    TunnelNoEndpoint,
    /// Asked of a gateway, and not exported.
    NotExported,
    /// Asked of a gateway, and not exported to the caller's cluster. The caller is told what it is told of what is not exported.
    NotForCaller,
    /// The caller has as much as one caller may have.
    TooMany,
    /// There is as much as this proxy, or an endpoint, may have at once.
    Overflow,
    /// The caller did not send the rest of its request in time.
    SlowRequest,
    /// Nothing of the request or its answer moved for too long, and it was not the caller's turn.
    Stalled,
    /// The request took too long as a whole.
    TooLong,
    /// A defect in this process.
    Internal,
}

impl ErrorKind {
    /// Whose fault this is.
    pub fn side(self) -> Side {
        match self {
            Self::BadRequest
            | Self::HeadTooLarge
            | Self::ConnectNotAllowed
            | Self::DownstreamTls
            | Self::DownstreamGone
            | Self::OutOfReach
            | Self::NotExported
            | Self::NotForCaller
            | Self::TooMany
            | Self::SlowRequest
            | Self::BackendOutOfReach
            | Self::DeadlineExceeded
            | Self::ExpectationFailed
            | Self::Loop => Side::Downstream,
            Self::NoRoute
            | Self::NoEndpoint
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Unreached
            | Self::UpstreamTls
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::UpstreamProtocol
            | Self::GatewayFailed
            | Self::GatewayTls
            | Self::TunnelRefused
            | Self::TunnelNoEndpoint
            | Self::Overflow
            | Self::Stalled
            | Self::TooLong => Side::Upstream,
            Self::Internal => Side::Local,
        }
    }

    /// The status the caller gets if no part of an answer was sent yet.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::DownstreamGone => StatusCode::BAD_REQUEST,
            Self::DownstreamTls | Self::OutOfReach | Self::BackendOutOfReach => StatusCode::FORBIDDEN,
            // What a cluster is not to have it is not to learn of either.
            Self::NotExported | Self::NotForCaller => StatusCode::NOT_FOUND,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::ConnectNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute
            | Self::NoEndpoint
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Unreached
            | Self::UpstreamTls
            | Self::UpstreamReset
            | Self::GatewayFailed
            | Self::GatewayTls
            | Self::TunnelRefused
            | Self::TunnelNoEndpoint
            | Self::Overflow => StatusCode::SERVICE_UNAVAILABLE,
            Self::SlowRequest => StatusCode::REQUEST_TIMEOUT,
            Self::UpstreamTimeout | Self::DeadlineExceeded | Self::Stalled | Self::TooLong => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status code (see grpc's `statuscodes.md`) for callers that speak gRPC.
    pub fn grpc_status(self) -> &'static str {
        match self {
            Self::BadRequest | Self::ExpectationFailed | Self::UpstreamProtocol | Self::Internal | Self::Loop => "13",
            Self::DeadlineExceeded => "4",
            Self::DownstreamGone => "1",
            Self::NoRoute | Self::NotExported | Self::NotForCaller | Self::ConnectNotAllowed => "12",
            Self::DownstreamTls => "16",
            Self::OutOfReach | Self::BackendOutOfReach => "7",
            Self::TooMany | Self::HeadTooLarge => "8",
            Self::SlowRequest | Self::TooLong => "4",
            Self::NoEndpoint
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Unreached
            | Self::UpstreamTls
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::GatewayFailed
            | Self::GatewayTls
            | Self::TunnelRefused
            | Self::TunnelNoEndpoint
            | Self::Overflow
            | Self::Stalled => "14",
        }
    }

    /// The response flag in access log and metrics: Envoy's letters where the meaning is the same.
    pub fn flag(self) -> &'static str {
        match self {
            Self::BadRequest | Self::HeadTooLarge | Self::ConnectNotAllowed | Self::ExpectationFailed => "DPE",
            Self::DownstreamTls => "DOWNSTREAM_TLS",
            Self::DownstreamGone => "DC",
            Self::NoRoute | Self::NotExported => "NR",
            Self::NoEndpoint | Self::TunnelNoEndpoint => "UH",
            Self::OutOfReach | Self::BackendOutOfReach | Self::NotForCaller => "RBAC",
            Self::TooMany => "RL",
            Self::Loop => "LOOP",
            Self::ConnectFailed | Self::ConnectTimeout | Self::Unreached => "UF",
            Self::GatewayFailed => "GATEWAY",
            Self::TunnelRefused => "GATEWAY_REFUSED",
            Self::UpstreamTls | Self::GatewayTls => "TLS_FAILURE",
            Self::UpstreamReset => "UC",
            Self::UpstreamTimeout | Self::DeadlineExceeded | Self::TooLong => "UT",
            Self::SlowRequest | Self::Stalled => "SI",
            Self::Overflow => "UO",
            Self::UpstreamProtocol => "UPE",
            Self::Internal => "LR",
        }
    }

    /// As [`ErrorKind::flag`], of the last of as many tries as there may be: Envoy's `URX` beside it.
    pub fn flag_of_last_try(self) -> &'static str {
        match self {
            Self::ConnectFailed | Self::ConnectTimeout | Self::Unreached => "UF,URX",
            Self::GatewayFailed => "GATEWAY,URX",
            Self::TunnelRefused => "GATEWAY_REFUSED,URX",
            Self::TunnelNoEndpoint => "UH,URX",
            Self::UpstreamTls | Self::GatewayTls => "TLS_FAILURE,URX",
            Self::UpstreamReset => "UC,URX",
            Self::UpstreamTimeout | Self::TooLong => "UT,URX",
            Self::Overflow => "UO,URX",
            Self::UpstreamProtocol => "UPE,URX",
            Self::BadRequest
            | Self::HeadTooLarge
            | Self::ConnectNotAllowed
            | Self::DownstreamTls
            | Self::DownstreamGone
            | Self::NoRoute
            | Self::NoEndpoint
            | Self::OutOfReach
            | Self::BackendOutOfReach
            | Self::NotExported
            | Self::NotForCaller
            | Self::TooMany
            | Self::DeadlineExceeded
            | Self::ExpectationFailed
            | Self::SlowRequest
            | Self::Stalled
            | Self::Loop
            | Self::Internal => self.flag(),
        }
    }

    /// Whether the connection is closed without a byte, as if nobody were there, rather than answered. On HTTP/2 there is an
    /// answer after all: bytes were sent before the request came, and other requests share the connection.
    pub fn is_silent(self) -> bool {
        self == Self::OutOfReach
    }

    /// What the caller reads: enough to act on, nothing about the inside of the mesh.
    pub fn body(self) -> &'static str {
        match self {
            Self::BadRequest => "bad request",
            Self::HeadTooLarge => "too many header fields",
            Self::ConnectNotAllowed => "CONNECT is not allowed",
            Self::DownstreamTls => "mutual TLS required",
            Self::DownstreamGone => "client closed the request",
            Self::NoRoute | Self::NotExported | Self::NotForCaller => "no route to this host",
            Self::NoEndpoint | Self::TunnelNoEndpoint => "no usable endpoint",
            Self::OutOfReach | Self::BackendOutOfReach => "RBAC: access denied",
            Self::TooMany => "too many requests",
            Self::Loop => "loop detected",
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Unreached
            | Self::GatewayFailed
            | Self::TunnelRefused => "upstream connect error",
            Self::UpstreamTls | Self::GatewayTls => "upstream identity not accepted",
            Self::UpstreamReset => "upstream closed the connection",
            Self::UpstreamTimeout | Self::DeadlineExceeded | Self::Stalled => "upstream request timeout",
            Self::ExpectationFailed => "expectation failed",
            Self::TooLong => "request timeout",
            Self::SlowRequest => "the rest of the request did not come",
            Self::Overflow => "overloaded",
            Self::UpstreamProtocol => "upstream protocol error",
            Self::Internal => "internal error",
        }
    }
}

/// An error on the data path.
#[derive(Debug)]
pub struct ProxyError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// For operators: address, field or limit concerned. Never sent to the caller.
    pub detail: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProxyError {
    /// An error without a cause below it.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), source: None }
    }

    /// Keeps the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// For operators: the detail with all that caused it.
    pub fn detail_with_cause(&self) -> String {
        let mut text = self.detail.to_string();
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Writes the error to the log at the level its side calls for, unless this thread has written much of late.
    pub fn log(&self) {
        if self.kind.side() == Side::Downstream {
            return tracing::debug!(error = %self, "downstream error");
        }
        let Some(left_out) = throttle::admit() else { return };
        if self.kind.side() == Side::Upstream {
            tracing::warn!(error = %self, left_out, "upstream error");
        } else {
            tracing::error!(error = %self, left_out, "internal error");
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.body(), self.detail_with_cause())
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
