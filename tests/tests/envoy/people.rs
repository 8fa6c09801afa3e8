//! Who calls: certificates of the product's own authority, and some that it refuses to make.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshgate::sandbox::Sandbox;
use meshgate_identity::ca::{self, IssueOptions, Issued};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::client::tls;
use crate::support::pki::{Authority, Credentials, uri};

/// In the clear.
pub(crate) const NOBODY: &str = "";
/// TLS without a certificate.
pub(crate) const NAMELESS: &str = "nameless";
/// Two SPIFFE URIs in one certificate, the frontend's first.
pub(crate) const TWO_URIS: &str = "two-uris";
pub(crate) const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";
pub(crate) const OTHER: &str = "spiffe://cluster.local/ns/default/sa/other";
pub(crate) const ELSEWHERE: &str = "spiffe://cluster.local/ns/other/sa/frontend";
pub(crate) const OLD: &str = "spiffe://old-td/ns/default/sa/frontend";
pub(crate) const PARTNER: &str = "spiffe://partner/ns/default/sa/frontend";
/// Of a trust domain that is not known here.
pub(crate) const STRANGER: &str = "spiffe://stranger/ns/default/sa/frontend";
/// A namespace inside what is no namespace's identity.
pub(crate) const DEEP: &str = "spiffe://cluster.local/ns/evil/sa/x/ns/default/sa/frontend";
/// Something behind the service account.
pub(crate) const LONG: &str = "spiffe://cluster.local/ns/default/sa/frontend/x";

/// The trust domains whose workloads are known, the mesh's own first.
pub(crate) const KNOWN_DOMAINS: [&str; 3] = ["cluster.local", "old-td", "partner"];

/// What a client offers first for HTTP/1.1.
pub(crate) const HTTP1: &str = "istio-http/1.1";
/// For HTTP/2.
pub(crate) const HTTP2: &str = "istio-h2";
/// For bytes.
pub(crate) const TCP: &str = "istio-peer-exchange";

const ISSUED: [&str; 8] = [FRONTEND, OTHER, ELSEWHERE, OLD, PARTNER, STRANGER, DEEP, LONG];

/// Everybody's TLS configuration, by protocol and name.
pub(crate) struct People(BTreeMap<(&'static str, &'static str), Arc<ClientConfig>>);

impl People {
    /// Issues their certificates.
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        let own = ca::Authority::open(&sandbox.path("ca")).unwrap();
        // The product's authority issues for its own trust domain only.
        let foreign = Authority::of(sandbox);
        let issue = |id: &str| {
            if !id.starts_with("spiffe://cluster.local/") {
                return foreign.issue(id);
            }
            let Issued { certificate_pem, key_pem } = own.issue(&IssueOptions::new(id.parse().unwrap())).unwrap();
            let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap();
            Credentials { certificate, certificate_pem, key_pem, serial: 0 }
        };
        let mut all: Vec<_> = ISSUED.into_iter().map(|id| (id, issue(id))).collect();
        let two = foreign.issue_with(FRONTEND, |params| params.subject_alt_names.push(uri(OTHER)));
        all.push((TWO_URIS, two));
        let mut people = BTreeMap::new();
        // As Istio's clients do: the mesh's name for a protocol, then its common one.
        for (alpn, common) in [(HTTP1, "http/1.1"), (HTTP2, "h2"), (TCP, "istio")] {
            let config = |credentials| {
                let mut config = tls(credentials, alpn);
                config.alpn_protocols.push(common.into());
                config.resumption = Resumption::disabled();
                Arc::new(config)
            };
            people.insert((alpn, NAMELESS), config(None));
            people.extend(all.iter().map(|(name, credentials)| ((alpn, *name), config(Some(credentials)))));
        }
        Self(people)
    }

    pub(crate) fn config(&self, alpn: &'static str, who: &'static str) -> Arc<ClientConfig> {
        Arc::clone(&self.0[&(alpn, who)])
    }
}
