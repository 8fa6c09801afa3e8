//! AuthorizationPolicy, PeerAuthentication and RequestAuthentication documents. What they mean is the policy crate's; here is only their frame,
//! in which an unknown field is an error.

use meshgate_policy::istio::{self, AuthorizationPolicySpec, PeerAuthenticationSpec, RequestAuthenticationSpec};
use meshgate_policy::{Invalid, ObjectName, PeerAuthentication, Policy, RequestAuthentication};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::resource::Metadata;

/// A policy as written; `status` is what a server adds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyDocument<T> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
    spec: T,
}

impl<T> PolicyDocument<T> {
    pub(crate) fn into_spec(self) -> T {
        self.spec
    }
}

impl PolicyDocument<AuthorizationPolicySpec> {
    pub(crate) fn build(self, name: ObjectName, metadata: &Metadata) -> Result<Policy, Vec<Invalid>> {
        istio::authorization_policy(name, &metadata.annotations, self.spec)
    }
}

impl PolicyDocument<PeerAuthenticationSpec> {
    pub(crate) fn build(self, name: ObjectName, root_namespace: &str) -> Result<PeerAuthentication, Vec<Invalid>> {
        istio::peer_authentication(name, self.spec, root_namespace)
    }
}

impl PolicyDocument<RequestAuthenticationSpec> {
    pub(crate) fn build(self, name: ObjectName) -> Result<RequestAuthentication, Vec<Invalid>> {
        istio::request_authentication(name, self.spec)
    }
}
