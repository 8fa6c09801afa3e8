//! A request, or a connection, as somebody describes it: in a file, in a policy test, to the admin endpoint, by flags.
//!
//! The one idea: one type for all of them, with every field optional, so that a case can be laid over defaults. What a
//! case comes to is [`judge`](crate::judge)'s affair.

mod fields;

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method};
use meshgate_identity::SpiffeId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use fields::Parsed;

/// Who calls whom, how, and for what. A field that is not given is as [`judge`](crate::judge) says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// What reports call it.
    pub name: Option<String>,
    /// The workload that is called: `namespace/name` or `namespace/label=value`.
    pub workload: Option<String>,
    /// The caller; not given, it is plaintext.
    pub peer: Option<Caller>,
    /// The other end of the TCP connection.
    pub source_ip: Option<IpAddr>,
    /// The client's own address, where proxies in front report it.
    pub remote_ip: Option<IpAddr>,
    /// The address that is called.
    pub destination: Option<SocketAddr>,
    /// The port that is called, where it is not the destination's.
    pub port: Option<Port>,
    /// The port of the service that is called.
    pub service_port: Option<u16>,
    /// The server name of the TLS hello.
    pub sni: Option<String>,
    /// What is spoken.
    pub protocol: Option<Protocol>,
    /// The method.
    #[serde(default, deserialize_with = "fields::parsed", serialize_with = "fields::method_text")]
    pub method: Option<Method>,
    /// The path as the caller sends it, with its query if there is one.
    pub path: Option<String>,
    /// The Host.
    #[serde(default, deserialize_with = "fields::parsed", serialize_with = "fields::header_text")]
    pub host: Option<HeaderValue>,
    /// The scheme, where it does not follow from the caller.
    pub scheme: Option<Scheme>,
    /// The headers.
    pub headers: Option<Headers>,
    /// What a verified token says.
    pub token: Option<Map<String, Value>>,
    /// What the provider of a CUSTOM policy is taken to answer.
    pub provider: Option<ProviderAnswer>,
    /// What the workload calls itself, instead of what it is called with: a URL, or a name or address with a port. Goes with
    /// `name`, `workload` (which is then the caller), `destination` (the address that the call was going to), and of the request
    /// `method`, `path` and `headers` only.
    pub to: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody that is known.
    Plaintext,
    /// Whose certificate says so.
    Id(SpiffeId),
}

/// A port by number, or by the name that the workload or a service gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Its number.
    Number(u16),
    /// Its name.
    Name(String),
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Requests.
    Http,
    /// Bytes.
    Tcp,
}

/// A scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// What a provider is taken to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderAnswer {
    /// The request may go on.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// Headers, each with one value or a list of them.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub HeaderMap);

/// What is wrong with a case beyond what its types say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct CaseError {
    /// As it is written in a file.
    pub field: &'static str,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Case {
    /// Checks what no field can see alone.
    ///
    /// # Errors
    /// Fields of HTTP on a case that is TCP, or of being called on one of calling.
    pub fn check(&self) -> Result<(), CaseError> {
        if self.to.is_some() {
            return self.check_calling();
        }
        if self.protocol != Some(Protocol::Tcp) {
            return Ok(());
        }
        let given = [
            ("method", self.method.is_some()),
            ("path", self.path.is_some()),
            ("host", self.host.is_some()),
            ("scheme", self.scheme.is_some()),
            ("headers", self.headers.is_some()),
            ("token", self.token.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(CaseError { field, message: "has no meaning with `protocol: tcp`".to_owned() }),
            None => Ok(()),
        }
    }

    fn check_calling(&self) -> Result<(), CaseError> {
        let given = [
            ("peer", self.peer.is_some()),
            ("sourceIp", self.source_ip.is_some()),
            ("remoteIp", self.remote_ip.is_some()),
            ("port", self.port.is_some()),
            ("servicePort", self.service_port.is_some()),
            ("sni", self.sni.is_some()),
            ("protocol", self.protocol.is_some()),
            ("host", self.host.is_some()),
            ("scheme", self.scheme.is_some()),
            ("token", self.token.is_some()),
            ("provider", self.provider.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(CaseError { field, message: "has no meaning with `to`".to_owned() }),
            None => Ok(()),
        }
    }

    /// This case, with what it does not give taken from `defaults`. A header is one field. What describes being called is not
    /// laid under a case of calling.
    #[must_use]
    pub fn over(self, defaults: &Case) -> Case {
        if self.to.is_some() {
            return Case {
                name: self.name.or_else(|| defaults.name.clone()),
                workload: self.workload.or_else(|| defaults.workload.clone()),
                destination: self.destination.or(defaults.destination),
                ..self
            };
        }
        let http = self.protocol != Some(Protocol::Tcp);
        let default_port = defaults.port.clone().filter(|_| self.destination.is_none());
        let default_headers = defaults.headers.as_ref().filter(|_| http);
        Case {
            name: self.name.or_else(|| defaults.name.clone()),
            workload: self.workload.or_else(|| defaults.workload.clone()),
            peer: self.peer.or_else(|| defaults.peer.clone()),
            source_ip: self.source_ip.or(defaults.source_ip),
            remote_ip: self.remote_ip.or(defaults.remote_ip),
            destination: self.destination.or(defaults.destination),
            port: self.port.or(default_port),
            service_port: self.service_port.or(defaults.service_port),
            sni: self.sni.or_else(|| defaults.sni.clone()),
            protocol: self.protocol.or(defaults.protocol),
            method: self.method.or_else(|| defaults.method.clone().filter(|_| http)),
            path: self.path.or_else(|| defaults.path.clone().filter(|_| http)),
            host: self.host.or_else(|| defaults.host.clone().filter(|_| http)),
            scheme: self.scheme.or(defaults.scheme.filter(|_| http)),
            headers: Headers::over(self.headers, default_headers),
            token: self.token.or_else(|| defaults.token.clone().filter(|_| http)),
            provider: self.provider.or(defaults.provider),
            to: defaults.to.clone(),
        }
    }

    /// Whose certificate is shown.
    pub fn id(&self) -> Option<&SpiffeId> {
        match &self.peer {
            Some(Caller::Id(id)) => Some(id),
            Some(Caller::Plaintext) | None => None,
        }
    }
}

impl Headers {
    fn over(own: Option<Headers>, defaults: Option<&Headers>) -> Option<Headers> {
        let (mut own, defaults) = match (own, defaults) {
            (Some(own), Some(defaults)) => (own.0, defaults),
            (own, defaults) => return own.or_else(|| defaults.cloned()),
        };
        let missing: Vec<_> = defaults.0.iter().filter(|(name, _)| !own.contains_key(*name)).collect();
        for (name, value) in missing {
            own.append(name, value.clone());
        }
        Some(Headers(own))
    }
}

#[cfg(test)]
mod tests;
