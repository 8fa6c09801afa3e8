//! A real Envoy with as many listeners as there are sets of policies, configured as istiod configures a sidecar's inbound side.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::Method;
use meshgate::sandbox::{Answer, POD_PORT, Subnet, request, until};
use serde_json::{Value, json};

use crate::call::SEEN_PATH;
use crate::compare::Set;
use crate::people::KNOWN_DOMAINS;
use crate::policies::Authentication;
use crate::translate::{self, Context};

/// Where its admin endpoint is asked, on the first address of its own.
const ADMIN_PORT: u16 = 15000;
/// So many listeners find room in one loopback network, whose addresses end in 2 to 251.
const ROOM: usize = 250;

/// Its own certificate, and whom it believes.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) roots_pem: String,
}

/// One set of policies in force on one listener.
pub(crate) struct Listener<'a> {
    pub(crate) set: &'a Set,
    /// Takes every connection for bytes.
    pub(crate) tcp: bool,
}

/// A running Envoy; it is killed when dropped.
pub(crate) struct Envoy {
    child: Child,
    output: PathBuf,
    subnets: Vec<Subnet>,
}

impl Envoy {
    /// Starts it and waits until it listens. Files go to `folder`.
    pub(crate) async fn start(binary: &Path, folder: &Path, identity: &Identity, listeners: &[Listener<'_>]) -> Self {
        let subnets: Vec<_> = (0..=listeners.len() / ROOM).map(|_| Subnet::claim().unwrap()).collect();
        let all = listeners.iter().enumerate();
        let all = all.map(|(index, listener)| listener.config(&format!("set-{index}"), at(&subnets, index), identity));
        let provider = listeners.iter().find_map(|listener| listener.set.provider);
        let clusters: Vec<_> = provider.map(translate::cluster).into_iter().collect();
        let resources = json!({"listeners": all.collect::<Vec<_>>(), "clusters": clusters});
        Self::launch(binary, folder, subnets, &resources).await
    }

    /// Starts one that serves these static resources at addresses of these networks, of which there is at least one. `folder` is
    /// its own.
    pub(crate) async fn launch(binary: &Path, folder: &Path, subnets: Vec<Subnet>, resources: &Value) -> Self {
        let (config, output) = (folder.join("envoy.json"), folder.join("envoy.log"));
        let admin = SocketAddr::new(subnets[0].host(1), ADMIN_PORT);
        let text = json!({
            "admin": {"address": socket_address(admin)},
            "static_resources": resources,
            // What tells listeners from each other inside of one process, where tunnels end.
            "bootstrap_extensions": [typed(
                "envoy.bootstrap.internal_listener",
                "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                json!({}),
            )],
        });
        fs::write(&config, text.to_string()).unwrap();
        let log = File::create(&output).unwrap();
        let child = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "--config-path"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut envoy = Self { child, output, subnets };
        envoy.until_ready(admin).await;
        envoy
    }

    async fn until_ready(&mut self, admin: SocketAddr) {
        let ready = until("Envoy's readiness", async || match self.child.try_wait() {
            Ok(None) => match request(admin, "admin", Method::GET, "/ready").await {
                Answer::Http { status: 200, .. } => Some(true),
                _ => None,
            },
            _ => Some(false),
        });
        let ready = ready.await.unwrap_or(false);
        assert!(ready, "Envoy does not start: {}", fs::read_to_string(&self.output).unwrap_or_default());
    }

    /// Where a listener is, by its place in the list.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        at(&self.subnets, index)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // One that has already ended can't be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a listener is, by its place in the list.
pub(crate) fn at(subnets: &[Subnet], index: usize) -> SocketAddr {
    let last = u8::try_from(index % ROOM + 2).unwrap();
    SocketAddr::new(subnets[index / ROOM].host(last), POD_PORT)
}

/// As Envoy writes it.
pub(crate) fn socket_address(address: SocketAddr) -> Value {
    let ip: IpAddr = address.ip();
    json!({"socket_address": {"address": ip.to_string(), "port_value": address.port()}})
}

impl Listener<'_> {
    fn config(&self, name: &str, address: SocketAddr, identity: &Identity) -> Value {
        let filters = if self.tcp { self.tcp_filters() } else { vec![self.connection_manager()] };
        json!({
            "name": name,
            "address": socket_address(address),
            "listener_filters": [typed(
                "envoy.filters.listener.tls_inspector",
                "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
                json!({}),
            )],
            "filter_chains": [
                {
                    "filter_chain_match": {"transport_protocol": "tls"},
                    "transport_socket": transport_socket(identity),
                    "filters": filters,
                },
                {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
            ],
        })
    }

    fn rbac(&self, kind: &str) -> Vec<Value> {
        let context = Context { trust_domains: self.set.profile.trust_domains, tcp: self.tcp };
        let filters = translate::filters(&self.set.documents, context).into_iter().enumerate();
        let numbered = |(index, filter): (usize, Value)| typed(&format!("rbac-{index}"), kind, filter);
        filters.map(numbered).collect()
    }

    fn custom(&self) -> Option<[Value; 2]> {
        let context = Context { trust_domains: self.set.profile.trust_domains, tcp: false };
        translate::custom_filters(&self.set.documents, context, self.set.provider?)
    }

    /// Bytes come back as they were, which they do only past the policies.
    fn tcp_filters(&self) -> Vec<Value> {
        let mut filters = self.rbac("envoy.extensions.filters.network.rbac.v3.RBAC");
        for filter in &mut filters {
            filter["typed_config"]["stat_prefix"] = "tcp.".into();
        }
        filters.push(typed("echo", "envoy.extensions.filters.network.echo.v3.Echo", json!({})));
        filters
    }

    /// Every request is answered here, with the path that would be forwarded.
    fn connection_manager(&self) -> Value {
        let tokens = self.set.authentication.as_ref().map(|Authentication(rules)| translate::token_filter(rules));
        let kind = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
        let mut filters: Vec<_> =
            tokens.map(|config| typed("envoy.filters.http.jwt_authn", kind, config)).into_iter().collect();
        let rbac = "envoy.extensions.filters.http.rbac.v3.RBAC";
        if let Some([matching, asking]) = self.custom() {
            filters.push(typed("rbac-custom", rbac, matching));
            filters.push(typed("ext_authz", "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", asking));
        }
        filters.extend(self.rbac(rbac));
        filters.push(typed("router", "envoy.extensions.filters.http.router.v3.Router", json!({})));
        let mut fields = self.set.profile.connection_manager();
        fields["stat_prefix"] = "inbound".into();
        fields["http_filters"] = filters.into();
        fields["route_config"] = json!({"virtual_hosts": [{
            "name": "inbound",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": ""},
                "direct_response": {"status": 200},
                "response_headers_to_add": [{"header": {"key": SEEN_PATH, "value": "%REQ(:PATH)%"}}],
            }],
        }]});
        typed("http", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", fields)
    }
}

fn transport_socket(identity: &Identity) -> Value {
    let trusted: Vec<_> = KNOWN_DOMAINS
        .iter()
        .map(|domain| json!({"san_type": "URI", "matcher": {"prefix": format!("spiffe://{domain}/")}}))
        .collect();
    let config = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": ["istio-peer-exchange", "h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": {"inline_string": identity.certificate_pem},
                "private_key": {"inline_string": identity.key_pem},
            }],
            "validation_context": {
                "trusted_ca": {"inline_string": identity.roots_pem},
                "match_typed_subject_alt_names": trusted,
            },
        },
    });
    let kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    typed("envoy.transport_sockets.tls", kind, config)
}

/// An extension and its configuration.
pub(crate) fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({"name": name, "typed_config": config})
}
