//! One GET at a time: no redirects, no cookies, no proxies, and an end to how much is read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use meshgate_policy::jwt::{KeyLocation, KeySetError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::outside;

/// Bytes of an answer. A set of a hundred keys has 50 KiB.
const ANSWER_MAX: usize = 1024 * 1024;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The time is up.
    #[error("not within {0:?}")]
    TimedOut(Duration),
    /// The location is no address, or not of a kind that is fetched.
    #[error("{0} is not an address that begins with http:// or https://")]
    Address(String),
    /// The server could not be reached, or its certificate is not good.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The server broke off, or speaks no HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is another than 200. Redirects are not followed.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The answer could not be read to its end.
    #[error("cannot read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The answer is no key set.
    #[error("the answer {0}")]
    KeySet(#[from] KeySetError),
    /// The issuer's configuration is not one.
    #[error("the issuer's configuration: {0}")]
    Discovery(String),
    /// There is nothing to trust https:// by.
    #[error("{0}")]
    Roots(String),
}

/// Fetches.
#[derive(Debug, Default)]
pub struct Client {
    /// `None` until the system's roots are needed.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// What counts of an issuer's configuration (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Client {
    /// Trusts the roots of a PEM file; without one, those of the system.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate.
    pub fn new(trust_bundle: Option<&PathBuf>) -> Result<Self, FetchError> {
        let Some(path) = trust_bundle else { return Ok(Self::default()) };
        Ok(Self { tls: OnceLock::from(configured(path)?) })
    }

    /// The text of a key set.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self, location: &KeyLocation) -> Result<Bytes, FetchError> {
        match location {
            KeyLocation::Uri(uri) => self.get(uri).await,
            KeyLocation::Issuer(issuer) => {
                let answer = self.get(&location.to_string()).await?;
                let found: Discovery =
                    serde_json::from_slice(&answer).map_err(|error| FetchError::Discovery(error.to_string()))?;
                if found.issuer != *issuer {
                    return Err(FetchError::Discovery(format!("it is that of {}", found.issuer)));
                }
                self.get(&found.jwks_uri).await
            }
        }
    }

    async fn get(&self, address: &str) -> Result<Bytes, FetchError> {
        let no_address = || FetchError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| no_address())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(no_address)?.to_owned();
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => None,
            Some(scheme) if *scheme == Scheme::HTTPS => Some(self.tls()?),
            _ => return Err(no_address()),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect(format!("{host}:{port}")).await?;
        match tls {
            None => ask(stream, &uri, &host).await,
            Some(config) => {
                let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name).map_err(|_| no_address())?;
                let stream = TlsConnector::from(config).connect(name, stream).await?;
                ask(stream, &uri, &host).await
            }
        }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, FetchError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let found = rustls_native_certs::load_native_certs();
        let config = outside::trusting(found.certs, None).map(Arc::new).ok_or_else(|| {
            FetchError::Roots(
                "the system has no roots to trust https:// by; name some with jwks.trustBundle".to_owned(),
            )
        })?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }
}

fn configured(path: &Path) -> Result<Arc<ClientConfig>, FetchError> {
    let certificates = outside::roots(path).map_err(FetchError::Roots)?;
    let unusable = || FetchError::Roots(format!("{}: no certificate that could be a root", path.display()));
    outside::trusting(certificates, None).map(Arc::new).ok_or_else(unusable)
}

/// One request on a connection of its own.
async fn ask<I>(stream: I, uri: &Uri, host: &str) -> Result<Bytes, FetchError>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let authority = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = uri.path_and_query().map_or_else(Uri::default, |target| Uri::from(target.clone()));
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| FetchError::Address(authority))?);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("meshgate/", env!("CARGO_PKG_VERSION"))));
    let asking = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(FetchError::Body)?;
        Ok(body.to_bytes())
    };
    // The connection lives as long as the request, and not an instant longer.
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        biased;
        answer = asking.as_mut() => answer,
        result = connection => match result {
            Ok(()) => asking.await,
            Err(error) => Err(error.into()),
        },
    }
}
