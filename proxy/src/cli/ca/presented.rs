//! What a server shows in a TLS handshake: read, never believed.
//!
//! The one idea: the chain comes before anybody is asked who we are, so a handshake that ends without a certificate of ours, or in
//! a refusal, has shown it all the same. Nothing is ever sent over such a connection.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// To connect, and for each read: a server that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// The chain that the server at `host:port` shows, the leaf first.
///
/// # Errors
/// There is no such name, nobody listens, or what listens speaks no TLS.
pub(super) fn by(server: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let addresses = server.to_socket_addrs().with_context(|| format!("{server}: there is no such host"))?;
    let mut stream = connect(addresses).with_context(|| format!("{server}: cannot be reached"))?;
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{server}: not a name for a server"))?;
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let witness = Arc::new(Witness { algorithms, seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as _)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let ended = connection.complete_io(&mut stream);
    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if seen.is_empty() {
        ended.with_context(|| format!("{server}: no certificate was shown: does it speak TLS?"))?;
        anyhow::bail!("{server}: no certificate was shown");
    }
    Ok(seen)
}

fn connect(addresses: impl Iterator<Item = std::net::SocketAddr>) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Keeps what it is shown, whoever has its key: a wrong signature ends the handshake as it does any other, after the chain was seen.
#[derive(Debug)]
struct Witness {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = [end_entity].into_iter().chain(intermediates).map(|shown| shown.clone().into_owned());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
