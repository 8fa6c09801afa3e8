//! What is fixed for a whole proxy: path normalization, trusted hops, names of the trust domain.

use serde_json::{Value, json};

use crate::people::KNOWN_DOMAINS;

/// A proxy's own settings, for both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    /// `NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`.
    pub(crate) normalization: &'static str,
    /// How many proxies before us may tell the client's address; Envoy is set up as Istio sets up a gateway.
    pub(crate) trusted_proxies: u32,
    /// Envoy is set up as Istio sets up a sidecar: the last address in `x-forwarded-for` is believed, whoever sent it.
    pub(crate) believes_forwarded_for: bool,
    /// The mesh's trust domain, then its aliases.
    pub(crate) trust_domains: &'static [&'static str],
}

/// What we start with when nothing is set.
pub(crate) const DEFAULT: Profile = Profile {
    normalization: "MERGE_SLASHES",
    trusted_proxies: 0,
    believes_forwarded_for: false,
    trust_domains: &["cluster.local"],
};

impl Profile {
    /// More lines for our bootstrap file. What trust domains there are says whose roots are known.
    pub(crate) fn bootstrap(&self) -> String {
        let Self { normalization, trusted_proxies, trust_domains, .. } = self;
        let aliases = trust_domains[1..].join(", ");
        format!(
            "authorization: {{pathNormalization: {normalization}, numTrustedProxies: {trusted_proxies}}}\n\
             trustDomainAliases: [{aliases}]\nworkers: 1\n"
        )
    }

    /// Other meshes' trust domains and the file of their roots, which are ours: who signed is not the question here.
    pub(crate) fn federated() -> Vec<(String, String)> {
        KNOWN_DOMAINS[1..].iter().map(|domain| ((*domain).to_owned(), "ca/ca.pem".to_owned())).collect()
    }

    /// The fields of Envoy's HTTP connection manager that Istio sets for it.
    pub(crate) fn connection_manager(&self) -> Value {
        let mut fields = json!({
            "normalize_path": self.normalization != "NONE",
            "merge_slashes": self.normalization.ends_with("MERGE_SLASHES"),
            "use_remote_address": !self.believes_forwarded_for,
            "xff_num_trusted_hops": self.trusted_proxies,
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": {"subject": true, "uri": true, "dns": true},
        });
        if self.normalization.starts_with("DECODE") {
            fields["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD".into();
        }
        fields
    }
}
