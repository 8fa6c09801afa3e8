//! `identity.ca`: the authority that is asked for our certificate, over Istio's protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshgate_identity::RequestKey;
use serde::Deserialize;

use super::IdentitySettings;
use super::validate::Validator;

/// Where a pod that Istio's injector has made finds the token that istiod takes.
const TOKEN_FILE: &str = "/var/run/secrets/tokens/istio-token";

/// What pilot-agent says where nothing else is known, and istiod takes for its own cluster.
const CLUSTER_ID: &str = "Kubernetes";

/// A day, as pilot-agent asks for (`SECRET_TTL`).
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// From the look-up of the name to the end of the answer. An authority under the load of a whole mesh that starts takes seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The certificate is asked for and renewed by gRPC, `istio.v1.auth.IstioCertificateService`; its key never leaves this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The roots that its own certificate must lead to.
    pub trust_bundle: PathBuf,
    /// The DNS name in its certificate.
    pub server_name: String,
    /// Proof of who we are, sent as a bearer token; read again each time.
    pub token_file: PathBuf,
    /// Which cluster's token it is, for an authority of several.
    pub cluster_id: String,
    /// How long the certificate should be valid; the authority may give less.
    pub lifetime: Duration,
    /// Which key is made.
    pub key: RequestKey,
    /// The certificate in force is shown when it is renewed.
    pub mutual_tls: bool,
    /// How long one request for a certificate may take.
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAuthority {
    address: Option<String>,
    trust_bundle: Option<String>,
    server_name: Option<String>,
    token_file: Option<String>,
    cluster_id: Option<String>,
    lifetime: Option<String>,
    #[serde(default)]
    key: RawKey,
    #[serde(default)]
    mutual_tls: bool,
    timeout: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum RawKey {
    #[default]
    P256,
    P384,
}

/// An identity that is asked for, of which `files` cannot be and the roots are.
pub(super) fn identity(
    v: &mut Validator<'_>,
    raw: RawAuthority,
    files: &[(&str, Option<String>); 2],
    trust_bundle: Option<String>,
) -> IdentitySettings {
    for (name, _) in files.iter().filter(|(_, file)| file.is_some()) {
        v.fail(&format!("identity.{name}"), "is asked for (identity.ca), it does not come from a file");
    }
    let trust_bundle = v.required_path("identity.trustBundle", trust_bundle);
    IdentitySettings {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        ca: Some(authority(v, raw, &trust_bundle)),
        trust_bundle,
        federated: BTreeMap::new(),
        workload_api: None,
        crl: Vec::new(),
        require_crl: false,
    }
}

/// Reads `identity.ca`; its roots are `trust_bundle` unless it says otherwise.
fn authority(v: &mut Validator<'_>, raw: RawAuthority, trust_bundle: &Path) -> AuthoritySettings {
    let address = v.required("identity.ca.address", raw.address);
    let (host, port) = split(&address).unwrap_or_else(|| {
        if !address.is_empty() {
            let wanted = "a name or an address and a port, such as istiod.istio-system.svc:15012";
            v.fail("identity.ca.address", format!("`{address}` is not {wanted}"));
        }
        Default::default()
    });
    let cluster_id = raw.cluster_id.unwrap_or_else(|| CLUSTER_ID.to_owned());
    if cluster_id.is_empty() || !cluster_id.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
        v.fail("identity.ca.clusterId", format!("{cluster_id:?} cannot stand in a header"));
    }
    let server_name = raw.server_name.unwrap_or_else(|| host.clone());
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    if !host.is_empty() && (server_name.is_empty() || !server_name.bytes().all(of_name)) {
        v.fail("identity.ca.serverName", format!("`{server_name}` is neither a DNS name nor an address"));
    }
    AuthoritySettings {
        trust_bundle: raw.trust_bundle.map_or_else(|| trust_bundle.to_owned(), |written| v.resolve(&written)),
        server_name,
        token_file: v.resolve(&raw.token_file.unwrap_or_else(|| TOKEN_FILE.to_owned())),
        cluster_id,
        lifetime: v.duration("identity.ca.lifetime", raw.lifetime, LIFETIME),
        key: match raw.key {
            RawKey::P256 => RequestKey::P256,
            RawKey::P384 => RequestKey::P384,
        },
        mutual_tls: raw.mutual_tls,
        timeout: v.duration("identity.ca.timeout", raw.timeout, TIMEOUT),
        host,
        port,
    }
}

/// `host:port`; an IPv6 address stands in brackets, and comes without.
fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let is_host = !host.is_empty() && (bare.is_some() || !host.contains(':')) && !host.contains(['/', ' ', '@']);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let host = |text: &str| split(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(host("istiod.istio-system.svc:15012").unwrap(), "istiod.istio-system.svc 15012");
        assert_eq!(host("[::1]:15012").unwrap(), "::1 15012");
        for wrong in
            ["istiod", ":15012", "istiod:", "istiod:0", "istiod:70000", "::1:15012", "https://istiod:15012", ""]
        {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }
}
