//! The shape of the documents, field by field, with SMI's names. Unknown fields are errors.
//!
//! `TrafficTarget` as in v1alpha3 and v1alpha2, which adds a port; `HTTPRouteGroup` as in v1alpha4, v1alpha3 and v1alpha2,
//! which writes headers as a list; `TCPRoute` as in v1alpha4, and without ports as before that.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `TrafficTarget.spec`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficTargetSpec {
    /// Who is called.
    pub destination: Destination,
    /// Who may call.
    #[serde(default)]
    pub sources: Vec<Subject>,
    /// What they may ask for: any of them.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
}

/// `spec.destination`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// What sort of subject.
    pub kind: SubjectKind,
    /// Its name.
    pub name: String,
    /// Its namespace; absent: the TrafficTarget's.
    pub namespace: Option<String>,
    /// Only on this port; v1alpha2 only.
    pub port: Option<u16>,
}

/// `spec.sources[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// What sort of subject.
    pub kind: SubjectKind,
    /// Its name.
    pub name: String,
    /// Its namespace; absent: the TrafficTarget's.
    pub namespace: Option<String>,
}

/// The one sort of subject there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SubjectKind {
    /// A Kubernetes service account.
    ServiceAccount,
}

/// `spec.rules[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// What sort of route.
    pub kind: RouteKind,
    /// Its name, in the TrafficTarget's namespace.
    pub name: String,
    /// Names of matches of an HTTPRouteGroup; absent: all of them.
    pub matches: Option<Vec<String>>,
}

/// The sorts of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum RouteKind {
    /// HTTP requests.
    #[serde(rename = "HTTPRouteGroup")]
    HttpRouteGroup,
    /// TCP connections.
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    /// UDP, which is not carried here.
    #[serde(rename = "UDPRoute")]
    UdpRoute,
}

/// `HTTPRouteGroup.spec`; in v1alpha2 the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteGroupSpec {
    /// The requests that are meant; a request need only fit one.
    #[serde(default)]
    pub matches: Vec<HttpMatchSpec>,
}

/// `matches[]`: all fields that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatchSpec {
    /// What a TrafficTarget calls it.
    pub name: Option<String>,
    /// A regular expression for the path; absent: any.
    pub path_regex: Option<String>,
    /// Methods; absent, or `*`: any.
    pub methods: Option<Vec<String>>,
    /// Regular expressions for headers' values, all of which must match.
    pub headers: Option<HeadersSpec>,
}

/// `headers`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum HeadersSpec {
    /// `name: regex`
    Map(BTreeMap<String, String>),
    /// `- name: regex`, as v1alpha2 has it.
    List(Vec<BTreeMap<String, String>>),
}

/// `TCPRoute.spec`; the default means every port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpRouteSpec {
    /// Which connections; absent: all.
    pub matches: Option<TcpMatchSpec>,
}

/// `TCPRoute.spec.matches`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TcpMatchSpec {
    /// For people.
    pub name: Option<String>,
    /// Ports of the container, or of the service; absent: all.
    pub ports: Option<Vec<u16>>,
}
