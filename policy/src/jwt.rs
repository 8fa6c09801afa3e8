//! Tokens of end users: which a request must show, whether they are good, and what becomes of them.
//!
//! A [`RequestAuthentication`] says where tokens are found and who signs them. Those that apply to one workload are
//! compiled into an [`Authentication`], which checks the tokens of a request against [`KeySets`] and says how the request
//! changes ([`Passed`]) or why it ends ([`Rejection`]). No token is no failure: whether one is needed is for
//! authorization policies to say.
//!
//! The format is RFC 7515 (compact serialization) and RFC 7519, keys are RFC 7517 and 7518, and the words of a refusal
//! are those of Envoy's `jwt_authn` filter. Signatures are checked by `aws-lc-rs`, which rustls uses as well; the checks around them are
//! Envoy's and therefore written out here. Keys are fetched by somebody else: nothing here opens a socket.

mod authentication;
mod cache;
mod claims;
mod compact;
mod found;
mod key;
mod key_set;
pub mod lint;
mod output;
mod place;
mod rejection;
mod rule;
mod service_account;

pub use authentication::{Asked, Authentication, Passed, Refusal};
pub use cache::VerifiedTokens;
pub use key_set::{KeyLocation, KeySet, KeySetError, KeySets};
pub use rejection::Rejection;
pub use rule::RequestAuthentication;
pub use service_account::{ServiceAccount, ServiceAccountTokens, TokenError};

pub(crate) use output::ClaimHeader;
pub(crate) use place::Place;
pub(crate) use rule::{JwtRule, KeySource, normalized_audience};

#[cfg(test)]
pub(crate) mod tests;
