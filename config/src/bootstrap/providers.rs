//! Whom CUSTOM policies ask: `extensionProviders`, as Istio's MeshConfig has it.
//!
//! Checked as strictly as the rest of the bootstrap: a header list that cannot mean anything, or a body limit that
//! would hold a request's whole body in memory, is an error and not a surprise under load.

pub(super) mod document;

use std::collections::BTreeMap;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode};
use meshgate_policy::{Provider, ProviderKind, Providers};

use self::document::{RawBody, RawGrpc, RawHttp, RawProvider};
use super::validate::Validator;

/// For the whole of a check, unless the provider says otherwise: as Envoy's own default, times three. Istio's is ten
/// minutes, for which no caller waits.
const TIMEOUT: Duration = Duration::from_millis(600);

/// The most of a body that may be kept for a check: it is held in memory, once for each request that waits.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionProvider {
    /// What `provider.name` of a policy refers to.
    pub name: String,
    /// Where it is.
    pub service: ProviderService,
    /// For the whole check: name resolution, connecting, asking, and reading the answer. Greater than zero.
    pub timeout: Duration,
    /// When it cannot be asked, the request passes.
    pub fail_open: bool,
    /// When it cannot be asked and the request does not pass.
    pub status_on_error: StatusCode,
    /// How much of the request's body it is shown; `None` = nothing.
    pub body: Option<BodyInCheck>,
    /// How it is asked.
    pub transport: Transport,
}

/// Where a provider is: `[namespace/]host` and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderService {
    /// The namespace the service must be in, when one was written.
    pub namespace: Option<String>,
    /// A service of the mesh, a DNS name, or an IP address.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// How a provider is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// With an HTTP/1.1 request that resembles the one in question.
    Http(HttpCheck),
    /// With `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
}

/// What goes into an HTTP check, and what of its answer counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpCheck {
    /// Put before the request's path; empty or beginning with `/`.
    pub path_prefix: String,
    /// Headers of the request that are shown, besides `authorization`.
    pub request_headers: HeaderNames,
    /// Headers that every check has.
    pub additional_headers: Vec<(HeaderName, HeaderValue)>,
    /// Of a yes: headers that replace the request's.
    pub to_upstream_on_allow: HeaderNames,
    /// Of a no: headers that the caller gets; empty = all.
    pub to_downstream_on_deny: HeaderNames,
    /// Of a yes: headers that the caller gets with the application's answer.
    pub to_downstream_on_allow: HeaderNames,
}

/// How much of a request's body goes into a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyInCheck {
    /// At most so many bytes; greater than zero.
    pub max_bytes: usize,
    /// A longer body is shown in part; otherwise its request is answered with 413.
    pub allow_partial: bool,
    /// gRPC only: as bytes rather than as text.
    pub as_bytes: bool,
}

/// Header names, some of them by their beginning or end; without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderNames(Vec<NamePattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum NamePattern {
    Exact(HeaderName),
    Prefix(String),
    Suffix(String),
}

impl HeaderNames {
    /// Reads names as Istio has them: `x-id`, `x-*`, `*-id`.
    ///
    /// # Errors
    /// The index of what is none of these, and why.
    pub fn parse<T: AsRef<str>>(all: &[T]) -> Result<HeaderNames, (usize, String)> {
        let parsed = all.iter().enumerate().map(|(index, text)| pattern(text.as_ref()).map_err(|why| (index, why)));
        parsed.collect::<Result<_, _>>().map(HeaderNames)
    }

    /// Whether one of them is this header's.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|pattern| match pattern {
            NamePattern::Exact(exact) => exact == name,
            NamePattern::Prefix(prefix) => name.as_str().starts_with(prefix),
            NamePattern::Suffix(suffix) => name.as_str().ends_with(suffix),
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn pattern(text: &str) -> Result<NamePattern, String> {
    // Names compare in lower case, which is how `HeaderName` keeps them.
    let part = |part: &str| match HeaderName::try_from(part) {
        Ok(name) if !part.contains('*') => Ok(name),
        _ => Err(format!("`{text}` is no header name, nor the beginning (x-*) or end (*-id) of one")),
    };
    match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
        ("*", ..) => Err("`*` alone, for every header, is not allowed".to_owned()),
        (_, Some(suffix), _) => part(suffix).map(|name| NamePattern::Suffix(name.as_str().to_owned())),
        (_, None, Some(prefix)) => part(prefix).map(|name| NamePattern::Prefix(name.as_str().to_owned())),
        _ => part(text).map(NamePattern::Exact),
    }
}

/// What the policy engine needs to know of them.
pub(super) fn for_policies(providers: &[ExtensionProvider]) -> Providers {
    let known = providers.iter().map(|provider| {
        let kind = match provider.transport {
            Transport::Http(_) => ProviderKind::Http,
            Transport::Grpc => ProviderKind::Grpc,
        };
        (provider.name.clone(), Provider { kind, fail_open: provider.fail_open })
    });
    Providers::Known(known.collect())
}

/// Reads the list.
pub(super) fn read(v: &mut Validator<'_>, all: Vec<RawProvider>) -> Vec<ExtensionProvider> {
    let mut read: Vec<ExtensionProvider> = Vec::with_capacity(all.len());
    for (index, raw) in all.into_iter().enumerate() {
        let at = format!("extensionProviders[{index}]");
        if raw.name.trim().is_empty() {
            v.fail(&format!("{at}.name"), "is required and is empty");
        }
        if read.iter().any(|earlier| earlier.name == raw.name) {
            v.fail(&format!("{at}.name"), format!("`{}` is the name of an earlier provider", raw.name));
        }
        match (raw.envoy_ext_authz_http, raw.envoy_ext_authz_grpc) {
            (Some(http), None) => read.push(http_provider(v, &format!("{at}.envoyExtAuthzHttp"), raw.name, http)),
            (None, Some(grpc)) => read.push(grpc_provider(v, &format!("{at}.envoyExtAuthzGrpc"), raw.name, grpc)),
            _ => v.fail(&at, "must have one of `envoyExtAuthzHttp` and `envoyExtAuthzGrpc`"),
        }
    }
    read
}

fn http_provider(v: &mut Validator<'_>, at: &str, name: String, raw: RawHttp) -> ExtensionProvider {
    let path_prefix = raw.path_prefix.unwrap_or_default();
    let valid = path_prefix.starts_with('/') && PathAndQuery::try_from(path_prefix.as_str()).is_ok();
    if !path_prefix.is_empty() && (!valid || path_prefix.contains('?')) {
        v.fail(&format!("{at}.pathPrefix"), format!("`{path_prefix}` is not a path that begins with /"));
    }
    let check = HttpCheck {
        path_prefix,
        request_headers: names(v, at, "includeRequestHeadersInCheck", &raw.include_request_headers_in_check),
        additional_headers: headers(v, at, &raw.include_additional_headers_in_check),
        to_upstream_on_allow: names(v, at, "headersToUpstreamOnAllow", &raw.headers_to_upstream_on_allow),
        to_downstream_on_deny: names(v, at, "headersToDownstreamOnDeny", &raw.headers_to_downstream_on_deny),
        to_downstream_on_allow: names(v, at, "headersToDownstreamOnAllow", &raw.headers_to_downstream_on_allow),
    };
    ExtensionProvider {
        name,
        service: service(v, at, raw.service, raw.port),
        timeout: v.duration(&format!("{at}.timeout"), raw.timeout, TIMEOUT),
        fail_open: raw.fail_open,
        status_on_error: status(v, at, raw.status_on_error.as_deref()),
        body: raw.include_request_body_in_check.map(|body| body_in_check(v, at, &body)),
        transport: Transport::Http(check),
    }
}

fn grpc_provider(v: &mut Validator<'_>, at: &str, name: String, raw: RawGrpc) -> ExtensionProvider {
    ExtensionProvider {
        name,
        service: service(v, at, raw.service, raw.port),
        timeout: v.duration(&format!("{at}.timeout"), raw.timeout, TIMEOUT),
        fail_open: raw.fail_open,
        status_on_error: status(v, at, raw.status_on_error.as_deref()),
        body: raw.include_request_body_in_check.map(|body| body_in_check(v, at, &body)),
        transport: Transport::Grpc,
    }
}

fn service(v: &mut Validator<'_>, at: &str, written: Option<String>, port: Option<u16>) -> ProviderService {
    let field = format!("{at}.service");
    let written = v.required(&field, written);
    let (namespace, host) = match written.split_once('/') {
        Some((namespace, host)) => (Some(namespace.to_owned()), host),
        None => (None, written.as_str()),
    };
    let is_name = |name: &str| {
        let part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        name.strip_suffix('.').unwrap_or(name).split('.').all(part)
    };
    let is_host = is_name(host) || host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok();
    if !written.is_empty() && (!is_host || namespace.as_deref().is_some_and(|namespace| !is_name(namespace))) {
        v.fail(
            &field,
            format!("`{written}` is not of the form [namespace/]host, such as auth/ext-authz.auth.svc.cluster.local"),
        );
    }
    let port = port.unwrap_or_default();
    if port == 0 {
        v.fail(&format!("{at}.port"), "is required, 1 to 65535");
    }
    ProviderService { namespace, host: host.trim_matches(['[', ']']).to_owned(), port }
}

/// A status that ends a request: 4xx or 5xx. Istio takes any; one such as 200 would let callers take an outage for a
/// success.
fn status(v: &mut Validator<'_>, at: &str, written: Option<&str>) -> StatusCode {
    let Some(written) = written else { return StatusCode::FORBIDDEN };
    match StatusCode::try_from(written) {
        Ok(status) if status.is_client_error() || status.is_server_error() => status,
        _ => {
            v.fail(&format!("{at}.statusOnError"), format!("`{written}` is not an HTTP status of 400 to 599"));
            StatusCode::FORBIDDEN
        }
    }
}

fn body_in_check(v: &mut Validator<'_>, at: &str, raw: &RawBody) -> BodyInCheck {
    let max_bytes = raw.max_request_bytes.unwrap_or_default();
    if !(1..=BODY_BYTES_MAX).contains(&max_bytes) {
        let field = format!("{at}.includeRequestBodyInCheck.maxRequestBytes");
        v.fail(&field, format!("is required, 1 to {BODY_BYTES_MAX}"));
    }
    BodyInCheck { max_bytes, allow_partial: raw.allow_partial_message, as_bytes: raw.pack_as_bytes }
}

fn names(v: &mut Validator<'_>, at: &str, field: &str, written: &[String]) -> HeaderNames {
    HeaderNames::parse(written).unwrap_or_else(|(index, why)| {
        v.fail(&format!("{at}.{field}[{index}]"), why);
        HeaderNames::default()
    })
}

fn headers(v: &mut Validator<'_>, at: &str, written: &BTreeMap<String, String>) -> Vec<(HeaderName, HeaderValue)> {
    let mut read = Vec::with_capacity(written.len());
    for (name, value) in written {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => read.push((name, value)),
            _ => v.fail(&format!("{at}.includeAdditionalHeadersInCheck.{name}"), "is not a header with a value"),
        }
    }
    read
}

#[cfg(test)]
mod tests;
