//! ServiceExport, FSM's and that of the MCS API: what other clusters may call of this one.

use meshgate_policy::Invalid;
use regex::RegexBuilder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::num::NonZeroU16;

use super::{ACCOUNT, account, annotation, invalid};
use crate::clusters::{Balancer, ClusterKey, HashOn, PathRewrite};
use crate::document::Document;
use crate::resource::Metadata;

/// Bytes of a compiled expression, which is far more than a path needs.
const REGEX_MAX: usize = 256 * 1024;

/// A ServiceExport.
#[derive(Clone, Debug)]
pub(crate) struct ServiceExport {
    pub(crate) account: String,
    pub(crate) ports: Ports,
    pub(crate) path_rewrite: Option<PathRewrite>,
    pub(crate) session_sticky: bool,
    pub(crate) balancer: Balancer,
    /// Empty = all.
    pub(crate) target_clusters: Vec<ClusterKey>,
}

/// Which ports are exported.
#[derive(Clone, Debug)]
pub(crate) enum Ports {
    /// All of the Service's: the MCS API has no choice of them.
    All,
    Listed(Vec<Rule>),
}

/// `spec.rules[]`
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) port: u16,
    /// Begins with `/` and, unless that is all, does not end with it.
    pub(crate) path: String,
    pub(crate) exact: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExportSpec {
    rules: Vec<RuleSpec>,
    path_rewrite: Option<PathRewriteSpec>,
    #[serde(default)]
    session_sticky: bool,
    #[serde(default)]
    load_balancer: LoadBalancer,
    #[serde(default)]
    target_clusters: Vec<String>,
    service_account_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    port_number: NonZeroU16,
    path: String,
    path_type: PathType,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum PathType {
    Exact,
    Prefix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathRewriteSpec {
    from: String,
    #[serde(default)]
    to: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum LoadBalancer {
    #[default]
    #[serde(rename = "RoundRobinLoadBalancer")]
    RoundRobin,
    #[serde(rename = "HashingLoadBalancer")]
    Hashing,
    #[serde(rename = "LeastWorkLoadBalancer")]
    LeastWork,
}

impl Document<ExportSpec> {
    pub(crate) fn build(self) -> Result<ServiceExport, Vec<Invalid>> {
        let spec = self.spec;
        let mut problems = Vec::new();
        if spec.rules.is_empty() {
            problems.push(invalid("spec.rules", "must name at least one port"));
        }
        let mut rules = Vec::new();
        for (index, rule) in spec.rules.into_iter().enumerate() {
            match path(&format!("spec.rules[{index}].path"), &rule.path) {
                Ok(path) => {
                    rules.push(Rule { port: rule.port_number.get(), path, exact: rule.path_type == PathType::Exact });
                }
                Err(problem) => problems.push(problem),
            }
        }
        let mut target_clusters = Vec::new();
        for (index, written) in spec.target_clusters.iter().enumerate() {
            match written.parse() {
                Ok(key) => target_clusters.push(key),
                Err(error) => {
                    problems.push(invalid(format!("spec.targetClusters[{index}]"), format!("`{written}`: {error}")));
                }
            }
        }
        let mut keep = |problem| problems.push(problem);
        let account = account("spec.serviceAccountName", spec.service_account_name).map_err(&mut keep);
        let path_rewrite = spec.path_rewrite.map(path_rewrite).transpose().map_err(&mut keep);
        match (account, path_rewrite) {
            (Ok(account), Ok(path_rewrite)) if problems.is_empty() => Ok(ServiceExport {
                account,
                ports: Ports::Listed(rules),
                path_rewrite,
                session_sticky: spec.session_sticky,
                balancer: match spec.load_balancer {
                    LoadBalancer::RoundRobin => Balancer::RoundRobin,
                    LoadBalancer::Hashing => Balancer::RingHash(HashOn::SourceIp),
                    LoadBalancer::LeastWork => Balancer::LeastRequest,
                },
                target_clusters,
            }),
            _ => Err(problems),
        }
    }
}

/// A path as it is compared: by whole elements, so that a slash at its end says nothing.
fn path(field: &str, written: &str) -> Result<String, Invalid> {
    if !written.starts_with('/') {
        return Err(invalid(field, format!("{written:?} does not begin with /")));
    }
    if written.bytes().any(|byte| !byte.is_ascii_graphic() || b"?#".contains(&byte)) {
        return Err(invalid(field, format!("{written:?} is not a path: no ?, # or blanks, and all in ASCII")));
    }
    let trimmed = written.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

fn path_rewrite(spec: PathRewriteSpec) -> Result<PathRewrite, Invalid> {
    match RegexBuilder::new(&spec.from).size_limit(REGEX_MAX).build() {
        Ok(from) => Ok(PathRewrite { from, to: spec.to }),
        // The crate draws the expression and points at the place: of that the last line is the message.
        Err(error) => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(invalid("spec.pathRewrite.from", format!("{:?} cannot be read: {last}", spec.from)))
        }
    }
}

/// The MCS API's, for the derived objects only, which nothing here makes: a document says nothing but that the Service is exported.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct McsExportSpec {
    #[serde(rename = "exportedLabels")]
    _labels: Option<IgnoredAny>,
    #[serde(rename = "exportedAnnotations")]
    _annotations: Option<IgnoredAny>,
}

impl Document<Option<McsExportSpec>> {
    pub(crate) fn build(self, metadata: &Metadata) -> Result<ServiceExport, Vec<Invalid>> {
        let written = metadata.annotations.get(ACCOUNT).cloned();
        Ok(ServiceExport {
            account: account(&annotation(ACCOUNT), written).map_err(|problem| vec![problem])?,
            ports: Ports::All,
            path_rewrite: None,
            session_sticky: false,
            balancer: Balancer::default(),
            target_clusters: Vec::new(),
        })
    }
}
