//! One batch to the collector: a POST of OTLP over HTTP/1.1, or a unary gRPC call, on a connection that is kept.
//!
//! Its answer says whether it was taken, refused for good, or may be sent again (OpenTelemetry Protocol 1.5, "Failures").

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, TE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate_config::{OtlpProtocol, TracingSettings};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::task::JoinHandle;

use crate::dial::{DialError, Dialer};
use crate::grpc;
use crate::http::server::LocalExecutor;

/// Bytes of an answer: a message about what was not taken.
const ANSWER_MAX: usize = 64 * 1024;

/// A collector that asks for more time than this gets this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// What may stand in a message about an answer.
const SAID_MAX: usize = 256;

/// What came of a batch that was taken.
pub(super) type Partly = Option<ExportTracePartialSuccess>;

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// Nobody was reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It broke off, or speaks no HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The time is up.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An answer other than 200.
    #[error("the answer is {status}")]
    Status {
        /// Which.
        status: StatusCode,
        /// When it may be sent again.
        after: Option<Duration>,
    },
    /// gRPC's status, and the collector's words.
    #[error("gRPC status {code}: {message}")]
    Grpc {
        /// gRPC's number.
        code: String,
        /// Why.
        message: String,
    },
    /// It makes no sense.
    #[error("the answer {0}")]
    Answer(String),
}

impl ExportError {
    /// Whether it may be taken another time.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Dial(_) | Self::Http(_) | Self::TimedOut(_) => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 429 | 502..=504),
            // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
            Self::Grpc { code, .. } => matches!(code.as_str(), "1" | "4" | "10" | "11" | "14" | "15"),
            Self::Answer(_) => false,
        }
    }

    /// When the collector wants to hear of it again.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Status { after, .. } => *after,
            _ => None,
        }
    }
}

/// The way to a collector.
#[derive(Debug)]
pub(super) struct Transport {
    endpoint: Uri,
    protocol: OtlpProtocol,
    headers: HeaderMap,
    timeout: Duration,
    dialer: Dialer,
    kept: Option<Connection>,
}

/// Ends when it is dropped.
#[derive(Debug)]
struct Connection {
    sender: Sender,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Transport {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// The roots that it should trust are not usable.
    pub(super) fn new(settings: &TracingSettings) -> Result<Self, DialError> {
        let protocols: &[&[u8]] = match settings.protocol {
            OtlpProtocol::HttpProtobuf => &[b"http/1.1"],
            OtlpProtocol::Grpc => &[b"h2"],
        };
        Ok(Self {
            endpoint: settings.endpoint.clone(),
            protocol: settings.protocol,
            headers: settings.headers.clone(),
            timeout: settings.timeout,
            dialer: Dialer::new(settings.trust_bundle.as_ref(), "tracing.trustBundle", protocols)?,
            kept: None,
        })
    }

    /// Sends one batch, once. A connection on which it failed is not used again.
    pub(super) async fn send(&mut self, batch: &ExportTraceServiceRequest) -> Result<Partly, ExportError> {
        let timeout = self.timeout;
        let body = match self.protocol {
            OtlpProtocol::HttpProtobuf => batch.encode_to_vec().into(),
            OtlpProtocol::Grpc => grpc::framed(batch),
        };
        let answer = tokio::time::timeout(timeout, self.exchange(body)).await;
        let answer = answer.unwrap_or(Err(ExportError::TimedOut(timeout)));
        if answer.is_err() {
            self.kept = None;
        }
        let answer = ExportTraceServiceResponse::decode(answer?)
            .map_err(|error| ExportError::Answer(format!("is no message: {error}")))?;
        Ok(answer.partial_success)
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Bytes, ExportError> {
        let request = self.request(body)?;
        let reused = self.kept.is_some();
        match self.ask(request.clone()).await {
            // It may have been closed because it was unused; nobody has been asked yet.
            Err(ExportError::Http(error)) if reused && (error.is_closed() || error.is_canceled()) => {
                self.kept = None;
                self.ask(request).await
            }
            answer => answer,
        }
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Bytes, ExportError> {
        let connection = match &mut self.kept {
            Some(kept) => kept,
            None => self.kept.insert(Connection::open(&self.dialer, &self.endpoint, self.protocol).await?),
        };
        let response = match &mut connection.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        read(response, self.protocol).await
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, ExportError> {
        let wrong = |why: String| ExportError::Answer(format!("was never asked for: {why}"));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let content = match self.protocol {
            OtlpProtocol::HttpProtobuf => {
                let target = self.endpoint.path_and_query().map_or("/", PathAndQuery::as_str);
                *request.uri_mut() = Uri::try_from(target).map_err(|error| wrong(error.to_string()))?;
                "application/x-protobuf"
            }
            OtlpProtocol::Grpc => {
                *request.uri_mut() = self.endpoint.clone();
                "application/grpc"
            }
        };
        let authority = self.endpoint.authority().map_or("", http::uri::Authority::as_str);
        let host = HeaderValue::from_str(authority).map_err(|error| wrong(error.to_string()))?;
        let fields = request.headers_mut();
        fields.extend(self.headers.clone());
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("meshgate/", env!("CARGO_PKG_VERSION"))));
        match self.protocol {
            OtlpProtocol::HttpProtobuf => fields.insert(HOST, host),
            OtlpProtocol::Grpc => fields.insert(TE, HeaderValue::from_static("trailers")),
        };
        Ok(request)
    }
}

impl Connection {
    async fn open(dialer: &Dialer, endpoint: &Uri, protocol: OtlpProtocol) -> Result<Self, ExportError> {
        let io = TokioIo::new(dialer.connect(endpoint).await?);
        // How a connection ends, its request hears as well.
        match protocol {
            OtlpProtocol::HttpProtobuf => {
                let (sender, connection) = http1::handshake(io).await?;
                let task = tokio::task::spawn_local(async move {
                    let _ = connection.await;
                });
                Ok(Self { sender: Sender::Http1(sender), task })
            }
            OtlpProtocol::Grpc => {
                let (sender, connection) = http2::handshake(LocalExecutor, io).await?;
                let task = tokio::task::spawn_local(async move {
                    let _ = connection.await;
                });
                Ok(Self { sender: Sender::Http2(sender), task })
            }
        }
    }
}

/// The message of an answer that says that all went well.
async fn read(response: Response<Incoming>, protocol: OtlpProtocol) -> Result<Bytes, ExportError> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(ExportError::Status { status: head.status, after: after(&head.headers) });
    }
    if protocol == OtlpProtocol::Grpc {
        outcome(&head.headers)?;
    }
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => ExportError::Http(*error),
        Err(error) => ExportError::Answer(format!("cannot be read: {error}")),
    })?;
    if protocol == OtlpProtocol::HttpProtobuf {
        return Ok(body.to_bytes());
    }
    let ended = body.trailers().map_or(Ok(false), outcome)?;
    if !ended {
        return Err(ExportError::Answer("has no grpc-status".to_owned()));
    }
    grpc::only(body.to_bytes()).map_err(|why| ExportError::Answer(format!("has no usable message: {why}")))
}

/// Whether these fields say how the call ended, and that is well.
fn outcome(fields: &HeaderMap) -> Result<bool, ExportError> {
    match grpc::status(fields) {
        None => Ok(false),
        Some(status) if status.code == grpc::OK => Ok(true),
        Some(grpc::Status { code, message }) => {
            let said = |text: String| text.chars().take(SAID_MAX).collect();
            Err(ExportError::Grpc { code: said(code), message: said(message) })
        }
    }
}

fn after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
