//! Deciding without a proxy: the resources of a folder, and what the proxy beside each of their workloads would have in
//! force.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshgate_config::offline::Resources;
use meshgate_config::{Bootstrap, Snapshot};
use meshgate_policy::normalize::Level;
use meshgate_policy::{ObjectName, Workload};

use crate::case::{Case, CaseError};
use crate::judge::calling::{Called, Calling, Settings};
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
    calls: Settings,
    snapshots: BTreeMap<Option<ObjectName>, Arc<Snapshot>>,
}

impl Own {
    /// The workload that a bootstrap file is for.
    pub(super) fn of(bootstrap: &Bootstrap) -> Own {
        let name =
            ObjectName { namespace: bootstrap.workload.namespace.clone(), name: bootstrap.workload.name.clone() };
        Own { workload: bootstrap.workload(), name: Some(name) }
    }

    /// Its name, or what is known of it.
    fn described(&self) -> String {
        if let Some(name) = &self.name {
            return name.to_string();
        }
        let labels: Vec<_> = self.workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels = if labels.is_empty() { "without labels".to_owned() } else { labels.join(",") };
        format!("a workload in {}, {labels}", self.workload.namespace)
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
            calls: bootstrap.map(Settings::from).unwrap_or_default(),
            snapshots: BTreeMap::new(),
        }
    }

    /// Decides as the proxy beside the workload that the case names would.
    ///
    /// # Errors
    /// A field of the case that has no meaning, or no such workload.
    pub(super) fn judge(&mut self, case: &Case) -> Result<Answer, CaseError> {
        let (own, snapshot) = self.proxy(case)?;
        let judge = Judge {
            snapshot: &snapshot,
            workload: self.resources.workloads().iter().find(|record| Some(&record.name) == own.name.as_ref()),
            level: self.level,
            trusted_proxies: self.trusted_proxies,
        };
        let mut answer = judge.judge(case)?;
        answer.workload = Some(own.described());
        Ok(answer)
    }

    /// Decides on a call as the proxy beside the workload that the case names would.
    ///
    /// # Errors
    /// As [`Offline::judge`].
    pub(super) fn call(&mut self, case: &Case) -> Result<Called, CaseError> {
        let (own, snapshot) = self.proxy(case)?;
        let calling = Calling { snapshot: &snapshot, caller: &own.workload, settings: &self.calls, live: None };
        let mut called = calling.judge(case)?;
        let unnamed =
            || format!("a workload in {}, service account {}", own.workload.namespace, own.workload.service_account);
        called.workload = Some(own.name.as_ref().map_or_else(unnamed, ToString::to_string));
        Ok(called)
    }

    /// The workload that a case names, and what its proxy would have in force.
    fn proxy(&mut self, case: &Case) -> Result<(Own, Arc<Snapshot>), CaseError> {
        let own = match &case.workload {
            Some(wanted) => {
                let found = self.resources.find(wanted);
                let record = found.map_err(|message| CaseError { field: "workload", message })?;
                Own { workload: record.workload.clone(), name: Some(record.name.clone()) }
            }
            None => self.own.clone(),
        };
        let resources = &self.resources;
        let snapshot = self.snapshots.entry(own.name.clone());
        let snapshot = snapshot.or_insert_with(|| Arc::new(resources.snapshot(own.workload.clone())));
        Ok((own, Arc::clone(snapshot)))
    }
}
