//! Resources without a proxy: for commands that decide as one would.
//!
//! The one idea: what a proxy decides from is a [`Snapshot`], so that is what is made here, for whichever workload is
//! asked about. Nothing is watched, and nothing from before is kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meshgate_policy::smi::Reach;
use meshgate_policy::{MtlsModes, ObjectName, Policy, Settings, Workload};

use crate::folder::Folder;
use crate::kept::{Reading, Standing};
use crate::problem::Problem;
use crate::snapshot::{Besides, Context, Mesh, Snapshot, Surroundings, rules};
use crate::suggest::nearest;
use crate::workloads::WorkloadRecord;

/// Names shown where one was not found.
const NAMES_SHOWN: usize = 5;

/// A folder of resources, as a proxy that starts now would have them.
#[derive(Debug)]
pub struct Resources {
    standing: Standing,
    policies: Vec<Arc<Policy>>,
    problems: Vec<Problem>,
    settings: Settings,
    surroundings: Surroundings,
    workloads: Vec<WorkloadRecord>,
}

impl Resources {
    /// Reads the folder once. Whatever is wrong with it is in [`Resources::problems`].
    pub fn read(directory: &Path, settings: &Settings, surroundings: &Surroundings) -> Resources {
        Resources::read_all(&[directory], settings, surroundings)
    }

    /// Reads several folders, or single files, as if all were in one folder.
    pub fn read_all(places: &[impl AsRef<Path>], settings: &Settings, surroundings: &Surroundings) -> Resources {
        let reading = Reading::new(&Folder::read_all(places), &settings.root_namespace);
        let (standing, problems) = Standing::default().after(reading, &settings.root_namespace);
        let besides = Besides { surroundings, discovered: &BTreeMap::new() };
        let workloads = Mesh::compose(&standing, settings, &Reach::default(), besides).workloads;
        let (mut policies, ..) = rules(&standing, settings);
        policies.retain(|policy| policy.applies_in(surroundings.cluster_key.as_str()));
        Resources {
            standing,
            policies,
            problems,
            settings: settings.clone(),
            surroundings: surroundings.clone(),
            workloads,
        }
    }

    /// What is wrong with the documents.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The Pods and WorkloadEntries.
    pub fn workloads(&self) -> &[WorkloadRecord] {
        &self.workloads
    }

    /// Every policy of the mesh; one that cannot be read stands as the refusal that it is.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// What the proxy beside a workload would have in force.
    pub fn snapshot(&self, own: Workload) -> Snapshot {
        let context = Context {
            settings: self.settings.clone(),
            surroundings: self.surroundings.clone(),
            own,
            is_gateway: false,
        };
        Snapshot::compose(&self.standing, &context, &BTreeMap::new(), self.problems.clone(), 1)
    }

    /// The workload that is meant by `namespace/name`, or by `namespace/label=value` where all with that label are
    /// treated alike. Without a namespace it is `default`.
    ///
    /// # Errors
    /// A sentence for people: there is none, with names that are near, or there are several that differ.
    pub fn find(&self, wanted: &str) -> Result<&WorkloadRecord, String> {
        let (namespace, name) = wanted.split_once('/').unwrap_or(("default", wanted));
        let inside = || self.workloads.iter().filter(move |record| record.name.namespace == namespace);
        let Some((label, value)) = name.split_once('=') else {
            return inside().find(|record| record.name.name == name).ok_or_else(|| self.none(wanted, namespace, name));
        };
        let labelled = |record: &&WorkloadRecord| record.workload.labels.get(label).is_some_and(|found| found == value);
        let mut all = inside().filter(labelled);
        let first = all.next().ok_or_else(|| {
            format!("no Pod or WorkloadEntry in namespace {namespace} has the label {label}={value}{}", self.names())
        })?;
        match all.find(|other| !self.alike(&first.workload, &other.workload)) {
            None => Ok(first),
            Some(other) => Err(format!(
                "{wanted} is more than one workload, and policies treat {} and {} differently: give a name",
                first.name, other.name
            )),
        }
    }

    /// Whether policies make no difference between two workloads.
    fn alike(&self, one: &Workload, other: &Workload) -> bool {
        let root = &self.settings.root_namespace;
        let modes = |workload| MtlsModes::for_workload(&self.standing.peer_authentications(), workload, root);
        one.service_account == other.service_account
            && self.policies.iter().all(|policy| policy.selects(one, root) == policy.selects(other, root))
            && modes(one) == modes(other)
    }

    fn none(&self, wanted: &str, namespace: &str, name: &str) -> String {
        let full = |record: &WorkloadRecord| record.name.to_string();
        let same_name = self.workloads.iter().find(|record| record.name.name == name).map(full);
        let same_place = self.workloads.iter().filter(|record| record.name.namespace == namespace);
        let near =
            || nearest(name, same_place.map(|record| &*record.name.name)).map(|near| format!("{namespace}/{near}"));
        match same_name.or_else(near) {
            Some(near) => format!("there is no Pod or WorkloadEntry {wanted} (did you mean `{near}`?)"),
            None => format!("there is no Pod or WorkloadEntry {wanted}{}", self.names()),
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.workloads.iter().map(|record| record.name.to_string()).collect();
        match (names.get(..NAMES_SHOWN), names.as_slice()) {
            (_, []) => "; there is none at all among the resources".to_owned(),
            (Some(first), all) if all.len() > NAMES_SHOWN => {
                format!("; there are {} and {} more", first.join(", "), all.len() - NAMES_SHOWN)
            }
            (_, all) => format!("; there are {}", all.join(", ")),
        }
    }
}

impl WorkloadRecord {
    /// The ports at which services reach it, each with the service's own: port called, then port of the service.
    pub fn service_ports<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (u16, u16, Option<&'a str>)> {
        // Under its name in the clusterset it is the same service.
        snapshot.services.iter().filter(|port| !port.is_clusterset()).flat_map(move |port| {
            let own = port.endpoints.iter().filter(|endpoint| self.is(endpoint.workload.as_ref()));
            own.map(|endpoint| (endpoint.address.port(), port.port, port.name.as_deref()))
        })
    }

    fn is(&self, name: Option<&ObjectName>) -> bool {
        name == Some(&self.name)
    }
}

#[cfg(test)]
mod tests;
