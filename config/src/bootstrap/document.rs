//! The bootstrap file as it is written: every field optional where it has a default, every value that can be wrong in
//! more than its type still a string.

use std::collections::BTreeMap;

use meshgate_policy::normalize::Level;
use meshgate_policy::smi::PathMatch;
use meshgate_policy::{CatchAllDeny, SmiMode};
use serde::Deserialize;

use super::admin::RawAdmin;
use super::app_probes::RawAppProbe;
use super::authority::RawAuthority;
use super::detection::RawDetection;
use super::hand_over::RawHandOver;
use super::hbone::RawHbone;
use super::headers::RawHeaders;
use super::limits::{RawHttp, RawLimits, RawTimeouts};
use super::multicluster::{RawGateway, RawMulticluster, RawOutlierDetection, RawRetries};
use super::providers::document::RawProvider;
use super::telemetry::{RawAccessLog, RawMetrics};
use super::tracing::RawTracing;
use super::{LogFormat, Role, TrafficPolicy};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) role: Role,
    pub(super) cluster_key: Option<String>,
    pub(super) trust_domain: Option<String>,
    #[serde(default)]
    pub(super) trust_domain_aliases: Vec<String>,
    pub(super) cluster_domain: Option<String>,
    pub(super) root_namespace: Option<String>,
    #[serde(default)]
    pub(super) workload: RawWorkload,
    #[serde(default)]
    pub(super) identity: RawIdentity,
    #[serde(default)]
    pub(super) resources: RawResources,
    #[serde(default)]
    pub(super) inbound: RawInbound,
    #[serde(default)]
    pub(super) outbound: RawOutbound,
    #[serde(default)]
    pub(super) detection: RawDetection,
    #[serde(default)]
    pub(super) multicluster: RawMulticluster,
    #[serde(default)]
    pub(super) gateway: RawGateway,
    #[serde(default)]
    pub(super) hbone: RawHbone,
    #[serde(default)]
    pub(super) retries: RawRetries,
    #[serde(default)]
    pub(super) outlier_detection: RawOutlierDetection,
    #[serde(default)]
    pub(super) admin: RawAdmin,
    #[serde(default)]
    pub(super) app_probes: BTreeMap<String, RawAppProbe>,
    #[serde(default)]
    pub(super) authorization: RawAuthorization,
    #[serde(default)]
    pub(super) headers: RawHeaders,
    #[serde(default)]
    pub(super) extension_providers: Vec<RawProvider>,
    #[serde(default)]
    pub(super) jwks: RawJwks,
    #[serde(default)]
    pub(super) metrics: RawMetrics,
    #[serde(default)]
    pub(super) access_log: RawAccessLog,
    pub(super) tracing: Option<RawTracing>,
    #[serde(default)]
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) workers: usize,
    #[serde(default)]
    pub(super) timeouts: RawTimeouts,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) http: RawHttp,
    #[serde(default)]
    pub(super) hand_over: RawHandOver,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawWorkload {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) service_account: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) labels_file: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawIdentity {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) trust_bundle: Option<String>,
    #[serde(default)]
    pub(super) federated: BTreeMap<String, String>,
    pub(super) workload_api: Option<String>,
    pub(super) ca: Option<RawAuthority>,
    #[serde(default)]
    pub(super) crl: Vec<String>,
    #[serde(default)]
    pub(super) require_crl: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawResources {
    pub(super) directory: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawInbound {
    pub(super) listeners: Option<Vec<RawInboundListener>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawInboundListener {
    pub(super) address: String,
    pub(super) original_destination: String,
    pub(super) application: Option<String>,
    #[serde(default)]
    pub(super) transparent: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawOutbound {
    pub(super) listeners: Option<Vec<RawOutboundListener>>,
    #[serde(default)]
    pub(super) traffic_policy: TrafficPolicy,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawOutboundListener {
    pub(super) address: String,
    pub(super) original_destination: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAuthorization {
    #[serde(default)]
    pub(super) catch_all_deny: CatchAllDeny,
    #[serde(default)]
    pub(super) path_normalization: Level,
    #[serde(default)]
    pub(super) smi: SmiMode,
    #[serde(default)]
    pub(super) smi_path_match: PathMatch,
    #[serde(default)]
    pub(super) num_trusted_proxies: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawJwks {
    pub(super) trust_bundle: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) refresh: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<String>,
    #[serde(default)]
    pub(super) format: LogFormat,
}
