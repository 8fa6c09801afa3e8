//! What a reload would say, without a proxy: for `meshgate check` and for tests of one's own configuration.

mod allowances;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use meshgate_identity::TrustDomain;
use meshgate_policy::lint::{self, Known, KnownWorkload};
use meshgate_policy::smi::Reach;
use meshgate_policy::{Lint, ObjectName, Settings, Workload, jwt};

use crate::app_protocol::AppProtocol;
use crate::bootstrap::Bootstrap;
use crate::folder::Folder;
use crate::kept::{Reading, Standing};
use crate::kind::Kind;
use crate::multicluster;
use crate::multicluster::imports::{self, Imports};
use crate::problem::{self, Problem};
use crate::resource::Key;
use crate::services::Entry;
use crate::smi;
use crate::snapshot::{Besides, Mesh, Surroundings, rules};

/// A workload, and what its bootstrap file says that lints want to know.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// What policies select.
    pub workload: Workload,
    /// Trust domains, beside the mesh's own, that it has roots of; `None` when that is not known.
    pub federated: Option<Vec<TrustDomain>>,
    /// See [`Authorization`](crate::Authorization); `None` when that is not known.
    pub num_trusted_proxies: Option<u32>,
    /// Which cluster it is in, and which others there are; `None` when that is not known.
    pub surroundings: Option<Surroundings>,
}

impl From<&Bootstrap> for Own {
    fn from(bootstrap: &Bootstrap) -> Own {
        Own {
            workload: bootstrap.workload(),
            federated: Some(bootstrap.known_domains().cloned().collect()),
            num_trusted_proxies: Some(bootstrap.authorization.num_trusted_proxies),
            surroundings: Some(bootstrap.into()),
        }
    }
}

/// What a [`look`] came to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// In the order of files and lines.
    pub problems: Vec<Problem>,
    /// Files that were read.
    pub files: usize,
    /// Objects in them that have a meaning here, bad ones as well.
    pub objects: usize,
}

/// Everything wrong (severity error) or doubtful (warning) with the resources in `directory`, in the order of files and
/// lines. Findings of the policy engine have their code, such as `MG001`, for a field.
///
/// An object's annotation `meshgate.io/allow: "MG005,MG010"` silences these findings about it.
///
/// `own` is a workload that policies may select although no Pod or WorkloadEntry in the folder is it, and what else its
/// bootstrap file says.
pub fn check(directory: &Path, settings: &Settings, own: Option<&Own>) -> Vec<Problem> {
    look(directory, settings, own).problems
}

/// As [`check`], with how much was looked at: nothing wrong with nothing is not what one wants to hear.
pub fn look(directory: &Path, settings: &Settings, own: Option<&Own>) -> Checked {
    let folder = Folder::read(directory);
    let reading = Reading::new(&folder, &settings.root_namespace);
    let (files, objects) = (folder.files.len(), reading.objects());
    let (standing, mut problems) = Standing::default().after(reading, &settings.root_namespace);
    let surroundings = own.and_then(|own| own.surroundings.clone());
    let is_certain = surroundings.is_some();
    // The DNS suffix shows in no message.
    let surroundings = surroundings.unwrap_or_else(|| Surroundings::alone("cluster.local"));
    let besides = Besides { surroundings: &surroundings, discovered: &BTreeMap::new() };
    let account = |entries: &[Entry<'_>], imports: &Imports<'_>| {
        let known = multicluster::lint::Known { entries, imports, surroundings: is_certain.then_some(&surroundings) };
        (multicluster::lint::lints(&standing, &known), imports::accounts(imports))
    };
    let (mut mesh, (of_clusters, accounts)) = Mesh::looked_at(&standing, settings, &Reach::default(), besides, account);
    let (_, in_force, doubts) = rules(&standing, settings);
    let known = known(&standing, &mesh, own);
    problems.append(&mut mesh.problems);
    problems.extend(of_clusters);
    problems.extend(doubts);
    problems.extend(lints(&standing, &known, settings));
    problems.extend(smi::lints(&standing, &known, &accounts, &in_force));
    let mut problems = allowances::apply(&standing, problems);
    problem::sort(&mut problems);
    Checked { problems, files, objects }
}

/// Whether `code` is that of a finding.
pub fn is_known(code: &str) -> bool {
    lint::CATALOGUE.iter().any(|lint| lint.code == code)
}

/// The policy engine's findings. Refusals that stand for unreadable documents are left out: they are errors already.
fn lints(standing: &Standing, known: &Known, settings: &Settings) -> Vec<Problem> {
    let policies: Vec<_> =
        standing.policies().into_iter().filter(|policy| policy.unreadable_because().is_none()).collect();
    let found = lint::all(&policies, &standing.peer_authentications(), known, settings);
    let of_tokens = jwt::lint::all(&standing.request_authentications(), &policies, known, settings);
    found.into_iter().chain(of_tokens).filter_map(|found| located(standing, &found)).collect()
}

/// A finding, where the object that it is about stands.
pub(crate) fn located(standing: &Standing, lint: &Lint) -> Option<Problem> {
    let key =
        Key { kind: Kind::of(lint.about), namespace: lint.policy.namespace.clone(), name: lint.policy.name.clone() };
    let place = standing.place(&key)?;
    let problem = Problem::warning(&place.file, lint.message.clone()).at(Some(place.line));
    Some(problem.about(key).in_field(Some(lint.code.to_owned())))
}

/// What the folder, and the bootstrap file, say of the mesh beside its policies.
fn known(standing: &Standing, mesh: &Mesh, own: Option<&Own>) -> Known {
    let mut known = Known {
        federated: own.and_then(|own| own.federated.clone()),
        num_trusted_proxies: own.and_then(|own| own.num_trusted_proxies),
        ..Known::default()
    };
    let mut tcp_ports = tcp_ports(mesh);
    let records = mesh.workloads.iter().map(|record| KnownWorkload {
        name: record.name.to_string(),
        workload: record.workload.clone(),
        tcp_ports: tcp_ports.remove(&record.name).unwrap_or_default(),
    });
    known.workloads.extend(records);
    if let Some(own) = own.filter(|_| !known.workloads.is_empty()) {
        // Its ports are those of its records, which are the ones with its labels.
        let same = known.workloads.iter().filter(|other| other.workload == own.workload);
        let tcp_ports = same.flat_map(|other| other.tcp_ports.iter().copied()).collect();
        let workload = own.workload.clone();
        known.workloads.insert(0, KnownWorkload { name: "this workload".to_owned(), workload, tcp_ports });
    }
    for (key, ..) in standing.good() {
        match key.kind {
            Kind::ServiceAccount => {
                known.service_accounts.insert(key.object_name());
            }
            Kind::Namespace => {
                known.namespaces.insert(key.name.clone());
            }
            _ => {}
        }
    }
    known
}

/// The ports of each workload that every service which has them declares to be TCP.
fn tcp_ports(mesh: &Mesh) -> HashMap<ObjectName, BTreeSet<u16>> {
    let mut declared: HashMap<ObjectName, (BTreeSet<u16>, BTreeSet<u16>)> = HashMap::new();
    for service_port in mesh.services.iter() {
        for endpoint in &service_port.endpoints {
            let Some(workload) = &endpoint.workload else { continue };
            let (tcp, other) = declared.entry(workload.clone()).or_default();
            let ports = if service_port.app_protocol == AppProtocol::Tcp { tcp } else { other };
            ports.insert(endpoint.address.port());
        }
    }
    declared.into_iter().map(|(workload, (tcp, other))| (workload, &tcp - &other)).collect()
}

#[cfg(test)]
mod tests;
