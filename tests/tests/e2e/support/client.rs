//! Clients that keep what the sandbox's own client throws away: the connection, and what TLS said about it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use meshgate::http::server::LocalExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::backend::HOST;
use super::pki::{Credentials, provider};
use super::soon;

/// HTTP/1.1 between mesh peers.
pub(crate) const MESH_HTTP1: &str = "istio-http/1.1";
/// HTTP/2 between mesh peers.
pub(crate) const MESH_HTTP2: &str = "istio-h2";
/// Bytes between two of us.
pub(crate) const MESH_TCP: &str = "meshgate-tcp";

/// A client that shows `credentials`, if any, and takes any server.
pub(crate) fn tls(credentials: Option<&Credentials>, alpn: &str) -> ClientConfig {
    tls_of(&[&rustls::version::TLS13], credentials, alpn)
}

/// As [`tls`], of certain TLS versions.
pub(crate) fn tls_of(
    versions: &[&'static SupportedProtocolVersion],
    credentials: Option<&Credentials>,
    alpn: &str,
) -> ClientConfig {
    let provider = provider();
    let anyone = Arc::new(Anyone(provider.signature_verification_algorithms));
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(anyone);
    let mut config = match credentials {
        Some(credentials) => builder.with_client_cert_resolver(credentials.resolver()),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

/// Connects. With TLS 1.3 this succeeds before the server has looked at the client's certificate.
pub(crate) async fn handshake(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// How a server ends the handshake of `config`.
pub(crate) async fn alert(address: SocketAddr, config: ClientConfig) -> Result<AlertDescription, String> {
    let refusal = async {
        let mut stream = handshake(address, &Arc::new(config)).await?;
        stream.read_u8().await
    };
    let error = match soon("the end of the handshake", refusal).await {
        Ok(byte) => return Err(format!("the byte {byte}")),
        Err(error) => error,
    };
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(TlsError::AlertReceived(alert)) => Ok(*alert),
        _ => Err(format!("{error:?}")),
    }
}

/// A client with a connection that it keeps.
pub(crate) struct Client(Sender);

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    /// In the clear.
    pub(crate) async fn plain(address: SocketAddr) -> Self {
        Self::http1(TcpStream::connect(address).await.unwrap()).await
    }

    /// With mutual TLS.
    pub(crate) async fn mesh(address: SocketAddr, credentials: &Credentials) -> Self {
        let config = Arc::new(tls(Some(credentials), MESH_HTTP1));
        Self::http1(handshake(address, &config).await.unwrap()).await
    }

    /// HTTP/1.1 over a connection.
    pub(crate) async fn http1<I: AsyncRead + AsyncWrite + Unpin + 'static>(io: I) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::task::spawn_local(connection);
        Self(Sender::Http1(sender))
    }

    /// HTTP/2 over a connection.
    pub(crate) async fn http2<I: AsyncRead + AsyncWrite + Unpin + 'static>(io: I) -> Self {
        let (sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(io)).await.unwrap();
        tokio::task::spawn_local(connection);
        Self(Sender::Http2(sender))
    }

    /// The status and the body of what a GET is answered with.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(u16, String), hyper::Error> {
        let (parts, body) = soon("an answer", self.send(path)).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }

    /// The head of an answer, however long it takes.
    pub(crate) async fn send(&mut self, path: &str) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.0 {
            Sender::Http1(sender) => {
                let request = Request::get(path).header("host", HOST).body(Empty::new()).unwrap();
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                let request = Request::get(format!("https://{HOST}{path}")).body(Empty::new()).unwrap();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Whether the server has ended the connection.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.0 {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Takes any server that has the key of its certificate; who it is the tests look at themselves.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A handshake with the backend, up to the moment at which the client would show its certificate.
pub(crate) async fn half_way(
    inbound: SocketAddr,
    credentials: &Credentials,
    alpn: &str,
) -> (TcpStream, ClientConnection) {
    let mut stream = TcpStream::connect(inbound).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(Arc::new(tls(Some(credentials), alpn)), name).unwrap();
    let mut sent = Vec::new();
    client.write_tls(&mut sent).unwrap();
    stream.write_all(&sent).await.unwrap();
    while client.is_handshaking() {
        let mut heard = [0; 4096];
        let len = soon("the server's side of the handshake", stream.read(&mut heard)).await.unwrap();
        client.read_tls(&mut &heard[..len]).unwrap();
        client.process_new_packets().unwrap();
    }
    (stream, client)
}
