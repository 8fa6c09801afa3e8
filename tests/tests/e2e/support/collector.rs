//! A collector of traces, as far as one can tell from outside: OTLP over HTTP/1.1 and over gRPC, read with OpenTelemetry's own messages.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate::sandbox::until;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::app::{App, Frames, Local};
use super::pki::{Credentials, provider};

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Otlp {
    Http,
    Grpc,
}

/// What it says to a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Taken,
    /// All but so many.
    Without(i64),
    /// HTTP's status.
    Status(u16),
    /// gRPC's, and no message.
    Grpc(&'static str),
    /// Nothing, and it keeps the connection.
    Nothing,
}

/// One request to it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    message: ExportTraceServiceRequest,
}

/// A span, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    resource: Vec<KeyValue>,
    pub(crate) span: Span,
}

impl Seen {
    /// An attribute of the span; empty when there is none.
    pub(crate) fn at(&self, key: &str) -> String {
        at(&self.span.attributes, key)
    }

    /// An attribute of whose span it is.
    pub(crate) fn resource(&self, key: &str) -> String {
        at(&self.resource, key)
    }

    pub(crate) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

fn at(attributes: &[KeyValue], key: &str) -> String {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next().and_then(|attribute| attribute.value.clone()?.value);
    assert!(found.next().is_none(), "{key} more than once");
    match value {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{key}: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// It listens; when dropped it takes no more connections.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) app: App,
    asked: Rc<RefCell<Vec<Asked>>>,
    otlp: Otlp,
}

impl Collector {
    /// Takes everything.
    pub(crate) async fn start(otlp: Otlp) -> Self {
        Self::saying(otlp, |_| Says::Taken).await
    }

    /// Says something to each request, by how many came before it.
    pub(crate) async fn saying(otlp: Otlp, says: impl Fn(usize) -> Says + 'static) -> Self {
        Self::with(otlp, None, says).await
    }

    /// Takes everything, over TLS.
    pub(crate) async fn tls(otlp: Otlp, credentials: &Credentials) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(credentials.resolver());
        // As gRPC servers have it: nothing else is spoken.
        config.alpn_protocols = vec![if otlp == Otlp::Grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Self::with(otlp, Some(TlsAcceptor::from(Arc::new(config))), |_| Says::Taken).await
    }

    async fn with(otlp: Otlp, tls: Option<TlsAcceptor>, says: impl Fn(usize) -> Says + 'static) -> Self {
        let asked = Rc::<RefCell<Vec<Asked>>>::default();
        let (kept, says) = (Rc::clone(&asked), Rc::new(says));
        let app = App::tcp(async move |stream| {
            let (kept, says) = (Rc::clone(&kept), Rc::clone(&says));
            match &tls {
                None => serve(stream, otlp, kept, says).await,
                // A client that does not trust this server ends the handshake.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, otlp, kept, says).await;
                    }
                }
            }
        })
        .await;
        Self { app, asked, otlp }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app.address()
    }

    /// A bootstrap's lines for it, with more fields, each with a comma before it.
    pub(crate) fn bootstrap(&self, fields: &str) -> String {
        let protocol = if self.otlp == Otlp::Grpc { "grpc" } else { "http/protobuf" };
        format!("tracing: {{endpoint: \"http://{}\", protocol: {protocol}, interval: 50ms{fields}}}\n", self.address())
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> std::cell::Ref<'_, Vec<Asked>> {
        self.asked.borrow()
    }

    /// The spans so far.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let mut spans = Vec::new();
        for asked in self.asked.borrow().iter() {
            for group in &asked.message.resource_spans {
                let resource = group.resource.clone().unwrap_or_default().attributes;
                let all = group.scope_spans.iter().flat_map(|scope| scope.spans.iter().cloned());
                spans.extend(all.map(|span| Seen { resource: resource.clone(), span }));
            }
        }
        spans
    }

    /// The spans, once there are so many.
    pub(crate) async fn until(&self, count: usize) -> Vec<Seen> {
        let found = until("spans", async || Some(self.spans()).filter(|spans| spans.len() >= count)).await;
        found.unwrap_or_else(|error| panic!("{error}: {:#?}", self.spans()))
    }

    /// The caller's span of a path, and the called one's, once they are there.
    pub(crate) async fn pair(&self, path: &str) -> (Seen, Seen) {
        let of =
            |kind: i32| self.spans().into_iter().find(|seen| seen.at("url.path") == path && seen.span.kind == kind);
        // OTLP's numbers: 3 is a client, 2 a server.
        let found = until("both spans", async || Some((of(3)?, of(2)?))).await;
        found.unwrap_or_else(|error| panic!("{error}: {:#?}", self.spans()))
    }
}

async fn serve<I>(io: I, otlp: Otlp, kept: Rc<RefCell<Vec<Asked>>>, says: Rc<impl Fn(usize) -> Says + 'static>)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let (kept, says) = (Rc::clone(&kept), Rc::clone(&says));
        async move { Ok::<_, Infallible>(answer(request, otlp, &kept, &*says).await) }
    });
    // How a client's connection ends is the client's affair.
    match otlp {
        Otlp::Http => drop(http1::Builder::new().serve_connection(TokioIo::new(io), service).await),
        Otlp::Grpc => drop(http2::Builder::new(Local).serve_connection(TokioIo::new(io), service).await),
    }
}

async fn answer(
    request: Request<Incoming>,
    otlp: Otlp,
    kept: &RefCell<Vec<Asked>>,
    says: &dyn Fn(usize) -> Says,
) -> Response<Frames> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { std::future::pending().await };
    let mut body = body.to_bytes();
    if otlp == Otlp::Grpc {
        let prefix = body.split_to(5);
        assert_eq!(prefix[..], [&[0], &u32::try_from(body.len()).unwrap().to_be_bytes()[..]].concat());
    }
    let message = ExportTraceServiceRequest::decode(body).unwrap();
    let number = kept.borrow().len();
    let said = says(number);
    kept.borrow_mut().push(Asked { path: head.uri.path().to_owned(), headers: head.headers, message });
    let (sender, frames) = Frames::channel();
    let mut response = Response::new(frames);
    let content = if otlp == Otlp::Grpc { "application/grpc" } else { "application/x-protobuf" };
    response.headers_mut().insert("content-type", HeaderValue::from_static(content));
    let rejected_spans = match said {
        Says::Nothing => std::future::pending().await,
        Says::Status(status) => {
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert("retry-after", HeaderValue::from_static("0"));
            return response;
        }
        Says::Grpc(status) => {
            response.headers_mut().insert("grpc-status", HeaderValue::from_static(status));
            return response;
        }
        Says::Taken => None,
        Says::Without(spans) => Some(spans),
    };
    let partial_success = rejected_spans
        .map(|rejected_spans| ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_owned() });
    let message = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    tokio::task::spawn_local(async move {
        let mut framed = Vec::new();
        if otlp == Otlp::Grpc {
            framed.push(0);
            framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        }
        framed.extend(message);
        let _ = sender.send(Frame::data(Bytes::from(framed))).await;
        if otlp == Otlp::Grpc {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            let _ = sender.send(Frame::trailers(trailers)).await;
        }
    });
    response
}
