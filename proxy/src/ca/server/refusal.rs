//! Why somebody gets no certificate: what is logged of it, and the little that is said.

use meshgate_identity::ca::{CaError, RequestError};
use meshgate_identity::{Lost, SpiffeId, SpiffeIdError};
use meshgate_policy::jwt::TokenError;

use crate::grpc::Malformed;

/// A no.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Another method, of whatever service.
    #[error("the method {0:?} is not served")]
    Method(String),
    /// The call's body is not one message.
    #[error("the message: {0}")]
    Message(#[from] Malformed),
    /// The message is not what it must be.
    #[error("the message: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The connection broke in the middle of it.
    #[error("the request broke off: {0}")]
    Broken(#[from] h2::Error),
    /// It did not come.
    #[error("the request does not come in time")]
    Slow,
    /// Neither a token nor a certificate.
    #[error("there is no proof of who asks")]
    NoProof,
    /// A token, and nobody said whose would be believed.
    #[error("there is a token, and no key set to check it with (--token-jwks)")]
    NoKeys,
    /// More than one `authorization`, or one that is no bearer token.
    #[error("the authorization is not one bearer token")]
    Authorization,
    /// A token that is not good.
    #[error("the token: {0}")]
    Token(TokenError),
    /// A token that may be good elsewhere.
    #[error("the token: {error}; {option} is {wanted}")]
    Elsewhere {
        /// What it is not.
        error: TokenError,
        /// By which option.
        option: &'static str,
        /// That option's value.
        wanted: String,
    },
    /// A service account whose name no ID can have.
    #[error("the token's service account: {0}")]
    Account(#[from] SpiffeIdError),
    /// The certificate was good when the connection began.
    #[error("the certificate of the connection is {}", .0.as_str())]
    Certificate(Lost),
    /// Two proofs of two identities.
    #[error("the token is {token}'s, the certificate {certificate}'s")]
    TwoIdentities {
        /// By the token.
        token: SpiffeId,
        /// By the certificate.
        certificate: SpiffeId,
    },
    /// A certificate of ours that is no workload's of this trust domain.
    #[error("{0} is not a workload of this trust domain")]
    Stranger(SpiffeId),
    /// The request itself.
    #[error("the request: {0}")]
    Request(#[from] RequestError),
    /// Too many certificates of late.
    #[error("too many certificates {0}")]
    Rate(&'static str),
    /// The authority cannot sign.
    #[error("{0}")]
    Authority(#[from] CaError),
    /// What is not written down is not given out.
    #[error("the journal cannot be written: {0}")]
    Journal(std::io::Error),
}

impl Refusal {
    /// gRPC's code, and what the caller is told.
    pub(super) fn status(&self) -> (&'static str, &'static str) {
        match self {
            Self::Message(Malformed::TooLong { .. }) => ("8", "request too large"),
            Self::Message(_) | Self::Decode(_) | Self::Broken(_) => ("3", "invalid request"),
            Self::Slow => ("4", "request timed out"),
            Self::Request(RequestError::Name { .. }) | Self::TwoIdentities { .. } | Self::Stranger(_) => {
                ("7", "permission denied")
            }
            Self::Request(_) => ("3", "invalid certificate request"),
            Self::Rate(_) => ("8", "too many requests"),
            Self::Method(_) => ("12", "not implemented"),
            Self::Authority(_) | Self::Journal(_) => ("14", "unavailable"),
            Self::NoProof
            | Self::NoKeys
            | Self::Authorization
            | Self::Token(_)
            | Self::Elsewhere { .. }
            | Self::Account(_)
            | Self::Certificate(_) => ("16", "request authenticate failure"),
        }
    }

    /// As the counter has it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Method(_) => "method",
            Self::Message(_) | Self::Decode(_) | Self::Broken(_) => "message",
            Self::Slow => "timeout",
            Self::NoProof | Self::NoKeys => "no_proof",
            Self::Authorization | Self::Token(_) | Self::Elsewhere { .. } | Self::Account(_) => "token",
            Self::Certificate(_) => "certificate",
            Self::TwoIdentities { .. } | Self::Stranger(_) | Self::Request(RequestError::Name { .. }) => "identity",
            Self::Request(_) => "request",
            Self::Rate(_) => "rate",
            Self::Authority(_) => "authority",
            Self::Journal(_) => "journal",
        }
    }

    /// Whether it is our fault.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Authority(_) | Self::Journal(_) | Self::NoKeys)
    }
}
