//! Istio's documents: `AuthorizationPolicy`, `PeerAuthentication` and `RequestAuthentication` of `security.istio.io`, `v1` and `v1beta1`.
//!
//! [`spec`] is their shape and no more: unknown fields and wrong words are errors of deserialization. The functions
//! here give them a meaning, and find everything that is wrong at once. What Istio's admission webhook rejects is
//! rejected here, as there is none in front of a file: a policy half understood is a hole.

mod attribute;
mod authorization;
mod key;
mod peer;
pub(crate) mod report;
mod request;
mod selector;
pub mod spec;

pub use authorization::{DRY_RUN, authorization_policy};
pub use peer::peer_authentication;
pub use request::request_authentication;
pub use spec::{AuthorizationPolicySpec, PeerAuthenticationSpec, RequestAuthenticationSpec};

#[cfg(test)]
mod tests;
