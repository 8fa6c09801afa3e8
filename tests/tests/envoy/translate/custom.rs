//! CUSTOM policies: a filter that only says which rule matches, and one that asks when one does.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Context, filter};
use crate::policies::Document;

/// The cluster of the provider.
const CLUSTER: &str = "provider";
const PREFIX: &str = "istio_ext_authz_";

/// The RBAC filter's configuration and the ext_authz filter's. `None` without a CUSTOM policy. Nobody asks HTTP about bytes.
pub(crate) fn custom_filters(documents: &[Document], context: Context<'_>, provider: SocketAddr) -> Option<[Value; 2]> {
    let custom = documents.iter().filter(|document| document.applies() && document.action() == "CUSTOM");
    let mut matching = filter(custom.collect(), "DENY", context)?;
    let rules = matching.as_object_mut()?.remove("rules")?;
    matching["shadow_rules"] = rules;
    matching["shadow_rules_stat_prefix"] = PREFIX.into();
    let asking = json!({
        "transport_api_version": "V3",
        "http_service": {
            "server_uri": {"uri": format!("http://{provider}"), "cluster": CLUSTER, "timeout": "10s"},
            "authorization_response": {"allowed_upstream_headers": {"patterns": [{"exact": "x-from-provider"}]}},
        },
        "allowed_headers": {"patterns": [{"exact": "x-say"}]},
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{"key": format!("{PREFIX}shadow_effective_policy_id")}],
            "value": {"string_match": {"prefix": "ns["}},
        },
    });
    Some([matching, asking])
}

/// The provider, for Envoy.
pub(crate) fn cluster(provider: SocketAddr) -> Value {
    let address = json!({"socket_address": {"address": provider.ip().to_string(), "port_value": provider.port()}});
    json!({
        "name": CLUSTER,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}
