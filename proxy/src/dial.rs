//! Connects to servers that are none of the mesh's: in plaintext, or over TLS whose roots are a file's or the system's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use http::Uri;
use http::uri::Scheme;
use meshgate_policy::address::{self, PortError};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::outside;

/// Why nobody was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It is no address, or not of a kind that is dialled.
    #[error("{0} is not an address that begins with http:// or https://")]
    Address(String),
    /// What it has for a port is none.
    #[error("{0}")]
    Port(#[from] PortError),
    /// The server could not be reached, or its certificate is not good.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// There is nothing to trust https:// by.
    #[error("{0}")]
    Roots(String),
}

/// What is read and written, whatever is beneath.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Connects.
#[derive(Debug)]
pub struct Dialer {
    /// The bootstrap's field that names roots.
    field: &'static str,
    protocols: &'static [&'static [u8]],
    /// `None` until the system's roots are needed.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Dialer {
    /// Trusts the roots of a PEM file, which a `field` of the bootstrap names; without one, those of the system. Over TLS it offers
    /// these protocols (ALPN).
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate.
    pub fn new(
        trust_bundle: Option<&PathBuf>,
        field: &'static str,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, DialError> {
        let tls = match trust_bundle {
            Some(path) => OnceLock::from(configured(path, protocols)?),
            None => OnceLock::new(),
        };
        Ok(Self { field, protocols, tls })
    }

    /// A connection to where an address says.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn connect(&self, uri: &Uri) -> Result<Box<dyn Io>, DialError> {
        let no_address = || DialError::Address(uri.to_string());
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(no_address)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => None,
            Some(scheme) if *scheme == Scheme::HTTPS => Some(self.tls()?),
            _ => return Err(no_address()),
        };
        let port = uri.authority().map(address::port).transpose()?.flatten();
        let port = port.unwrap_or(if tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect(format!("{host}:{port}")).await?;
        let Some(config) = tls else { return Ok(Box::new(stream)) };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| no_address())?;
        Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, DialError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let found = rustls_native_certs::load_native_certs();
        let config = trusting(found.certs, self.protocols).ok_or_else(|| {
            DialError::Roots(format!("the system has no roots to trust https:// by; name some with {}", self.field))
        })?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }
}

fn configured(path: &Path, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, DialError> {
    let certificates = outside::roots(path).map_err(DialError::Roots)?;
    let unusable = || DialError::Roots(format!("{}: no certificate that could be a root", path.display()));
    trusting(certificates, protocols).ok_or_else(unusable)
}

fn trusting(certificates: Vec<CertificateDer<'static>>, protocols: &[&[u8]]) -> Option<Arc<ClientConfig>> {
    let mut config = outside::trusting(certificates, None)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Some(Arc::new(config))
}
