//! Spans as OpenTelemetry's protocol has them.

use std::time::{SystemTime, UNIX_EPOCH};

use meshgate_config::{Bootstrap, TracingSettings};
use meshgate_identity::SpiffeId;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, Status};

use super::span::{Kind, Span, Value};
use crate::metrics::{Party, UNKNOWN};

/// Of a span's flags, that the two that follow mean something, and that the parent is somebody else's (OTLP, `SpanFlags`).
const KNOWS_IF_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Whose spans they are (OpenTelemetry semantic conventions: service, Kubernetes).
pub(super) fn resource(bootstrap: &Bootstrap, settings: &TracingSettings, id: &SpiffeId) -> Resource {
    let own = Party::own(bootstrap, id);
    let name = settings.service_name.clone().unwrap_or_else(|| format!("{}.{}", own.canonical_service, own.namespace));
    let known = [
        ("service.name", name),
        ("service.namespace", own.namespace.clone()),
        ("service.version", own.version),
        ("service.instance.id", bootstrap.workload.name.clone()),
        ("k8s.namespace.name", own.namespace),
        ("k8s.pod.name", bootstrap.workload.name.clone()),
        ("k8s.cluster.name", own.cluster),
    ];
    let known = known.into_iter().filter(|(_, value)| value != UNKNOWN);
    Resource {
        attributes: known.map(|(key, value)| pair(key, Any::StringValue(value))).collect(),
        ..Resource::default()
    }
}

/// One batch.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "meshgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = ScopeSpans { scope: Some(scope), spans: spans.iter().map(message).collect(), ..ScopeSpans::default() };
    let spans =
        ResourceSpans { resource: Some(resource.clone()), scope_spans: vec![spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

fn message(span: &Span) -> Message {
    let remote = if span.parent.is_some() { IS_REMOTE } else { 0 };
    let began = span.ended.checked_sub(span.took).unwrap_or(UNIX_EPOCH);
    let attributes = span.attributes().map(|(key, value)| match value {
        Value::Text(text) => pair(key, Any::StringValue(text.to_owned())),
        Value::Number(number) => pair(key, Any::IntValue(number)),
    });
    Message {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: span.state.as_deref().unwrap_or_default().to_owned(),
        flags: u32::from(span.flags) | KNOWS_IF_REMOTE | remote,
        name: span.name.clone(),
        kind: match span.kind {
            Kind::Client => SpanKind::Client,
            Kind::Server => SpanKind::Server,
        }
        .into(),
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(span.ended),
        attributes: attributes.collect(),
        status: span.failed.then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
        ..Message::default()
    }
}

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
