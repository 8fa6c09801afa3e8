//! The configuration in force, composed into one immutable value.
//!
//! The one idea: all that can be worked out from the resources alone (who is behind which service, what applies to this
//! proxy's own workload) is worked out here, once, off the data path. A connection takes a snapshot and keeps it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use meshgate_policy::smi::Reach;
use meshgate_policy::{
    Authentication, MtlsModes, PeerAuthentication, Policy, PolicySet, RequestAuthentication, Settings, SmiMode,
    Workload,
};

use crate::app_protocol::OpaquePorts;
use crate::backends::{self, Local, View};
use crate::bootstrap::{Bootstrap, Multicluster};
use crate::clusters::{ClusterKey, Discovered, Exports};
use crate::elsewhere::Elsewhere;
use crate::kept::Standing;
use crate::multicluster;
use crate::multicluster::compose::Around;
use crate::multicluster::imports::{self, Imports, Peers};
use crate::problem::{self, Problem};
use crate::references;
use crate::services::{Entry, Services};
use crate::smi::Smi;
use crate::split;
use crate::workloads::{WorkloadRecord, Workloads};

/// One generation of the resources.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first; greater by one for each that differs in content.
    pub generation: u64,
    /// When it was read.
    pub loaded_at: SystemTime,
    /// Where things are.
    pub services: Services,
    /// What other clusters may call.
    pub exports: Exports,
    /// Pods and WorkloadEntries.
    pub workloads: Vec<WorkloadRecord>,
    /// Their places, by address.
    by_ip: HashMap<IpAddr, usize>,
    /// AuthorizationPolicies and TrafficTargets of the whole mesh, and refusals that stand for what was never readable.
    pub policies: Vec<Arc<Policy>>,
    /// PeerAuthentications of the whole mesh.
    pub peer_authentications: Vec<Arc<PeerAuthentication>>,
    /// Whether TrafficTargets are in force.
    pub smi: SmiMode,
    /// What TrafficTargets say of calls to other clusters.
    pub elsewhere: Elsewhere,
    /// RequestAuthentications of the whole mesh.
    pub request_authentications: Vec<Arc<RequestAuthentication>>,
    /// What applies to this proxy's own workload.
    pub inbound_policy: PolicySet,
    /// Where the documents of the policies in it stand, `file:line`, by kind and name: `AuthorizationPolicy default/x`.
    pub places: BTreeMap<String, String>,
    /// The tokens that this proxy's own workload takes.
    pub authentication: Arc<Authentication>,
    /// The mTLS modes of this proxy's own workload.
    pub mtls: MtlsModes,
    /// How many objects were read, good ones and bad: 0 of a folder that was emptied by mistake.
    pub objects: usize,
    /// Everything that was wrong, or doubtful, with what was read.
    pub problems: Vec<Problem>,
}

/// Which cluster the resources are those of, and what is known of others besides.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// DNS suffix of service names, without a dot at either end.
    pub cluster_domain: String,
    /// Which cluster this is.
    pub cluster_key: ClusterKey,
    /// Other clusters.
    pub multicluster: Multicluster,
    /// Ports that are not parsed where no service says what is spoken there.
    pub opaque_ports: OpaquePorts,
}

impl Surroundings {
    /// A cluster that knows of no other.
    pub fn alone(cluster_domain: &str) -> Self {
        Self {
            cluster_domain: cluster_domain.to_owned(),
            cluster_key: ClusterKey::default(),
            multicluster: Multicluster::default(),
            opaque_ports: OpaquePorts::default(),
        }
    }
}

impl From<&Bootstrap> for Surroundings {
    fn from(bootstrap: &Bootstrap) -> Self {
        Self {
            cluster_domain: bootstrap.cluster_domain.clone(),
            cluster_key: bootstrap.cluster_key.clone(),
            multicluster: bootstrap.multicluster.clone(),
            opaque_ports: bootstrap.detection.opaque_ports.clone(),
        }
    }
}

/// What a snapshot depends on besides the resources.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) surroundings: Surroundings,
    pub(crate) own: Workload,
    /// Traffic-policy mode does not close a gateway, on either side: the workload's own proxy, which sees who calls, decides.
    pub(crate) is_gateway: bool,
}

/// The parts that do not depend on which workload this proxy is.
pub(crate) struct Mesh {
    pub(crate) services: Services,
    pub(crate) exports: Exports,
    pub(crate) workloads: Vec<WorkloadRecord>,
    pub(crate) by_ip: HashMap<IpAddr, usize>,
    /// Warnings only.
    pub(crate) problems: Vec<Problem>,
}

/// What is known besides the resources.
#[derive(Clone, Copy)]
pub(crate) struct Besides<'a> {
    pub(crate) surroundings: &'a Surroundings,
    /// What gateways of other clusters said.
    pub(crate) discovered: &'a BTreeMap<ClusterKey, Discovered>,
}

impl Mesh {
    pub(crate) fn compose(standing: &Standing, settings: &Settings, reach: &Reach, besides: Besides<'_>) -> Mesh {
        Mesh::looked_at(standing, settings, reach, besides, |_, _| ()).0
    }

    /// The same, with a look at what it is made of: this cluster's services with its own endpoints alone, sorted by name, and
    /// what other clusters have of them.
    pub(crate) fn looked_at<T>(
        standing: &Standing,
        settings: &Settings,
        reach: &Reach,
        besides: Besides<'_>,
        look: impl FnOnce(&[Entry<'_>], &Imports<'_>) -> T,
    ) -> (Mesh, T) {
        let Besides { surroundings, discovered } = besides;
        let Surroundings { cluster_domain, cluster_key: own, opaque_ports, .. } = surroundings;
        let objects = standing.good().map(|(key, _, object)| (key, object));
        let workloads = Workloads::new(objects, &settings.trust_domain);
        let mut problems = Vec::new();
        let view = View { workloads: &workloads, reach, cluster_domain, own, opaque_ports };
        let Local { mut entries, aliases } = backends::services(standing, view, &mut problems);
        let exports = multicluster::exports::compose(standing, &entries, own, &mut problems);
        let mut peers = Peers::new(surroundings, reach, settings);
        let mut imports = imports::declared(standing, &mut peers, &mut problems);
        multicluster::discovered::add(&mut imports, &mut peers, discovered, &mut problems);
        multicluster::slices::add(&mut imports, &peers, standing, &workloads, &mut problems);
        let seen = look(&entries, &imports);
        let around =
            Around { imports: &imports, exports: &exports, own, cluster_domain, opaque_ports, aliases: &aliases };
        let mut spanning = multicluster::compose::spread(&mut entries, standing, &around);
        split::attach(standing, [&mut entries, &mut spanning], cluster_domain, settings.smi_path_match, &mut problems);
        let services = indexed(cluster_domain, opaque_ports, entries, spanning, &mut problems);
        problems.extend(references::doubts(standing));
        let (workloads, by_ip) = workloads.into_records();
        (Mesh { services, exports, workloads, by_ip, problems }, seen)
    }
}

/// Puts services where they are looked up, and says which addresses are claimed twice.
pub(crate) fn indexed<'a>(
    cluster_domain: &str,
    opaque_ports: &OpaquePorts,
    entries: Vec<Entry<'a>>,
    spanning: Vec<Entry<'a>>,
    problems: &mut Vec<Problem>,
) -> Services {
    let (services, collisions) = Services::new(cluster_domain, opaque_ports, entries, spanning);
    for collision in collisions {
        if let Some((key, place)) = collision.loser {
            let message = format!("{} is already the address of Service {}", collision.address, collision.holder);
            problems.push(Problem::warning(&place.file, message).at(Some(place.line)).about(key));
        }
    }
    services
}

/// All that says who may do what, under the settings that then hold, and what was doubtful about it.
pub(crate) fn rules(standing: &Standing, settings: &Settings) -> (Vec<Arc<Policy>>, Settings, Vec<Problem>) {
    let smi = Smi::compose(standing, settings);
    let policies = [standing.policies(), smi.policies].concat();
    (policies, Settings { smi: smi.mode, ..settings.clone() }, smi.problems)
}

/// As an object is called in [`Snapshot::places`].
fn written(policy: &Policy) -> String {
    format!("{} {}", policy.kind(), policy.name())
}

impl Snapshot {
    /// Where the document of a policy of [`Snapshot::inbound_policy`] stands, `file:line`.
    pub fn place(&self, policy: &Policy) -> Option<&str> {
        self.places.get(&written(policy)).map(String::as_str)
    }

    /// The Pod or WorkloadEntry at an address, where there is one answer to who that is.
    pub fn workload_at(&self, address: IpAddr) -> Option<&WorkloadRecord> {
        self.workloads.get(*self.by_ip.get(&address)?)
    }

    pub(crate) fn compose(
        standing: &Standing,
        context: &Context,
        discovered: &BTreeMap<ClusterKey, Discovered>,
        mut problems: Vec<Problem>,
        generation: u64,
    ) -> Snapshot {
        let Context { settings, surroundings, own, is_gateway } = context;
        let (mut policies, settings, doubts) = rules(standing, settings);
        let smi = if *is_gateway { SmiMode::Permissive } else { settings.smi };
        let judged_by = Settings { smi, ..settings.clone() };
        let reach = Reach::of(own, &policies, smi);
        let elsewhere = Elsewhere::new(&policies, &judged_by, &reach);
        // What is about workloads elsewhere lets nobody in here.
        policies.retain(|policy| policy.applies_in(surroundings.cluster_key.as_str()));
        let mesh = Mesh::compose(standing, &settings, &reach, Besides { surroundings, discovered });
        problems.extend(doubts);
        problems.extend(mesh.problems);
        problem::sort(&mut problems);
        let peer_authentications = standing.peer_authentications();
        let request_authentications = standing.request_authentications();
        let inbound_policy = PolicySet::compile(&policies, own, &judged_by);
        let places = standing.places(&inbound_policy.policies().map(written).collect());
        let authentication = Authentication::compile(&request_authentications, own, &settings.root_namespace);
        Snapshot {
            generation,
            loaded_at: SystemTime::now(),
            services: mesh.services,
            exports: mesh.exports,
            workloads: mesh.workloads,
            by_ip: mesh.by_ip,
            inbound_policy,
            places,
            mtls: MtlsModes::for_workload(&peer_authentications, own, &settings.root_namespace),
            authentication: Arc::new(authentication),
            policies,
            smi: settings.smi,
            elsewhere,
            peer_authentications,
            request_authentications,
            objects: standing.objects(),
            problems,
        }
    }
}

#[cfg(test)]
mod tests;
