//! A relay that reads nothing: what kernel and cipher alone cost, through tokio and rustls, on the machine that measures.
//!
//! Two of them stand where a pair of proxies would. A connection in is a connection out, mutual TLS 1.3 is between the two, both verify
//! the other's chain, and that is all: no request is seen, nobody is refused, nothing is counted or logged. Machines differ, and so do
//! days: how far a proxy is above this, in the same minutes, differs less.
//!
//! One thread, as the proxies beside it have one worker. It ends when it is killed.

use std::io::{Error, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes each way: a TLS record's, which is what rustls hands out at a time.
const BUFFER: usize = 16 * 1024;

const USAGE: &str = "meshgate-floor client|server LISTEN TO CERTIFICATE KEY CA SERVER_NAME";

type Problem = Box<dyn std::error::Error>;

/// Which side it is, and its half of TLS.
#[derive(Clone)]
enum Side {
    Client(TlsConnector, ServerName<'static>),
    Server(TlsAcceptor),
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(Problem::from);
    match done.and_then(|runtime| runtime.block_on(serve(&words))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "meshgate-floor: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(words: &[String]) -> Result<(), Problem> {
    let [side, listen, to, certificate, key, ca, name] = words else { return Err(USAGE.into()) };
    let side = side_of(side, certificate, key, ca, name)?;
    let to: SocketAddr = to.parse()?;
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let side = side.clone();
        tokio::spawn(async move {
            // Who goes, or breaks off, or is not believed, ends its own connection.
            let _ = relay(stream, to, side).await;
        });
    }
}

fn side_of(side: &str, certificate: &str, key: &str, ca: &str, name: &str) -> Result<Side, Problem> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca)? {
        roots.add(root?)?;
    }
    match side {
        "client" => {
            let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13])?;
            let mut config = config.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
            config.resumption = Resumption::disabled();
            Ok(Side::Client(Arc::new(config).into(), ServerName::try_from(name.to_owned())?))
        }
        "server" => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build()?;
            let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13])?;
            let mut config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(Side::Server(Arc::new(config).into()))
        }
        _ => Err(USAGE.into()),
    }
}

async fn relay(stream: TcpStream, to: SocketAddr, side: Side) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    match side {
        Side::Client(tls, name) => {
            let upstream = tls.connect(name, connect(to).await?).await?;
            both_ways(stream, upstream).await
        }
        Side::Server(tls) => {
            let stream = tls.accept(stream).await?;
            both_ways(stream, connect(to).await?).await
        }
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn both_ways<A, B>(mut one: A, mut other: B) -> Result<(), Error>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER).await.map(|_| ())
}
