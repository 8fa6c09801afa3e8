//! Resources as the rest of the crate sees them: a [`Key`] that names one, a [`Place`] where it stands, and the
//! [`Object`] itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use meshgate_policy::istio::spec::text;
use meshgate_policy::smi::{HttpRouteGroup, TcpRoute, TrafficTarget};
use meshgate_policy::{ObjectName, PeerAuthentication, Policy, RequestAuthentication, SmiMode};
use serde::{Deserialize, Deserializer};

use crate::endpoints::{EndpointSlice, Endpoints};
use crate::kind::Kind;
use crate::multicluster::export::ServiceExport;
use crate::multicluster::import::ServiceImport;
use crate::multicluster::policy::GlobalTrafficPolicy;
use crate::problem::Problem;
use crate::service::Service;
use crate::workload::{Pod, WorkloadEntry};

/// What makes an object the same object from one reading to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    /// Empty for what has no namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn object_name(&self) -> ObjectName {
        ObjectName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Where an object stands. For an item of a `List` the line is the list's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// The little that says which object a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) metadata: NameAndNamespace,
}

#[derive(Default, Deserialize)]
pub(crate) struct NameAndNamespace {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
}

/// The part of `metadata` that is read; the rest is tolerated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default, deserialize_with = "strings")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "strings")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Set while the object is being deleted.
    pub(crate) deletion_timestamp: Option<String>,
}

/// An object, read and checked.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Service(Service),
    Endpoints(Endpoints),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    Namespace,
    ServiceAccount,
    WorkloadEntry(WorkloadEntry),
    AuthorizationPolicy(Arc<Policy>),
    PeerAuthentication(Arc<PeerAuthentication>),
    TrafficTarget(TrafficTarget),
    HttpRouteGroup(Arc<HttpRouteGroup>),
    TcpRoute(Arc<TcpRoute>),
    UdpRoute,
    /// The mode it asks for.
    MeshConfig(SmiMode),
    RequestAuthentication(Arc<RequestAuthentication>),
    /// Of either dialect.
    ServiceExport(ServiceExport),
    /// Of either dialect.
    ServiceImport(ServiceImport),
    GlobalTrafficPolicy(GlobalTrafficPolicy),
}

/// One object found in a file, good or not.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) place: Place,
    /// The document it was read from; an object whose text is the same is the same.
    pub(crate) text: Arc<str>,
    /// Codes of the findings that it asks not to hear of, as written in [`ALLOW`].
    pub(crate) allow: Option<Box<str>>,
    pub(crate) outcome: Result<Arc<Object>, Broken>,
}

/// The annotation by which an object says which findings about it are meant: `MG005,MG010`.
pub(crate) const ALLOW: &str = "meshgate.io/allow";

/// Why an object cannot be used.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) problems: Vec<Problem>,
    /// What a policy selects, if that much can be read; `None` = its whole namespace.
    pub(crate) selector: Option<BTreeMap<String, String>>,
}

fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    text::map(deserializer).map(Option::unwrap_or_default)
}

/// Go writes an absent list or map as `null`: the same as not writing the field.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
