//! Whose certificate is wanted, as one writes it.

use meshgate_identity::{SpiffeId, SpiffeIdError, TrustDomain};

/// Whose certificate is wanted.
#[derive(Debug, Clone)]
pub(super) enum Whose {
    Id(SpiffeId),
    /// In the authority's own trust domain.
    Workload {
        namespace: String,
        service_account: String,
    },
}

impl Whose {
    /// From a SPIFFE ID, with or without its scheme, or from a namespace and a service account.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        match parts.as_slice() {
            [namespace, service_account] if !namespace.is_empty() && !service_account.is_empty() => {
                Ok(Self::Workload {
                    namespace: (*namespace).to_owned(),
                    service_account: (*service_account).to_owned(),
                })
            }
            [_, "ns", _, "sa", _] => {
                format!("spiffe://{text}").parse().map(Self::Id).map_err(|error: SpiffeIdError| error.to_string())
            }
            _ if text.starts_with("spiffe:") => {
                text.parse().map(Self::Id).map_err(|error: SpiffeIdError| error.to_string())
            }
            _ => Err(format!(
                "`{text}` names no workload: expected NAMESPACE/SERVICE-ACCOUNT such as default/frontend, or \
                spiffe://cluster.local/ns/default/sa/frontend"
            )),
        }
    }

    pub(super) fn of(self, trust_domain: &TrustDomain) -> Result<SpiffeId, SpiffeIdError> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Workload { namespace, service_account } => {
                format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
            }
        }
    }
}
