//! What the bootstrap says about traces: `tracing`. Without it headers are passed on as they are, and nothing is recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use meshgate_policy::address;
use serde::Deserialize;

use super::validate::Validator;

/// OTLP's own port for HTTP, and the path of its spans (OpenTelemetry Protocol 1.5, "OTLP/HTTP").
const HTTP_PORT: u16 = 4318;
const HTTP_PATH: &str = "/v1/traces";

/// OTLP's own port for gRPC, and its method.
const GRPC_PORT: u16 = 4317;
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Istio's default: one trace in a hundred.
const SAMPLE: f64 = 0.01;

/// OpenTelemetry's defaults for a batch processor and its exporter.
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(5);
const QUEUE: usize = 2048;
const BATCH: usize = 512;

/// A span is some two kilobytes, and may be made seven: more of them than this are no sidecar's memory.
const QUEUE_MOST: usize = 65_536;

/// Fields that the protocol itself writes, or that are of one hop.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Where spans go, and which there are.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingSettings {
    /// Scheme (`http` or `https`), host, port and path, all there.
    pub endpoint: Uri,
    /// How they are sent.
    pub protocol: OtlpProtocol,
    /// Of requests that come without a trace, which part begins one; from 0 to 1.
    pub sample: f64,
    /// What the traces call this workload; `None` = as Istio does, by its canonical name and its namespace.
    pub service_name: Option<String>,
    /// Sent along with every batch; `Debug` leaves the values out.
    pub headers: HeaderMap,
    /// PEM file of the roots that `https://` is trusted by; `None` = the system's.
    pub trust_bundle: Option<PathBuf>,
    /// For one attempt; greater than zero.
    pub timeout: Duration,
    /// Between batches, where they are not full before; greater than zero.
    pub interval: Duration,
    /// Spans that may wait; what comes then is dropped. At least [`batch`](Self::batch).
    pub queue: usize,
    /// Spans of one batch, at the most; greater than zero.
    pub batch: usize,
}

/// How spans are sent; OpenTelemetry's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum OtlpProtocol {
    /// A POST of protocol buffers.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// A unary gRPC call.
    #[serde(rename = "grpc")]
    Grpc,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawTracing {
    endpoint: Option<String>,
    #[serde(default)]
    protocol: OtlpProtocol,
    sample: Option<f64>,
    service_name: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    trust_bundle: Option<String>,
    timeout: Option<String>,
    interval: Option<String>,
    queue: Option<usize>,
    batch: Option<usize>,
}

pub(super) fn tracing(v: &mut Validator<'_>, raw: Option<RawTracing>) -> Option<TracingSettings> {
    let raw = raw?;
    let written = v.required("tracing.endpoint", raw.endpoint);
    let endpoint = if written.is_empty() { None } else { endpoint(v, &written, raw.protocol) };
    let sample = raw.sample.unwrap_or(SAMPLE);
    if !(0.0..=1.0).contains(&sample) {
        v.fail("tracing.sample", format!("{sample} is no part of a whole: from 0 to 1"));
    }
    if raw.service_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        v.fail("tracing.serviceName", "is empty");
    }
    let headers = headers(v, &raw.headers);
    let trust_bundle = raw.trust_bundle.map(|written| v.resolve(&written));
    if let (Some(_), Some(endpoint)) = (&trust_bundle, &endpoint)
        && endpoint.scheme() == Some(&Scheme::HTTP)
    {
        v.fail("tracing.trustBundle", "is for an endpoint that begins with https://");
    }
    let batch = v.at_least("tracing.batch", raw.batch, 1, BATCH);
    let queue = v.at_least("tracing.queue", raw.queue, batch, QUEUE.max(batch));
    let timeout = v.duration("tracing.timeout", raw.timeout, TIMEOUT);
    let interval = v.duration("tracing.interval", raw.interval, INTERVAL);
    let queue = v.at_most("tracing.queue", Some(queue), QUEUE_MOST, QUEUE);
    Some(TracingSettings {
        endpoint: endpoint?,
        protocol: raw.protocol,
        sample,
        service_name: raw.service_name,
        headers,
        trust_bundle,
        timeout,
        interval,
        queue,
        batch,
    })
}

/// What is written, and what OTLP has where nothing is.
fn endpoint(v: &mut Validator<'_>, written: &str, protocol: OtlpProtocol) -> Option<Uri> {
    let wrong = |v: &mut Validator<'_>, why: &str| {
        v.fail("tracing.endpoint", format!("`{written}` {why}, such as http://collector.monitoring:4318"));
        None
    };
    let Ok(uri) = written.parse::<Uri>() else { return wrong(v, "is no address") };
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return wrong(v, "is not an address that begins with http:// or https://");
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return wrong(v, "is not an address that begins with http:// or https://");
    }
    let (false, Ok(written_port)) =
        (authority.host().is_empty() || authority.as_str().contains('@'), address::port(authority))
    else {
        return wrong(v, "has no host and port that could be dialled");
    };
    let (own_port, own_path) = match protocol {
        OtlpProtocol::HttpProtobuf => (HTTP_PORT, HTTP_PATH),
        OtlpProtocol::Grpc => (GRPC_PORT, GRPC_PATH),
    };
    let port = written_port.unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { own_port });
    let path = match uri.path_and_query().map_or("/", PathAndQuery::as_str) {
        "/" => own_path,
        _ if protocol == OtlpProtocol::Grpc => return wrong(v, "has a path, and gRPC has one of its own"),
        path => path,
    };
    let whole = Uri::builder().scheme(scheme.clone()).authority(format!("{}:{port}", authority.host()));
    whole.path_and_query(path).build().ok().or_else(|| wrong(v, "is no address"))
}

fn headers(v: &mut Validator<'_>, written: &BTreeMap<String, String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let field = format!("tracing.headers.{name}");
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            v.fail(&field, "is not the name of a header");
            continue;
        };
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
            v.fail(&field, "is what the protocol itself writes");
            continue;
        }
        // The value is not repeated: it may be a secret.
        match HeaderValue::try_from(value.as_str()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            Err(_) => v.fail(&field, "has a value that cannot stand in a header"),
        }
    }
    headers
}
