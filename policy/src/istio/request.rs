//! RequestAuthentication.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri, header};

use crate::address;
use crate::istio::report::Report;
use crate::istio::selector;
use crate::istio::spec::{ClaimToHeaderSpec, JwtHeaderSpec, JwtRuleSpec, PresenceSpec, RequestAuthenticationSpec};
use crate::jwt::{
    ClaimHeader, JwtRule, KeyLocation, KeySet, KeySource, Place, RequestAuthentication, normalized_audience,
};
use crate::model::{Invalid, ObjectName};

/// The limit of Istio's schema, in characters.
const JWKS_URI_MAX: usize = 2048;
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// Claims that are always lists of words to policies, as Istio has it.
const WORDS: [&str; 2] = ["scope", "permission"];
/// Headers that frame and route a message: were one the output of a claim, it would be removed from every request.
const NOT_OUTPUT: [HeaderName; 6] =
    [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::TE, header::UPGRADE];

/// Gives a RequestAuthentication its meaning.
///
/// # Errors
///
/// Everything for which Istio's admission webhook rejects it; also `presence: REQUIRED`, which Istio reads and does not
/// enforce, and outputs to headers that frame or route a request.
pub fn request_authentication(
    name: ObjectName,
    spec: RequestAuthenticationSpec,
) -> Result<RequestAuthentication, Vec<Invalid>> {
    let mut report = Report::default();
    let targets = (spec.target_ref.as_ref(), spec.target_refs.as_deref());
    let scope = selector::scope(spec.selector.as_ref(), targets.0, targets.1, &mut report);
    let mut rules = Vec::new();
    for (index, rule) in spec.jwt_rules.unwrap_or_default().into_iter().enumerate() {
        let path = format!("spec.jwtRules[{index}]");
        match rule {
            Some(rule) => rules.extend(Reader { path, report: &mut report }.rule(rule).map(Arc::new)),
            None => report.add(path, "must not be null"),
        }
    }
    report.finish(RequestAuthentication { name, scope, rules })
}

/// Reads one rule.
struct Reader<'a> {
    path: String,
    report: &'a mut Report,
}

impl Reader<'_> {
    /// `None` where it has no keys; what else is wrong is reported and left out.
    fn rule(mut self, rule: JwtRuleSpec) -> Option<JwtRule> {
        let issuer = rule.issuer.unwrap_or_default();
        let uri = rule.jwks_uri.filter(|uri| !uri.is_empty());
        if issuer.is_empty() && uri.is_none() {
            self.add("issuer", "must not be empty without jwksUri");
        }
        if rule.presence == Some(PresenceSpec::Required) {
            self.add(
                "presence",
                "REQUIRED is not enforced; let an AuthorizationPolicy ask for requestPrincipals [\"*\"]",
            );
        }
        if rule.timeout.is_some_and(|timeout| timeout < TIMEOUT_MIN) {
            self.add("timeout", "must be at least 1ms");
        }
        let keys = self.keys(&issuer, uri, rule.jwks.filter(|jwks| !jwks.is_empty()), rule.timeout);
        let audiences = self.texts("audiences", rule.audiences);
        let mut places = Vec::new();
        for (index, header) in rule.from_headers.unwrap_or_default().into_iter().enumerate() {
            places.extend(self.place(index, header.unwrap_or_default()));
        }
        places.extend(self.texts("fromParams", rule.from_params).into_iter().map(Place::Parameter));
        places.extend(self.texts("fromCookies", rule.from_cookies).into_iter().map(Place::Cookie));
        if places.is_empty() {
            places = Place::defaults();
        }
        let payload_header = rule.output_payload_to_header.filter(|name| !name.is_empty());
        let payload_header = payload_header.and_then(|name| self.output("outputPayloadToHeader", &name));
        let mut claim_headers = Vec::new();
        for (index, one) in rule.output_claim_to_headers.unwrap_or_default().into_iter().enumerate() {
            claim_headers.extend(self.claim_header(index, &one.unwrap_or_default()));
        }
        let words = self.texts("spaceDelimitedClaims", rule.space_delimited_claims);
        Some(JwtRule {
            issuer: issuer.into(),
            audiences: audiences.iter().map(|one| normalized_audience(one).into()).collect(),
            keys: keys?,
            places,
            forward: rule.forward_original_token.unwrap_or(false),
            payload_header,
            claim_headers,
            words: WORDS.into_iter().map(Into::into).chain(words).collect(),
        })
    }

    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.report.add(format!("{}.{field}", self.path), message);
    }

    fn keys(
        &mut self,
        issuer: &str,
        uri: Option<String>,
        jwks: Option<String>,
        timeout: Option<Duration>,
    ) -> Option<KeySource> {
        let location = match (uri, jwks) {
            (Some(_), Some(_)) => {
                self.add("jwks", "only one of jwks and jwksUri may be given");
                return None;
            }
            (None, Some(text)) => return self.inline(&text),
            (Some(uri), None) => {
                self.check_uri(&uri);
                KeyLocation::Uri(uri)
            }
            (None, None) => KeyLocation::Issuer(issuer.to_owned()),
        };
        Some(KeySource::Remote { location, timeout })
    }

    fn inline(&mut self, text: &str) -> Option<KeySource> {
        match KeySet::parse(text.as_bytes()) {
            Ok(set) if set.is_empty() => self.add("jwks", "has no key that a token can be checked with"),
            Ok(set) => return Some(KeySource::Inline(Arc::new(set))),
            Err(error) => self.add("jwks", error.to_string()),
        }
        None
    }

    fn check_uri(&mut self, uri: &str) {
        let parsed = uri.parse::<Uri>().ok();
        let is_http =
            parsed.as_ref().and_then(Uri::scheme_str).is_some_and(|scheme| ["http", "https"].contains(&scheme));
        if uri.chars().count() > JWKS_URI_MAX {
            self.add("jwksUri", format!("has at most {JWKS_URI_MAX} characters"));
        } else if !is_http || parsed.as_ref().and_then(Uri::host).is_none_or(str::is_empty) {
            self.add("jwksUri", format!("{uri:?} is not an address that begins with http:// or https://"));
        } else if let Some(Err(error)) = parsed.as_ref().and_then(Uri::authority).map(address::port) {
            self.add("jwksUri", format!("{uri:?}: {error}"));
        }
    }

    fn texts(&mut self, field: &str, texts: Option<Vec<String>>) -> Vec<Box<str>> {
        let texts = texts.unwrap_or_default();
        for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            self.add(&format!("{field}[{index}]"), "must not be empty");
        }
        texts.into_iter().map(Into::into).collect()
    }

    fn place(&mut self, index: usize, written: JwtHeaderSpec) -> Option<Place> {
        let name = self.header(&format!("fromHeaders[{index}].name"), &written.name)?;
        Some(Place::Header { name, prefix: written.prefix.unwrap_or_default().into() })
    }

    fn claim_header(&mut self, index: usize, written: &ClaimToHeaderSpec) -> Option<ClaimHeader> {
        if written.claim.is_empty() {
            self.add(&format!("outputClaimToHeaders[{index}].claim"), "must not be empty");
        }
        let field = format!("outputClaimToHeaders[{index}].header");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !written.header.bytes().all(plain) {
            self.add(&field, format!("{:?} is not of letters, digits, - and _", written.header));
            return None;
        }
        let header = self.output(&field, &written.header)?;
        Some(ClaimHeader { header, claim: written.claim.split('.').map(Into::into).collect() })
    }

    fn output(&mut self, field: &str, name: &str) -> Option<HeaderName> {
        let name = self.header(field, name)?;
        if NOT_OUTPUT.contains(&name) {
            self.add(field, format!("{name} says where a request ends and where it goes; it cannot be an output"));
        }
        Some(name)
    }

    fn header(&mut self, field: &str, name: &str) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        if parsed.is_none() {
            let message =
                if name.is_empty() { "must not be empty".to_owned() } else { format!("{name:?} is not a header name") };
            self.add(field, message);
        }
        parsed
    }
}

#[cfg(test)]
mod tests;
