//! `extensionProviders[]` as it is written, with the names of Istio's MeshConfig.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in super::super) struct RawProvider {
    pub(super) name: String,
    pub(super) envoy_ext_authz_http: Option<RawHttp>,
    pub(super) envoy_ext_authz_grpc: Option<RawGrpc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHttp {
    pub(super) service: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) timeout: Option<String>,
    #[serde(default)]
    pub(super) fail_open: bool,
    pub(super) status_on_error: Option<String>,
    pub(super) path_prefix: Option<String>,
    #[serde(default)]
    pub(super) include_request_headers_in_check: Vec<String>,
    #[serde(default)]
    pub(super) include_additional_headers_in_check: BTreeMap<String, String>,
    pub(super) include_request_body_in_check: Option<RawBody>,
    #[serde(default)]
    pub(super) headers_to_upstream_on_allow: Vec<String>,
    #[serde(default)]
    pub(super) headers_to_downstream_on_deny: Vec<String>,
    #[serde(default)]
    pub(super) headers_to_downstream_on_allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGrpc {
    pub(super) service: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) timeout: Option<String>,
    #[serde(default)]
    pub(super) fail_open: bool,
    pub(super) status_on_error: Option<String>,
    pub(super) include_request_body_in_check: Option<RawBody>,
    /// Routes are chosen after policies here, so there is nothing to clear.
    #[serde(default, rename = "clearRouteCache")]
    pub(super) _clear_route_cache: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawBody {
    pub(super) max_request_bytes: Option<usize>,
    #[serde(default)]
    pub(super) allow_partial_message: bool,
    #[serde(default)]
    pub(super) pack_as_bytes: bool,
}
