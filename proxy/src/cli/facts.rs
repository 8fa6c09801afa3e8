//! A case as one describes it on the command line.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

use crate::case::{Caller, Case, Headers, Port, Protocol, ProviderAnswer, Scheme};

/// Options that describe a request. With a file of requests they stand in for what a request there does not say.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The request")]
pub(super) struct Described {
    /// What the workload itself calls, instead: a URL, or a name or address with a port
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// The workload called (with --to: that calls), among the resources: a Pod or WorkloadEntry by its name, or any by a label
    #[arg(long, value_name = "NAMESPACE/NAME|NAMESPACE/LABEL=VALUE")]
    workload: Option<String>,
    /// The caller, as spiffe://… or as Istio writes principals [default: plaintext]
    #[arg(long, value_name = "ID", value_parser = str::parse::<Caller>)]
    peer: Option<Caller>,
    /// The caller's address [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    source_ip: Option<IpAddr>,
    /// The client's own address, where proxies in front report it [default: by x-forwarded-for, or the caller's]
    #[arg(long, value_name = "IP")]
    remote_ip: Option<IpAddr>,
    /// The address and port called [default: the workload's, or 127.0.0.1:80]
    #[arg(long, value_name = "IP:PORT")]
    destination: Option<SocketAddr>,
    /// The port called, by number, or by the name that the workload or a service has for it
    #[arg(long, value_name = "PORT", value_parser = str::parse::<Port>)]
    port: Option<Port>,
    /// The service's own port, where that differs
    #[arg(long, value_name = "NUMBER")]
    service_port: Option<u16>,
    /// The server name in the TLS hello
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// A connection that is not HTTP
    #[arg(long, conflicts_with_all = ["method", "path", "host", "scheme", "header", "token"])]
    tcp: bool,
    /// The method [default: GET]
    #[arg(long)]
    method: Option<Method>,
    /// The path as it is sent, with its query if there is one [default: /]
    #[arg(long)]
    path: Option<String>,
    /// The Host
    #[arg(long)]
    host: Option<HeaderValue>,
    /// The scheme, http or https [default: https with a peer]
    #[arg(long, value_parser = scheme)]
    scheme: Option<Scheme>,
    /// A header; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// What a verified token says: its claims, as a JSON object
    #[arg(long, value_name = "CLAIMS", value_parser = claims)]
    token: Option<Claims>,
    /// What the provider of a CUSTOM policy answers, allow or deny [default: allow]
    #[arg(long, value_name = "ANSWER", value_parser = provider)]
    provider: Option<ProviderAnswer>,
}

/// The claims of a token; clap would take a bare map for something else.
#[derive(Debug, Clone)]
struct Claims(Map<String, Value>);

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no header value"))?;
    Ok((name, value))
}

fn claims(text: &str) -> Result<Claims, String> {
    serde_json::from_str(text).map(Claims).map_err(|error| format!("expected a JSON object of claims: {error}"))
}

fn scheme(text: &str) -> Result<Scheme, &'static str> {
    match text {
        "http" => Ok(Scheme::Http),
        "https" => Ok(Scheme::Https),
        _ => Err("expected http or https"),
    }
}

fn provider(text: &str) -> Result<ProviderAnswer, &'static str> {
    match text {
        "allow" => Ok(ProviderAnswer::Allow),
        "deny" => Ok(ProviderAnswer::Deny),
        _ => Err("expected allow or deny"),
    }
}

impl Described {
    /// The case.
    pub(super) fn case(self) -> Case {
        let mut headers = HeaderMap::new();
        for (name, value) in self.header {
            headers.append(name, value);
        }
        Case {
            name: None,
            workload: self.workload,
            peer: self.peer,
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination: self.destination,
            port: self.port,
            service_port: self.service_port,
            sni: self.sni,
            protocol: self.tcp.then_some(Protocol::Tcp),
            method: self.method,
            path: self.path,
            host: self.host,
            scheme: self.scheme,
            headers: (!headers.is_empty()).then_some(Headers(headers)),
            token: self.token.map(|claims| claims.0),
            provider: self.provider,
            to: self.to,
        }
    }
}
