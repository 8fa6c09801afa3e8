//! What the bootstrap says about headers that tell who called, from where, and which request it is: `headers`.

use std::collections::BTreeSet;

use meshgate_identity::SpiffeId;
use serde::Deserialize;

use super::validate::Validator;

/// Any peer that has proved an identity.
const ANYBODY: &str = "*";

/// What is done with headers of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSettings {
    /// Whose word about others is passed on.
    pub trusted_peers: TrustedPeers,
    /// How the application is told of the caller's certificate.
    pub forward_client_cert: ForwardClientCert,
    /// The whole certificate is told, too.
    pub forward_whole_cert: bool,
    /// What becomes of `x-forwarded-for`.
    pub forwarded_for: ForwardedFor,
    /// A request without a usable `x-request-id` is given one.
    pub request_id: bool,
}

/// Peers that may speak for others: ingress gateways and such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers {
    anybody: bool,
    ids: BTreeSet<SpiffeId>,
}

impl TrustedPeers {
    /// These and nobody else.
    pub fn of(ids: BTreeSet<SpiffeId>) -> Self {
        Self { anybody: false, ids }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.anybody && self.ids.is_empty()
    }

    /// Whether a peer is one of them; one without an identity never is.
    pub fn contains(&self, peer: Option<&SpiffeId>) -> bool {
        peer.is_some_and(|id| self.anybody || self.ids.contains(id))
    }
}

/// What becomes of `x-forwarded-client-cert` on its way to the application, in Istio's and Envoy's words
/// (`forwardClientCertDetails`). Only what a trusted peer wrote is ever kept, but for [`Self::AlwaysForwardOnly`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// Removed.
    #[default]
    Sanitize,
    /// Replaced by an element about the caller's certificate.
    SanitizeSet,
    /// What a trusted peer wrote, and an element about the caller's certificate behind it.
    AppendForward,
    /// What a trusted peer wrote.
    ForwardOnly,
    /// As it came, whoever wrote it; only for where nobody else can reach this proxy.
    AlwaysForwardOnly,
}

/// What becomes of `x-forwarded-for` on its way to the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardedFor {
    /// As it came, as in Istio's sidecars.
    #[default]
    Preserve,
    /// The caller's address, behind what a trusted peer wrote.
    Append,
    /// What a trusted peer wrote, and nothing of anybody else.
    Sanitize,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHeaders {
    #[serde(default)]
    trusted_peers: Vec<String>,
    #[serde(default)]
    forward_client_cert: ForwardClientCert,
    #[serde(default)]
    forward_whole_cert: bool,
    #[serde(default)]
    forwarded_for: ForwardedFor,
    request_id: Option<bool>,
}

pub(super) fn headers(v: &mut Validator<'_>, raw: &RawHeaders) -> HeaderSettings {
    HeaderSettings {
        trusted_peers: trusted_peers(v, &raw.trusted_peers),
        forward_client_cert: raw.forward_client_cert,
        forward_whole_cert: raw.forward_whole_cert,
        forwarded_for: raw.forwarded_for,
        request_id: raw.request_id.unwrap_or(true),
    }
}

fn trusted_peers(v: &mut Validator<'_>, written: &[String]) -> TrustedPeers {
    let mut trusted = TrustedPeers::default();
    for (index, peer) in written.iter().enumerate() {
        if peer == ANYBODY {
            trusted.anybody = true;
            continue;
        }
        let field = format!("headers.trustedPeers[{index}]");
        let id = if peer.contains("://") { peer.clone() } else { format!("spiffe://{peer}") };
        let wrong = match id.parse::<SpiffeId>() {
            Ok(id) if !id.path().is_empty() => {
                trusted.ids.insert(id);
                continue;
            }
            Ok(_) => "it names no workload".to_owned(),
            Err(error) => error.to_string(),
        };
        let like = "a principal, such as cluster.local/ns/ingress/sa/gateway, nor `*`";
        v.fail(&field, format!("`{peer}` is neither {like}: {wrong}"));
    }
    trusted
}
