//! From what is written to what it means, gathering every problem on the way.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use meshgate_identity::{SpiffeId, TrustDomain};

use super::document::{Raw, RawAuthorization, RawIdentity, RawJwks, RawLog, RawWorkload};
use super::multicluster::Domains;
use super::{
    Authorization, Bootstrap, IdentitySettings, Jwks, LogSettings, ResourceSettings, WorkloadSettings, admin,
    app_probes, authority, detection, environment, hand_over, hbone, headers, labels, limits, listeners, multicluster,
    providers, telemetry, tracing,
};
use crate::clusters::ClusterKey;
use crate::duration;
use crate::files;
use crate::problem::Problem;
use crate::yaml::Document;

/// Gathers problems and knows where each field stands.
pub(super) struct Validator<'a> {
    path: &'a Path,
    document: &'a Document<'a>,
    /// Field to the variable that overrides it.
    overridden: BTreeMap<&'static str, &'static str>,
    problems: Vec<Problem>,
}

impl<'a> Validator<'a> {
    pub(super) fn new(path: &'a Path, document: &'a Document<'a>) -> Self {
        Validator { path, document, overridden: BTreeMap::new(), problems: Vec::new() }
    }

    pub(super) fn overridden(&mut self, field: &'static str, variable: &'static str) {
        self.overridden.insert(field, variable);
    }

    /// Something is wrong with a variable of the environment, which has no line.
    pub(super) fn fail_variable(&mut self, variable: &str, message: impl Into<String>) {
        self.problems.push(Problem::error(self.path, message).in_field(Some(variable.to_owned())));
    }

    pub(super) fn fail(&mut self, field: &str, message: impl Into<String>) {
        if let Some(variable) = self.overridden.get(field) {
            return self.fail_variable(variable, message);
        }
        let problem = Problem::error(self.path, message).at(Some(self.document.locate(field)));
        self.problems.push(problem.in_field(Some(field.to_owned())));
    }

    /// Parses what is written, or fails with what was expected.
    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str, expected: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(field, format!("`{text}` is not {expected}: {error}"));
                None
            }
        }
    }

    pub(super) fn address(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        self.parse(field, text, "an IP address and port, such as 127.0.0.1:15000 or [::1]:15000")
    }

    pub(super) fn addresses(&mut self, field: &str, written: &[String]) -> Vec<SocketAddr> {
        let one = |(index, text): (usize, &String)| self.address(&format!("{field}[{index}]"), text);
        written.iter().enumerate().filter_map(one).collect()
    }

    pub(super) fn required(&mut self, field: &str, value: Option<String>) -> String {
        match value {
            Some(value) if !value.trim().is_empty() => value,
            Some(_) => {
                self.fail(field, "is required and is empty");
                String::new()
            }
            None => {
                self.fail(field, "is required");
                String::new()
            }
        }
    }

    /// A path as written, relative to the bootstrap file's folder.
    pub(super) fn resolve(&self, written: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(written)
    }

    pub(super) fn required_path(&mut self, field: &str, value: Option<String>) -> PathBuf {
        let written = self.required(field, value);
        self.resolve(&written)
    }

    pub(super) fn duration(&mut self, field: &str, value: Option<String>, default: Duration) -> Duration {
        let Some(text) = value else { return default };
        match duration::parse(&text) {
            Ok(Duration::ZERO) => self.fail(field, "must be greater than zero"),
            Ok(duration) => return duration,
            Err(error) => self.fail(field, error.to_string()),
        }
        default
    }

    /// As [`duration`](Self::duration), or none at all.
    pub(super) fn pause(&mut self, field: &str, value: Option<&str>, default: Duration) -> Duration {
        match value.map(duration::parse) {
            None => default,
            Some(Ok(pause)) => pause,
            Some(Err(error)) => {
                self.fail(field, error.to_string());
                default
            }
        }
    }

    /// As [`Validator::duration`]; `off` is none.
    pub(super) fn duration_or_off(
        &mut self,
        field: &str,
        value: Option<String>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        match value {
            None => default,
            Some(written) if written == "off" => None,
            // What stands in for a value that is wrong is never used.
            Some(written) => Some(self.duration(field, Some(written), Duration::from_secs(1))),
        }
    }

    pub(super) fn at_least<T: PartialOrd + Display + Copy>(
        &mut self,
        field: &str,
        value: Option<T>,
        least: T,
        default: T,
    ) -> T {
        let value = value.unwrap_or(default);
        if value < least {
            self.fail(field, format!("{value} is too little: the least is {least}"));
        }
        value
    }

    pub(super) fn at_most<T: PartialOrd + Display + Copy>(
        &mut self,
        field: &str,
        value: Option<T>,
        most: T,
        default: T,
    ) -> T {
        let value = value.unwrap_or(default);
        if value > most {
            self.fail(field, format!("{value} is too much: the most is {most}"));
        }
        value
    }
}

/// Checks everything; problems gathered before (by the environment) count.
pub(super) fn bootstrap(raw: Raw, mut v: Validator<'_>) -> Result<Bootstrap, Vec<Problem>> {
    let trust_domain = trust_domain(&mut v, raw.trust_domain);
    let workload = workload(&mut v, raw.workload, trust_domain.as_ref());
    let trust_domain_aliases = aliases(&mut v, &raw.trust_domain_aliases);
    let (identity, directory) = (identity(&mut v, raw.identity), resources(&mut v, raw.resources.directory));
    let (admin, cluster_key) = (admin::admin(&mut v, raw.admin), cluster_key(&mut v, raw.cluster_key));
    let own = admin.map(|admin| admin.address);
    let (inbound, outbound) = listeners::listeners(&mut v, raw.inbound, raw.outbound, own, raw.role);
    let app_probes = app_probes::app_probes(&mut v, &raw.app_probes, raw.role, own, (&inbound, &outbound));
    let domains = Domains::of(trust_domain.as_ref(), &identity);
    let multicluster = multicluster::multicluster(&mut v, raw.multicluster, cluster_key.as_ref(), domains);
    let gateway = multicluster::gateway(&mut v, raw.gateway, raw.role);
    let hbone = hbone::hbone(&mut v, &raw.hbone, raw.role, &inbound.listeners);
    let retries = multicluster::retries(&mut v, raw.retries);
    let outlier_detection = multicluster::outlier_detection(&mut v, raw.outlier_detection);
    let cluster_domain = cluster_domain(&mut v, raw.cluster_domain);
    let root_namespace = root_namespace(&mut v, raw.root_namespace);
    let (headers, tracing) = (headers::headers(&mut v, &raw.headers), tracing::tracing(&mut v, raw.tracing));
    let detection = detection::detection(&mut v, raw.detection);
    let extension_providers = providers::read(&mut v, raw.extension_providers);
    let (metrics, access_log) = telemetry::telemetry(&mut v, raw.metrics, &raw.access_log);
    let (jwks, log) = (jwks(&mut v, raw.jwks), log(&mut v, raw.log));
    let (timeouts, http) = (limits::timeouts(&mut v, raw.timeouts), limits::http(&mut v, raw.http));
    let (limits, hand_over) = (limits::limits(&mut v, &raw.limits), hand_over::hand_over(&mut v, raw.hand_over));
    match (trust_domain, cluster_key, admin) {
        (Some(trust_domain), Some(cluster_key), Some(admin)) if v.problems.is_empty() => Ok(Bootstrap {
            role: raw.role,
            cluster_key,
            trust_domain,
            trust_domain_aliases,
            cluster_domain,
            root_namespace,
            workload,
            identity,
            resources: ResourceSettings { directory },
            inbound,
            outbound,
            detection,
            multicluster,
            gateway,
            hbone,
            retries,
            outlier_detection,
            app_probes,
            admin,
            authorization: authorization(&raw.authorization),
            headers,
            extension_providers,
            jwks,
            metrics,
            access_log,
            tracing,
            log,
            workers: raw.workers,
            timeouts,
            limits,
            http,
            hand_over,
        }),
        _ => Err(v.problems),
    }
}

fn aliases(v: &mut Validator<'_>, written: &[String]) -> Vec<TrustDomain> {
    let alias = |(i, alias): (usize, &String)| v.parse(&format!("trustDomainAliases[{i}]"), alias, "a trust domain");
    written.iter().enumerate().filter_map(alias).collect()
}

fn root_namespace(v: &mut Validator<'_>, written: Option<String>) -> String {
    let namespace = written.unwrap_or_else(|| "istio-system".to_owned());
    if namespace.is_empty() {
        v.fail("rootNamespace", "is empty");
    }
    namespace
}

fn authorization(raw: &RawAuthorization) -> Authorization {
    Authorization {
        catch_all_deny: raw.catch_all_deny,
        path_normalization: raw.path_normalization,
        smi: raw.smi,
        smi_path_match: raw.smi_path_match,
        num_trusted_proxies: raw.num_trusted_proxies,
    }
}

fn trust_domain(v: &mut Validator<'_>, written: Option<String>) -> Option<TrustDomain> {
    v.parse("trustDomain", &written.unwrap_or_else(|| "cluster.local".to_owned()), "a trust domain")
}

fn workload(v: &mut Validator<'_>, raw: RawWorkload, trust_domain: Option<&TrustDomain>) -> WorkloadSettings {
    let namespace = v.required("workload.namespace", raw.namespace);
    let service_account = v.required("workload.serviceAccount", raw.service_account);
    if let Some(trust_domain) = trust_domain
        && !namespace.is_empty()
        && !service_account.is_empty()
        && let Err(error) = SpiffeId::from_service_account(trust_domain, &namespace, &service_account)
    {
        v.fail("workload", format!("namespace and service account do not make a SPIFFE ID: {error}"));
    }
    let mut labels = raw.labels_file.map(|file| labels_of(v, &file)).unwrap_or_default();
    labels.extend(raw.labels);
    WorkloadSettings { name: raw.name.unwrap_or_else(|| service_account.clone()), namespace, service_account, labels }
}

fn labels_of(v: &mut Validator<'_>, written: &str) -> BTreeMap<String, String> {
    let path = v.resolve(written);
    let text = match files::read(&path) {
        Ok(text) => text,
        Err(error) => {
            v.fail("workload.labelsFile", format!("{} {error}", path.display()));
            return BTreeMap::new();
        }
    };
    labels::parse(&text).unwrap_or_else(|(line, message)| {
        v.fail("workload.labelsFile", format!("{}:{line}: {message}", path.display()));
        BTreeMap::new()
    })
}

fn identity(v: &mut Validator<'_>, raw: RawIdentity) -> IdentitySettings {
    let mut federated = BTreeMap::new();
    for (domain, file) in raw.federated {
        if let Some(domain) = v.parse(&format!("identity.federated.{domain}"), &domain, "a trust domain") {
            federated.insert(domain, v.resolve(&file));
        }
    }
    let crl = raw.crl.iter().map(|file| v.resolve(file)).collect();
    if let Some(written) = raw.workload_api {
        if raw.ca.is_some() {
            v.fail(
                "identity.ca",
                "does not go with a Workload API (identity.workloadApi): one of them gives the certificate",
            );
        }
        let files = [("certificate", &raw.certificate), ("key", &raw.key), ("trustBundle", &raw.trust_bundle)];
        let files = files.into_iter().filter(|(_, file)| file.is_some()).map(|(name, _)| name);
        for name in files.chain((!federated.is_empty()).then_some("federated")) {
            v.fail(&format!("identity.{name}"), "comes from the Workload API (identity.workloadApi), not from a file");
        }
        let none = PathBuf::new;
        return IdentitySettings {
            certificate: none(),
            key: none(),
            trust_bundle: none(),
            federated: BTreeMap::new(),
            workload_api: endpoint(v, &written),
            ca: None,
            crl,
            require_crl: raw.require_crl,
        };
    }
    if let Some(ca) = raw.ca {
        let files = [("certificate", raw.certificate), ("key", raw.key)];
        let settings = authority::identity(v, ca, &files, raw.trust_bundle);
        return IdentitySettings { federated, crl, require_crl: raw.require_crl, ..settings };
    }
    IdentitySettings {
        certificate: v.required_path("identity.certificate", raw.certificate),
        key: v.required_path("identity.key", raw.key),
        trust_bundle: v.required_path("identity.trustBundle", raw.trust_bundle),
        federated,
        workload_api: None,
        ca: None,
        crl,
        require_crl: raw.require_crl,
    }
}

/// A unix socket's path, as SPIFFE writes it (Workload Endpoint, 4): `unix:///run/agent.sock`.
fn endpoint(v: &mut Validator<'_>, written: &str) -> Option<PathBuf> {
    let path = written.strip_prefix("unix://").or_else(|| written.strip_prefix("unix:"));
    match path {
        Some(path) if path.starts_with('/') && path.len() > 1 => Some(PathBuf::from(path)),
        _ if written == environment::ENDPOINT => {
            v.fail("identity.workloadApi", "the variable SPIFFE_ENDPOINT_SOCKET is not set");
            None
        }
        _ => {
            let wanted = "such as unix:///run/spire/agent.sock, or $SPIFFE_ENDPOINT_SOCKET";
            v.fail("identity.workloadApi", format!("`{written}` is not a unix socket with an absolute path, {wanted}"));
            None
        }
    }
}

fn resources(v: &mut Validator<'_>, written: Option<String>) -> PathBuf {
    let was_written = written.as_ref().is_some_and(|written| !written.trim().is_empty());
    let directory = v.required_path("resources.directory", written);
    if was_written && !directory.is_dir() {
        v.fail("resources.directory", format!("{} is not a directory that can be read", directory.display()));
    }
    directory
}

fn cluster_key(v: &mut Validator<'_>, written: Option<String>) -> Option<ClusterKey> {
    let Some(key) = written else { return Some(ClusterKey::default()) };
    v.parse("clusterKey", &key, "a cluster key")
}

fn cluster_domain(v: &mut Validator<'_>, written: Option<String>) -> String {
    let domain = written.unwrap_or_else(|| "cluster.local".to_owned());
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !domain.split('.').all(is_label) {
        v.fail("clusterDomain", format!("`{domain}` is not a DNS name in lower case, such as cluster.local"));
    }
    domain
}

fn jwks(v: &mut Validator<'_>, raw: RawJwks) -> Jwks {
    Jwks {
        trust_bundle: raw.trust_bundle.map(|written| v.resolve(&written)),
        timeout: v.duration("jwks.timeout", raw.timeout, Duration::from_secs(5)),
        refresh: v.duration("jwks.refresh", raw.refresh, Duration::from_secs(20 * 60)),
    }
}

fn log(v: &mut Validator<'_>, raw: RawLog) -> LogSettings {
    let level = raw.level.unwrap_or_else(|| "info".to_owned());
    if level.trim().is_empty() {
        v.fail("log.level", "is empty");
    }
    LogSettings { level, format: raw.format }
}
