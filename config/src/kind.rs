//! Which documents are read, which are passed over, and which are mistakes.
//!
//! The one idea: a group that carries security meaning is *owned*. In an owned group a kind or version that is not
//! known is an error, because it is more likely a misspelt policy than something that may be ignored.

use std::fmt;

use meshgate_policy::lint::About;

use crate::suggest::nearest;

/// A kind of object; versions of one kind are the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Service,
    Endpoints,
    EndpointSlice,
    Pod,
    Namespace,
    ServiceAccount,
    WorkloadEntry,
    AuthorizationPolicy,
    PeerAuthentication,
    RequestAuthentication,
    TrafficTarget,
    HttpRouteGroup,
    TcpRoute,
    UdpRoute,
    MeshConfig,
    ServiceExport,
    ServiceImport,
    GlobalTrafficPolicy,
    /// The MCS API's; both dialects may be in one cluster.
    McsServiceExport,
    /// The MCS API's.
    McsServiceImport,
    /// Something in the security group that is none of its kinds.
    UnknownSecurity,
}

/// What to do with a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read(Kind),
    /// `kind: List`: what counts is in its items.
    List,
    /// Not ours, nothing to say.
    PassedOver,
    /// Known, but has no effect in this version: worth a warning.
    NoEffect,
    /// An error; `kind` when it is clear which object is meant, so that it keeps its last good version.
    Wrong {
        kind: Option<Kind>,
        field: &'static str,
        message: String,
    },
}

const SECURITY: &str = "security.istio.io";
const NETWORKING: &str = "networking.istio.io";
const DISCOVERY: &str = "discovery.k8s.io";
const SMI_ACCESS: &str = "access.smi-spec.io";
const SMI_SPECS: &str = "specs.smi-spec.io";
const FLOMESH_CONFIG: &str = "config.flomesh.io";
/// The older and the newer name of one group.
const FLOMESH: [&str; 2] = ["flomesh.io", "multicluster.flomesh.io"];
const MCS: &str = "multicluster.x-k8s.io";

/// Istio's networking kinds, other than WorkloadEntry.
const OTHER_NETWORKING: [&str; 8] = [
    "DestinationRule",
    "EnvoyFilter",
    "Gateway",
    "ProxyConfig",
    "ServiceEntry",
    "Sidecar",
    "VirtualService",
    "WorkloadGroup",
];

/// FSM's kinds in the group of its MeshConfig that configure FSM itself.
const OTHER_FLOMESH: [&str; 1] = ["MeshRootCertificate"];

/// Groups that meshgate will read but does not yet.
const LATER_GROUPS: [&str; 1] = ["split.smi-spec.io"];

/// Group, versions and kinds of what is read.
const READ: [(&str, &[&str], &[Kind]); 10] = [
    ("", &["v1"], &[Kind::Service, Kind::Endpoints, Kind::Pod, Kind::Namespace, Kind::ServiceAccount]),
    (DISCOVERY, &["v1"], &[Kind::EndpointSlice]),
    (NETWORKING, &["v1", "v1beta1", "v1alpha3"], &[Kind::WorkloadEntry]),
    (SECURITY, &["v1", "v1beta1"], &[Kind::AuthorizationPolicy, Kind::PeerAuthentication, Kind::RequestAuthentication]),
    (SMI_ACCESS, &["v1alpha3", "v1alpha2"], &[Kind::TrafficTarget]),
    (SMI_SPECS, &["v1alpha4", "v1alpha3", "v1alpha2"], &[Kind::HttpRouteGroup, Kind::TcpRoute, Kind::UdpRoute]),
    (FLOMESH_CONFIG, &["v1alpha3", "v1alpha2", "v1alpha1"], &[Kind::MeshConfig]),
    (FLOMESH[0], &["v1alpha1"], &FLOMESH_KINDS),
    (FLOMESH[1], &["v1alpha1"], &FLOMESH_KINDS),
    (MCS, &["v1beta1", "v1alpha1"], &[Kind::McsServiceExport, Kind::McsServiceImport]),
];

const FLOMESH_KINDS: [Kind; 3] = [Kind::ServiceExport, Kind::ServiceImport, Kind::GlobalTrafficPolicy];

impl Kind {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::Endpoints => "Endpoints",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
            Kind::Namespace => "Namespace",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::WorkloadEntry => "WorkloadEntry",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::PeerAuthentication => "PeerAuthentication",
            Kind::RequestAuthentication => "RequestAuthentication",
            Kind::TrafficTarget => "TrafficTarget",
            Kind::HttpRouteGroup => "HTTPRouteGroup",
            Kind::TcpRoute => "TCPRoute",
            Kind::UdpRoute => "UDPRoute",
            Kind::MeshConfig => "MeshConfig",
            Kind::ServiceExport | Kind::McsServiceExport => "ServiceExport",
            Kind::ServiceImport | Kind::McsServiceImport => "ServiceImport",
            Kind::GlobalTrafficPolicy => "GlobalTrafficPolicy",
            Kind::UnknownSecurity => "unknown security kind",
        }
    }

    /// Says who may do what: one of these that cannot be read denies what it selects.
    pub(crate) fn is_security(self) -> bool {
        matches!(
            self,
            Kind::AuthorizationPolicy | Kind::PeerAuthentication | Kind::RequestAuthentication | Kind::UnknownSecurity
        )
    }

    /// Says who may do what, so that a field left empty by mistake must not be read as one left out.
    pub(crate) fn is_about_access(self) -> bool {
        self.is_security()
            || matches!(
                self,
                Kind::TrafficTarget
                    | Kind::HttpRouteGroup
                    | Kind::TcpRoute
                    | Kind::ServiceExport
                    | Kind::GlobalTrafficPolicy
            )
    }

    /// Has Istio's webhook in front of it in a cluster.
    pub(crate) fn is_istio(self) -> bool {
        self.is_security() || self == Kind::WorkloadEntry
    }

    /// What a finding is about.
    pub(crate) fn of(about: About) -> Kind {
        match about {
            About::AuthorizationPolicy => Kind::AuthorizationPolicy,
            About::PeerAuthentication => Kind::PeerAuthentication,
            About::RequestAuthentication => Kind::RequestAuthentication,
            About::TrafficTarget => Kind::TrafficTarget,
            About::HttpRouteGroup => Kind::HttpRouteGroup,
        }
    }

    /// Has no namespace.
    pub(crate) fn is_cluster_scoped(self) -> bool {
        self == Kind::Namespace
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides by `apiVersion` and `kind`.
pub(crate) fn classify(api_version: &str, kind: &str) -> Class {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if group.is_empty() && kind == "List" {
        return Class::List;
    }
    let Some((_, versions, kinds)) = READ.iter().find(|(known, ..)| *known == group) else {
        return foreign(group, kind);
    };
    let known = kinds.iter().copied().find(|known| known.as_str() == kind);
    if let Some(known) = known {
        if versions.contains(&version) {
            return Class::Read(known);
        }
        let message = format!(
            "`{api_version}` is not a version of {known} that is read: expected {}",
            versions_of(group, versions)
        );
        return Class::Wrong { kind: Some(known), field: "apiVersion", message };
    }
    if group == NETWORKING && OTHER_NETWORKING.contains(&kind)
        || group == FLOMESH_CONFIG && OTHER_FLOMESH.contains(&kind)
    {
        return Class::NoEffect;
    }
    let names = || kinds.iter().map(|known| known.as_str());
    match kind.strip_suffix("List").filter(|item| names().any(|name| name == *item)) {
        Some(_) => Class::Wrong {
            kind: None,
            field: "kind",
            message: format!(
                "`{kind}` is not read: write `apiVersion: v1`, `kind: List`, and give each item its own kind"
            ),
        },
        // The core group has dozens of kinds that are none of our business.
        None if group.is_empty() || group == DISCOVERY => Class::PassedOver,
        // FSM keeps many of its own in it.
        None if FLOMESH.contains(&group) && nearest(kind, names()).is_none() => Class::NoEffect,
        None => {
            let near = nearest(kind, names()).map(|near| format!(" (did you mean `{near}`?)"));
            let expected = names().collect::<Vec<_>>().join(", ");
            Class::Wrong {
                kind: (group == SECURITY).then_some(Kind::UnknownSecurity),
                field: "kind",
                message: format!("`{kind}` is not a kind of {group}: expected {expected}{}", near.unwrap_or_default()),
            }
        }
    }
}

/// Other groups have kinds of the same names (Linkerd has an AuthorizationPolicy), so that only a group that is nearly
/// one of ours is a mistake.
fn foreign(group: &str, kind: &str) -> Class {
    if LATER_GROUPS.contains(&group) {
        return Class::NoEffect;
    }
    let is_near = |known: &str| !known.is_empty() && nearest(group, [known]).is_some();
    let Some((near, _, kinds)) = READ.iter().find(|(known, ..)| is_near(known)) else {
        return Class::PassedOver;
    };
    let known = kinds.iter().copied().find(|known| known.as_str() == kind);
    Class::Wrong {
        kind: known.or((*near == SECURITY).then_some(Kind::UnknownSecurity)),
        field: "apiVersion",
        message: format!("`{group}` is not a group that is read (did you mean `{near}`?)"),
    }
}

fn versions_of(group: &str, versions: &[&str]) -> String {
    let prefix = if group.is_empty() { String::new() } else { format!("{group}/") };
    versions.iter().map(|version| format!("{prefix}{version}")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies() {
        for (api_version, kind, expected) in [
            ("v1", "Service", Class::Read(Kind::Service)),
            ("v1", "List", Class::List),
            ("v1", "ConfigMap", Class::PassedOver),
            ("apps/v1", "Deployment", Class::PassedOver),
            ("x/v1", "AuthorizationPolicy", Class::PassedOver),
            ("test.meshgate.io/v1", "PolicyTest", Class::PassedOver),
            ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", Class::PassedOver),
            ("discovery.k8s.io/v1", "EndpointSlice", Class::Read(Kind::EndpointSlice)),
            ("security.istio.io/v1", "AuthorizationPolicy", Class::Read(Kind::AuthorizationPolicy)),
            ("security.istio.io/v1beta1", "PeerAuthentication", Class::Read(Kind::PeerAuthentication)),
            ("networking.istio.io/v1", "WorkloadEntry", Class::Read(Kind::WorkloadEntry)),
            ("networking.istio.io/v1", "VirtualService", Class::NoEffect),
            ("access.smi-spec.io/v1alpha3", "TrafficTarget", Class::Read(Kind::TrafficTarget)),
            ("specs.smi-spec.io/v1alpha2", "HTTPRouteGroup", Class::Read(Kind::HttpRouteGroup)),
            ("specs.smi-spec.io/v1alpha4", "UDPRoute", Class::Read(Kind::UdpRoute)),
            ("config.flomesh.io/v1alpha3", "MeshConfig", Class::Read(Kind::MeshConfig)),
            ("config.flomesh.io/v1alpha2", "MeshRootCertificate", Class::NoEffect),
            ("split.smi-spec.io/v1alpha4", "TrafficSplit", Class::NoEffect),
            ("multicluster.flomesh.io/v1alpha1", "ServiceImport", Class::Read(Kind::ServiceImport)),
            ("flomesh.io/v1alpha1", "GlobalTrafficPolicy", Class::Read(Kind::GlobalTrafficPolicy)),
            ("flomesh.io/v1alpha1", "Cluster", Class::NoEffect),
            ("multicluster.x-k8s.io/v1alpha1", "ServiceImport", Class::Read(Kind::McsServiceImport)),
            ("multicluster.x-k8s.io/v1beta1", "ServiceExport", Class::Read(Kind::McsServiceExport)),
        ] {
            assert_eq!(classify(api_version, kind), expected, "{api_version} {kind}");
        }
    }

    #[test]
    fn mistakes_in_owned_groups_are_errors() {
        for (api_version, kind, expected_kind, message) in [
            (
                "security.istio.io/v1",
                "AuthorisationPolicy",
                Some(Kind::UnknownSecurity),
                "`AuthorisationPolicy` is not a kind of security.istio.io: expected AuthorizationPolicy, PeerAuthentication, \
                 RequestAuthentication (did you mean `AuthorizationPolicy`?)",
            ),
            (
                "security.istio.io/v1alpha9",
                "AuthorizationPolicy",
                Some(Kind::AuthorizationPolicy),
                "`security.istio.io/v1alpha9` is not a version of AuthorizationPolicy that is read: expected security.istio.io/v1 or \
                 security.istio.io/v1beta1",
            ),
            (
                "security.isto.io/v1",
                "AuthorizationPolicy",
                Some(Kind::AuthorizationPolicy),
                "`security.isto.io` is not a group that is read (did you mean `security.istio.io`?)",
            ),
            (
                "access.smi-spec.io/v1alpha1",
                "TrafficTarget",
                Some(Kind::TrafficTarget),
                "`access.smi-spec.io/v1alpha1` is not a version of TrafficTarget that is read: expected \
                 access.smi-spec.io/v1alpha3 or access.smi-spec.io/v1alpha2",
            ),
            (
                "access.smi-spec.io/v1alpha3",
                "TraficTarget",
                None,
                "`TraficTarget` is not a kind of access.smi-spec.io: expected TrafficTarget (did you mean `TrafficTarget`?)",
            ),
            (
                "flomesh.io/v1alpha1",
                "ServiceExprt",
                None,
                "`ServiceExprt` is not a kind of flomesh.io: expected ServiceExport, ServiceImport, GlobalTrafficPolicy (did you \
                 mean `ServiceExport`?)",
            ),
            ("v2", "Pod", Some(Kind::Pod), "`v2` is not a version of Pod that is read: expected v1"),
            (
                "v1",
                "PodList",
                None,
                "`PodList` is not read: write `apiVersion: v1`, `kind: List`, and give each item its own kind",
            ),
        ] {
            match classify(api_version, kind) {
                Class::Wrong { kind: found, message: text, .. } => {
                    assert_eq!((found, text.as_str()), (expected_kind, message));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
