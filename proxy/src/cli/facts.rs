//! A request as one describes it on the command line.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use meshgate_identity::SpiffeId;
use meshgate_policy::normalize::{Level, normalize};
use meshgate_policy::{ConnectionFacts, Protocol, RemoteIp, RequestView};

/// Options that describe a request.
#[derive(Debug, clap::Args)]
pub(super) struct Described {
    /// The caller, as spiffe://… or as Istio writes principals; none means plaintext
    #[arg(long, value_name = "ID", value_parser = peer)]
    peer: Option<SpiffeId>,
    /// The caller's address
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    source_ip: IpAddr,
    /// The address and port that is called
    #[arg(long, default_value = "127.0.0.1:80", value_name = "IP:PORT")]
    destination: SocketAddr,
    /// The server name in the TLS hello
    #[arg(long)]
    sni: Option<String>,
    /// A connection that is not HTTP
    #[arg(long, conflicts_with_all = ["method", "path", "host", "header"])]
    tcp: bool,
    /// The method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The path, with its query if there is one
    #[arg(long, default_value = "/")]
    path: String,
    /// The Host
    #[arg(long, default_value = "")]
    host: String,
    /// A header; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
}

fn peer(text: &str) -> Result<SpiffeId, meshgate_identity::SpiffeIdError> {
    if text.contains("://") { text.parse() } else { format!("spiffe://{text}").parse() }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no header value"))?;
    Ok((name, value))
}

/// A described request, made ready to be judged.
pub(super) struct Ready {
    described: Described,
    path_and_query: String,
    headers: HeaderMap,
}

impl Described {
    /// Normalises the path as the proxy would.
    pub(super) fn ready(self, level: Level) -> Result<Ready, meshgate_policy::normalize::PathError> {
        let path_and_query = normalize(&self.path, level)?.into_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in &self.header {
            headers.append(name, value.clone());
        }
        Ok(Ready { described: self, path_and_query, headers })
    }
}

impl Ready {
    /// What the connection fixes.
    pub(super) fn connection(&self) -> ConnectionFacts<'_> {
        let described = &self.described;
        ConnectionFacts {
            peer: described.peer.as_ref(),
            source_ip: described.source_ip,
            remote_ip: RemoteIp::Fixed(described.source_ip),
            destination: described.destination,
            service_port: None,
            sni: described.sni.as_deref(),
            protocol: if described.tcp { Protocol::Tcp } else { Protocol::Http },
        }
    }

    /// The request itself; `None` for TCP.
    pub(super) fn request(&self) -> Option<RequestView<'_>> {
        let described = &self.described;
        let path = self.path_and_query.split_once('?').map_or(&*self.path_and_query, |(path, _)| path);
        (!described.tcp).then_some(RequestView {
            method: &described.method,
            path,
            path_and_query: &self.path_and_query,
            host: &described.host,
            scheme: if described.peer.is_some() { "https" } else { "http" },
            headers: &self.headers,
            token: None,
            remote_ip: described.source_ip,
        })
    }
}
