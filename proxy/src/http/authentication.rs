//! The layer of the tokens: takes away what only a good token may say, checks the tokens that are there, and writes down for policies
//! and application whom they speak for. What makes a token good is [`meshgate_policy::jwt`]'s affair.

use std::borrow::Cow;
use std::time::SystemTime;

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

use meshgate_policy::jwt::{Asked, Passed, Rejection};
use meshgate_policy::{Authentication, Decision, Reason};

use crate::error::{ErrorKind, ProxyError};
use crate::http::body::Received;
use crate::http::headers;
use crate::http::layers::{Exchange, Why};
use crate::worker::Worker;

/// Characters of a path that a refusal repeats; Envoy's.
const REALM_PATH_MAX: usize = 256;

/// A token that is not good, as the caller is told of it.
#[derive(Debug)]
pub struct BadToken {
    /// What is wrong.
    pub rejection: Rejection,
    /// `www-authenticate` (RFC 6750, section 3).
    pub challenge: Option<HeaderValue>,
}

/// Checks the tokens of a request. `scheme` is the one that policies see.
///
/// # Errors
/// A token is there and not good.
pub fn authenticate(
    worker: &Worker,
    authentication: &Authentication,
    generation: u64,
    scheme: &str,
    exchange: &mut Exchange,
) -> Result<(), Why> {
    authentication.remove_reserved(exchange.request.headers_mut());
    let request = &exchange.request;
    let asked = Asked { method: request.method(), headers: request.headers(), query: request.uri().query() };
    let keys = worker.keys.current();
    let checked = authentication.check(&asked, &keys, &mut worker.tokens.borrow_mut(), generation, SystemTime::now());
    match checked {
        Ok(passed) => {
            change(&passed, &mut exchange.request)?;
            if let Some(principal) = passed.token.as_ref().and_then(|token| token.principal()) {
                exchange.report.request_principal(principal);
            }
            exchange.token = passed.token;
            Ok(())
        }
        Err(refusal) => {
            if let Some(location) = refusal.outdated {
                worker.keys.outdated(location);
            }
            exchange.report.decision(&Decision::refused(Reason::BadToken, None));
            let challenge = challenge(&exchange.request, scheme);
            Err(Why::BadToken(BadToken { rejection: refusal.rejection, challenge }))
        }
    }
}

fn change(passed: &Passed, request: &mut http::Request<Received>) -> Result<(), ProxyError> {
    if passed.changes_nothing() {
        return Ok(());
    }
    passed.change_headers(request.headers_mut());
    let Some(query) = request.uri().query().and_then(|query| passed.change_query(query)) else { return Ok(()) };
    let path = request.uri().path();
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let internal = |error: http::Error| ProxyError::new(ErrorKind::Internal, "query without token").caused_by(error);
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|error| internal(error.into()))?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| internal(error.into()))?;
    Ok(())
}

fn challenge<B>(request: &http::Request<B>, scheme: &str) -> Option<HeaderValue> {
    let host = headers::host(request).unwrap_or_default();
    let place = host.chars().chain(request.uri().path().chars().take(REALM_PATH_MAX));
    // These two end a quoted text, or escape its end (RFC 9110, section 5.6.4).
    let place: String = place.filter(|c| !['"', '\\'].contains(c)).collect();
    HeaderValue::try_from(format!("Bearer realm=\"{scheme}://{place}\", error=\"invalid_token\"")).ok()
}

/// A target as it may stand in a log: with `-` for the tokens in it. A name with an escape may be that of a token.
pub fn without_tokens<'a>(authentication: &Authentication, target: &'a str) -> Cow<'a, str> {
    let Some((path, query)) = target.split_once('?').filter(|_| !authentication.is_empty()) else {
        return target.into();
    };
    let is_token = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        name.contains('%') || authentication.parameters().any(|parameter| parameter == name)
    };
    if !query.split('&').any(is_token) {
        return target.into();
    }
    let mut shown = path.to_owned();
    for (index, pair) in query.split('&').enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=').filter(|_| is_token(pair)) {
            Some((name, _)) => shown.extend([name, "=-"]),
            None => shown.push_str(pair),
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshgate_policy::{ObjectName, Workload, istio};

    use super::*;

    fn reading(parameter: &str) -> Authentication {
        let rule = istio::spec::JwtRuleSpec {
            issuer: Some("i".into()),
            from_params: Some(vec![parameter.into()]),
            ..Default::default()
        };
        let spec = istio::RequestAuthenticationSpec { jwt_rules: Some(vec![Some(rule)]), ..Default::default() };
        let name = ObjectName { namespace: "default".into(), name: "jwt".into() };
        let object = istio::request_authentication(name, spec).unwrap();
        let workload = Workload { namespace: "default".into(), ..Workload::default() };
        Authentication::compile(&[Arc::new(object)], &workload, "istio-system")
    }

    #[test]
    fn tokens_are_left_out_of_what_is_logged() {
        let authentication = reading("t");
        for (target, shown) in [
            ("/a", "/a"),
            ("/a?x=1&y", "/a?x=1&y"),
            ("/a?t=secret", "/a?t=-"),
            ("/a?x=1&t=secret=&t=more&t", "/a?x=1&t=-&t=-&t"),
            ("/a?%74=secret&T=1", "/a?%74=-&T=1"),
        ] {
            assert_eq!(without_tokens(&authentication, target), shown);
            assert_eq!(without_tokens(&Authentication::default(), target), target);
        }
    }

    #[test]
    fn a_challenge_is_one_quoted_text() {
        let request = http::Request::get("/a\"b?secret").header("host", "h").body(()).unwrap();
        let value = challenge(&request, "https").unwrap();
        let value = value.to_str().unwrap();
        assert!(value.starts_with("Bearer realm=\"https://h/a") && value.ends_with("\", error=\"invalid_token\""));
        assert_eq!(value.matches('"').count(), 4);
        assert!(!value.contains("secret"));
    }
}
