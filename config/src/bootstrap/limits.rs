//! What the bootstrap says about how long things may take and how much there may be of them: `timeouts`, `limits` and `http`.

use std::time::Duration;

use serde::Deserialize;

use super::validate::Validator;

/// hyper's smallest buffer for a request's head; it panics below.
const MIN_REQUEST_HEADER_BYTES: usize = 8192;

/// Upgraded to these, requests would go by unjudged.
const NEVER_UPGRADED_TO: [&str; 4] = ["h2c", "h2", "http", "tls"];

/// How long things may take; greater than zero unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a client's first bytes, until the connection counts as opaque.
    pub detect: Duration,
    /// For a TLS handshake, either side.
    pub tls_handshake: Duration,
    /// To connect to the local application.
    pub connect_local: Duration,
    /// To connect to an upstream.
    pub connect: Duration,
    /// For a request's whole head.
    pub request_header: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Of a request that is being served, without a byte of its body or its answer either way; `None` = as long as it likes.
    pub stream: Option<Duration>,
    /// For a request as a whole, from its head to the end of its answer; `None` = as long as it likes.
    pub request: Option<Duration>,
    /// An unused upstream connection is kept for reuse.
    pub upstream_idle: Duration,
    /// The same, of those beyond the few that are used first.
    pub upstream_spare: Duration,
    /// Between the end of a peer's certificate and that of the connections made with it.
    pub expired_peer: Duration,
    /// Between being asked to end and ceasing to take connections; may be zero.
    pub drain_delay: Duration,
    /// An upstream connection takes new requests; `None` = as long as it lasts.
    pub upstream_age: Option<Duration>,
    /// For connections to finish at shutdown.
    pub drain: Duration,
}

/// What HTTP requests may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// The protocols that an HTTP/1.1 connection may be upgraded to (RFC 9110, section 7.8), in lower case. None of them is
    /// another way to speak HTTP, and none is TLS.
    pub upgrades: Vec<String>,
    /// How long an application may take to ask for a body whose client waits to be told to go on; then it is sent unasked.
    pub expect_continue: Duration,
}

/// How much there may be of things; all greater than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, both sides together.
    pub connections: usize,
    /// Connections at once that one listener took.
    pub connections_per_listener: usize,
    /// Connections at once from one address, but for what the local application sends.
    pub connections_per_peer: usize,
    /// Requests at once, both sides together.
    pub requests_in_flight: usize,
    /// Bytes of a request's head, and of an answer's.
    pub request_header_bytes: usize,
    /// Header fields of a request, and of an answer.
    pub request_headers: usize,
    /// HTTP/2 streams at once in a connection.
    pub concurrent_streams: u32,
    /// What an HTTP/2 peer may cost beside its streams.
    pub http2: Http2Limits,
    /// For each endpoint.
    pub endpoint: EndpointLimits,
}

/// What an HTTP/2 peer may cost beside its streams, in one connection; the first two are whole again after 10 s. All greater than
/// zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Frames that move nothing (PING, SETTINGS as ten, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA, unknown ones), beyond those that
    /// go with streams and data.
    pub control_frames: u32,
    /// Streams reset within a second or so, by the peer or for its errors, beyond those that were answered.
    pub resets: u32,
    /// Bytes of one header block as it comes: HEADERS and CONTINUATION, compressed.
    pub header_block_bytes: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        // A hundred control frames a second are more than any client pings; resets: the streams of a connection once over, and half
        // as many; 64 KiB is more than a head of the default limit compresses to.
        Self { control_frames: 1000, resets: 150, header_block_bytes: 64 * 1024 }
    }
}

/// How much one endpoint gets at once, of all workers together; all greater than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Connections.
    pub connections: usize,
    /// Requests, and connections that are no HTTP.
    pub requests: usize,
    /// Of those, that wait for a connection.
    pub pending: usize,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawTimeouts {
    pub(super) detect: Option<String>,
    pub(super) tls_handshake: Option<String>,
    pub(super) connect_local: Option<String>,
    pub(super) connect: Option<String>,
    pub(super) request_header: Option<String>,
    pub(super) idle: Option<String>,
    pub(super) stream: Option<String>,
    pub(super) request: Option<String>,
    pub(super) upstream_idle: Option<String>,
    pub(super) upstream_spare: Option<String>,
    pub(super) expired_peer: Option<String>,
    pub(super) drain_delay: Option<String>,
    pub(super) upstream_age: Option<String>,
    pub(super) drain: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) connections: Option<usize>,
    pub(super) connections_per_listener: Option<usize>,
    pub(super) connections_per_peer: Option<usize>,
    pub(super) requests_in_flight: Option<usize>,
    pub(super) endpoint_connections: Option<usize>,
    pub(super) endpoint_requests: Option<usize>,
    pub(super) endpoint_pending: Option<usize>,
    pub(super) request_header_bytes: Option<usize>,
    pub(super) request_headers: Option<usize>,
    pub(super) concurrent_streams: Option<u32>,
    #[serde(default)]
    pub(super) http2: RawHttp2Limits,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHttp2Limits {
    pub(super) control_frames: Option<u32>,
    pub(super) resets: Option<u32>,
    pub(super) header_block_bytes: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHttp {
    pub(super) upgrades: Option<Vec<String>>,
    pub(super) expect_continue: Option<String>,
}

pub(super) fn timeouts(v: &mut Validator<'_>, raw: RawTimeouts) -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        detect: v.duration("timeouts.detect", raw.detect, seconds(3)),
        tls_handshake: v.duration("timeouts.tlsHandshake", raw.tls_handshake, seconds(10)),
        connect_local: v.duration("timeouts.connectLocal", raw.connect_local, seconds(1)),
        connect: v.duration("timeouts.connect", raw.connect, seconds(5)),
        request_header: v.duration("timeouts.requestHeader", raw.request_header, seconds(10)),
        idle: v.duration("timeouts.idle", raw.idle, seconds(3600)),
        stream: v.duration_or_off("timeouts.stream", raw.stream, Some(seconds(300))),
        request: v.duration_or_off("timeouts.request", raw.request, None),
        upstream_idle: v.duration("timeouts.upstreamIdle", raw.upstream_idle, seconds(30)),
        upstream_spare: v.duration("timeouts.upstreamSpare", raw.upstream_spare, seconds(3)),
        expired_peer: v.duration("timeouts.expiredPeer", raw.expired_peer, seconds(30)),
        drain_delay: v.pause("timeouts.drainDelay", raw.drain_delay.as_deref(), Duration::ZERO),
        upstream_age: v.duration_or_off("timeouts.upstreamAge", raw.upstream_age, Some(seconds(3600))),
        drain: v.duration("timeouts.drain", raw.drain, seconds(30)),
    }
}

pub(super) fn limits(v: &mut Validator<'_>, raw: &RawLimits) -> Limits {
    let limits = Limits {
        connections: v.at_least("limits.connections", raw.connections, 1, 65536),
        connections_per_listener: v.at_least("limits.connectionsPerListener", raw.connections_per_listener, 1, 49152),
        connections_per_peer: v.at_least("limits.connectionsPerPeer", raw.connections_per_peer, 1, 16384),
        requests_in_flight: v.at_least("limits.requestsInFlight", raw.requests_in_flight, 1, 32768),
        request_header_bytes: v.at_least(
            "limits.requestHeaderBytes",
            raw.request_header_bytes,
            MIN_REQUEST_HEADER_BYTES,
            61440,
        ),
        request_headers: v.at_least("limits.requestHeaders", raw.request_headers, 1, 100),
        concurrent_streams: v.at_least("limits.concurrentStreams", raw.concurrent_streams, 1, 100),
        http2: Http2Limits::default(),
        endpoint: EndpointLimits {
            connections: v.at_least("limits.endpointConnections", raw.endpoint_connections, 1, 16384),
            requests: v.at_least("limits.endpointRequests", raw.endpoint_requests, 1, 16384),
            pending: v.at_least("limits.endpointPending", raw.endpoint_pending, 1, 10000),
        },
    };
    Limits { http2: http2_limits(v, &raw.http2, limits), ..limits }
}

fn http2_limits(v: &mut Validator<'_>, raw: &RawHttp2Limits, limits: Limits) -> Http2Limits {
    let default = Http2Limits::default();
    let head = u32::try_from(limits.request_header_bytes).unwrap_or(u32::MAX);
    Http2Limits {
        control_frames: v.at_least("limits.http2.controlFrames", raw.control_frames, 100, default.control_frames),
        // All streams of a connection may be taken back at once.
        resets: v.at_least(
            "limits.http2.resets",
            raw.resets,
            limits.concurrent_streams,
            default.resets.max(limits.concurrent_streams),
        ),
        header_block_bytes: v.at_least(
            "limits.http2.headerBlockBytes",
            raw.header_block_bytes,
            head,
            default.header_block_bytes.max(head),
        ),
    }
}

pub(super) fn http(v: &mut Validator<'_>, raw: RawHttp) -> HttpSettings {
    let written = raw.upgrades.unwrap_or_else(|| vec!["websocket".to_owned()]);
    for (i, protocol) in written.iter().enumerate() {
        let field = format!("http.upgrades[{i}]");
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
        if protocol.is_empty() || !protocol.bytes().all(is_token) {
            v.fail(&field, format!("`{protocol}` is not the name of a protocol, such as websocket"));
        }
        let name = protocol.split('/').next().unwrap_or_default();
        if NEVER_UPGRADED_TO.iter().any(|never| name.eq_ignore_ascii_case(never)) {
            v.fail(&field, format!("requests inside `{protocol}` would pass without being judged"));
        }
    }
    HttpSettings {
        upgrades: written.iter().map(|protocol| protocol.to_ascii_lowercase()).collect(),
        // What curl waits, and a client that waits longer waits for us.
        expect_continue: v.duration("http.expectContinue", raw.expect_continue, Duration::from_secs(1)),
    }
}
