//! AuthorizationPolicy, PeerAuthentication and RequestAuthentication documents. What they mean is the policy crate's.

use meshgate_policy::istio::{self, AuthorizationPolicySpec, PeerAuthenticationSpec, RequestAuthenticationSpec};
use meshgate_policy::{Invalid, ObjectName, PeerAuthentication, Policy, RequestAuthentication};

use crate::document::Document;
use crate::resource::Metadata;

impl Document<AuthorizationPolicySpec> {
    pub(crate) fn build(self, name: ObjectName, metadata: &Metadata) -> Result<Policy, Vec<Invalid>> {
        istio::authorization_policy(name, &metadata.annotations, self.spec)
    }
}

impl Document<PeerAuthenticationSpec> {
    pub(crate) fn build(self, name: ObjectName, root_namespace: &str) -> Result<PeerAuthentication, Vec<Invalid>> {
        istio::peer_authentication(name, self.spec, root_namespace)
    }
}

impl Document<RequestAuthenticationSpec> {
    pub(crate) fn build(self, name: ObjectName) -> Result<RequestAuthentication, Vec<Invalid>> {
        istio::request_authentication(name, self.spec)
    }
}
