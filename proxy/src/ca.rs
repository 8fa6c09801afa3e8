//! Certificates over Istio's protocol for them, `istio.v1.auth.IstioCertificateService`: as the workload that asks, of istiod or of our own
//! authority ([`client`]), and as the authority ([`server`], which is `meshgate ca serve`).
//!
//! One call: a request for a certificate (PKCS #10) out, a chain back. Who asks is proven beside it, by a token or by a certificate.

pub mod client;
pub(crate) mod proto;
pub mod server;
