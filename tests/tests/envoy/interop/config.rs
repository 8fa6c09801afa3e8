//! What istiod tells a sidecar's Envoy, as far as it meets ours.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::envoy::{socket_address, typed};
use crate::support::pki::Credentials;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
    Tcp,
}

impl Speaks {
    /// What Istio's clients offer.
    pub(super) fn alpn(self) -> &'static [&'static str] {
        match self {
            Speaks::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
            Speaks::Http2 => &["istio-h2", "istio", "h2"],
            Speaks::Tcp => &["istio-peer-exchange", "istio"],
        }
    }
}

/// Versions of TLS as Istio sets them in sidecars.
fn versions() -> Value {
    json!({"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"})
}

fn certificates(own: &Credentials) -> Value {
    json!([{
        "certificate_chain": {"inline_string": own.certificate_pem},
        "private_key": {"inline_string": own.key_pem},
    }])
}

/// Mutual TLS to who must be `expected`.
pub(super) fn to_workload(own: &Credentials, roots: &str, alpn: &[&str], expected: &str, sni: &str) -> Value {
    let config = json!({
        "sni": sni,
        "common_tls_context": {
            "tls_params": versions(),
            "alpn_protocols": alpn,
            "tls_certificates": certificates(own),
            "validation_context": {
                "trusted_ca": {"inline_string": roots},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": expected}}],
            },
        },
    });
    typed("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", config)
}

/// Mutual TLS from whoever is of the trust domain.
pub(super) fn from_workloads(own: &Credentials, roots: &str, alpn: &[&str]) -> Value {
    let config = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_params": versions(),
            "alpn_protocols": alpn,
            "tls_certificates": certificates(own),
            "validation_context": {
                "trusted_ca": {"inline_string": roots},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}],
            },
        },
    });
    typed("envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", config)
}

/// One address, spoken to as `speaks` says.
pub(super) fn cluster(name: &str, address: SocketAddr, speaks: Speaks, transport: Option<Value>) -> Value {
    let endpoint = json!({"address": socket_address(address)});
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    });
    if let Some(transport) = transport {
        cluster["transport_socket"] = transport;
    }
    let protocol = match speaks {
        Speaks::Http1 => json!({"http_protocol_options": {}}),
        Speaks::Http2 => json!({"http2_protocol_options": {}}),
        Speaks::Tcp => return cluster,
    };
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster["typed_extension_protocol_options"] =
        json!({ options: {"@type": format!("type.googleapis.com/{options}"), "explicit_http_config": protocol} });
    cluster
}

/// Everything goes to `cluster`, as bytes.
pub(super) fn tcp_proxy(cluster: &str) -> Value {
    let kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    typed("envoy.filters.network.tcp_proxy", kind, json!({"stat_prefix": cluster, "cluster": cluster}))
}

/// Every request goes to `cluster`; `more` fields are laid over.
pub(super) fn requests(cluster: &str, more: &Value) -> Value {
    let router = typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    let mut fields = json!({
        "stat_prefix": cluster,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}],
        }]},
    });
    for (name, value) in more.as_object().unwrap() {
        fields[name] = value.clone();
    }
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    typed("envoy.filters.network.http_connection_manager", kind, fields)
}

/// A listener for the application beside it.
pub(super) fn from_application(name: &str, address: SocketAddr, filter: &Value) -> Value {
    json!({"name": name, "address": socket_address(address), "filter_chains": [{"filters": [filter]}]})
}

/// How Istio's inbound side takes what it gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    Strict,
    Permissive,
}

/// The chains of a port of which no Service says what is spoken there. What is not mutual TLS of the mesh leads to a cluster that
/// there is not, so that nothing of it reaches the application.
pub(super) fn inbound(name: &str, address: SocketAddr, mode: Mode, server: impl Fn(&[&str]) -> Value) -> Value {
    let app = format!("{name}-app");
    // APPEND_FORWARD is what Istio sets: whom it knows it adds to what came.
    let identity = json!({
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
    });
    let (http, tcp) = (requests(&app, &identity), tcp_proxy(&app));
    let (http_tls, tcp_tls) = (server(&["h2", "http/1.1"]), server(&["istio-peer-exchange", "h2", "http/1.1"]));
    let mesh_http =
        json!({"transport_protocol": "tls", "application_protocols": ["istio-http/1.0", "istio-http/1.1", "istio-h2"]});
    let chains = match mode {
        Mode::Strict => json!([
            {"filter_chain_match": mesh_http, "transport_socket": http_tls, "filters": [http]},
            {"filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": tcp_tls, "filters": [tcp]},
        ]),
        Mode::Permissive => json!([
            {"filter_chain_match": mesh_http, "transport_socket": http_tls, "filters": [http]},
            {
                "filter_chain_match":
                    {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]},
                "filters": [requests("nowhere", &json!({}))],
            },
            {
                "filter_chain_match":
                    {"transport_protocol": "tls", "application_protocols": ["istio-peer-exchange", "istio"]},
                "transport_socket": tcp_tls,
                "filters": [tcp],
            },
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [tcp_proxy("nowhere")]},
            {"filter_chain_match": {"transport_protocol": "tls"}, "filters": [tcp_proxy("nowhere")]},
        ]),
    };
    let inspector = |name: &str, kind: &str| {
        typed(
            &format!("envoy.filters.listener.{name}"),
            &format!("envoy.extensions.filters.listener.{name}.v3.{kind}"),
            json!({}),
        )
    };
    json!({
        "name": name,
        "address": socket_address(address),
        "listener_filters": [inspector("tls_inspector", "TlsInspector"), inspector("http_inspector", "HttpInspector")],
        "filter_chains": chains,
    })
}

/// Everything goes to `cluster` through a tunnel to `authority`, as a ztunnel or a waypoint sends it.
pub(super) fn through_tunnel(cluster: &str, authority: SocketAddr) -> Value {
    let kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let config = json!({
        "stat_prefix": cluster,
        "cluster": cluster,
        "tunneling_config": {
            "hostname": authority.to_string(),
            "headers_to_add": [{"header": {"key": "baggage", "value": "k8s.deployment.name=istio"}}],
        },
    });
    typed("envoy.filters.network.tcp_proxy", kind, config)
}

/// Ends tunnels to `authority` of who is `caller`, and of nobody else; what comes out goes to `cluster`.
pub(super) fn tunnels_end(name: &str, address: SocketAddr, tls: &Value, authority: SocketAddr, caller: &str) -> Value {
    let only = json!({"rules": {"action": "ALLOW", "policies": {"only": {
        "permissions": [{"any": true}],
        "principals": [{"authenticated": {"principal_name": {"exact": caller}}}],
    }}}});
    let router = typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    let rbac = typed("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", only);
    let more = json!({
        "http_filters": [rbac, router],
        "http2_protocol_options": {"allow_connect": true},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"virtual_hosts": [{
            "name": "this-one",
            "domains": [authority.to_string()],
            "routes": [{
                "match": {"connect_matcher": {}},
                "route": {
                    "cluster": format!("{name}-app"),
                    "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
                },
            }],
        }]},
    });
    json!({
        "name": name,
        "address": socket_address(address),
        "filter_chains": [{"transport_socket": tls, "filters": [requests(name, &more)]}],
    })
}
