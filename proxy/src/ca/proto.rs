//! The messages of `IstioCertificateService/CreateCertificate`, with the field numbers of the
//! [public definition](https://github.com/istio/api/blob/master/security/v1alpha1/ca.proto). `metadata` (4), by which ztunnel asks for
//! others' certificates, is neither sent nor looked at.

use prost::Message;

/// The method.
pub(crate) const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `IstioCertificateRequest`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CertificateRequest {
    /// PKCS #10, PEM.
    #[prost(string, tag = "1")]
    pub(crate) csr: String,
    /// How long the certificate should be valid, in seconds; 0 = as the authority likes.
    #[prost(int64, tag = "3")]
    pub(crate) validity_duration: i64,
}

/// `IstioCertificateResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CertificateResponse {
    /// PEM: the leaf, the intermediates, the root.
    #[prost(string, repeated, tag = "1")]
    pub(crate) cert_chain: Vec<String>,
}
