//! Deciding without a proxy: the resources of a folder, and what the proxy beside each of their workloads would have in
//! force.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshgate_config::offline::Resources;
use meshgate_config::{Bootstrap, Snapshot};
use meshgate_policy::normalize::Level;
use meshgate_policy::{ObjectName, Workload};

use crate::case::{Case, CaseError};
use crate::judge::{Answer, Judge};

/// The workload that is called where a case names none.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// As policies select it.
    pub(super) workload: Workload,
    /// Its name among the resources, if it is there.
    pub(super) name: Option<ObjectName>,
}

/// Resources to decide by.
#[derive(Debug)]
pub(super) struct Offline {
    pub(super) resources: Resources,
    pub(super) level: Level,
    pub(super) trusted_proxies: u32,
    pub(super) own: Own,
    snapshots: BTreeMap<Option<ObjectName>, Arc<Snapshot>>,
}

impl Own {
    /// The workload that a bootstrap file is for.
    pub(super) fn of(bootstrap: &Bootstrap) -> Own {
        let name =
            ObjectName { namespace: bootstrap.workload.namespace.clone(), name: bootstrap.workload.name.clone() };
        Own { workload: bootstrap.workload(), name: Some(name) }
    }
}

impl Offline {
    /// With the settings of a bootstrap file for what policies do not say.
    pub(super) fn new(resources: Resources, own: Own, bootstrap: Option<&Bootstrap>) -> Offline {
        let authorization = bootstrap.map(|bootstrap| bootstrap.authorization);
        Offline {
            resources,
            level: authorization.map(|settings| settings.path_normalization).unwrap_or_default(),
            trusted_proxies: authorization.map_or(0, |settings| settings.num_trusted_proxies),
            own,
            snapshots: BTreeMap::new(),
        }
    }

    /// Decides as the proxy beside the workload that the case names would.
    ///
    /// # Errors
    /// A field of the case that has no meaning, or no such workload.
    pub(super) fn judge(&mut self, case: &Case) -> Result<Answer, CaseError> {
        let (name, workload) = match &case.workload {
            Some(wanted) => {
                let found = self.resources.find(wanted);
                let record = found.map_err(|message| CaseError { field: "workload", message })?;
                (Some(record.name.clone()), record.workload.clone())
            }
            None => (self.own.name.clone(), self.own.workload.clone()),
        };
        let resources = &self.resources;
        let snapshot =
            self.snapshots.entry(name.clone()).or_insert_with(|| Arc::new(resources.snapshot(workload.clone())));
        let judge = Judge {
            snapshot,
            workload: resources.workloads().iter().find(|record| Some(&record.name) == name.as_ref()),
            level: self.level,
            trusted_proxies: self.trusted_proxies,
        };
        let mut answer = judge.judge(case)?;
        answer.workload = Some(name.map_or_else(|| described(&workload), |name| name.to_string()));
        Ok(answer)
    }
}

/// A workload without a name.
fn described(workload: &Workload) -> String {
    let labels: Vec<_> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "without labels".to_owned() } else { labels.join(",") };
    format!("a workload in {}, {labels}", workload.namespace)
}
