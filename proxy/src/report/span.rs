//! What a report tells of a request that is traced.
//!
//! Attributes are OpenTelemetry's where its semantic conventions (HTTP, RPC, network, client and server) have one; who talks to whom goes by the names
//! of the metrics' labels, so that one finds the other; the response flags are Envoy's.

use std::time::{Duration, SystemTime};

use http::uri::Authority;
use http::{Method, Request, Version};

use super::{DESTINATION, Inner, NO_FLAGS, Report, refusals, toward};
use crate::error::ErrorKind;
use crate::http::headers;
use crate::metrics::{Facts, UNKNOWN};
use crate::trace::{Kind, Span};

/// What a span is called whose method is none that is known; the conventions' words, as a name and as a method.
const ANY: &str = "HTTP";
const OTHER: &str = "_OTHER";

/// The gRPC statuses that are the called one's fault, by the conventions for servers: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const GRPC_FAULTS: [&str; 6] = ["2", "4", "12", "13", "14", "15"];

/// The side that calls, as the metrics have it.
const SOURCE: &str = "source";

impl Report {
    /// Takes part in the trace that the request brings, or that begins with it; what goes on is told so in its headers.
    pub fn trace<B>(&mut self, request: &mut Request<B>) {
        let inner = &mut *self.0;
        let Some(tracer) = &inner.worker.tracer else { return };
        let Some(mut span) = tracer.begin(request.headers_mut()) else { return };
        span.kind = if inner.counters.facts().reporter == SOURCE { Kind::Client } else { Kind::Server };
        describe(request, &mut span);
        inner.span = Some(span);
    }
}

impl Inner {
    /// It has ended, after so long, and so many bytes came with it.
    pub(super) fn end_span(&self, mut span: Box<Span>, took: Duration, received: u64) {
        let Some(tracer) = &self.worker.tracer else { return };
        let counters = toward(&self.worker, &self.counters, self.upstream.as_ref());
        let facts = counters.facts();
        (span.ended, span.took) = (SystemTime::now(), took);
        if facts.service.host != UNKNOWN {
            span.name.push(' ');
            span.name.push_str(&facts.service.host);
        }
        parties(facts, &mut span);
        if let Some(upstream) = self.upstream.as_ref().filter(|_| facts.reporter != DESTINATION) {
            let address = upstream.slot().upstream().address;
            span.display("network.peer.address", address.ip());
            span.number("network.peer.port", address.port().into());
        }
        self.outcome(&mut span);
        span.number("http.request.body.size", received);
        span.number("http.response.body.size", self.sent);
        if self.attempts > 1 {
            span.number("http.request.resend_count", self.attempts - 1);
        }
        tracer.end(span);
    }

    fn outcome(&self, span: &mut Span) {
        if self.code != 0 {
            span.number("http.response.status_code", self.code.into());
        }
        if let Some(Ok(number)) = self.grpc_status.map(str::parse) {
            span.number("rpc.grpc.status_code", number);
        }
        span.text("response_flags", self.flags);
        if let Some(by) = &self.refused_by {
            span.text("reason", by.reason());
            span.text("policy", by.policy().unwrap_or_default());
        }
        if let Some(detail) = &self.detail {
            span.text("response_code_details", detail.as_bytes());
        }
        span.failed = self.went_wrong();
        if span.failed {
            match (self.grpc_status.filter(|status| GRPC_FAULTS.contains(status)), self.code) {
                (_, code @ 500..) => span.display("error.type", code),
                (Some(status), _) => span.text("error.type", status),
                (None, _) => span.text("error.type", self.flags),
            }
        }
    }

    /// It failed, and that was not for what the caller is, sent, or left undone.
    fn went_wrong(&self) -> bool {
        let is_callers = refusals::is_refusal(self.flags) || self.flags == ErrorKind::DownstreamGone.flag();
        let broke = self.flags != NO_FLAGS && !is_callers && self.code < 400;
        self.code >= 500 || broke || self.grpc_status.is_some_and(|status| GRPC_FAULTS.contains(&status))
    }
}

/// What is asked for; without the query, which may hold secrets.
fn describe<B>(request: &Request<B>, span: &mut Span) {
    let method = known(request.method());
    span.name.push_str(method.unwrap_or(ANY));
    span.text("http.request.method", method.unwrap_or(OTHER));
    if method.is_none() {
        span.text("http.request.method_original", request.method().as_str());
    }
    span.text("url.scheme", "http");
    span.text("url.path", request.uri().path());
    if let Some(authority) = headers::host(request).and_then(|host| host.parse::<Authority>().ok()) {
        span.text("server.address", authority.host());
        if let Some(port) = authority.port_u16() {
            span.number("server.port", port.into());
        }
        if span.kind == Kind::Client {
            span.display("url.full", format_args!("http://{authority}{}", request.uri().path()));
        }
    }
    let version = match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    span.text("network.protocol.version", version);
    if let Some(agent) = request.headers().get(http::header::USER_AGENT) {
        span.text("user_agent.original", agent);
    }
    if let Some(id) = request.headers().get(&headers::REQUEST_ID) {
        // Envoy's name for it: this is what people look for.
        span.text("guid:x-request-id", id);
    }
}

/// Methods are the caller's words, and a name is not to have as many forms as it likes.
fn known(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn parties(facts: &Facts, span: &mut Span) {
    let named = [
        ("source_workload", &facts.source.workload),
        ("source_workload_namespace", &facts.source.namespace),
        ("source_principal", &facts.source.principal),
        ("source_cluster", &facts.source.cluster),
        ("destination_service", &facts.service.host),
        ("destination_workload", &facts.destination.workload),
        ("destination_workload_namespace", &facts.destination.namespace),
        ("destination_principal", &facts.destination.principal),
        ("destination_cluster", &facts.destination.cluster),
    ];
    for (key, value) in named.into_iter().filter(|(_, value)| *value != UNKNOWN) {
        span.text(key, value);
    }
    span.text("reporter", facts.reporter);
    span.text("connection_security_policy", facts.security);
}
