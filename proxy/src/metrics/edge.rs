//! Who talks to whom, in Istio's labels: the part of a traffic metric's labels that all requests of a connection share.
//!
//! The one idea: they are worked out once, where a connection or a route begins, and shared from then on. Each is known where the
//! configuration knows it, else `unknown`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::{fmt, iter};

use meshgate_config::{Bootstrap, ServicePort, Snapshot, WorkloadRecord};
use meshgate_identity::SpiffeId;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

use super::UNKNOWN;
use super::family::OVERFLOW;

/// One end of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Party {
    /// What runs it: a Deployment, a StatefulSet, a Job; a Pod of its own; a WorkloadEntry.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// Its label `app`.
    pub app: String,
    /// Its label `version`.
    pub version: String,
    /// What it belongs to, as Istio tells.
    pub canonical_service: String,
    /// Which revision of that it is.
    pub canonical_revision: String,
    /// The key of its cluster.
    pub cluster: String,
    /// Its SPIFFE ID.
    pub principal: String,
}

/// The service that was called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Called {
    /// Fully qualified host name.
    pub host: String,
    /// Its name alone.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// Both ends, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// `source` at the caller's side, `destination` at the service's; `gateway` at neither.
    pub reporter: &'static str,
    /// Who calls.
    pub source: Party,
    /// Who is called.
    pub destination: Party,
    /// By which service.
    pub service: Called,
    /// `mutual_tls` or `none`; `unknown` at the source's side.
    pub security: &'static str,
}

/// [`Facts`], shared by the series that they are labels of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Edge(Arc<Facts>);

impl Default for Party {
    fn default() -> Self {
        Self::all(UNKNOWN)
    }
}

impl Party {
    fn all(value: &str) -> Self {
        let value = || value.to_owned();
        Self {
            workload: value(),
            namespace: value(),
            app: value(),
            version: value(),
            canonical_service: value(),
            canonical_revision: value(),
            cluster: value(),
            principal: value(),
        }
    }

    /// The workload that this proxy stands beside.
    pub fn own(bootstrap: &Bootstrap, id: &SpiffeId) -> Self {
        let workload = &bootstrap.workload;
        let party = Self::labelled(&workload.name, &workload.namespace, &workload.labels);
        Self { cluster: bootstrap.cluster_key.to_string(), principal: id.to_string(), ..party }
    }

    /// Somebody at an address who has proved to be `id`: what the configuration has there is believed if that is whose it is. Without
    /// a proof the address is all there is to go by.
    pub fn at(snapshot: &Snapshot, bootstrap: &Bootstrap, address: IpAddr, id: Option<&SpiffeId>) -> Self {
        let known = snapshot.workload_at(address).filter(|record| id.is_none_or(|id| record.is_identified_by(id)));
        let party = match (known, id) {
            (Some(record), _) => Self::recorded(record, bootstrap),
            (None, Some(id)) => Self::proved(id),
            (None, None) => Self::default(),
        };
        match id {
            Some(id) => Self { principal: id.to_string(), ..party },
            None => party,
        }
    }

    /// A workload of the configuration; whether it is whom one talks to is another question.
    pub fn recorded(record: &WorkloadRecord, bootstrap: &Bootstrap) -> Self {
        let party = Self::labelled(&record.name.name, &record.name.namespace, &record.workload.labels);
        Self { cluster: bootstrap.cluster_key.to_string(), ..party }
    }

    /// What an identity tells by itself.
    pub fn proved(id: &SpiffeId) -> Self {
        let namespace = id.namespace().unwrap_or(UNKNOWN).to_owned();
        Self { namespace, principal: id.to_string(), ..Self::default() }
    }

    fn labelled(name: &str, namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).filter(|value| !value.is_empty());
        let workload = workload_name(name, labels);
        let app = first(&["app"]).cloned();
        let service = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]).cloned();
        let revision = first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]).cloned();
        Self {
            namespace: namespace.to_owned(),
            app: app.unwrap_or_else(|| UNKNOWN.to_owned()),
            version: first(&["version"]).cloned().unwrap_or_else(|| UNKNOWN.to_owned()),
            canonical_service: service.unwrap_or_else(|| workload.clone()),
            canonical_revision: revision.unwrap_or_else(|| "latest".to_owned()),
            workload,
            ..Self::default()
        }
    }

    fn values(&self) -> [&str; 8] {
        [
            &self.workload,
            &self.namespace,
            &self.app,
            &self.version,
            &self.canonical_service,
            &self.canonical_revision,
            &self.cluster,
            &self.principal,
        ]
    }
}

/// What runs a pod, told by how Kubernetes names pods and by the labels that its controllers put on them. The owner itself would
/// be asked if the proxy read owners; a pod without these labels is its own workload, as in Istio.
fn workload_name(pod: &str, labels: &BTreeMap<String, String>) -> String {
    let without_last = |name: &str| name.rsplit_once('-').map(|(rest, _)| rest.to_owned());
    if let Some(job) = labels.get("batch.kubernetes.io/job-name").or_else(|| labels.get("job-name")) {
        return job.clone();
    }
    let of_deployment = || {
        let hash = labels.get("pod-template-hash")?;
        without_last(pod)?.strip_suffix(hash.as_str())?.strip_suffix('-').map(str::to_owned)
    };
    let of_set = || labels.get("controller-revision-hash").and_then(|_| without_last(pod));
    of_deployment().or_else(of_set).filter(|name| !name.is_empty()).unwrap_or_else(|| pod.to_owned())
}

impl Called {
    /// A service; `None` = it is not known which.
    pub fn of(service: Option<&ServicePort>) -> Self {
        let (host, name, namespace) = match service {
            Some(port) => (port.host.as_str(), port.service.name.as_str(), port.service.namespace.as_str()),
            None => (UNKNOWN, UNKNOWN, UNKNOWN),
        };
        Self { host: host.to_owned(), name: name.to_owned(), namespace: namespace.to_owned() }
    }
}

impl Facts {
    /// Nothing is known but who says so.
    pub fn unknown(reporter: &'static str) -> Self {
        Self {
            reporter,
            source: Party::default(),
            destination: Party::default(),
            service: Called::of(None),
            security: UNKNOWN,
        }
    }

    fn overflow() -> Self {
        let called = || OVERFLOW.to_owned();
        Self {
            reporter: OVERFLOW,
            source: Party::all(OVERFLOW),
            destination: Party::all(OVERFLOW),
            service: Called { host: called(), name: called(), namespace: called() },
            security: OVERFLOW,
        }
    }
}

/// Names of a calling party's labels, in the order of [`Party::values`].
const SOURCE: [&str; 8] = [
    "source_workload",
    "source_workload_namespace",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "source_principal",
];

/// The same of a called one.
const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_workload_namespace",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_principal",
];

impl Edge {
    /// These facts.
    pub fn new(facts: Facts) -> Self {
        Self(Arc::new(facts))
    }

    /// Of what was one series too many.
    pub fn overflow() -> Self {
        Self::new(Facts::overflow())
    }

    /// What it says.
    pub fn facts(&self) -> &Facts {
        &self.0
    }
}

impl EncodeLabelSet for Edge {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Facts { reporter, source, destination, service, security } = self.facts();
        let parties = SOURCE.into_iter().zip(source.values()).chain(DESTINATION.into_iter().zip(destination.values()));
        let service = [
            ("destination_service", service.host.as_str()),
            ("destination_service_name", &service.name),
            ("destination_service_namespace", &service.namespace),
        ];
        let all = iter::once(("reporter", *reporter)).chain(parties).chain(service);
        all.chain([("connection_security_policy", *security)])
            .try_for_each(|label| label.encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pod_counts_under_what_runs_it() {
        for (pod, pairs, expected) in [
            ("web-7d4b9c6f5-x2x9z", &[("pod-template-hash", "7d4b9c6f5")][..], "web"),
            ("web-api-7d4b9c6f5-x2x9z", &[("pod-template-hash", "7d4b9c6f5")], "web-api"),
            ("db-0", &[("controller-revision-hash", "db-abc")], "db"),
            ("agent-x2x9z", &[("controller-revision-hash", "6c5d")], "agent"),
            ("backup-28-abcde", &[("batch.kubernetes.io/job-name", "backup-28")], "backup-28"),
            ("curl", &[], "curl"),
            ("curl-by-hand", &[], "curl-by-hand"),
            // Somebody has copied a pod's labels.
            ("copy", &[("pod-template-hash", "7d4b9c6f5")], "copy"),
            ("-0", &[("controller-revision-hash", "x")], "-0"),
        ] {
            assert_eq!(workload_name(pod, &labels(pairs)), expected, "{pod}");
        }
    }

    #[test]
    fn canonical_names_fall_back_as_istios_do() {
        let party = Party::labelled("web-1", "shop", &labels(&[("app", "web"), ("version", "v2")]));
        assert_eq!((party.app.as_str(), party.version.as_str()), ("web", "v2"));
        assert_eq!((party.canonical_service.as_str(), party.canonical_revision.as_str()), ("web", "v2"));
        let party = Party::labelled("web-1", "shop", &labels(&[]));
        assert_eq!((party.app.as_str(), party.version.as_str()), (UNKNOWN, UNKNOWN));
        assert_eq!((party.canonical_service.as_str(), party.canonical_revision.as_str()), ("web-1", "latest"));
        let named = [("service.istio.io/canonical-name", "shop"), ("app", "web"), ("app.kubernetes.io/version", "3")];
        let party = Party::labelled("web-1", "shop", &labels(&named));
        assert_eq!((party.canonical_service.as_str(), party.canonical_revision.as_str()), ("shop", "3"));
    }
}
