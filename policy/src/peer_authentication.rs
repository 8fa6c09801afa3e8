//! Whether mutual TLS is asked for, port by port.
//!
//! Unlike authorization policies these override each other: port, then workload, then namespace, then mesh. Within one
//! scope a single object counts, alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{ObjectName, Workload};
use crate::select::{self, Labels};

/// Which connections a port accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Mutual TLS only.
    Strict,
    /// Mutual TLS, and plaintext without an identity.
    #[default]
    Permissive,
    /// Plaintext only.
    Disable,
}

impl MtlsMode {
    /// As documents have it.
    pub fn as_str(self) -> &'static str {
        match self {
            MtlsMode::Strict => "STRICT",
            MtlsMode::Permissive => "PERMISSIVE",
            MtlsMode::Disable => "DISABLE",
        }
    }
}

/// One PeerAuthentication.
#[derive(Clone, Debug)]
pub struct PeerAuthentication {
    pub(crate) name: ObjectName,
    /// In the root namespace.
    pub(crate) mesh_wide: bool,
    /// Empty when it is for a whole namespace or the mesh.
    pub(crate) labels: Labels,
    /// A selector is written, without labels.
    pub(crate) empty_selector: bool,
    /// `None` where the next wider scope decides.
    pub(crate) mode: Option<MtlsMode>,
    pub(crate) ports: BTreeMap<u16, Option<MtlsMode>>,
}

/// The modes of one workload. The default is permissive on every port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MtlsModes {
    otherwise: MtlsMode,
    ports: BTreeMap<u16, MtlsMode>,
}

/// How far one object reaches; of several in one scope the first by name counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PeerScope<'a> {
    /// Without labels, in the root namespace.
    Mesh,
    /// Without labels, elsewhere.
    Namespace(&'a str),
    /// With labels, outside the root namespace.
    Workloads(&'a str, &'a Labels),
    /// With labels, in the root namespace: Istio looks at such an object for nobody.
    Nobody,
}

impl PeerAuthentication {
    /// Stands for a document that could not be read and has no good version to fall back on: the workloads it selects
    /// accept mutual TLS only, which is the one mode that opens nothing.
    pub fn unreadable(
        name: ObjectName,
        selector: Option<BTreeMap<String, String>>,
        root_namespace: &str,
    ) -> PeerAuthentication {
        PeerAuthentication {
            mesh_wide: name.namespace == root_namespace,
            name,
            labels: selector.map(Labels::from).unwrap_or_default(),
            empty_selector: false,
            mode: Some(MtlsMode::Strict),
            ports: BTreeMap::new(),
        }
    }

    /// Its namespace and name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    pub(crate) fn scope(&self) -> PeerScope<'_> {
        match (self.labels.is_empty(), self.mesh_wide) {
            (true, true) => PeerScope::Mesh,
            (true, false) => PeerScope::Namespace(&self.name.namespace),
            (false, false) => PeerScope::Workloads(&self.name.namespace, &self.labels),
            (false, true) => PeerScope::Nobody,
        }
    }
}

impl MtlsModes {
    /// What holds for a workload.
    pub fn for_workload(all: &[Arc<PeerAuthentication>], workload: &Workload, root_namespace: &str) -> MtlsModes {
        let mut in_reach: Vec<_> =
            all.iter().filter(|object| select::reaches(&object.name, &workload.namespace, root_namespace)).collect();
        in_reach.sort_by_key(|object| &object.name);
        let first = |wanted: &dyn Fn(PeerScope<'_>) -> bool| in_reach.iter().find(|object| wanted(object.scope()));
        let mesh = first(&|scope| scope == PeerScope::Mesh);
        let namespace = first(&|scope| matches!(scope, PeerScope::Namespace(_)));
        let own =
            first(&|scope| matches!(scope, PeerScope::Workloads(_, labels) if select::labels_match(labels, workload)));
        let otherwise = [own, namespace, mesh].into_iter().flatten().find_map(|object| object.mode).unwrap_or_default();
        let ports = own.into_iter().flat_map(|object| &object.ports);
        let ports = ports.filter_map(|(&port, &mode)| Some((port, mode?))).collect();
        MtlsModes { otherwise, ports }
    }

    /// The mode of one of its ports.
    pub fn mode(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.otherwise)
    }

    /// The mode of the ports that nothing else is said of.
    pub fn otherwise(&self) -> MtlsMode {
        self.otherwise
    }

    /// The ports of which something else is said.
    pub fn ports(&self) -> impl Iterator<Item = (u16, MtlsMode)> {
        self.ports.iter().map(|(port, mode)| (*port, *mode))
    }
}

#[cfg(test)]
mod tests;
