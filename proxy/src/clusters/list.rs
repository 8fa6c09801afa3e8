//! What a gateway says of its exports, checked.
//!
//! The one idea: a gateway speaks for its own cluster and for nothing else. A list that says it is another's, or of workloads of
//! another trust domain than the gateway's own, counts for nothing as a whole; one service in it that cannot be one is left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meshgate_config::{CLUSTERSET_DOMAIN, Discovered, DiscoveredExport, DiscoveredPort, GatewayAddress};
use meshgate_policy::ObjectName;

use super::wire::{Exported, Port, Service};

/// Services in a list at the most.
const SERVICES_MAX: usize = 10_000;

/// Ports of a service at the most.
const PORTS_MAX: usize = 100;

/// RFC 1123: of a label, and of a whole name.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

/// Everything that we may call through a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// What there is; by namespace and name, so that the order in which it was said makes no difference.
    pub discovered: Discovered,
    /// Ready endpoints by authority.
    pub ready: Arc<HashMap<Arc<str>, u32>>,
    /// How many services were left out, and why the first of them was.
    pub left_out: Option<(usize, String)>,
}

/// Why a line counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It is not the JSON that it must be.
    #[error("a list that cannot be read: {0}")]
    Json(String),
    /// It is another cluster's.
    #[error("it says it is the gateway of {said:?}")]
    Cluster {
        /// Whose it says it is.
        said: String,
    },
    /// Its workloads are of another trust domain than itself.
    #[error("it says its workloads are of the trust domain {said:?}")]
    TrustDomain {
        /// Which.
        said: String,
    },
    /// More than there may be.
    #[error("a list of {0} services; {SERVICES_MAX} is the most that is read")]
    TooMany(usize),
}

impl List {
    /// Reads a line of a gateway; `None` is a heartbeat. Fields that are not known are passed over: a peer may be newer.
    ///
    /// # Errors
    /// The line counts for nothing; see [`ListError`].
    pub fn read(line: &[u8], gateway: &GatewayAddress) -> Result<Option<Self>, ListError> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let said: Exported = serde_json::from_slice(line).map_err(|error| ListError::Json(error.to_string()))?;
        if said.cluster_key != gateway.cluster.as_str() {
            return Err(ListError::Cluster { said: shortened(&said.cluster_key) });
        }
        let trust_domain = gateway.identity.trust_domain();
        if said.trust_domain != trust_domain.as_str() {
            return Err(ListError::TrustDomain { said: shortened(&said.trust_domain) });
        }
        if said.exports.len() > SERVICES_MAX {
            return Err(ListError::TooMany(said.exports.len()));
        }
        let (mut exports, mut ready, mut left_out) = (BTreeMap::new(), HashMap::new(), None);
        for service in said.exports {
            let name = ObjectName { namespace: service.namespace.clone(), name: service.name.clone() };
            let objection = objection(&service).or_else(|| exports.contains_key(&name).then_some("is there twice"));
            if let Some(why) = objection {
                let (count, _) =
                    left_out.get_or_insert_with(|| (0, format!("{:?} {why}", shortened(&name.to_string()))));
                *count += 1;
                continue;
            }
            ready.extend(service.ports.iter().map(|port| (authority(&name, port.port), port.ready)));
            exports.insert(name, service);
        }
        let exports = exports.into_iter().map(|(name, service)| export(name, service)).collect();
        Ok(Some(Self { discovered: Discovered { trust_domain, exports }, ready: Arc::new(ready), left_out }))
    }
}

fn authority(service: &ObjectName, port: u16) -> Arc<str> {
    format!("{}.{}.svc.{CLUSTERSET_DOMAIN}:{port}", service.name, service.namespace).into()
}

fn export(service: ObjectName, said: Service) -> DiscoveredExport {
    let port = |port: Port| DiscoveredPort { number: port.port, name: port.name, app_protocol: port.app_protocol };
    let mut ports: Vec<_> = said.ports.into_iter().map(port).collect();
    ports.sort_by_key(|port| port.number);
    DiscoveredExport { service, service_account: said.service_account_name, ports }
}

/// What is wrong with a service, if anything is. What goes into a snapshot is checked there once more: this door guards this process
/// against a gateway, that one the snapshot against whoever else may tell it something.
pub fn objection(service: &Service) -> Option<&'static str> {
    let account = service.service_account_name.as_str();
    if !is_label(&service.namespace) || !is_label(&service.name) {
        return Some("has a name that no service can have");
    }
    if !(matches!(account, "" | "*") || is_name(account)) {
        return Some("has a service account that cannot be one");
    }
    if service.ports.len() > PORTS_MAX {
        return Some("has too many ports");
    }
    let mut numbers: Vec<_> = service.ports.iter().map(|port| port.port).collect();
    numbers.sort_unstable();
    if numbers.first() == Some(&0) || numbers.windows(2).any(|pair| pair.first() == pair.last()) {
        return Some("has a port that is 0, or there twice");
    }
    let is_token = |text: &Option<String>| {
        text.as_deref().is_none_or(|text| text.len() <= NAME_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    let are_tokens = |port: &Port| is_token(&port.name) && is_token(&port.app_protocol);
    (!service.ports.iter().all(are_tokens)).then_some("has a port with a name or protocol that cannot be one")
}

/// RFC 1123, section 2.1, in lower case, as Kubernetes has it.
fn is_label(text: &str) -> bool {
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= LABEL_MAX
        && is_edge(text.bytes().next())
        && is_edge(text.bytes().last())
        && text.bytes().all(|byte| is_edge(Some(byte)) || byte == b'-')
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('.').all(is_label)
}

/// What a peer wrote, as far as it goes into a line of ours.
fn shortened(text: &str) -> String {
    text.chars().take(LABEL_MAX * 2).collect()
}

#[cfg(test)]
mod tests;
