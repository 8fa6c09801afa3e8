//! What a reload would say, without a proxy: for `meshgate check` and for tests of one's own configuration.

use std::path::Path;
use std::sync::Arc;

use meshgate_policy::{Lint, ObjectName, Policy, Settings, Workload, jwt, lint};

use crate::folder::Folder;
use crate::kept::{Reading, Standing};
use crate::kind::Kind;
use crate::problem::{self, Problem};
use crate::resource::Key;
use crate::snapshot::Mesh;

/// Everything wrong (severity error) or doubtful (warning) with the resources in `directory`, in the order of files and
/// lines. Findings of the policy engine have their code, such as `MG001`, for a field.
///
/// `own` is a workload that policies may select although no Pod or WorkloadEntry in the folder is it.
pub fn check(directory: &Path, settings: &Settings, own: Option<&Workload>) -> Vec<Problem> {
    let reading = Reading::new(&Folder::read(directory), &settings.root_namespace);
    let (standing, mut problems) = Standing::default().after(reading, &settings.root_namespace);
    // The DNS suffix shows in no message.
    let mesh = Mesh::compose(&standing, settings, "cluster.local");
    let own = own.filter(|_| !mesh.workloads.is_empty()).map(|own| ("this workload".to_owned(), own.clone()));
    let known = mesh.workloads.into_iter().map(|record| (record.name.to_string(), record.workload));
    let workloads: Vec<(String, Workload)> = own.into_iter().chain(known).collect();
    problems.extend(mesh.problems);
    problems.extend(lints(&standing, &workloads, settings));
    problems.extend(selecting_nothing(&standing, &workloads, settings));
    problem::sort(&mut problems);
    problems
}

/// The authorization policies in `directory` as a proxy that starts now would have them, with everything wrong with the
/// documents there; a policy that cannot be read stands as the refusal that it is.
pub fn policies(directory: &Path, settings: &Settings) -> (Vec<Arc<Policy>>, Vec<Problem>) {
    let reading = Reading::new(&Folder::read(directory), &settings.root_namespace);
    let (standing, problems) = Standing::default().after(reading, &settings.root_namespace);
    (standing.policies(), problems)
}

/// The policy engine's findings. Refusals that stand for unreadable documents are left out: they are errors already.
fn lints(standing: &Standing, workloads: &[(String, Workload)], settings: &Settings) -> Vec<Problem> {
    let policies: Vec<_> =
        standing.policies().into_iter().filter(|policy| policy.unreadable_because().is_none()).collect();
    let found = lint::all(&policies, &standing.peer_authentications(), workloads, settings);
    let of_tokens = jwt::lint::all(&standing.request_authentications(), &policies, settings);
    found.into_iter().chain(of_tokens).filter_map(|found| located(standing, &found)).collect()
}

fn located(standing: &Standing, lint: &Lint) -> Option<Problem> {
    let kind = match lint.code {
        lint::PEER_SELECTOR_IN_ROOT | lint::PEER_SCOPE_TAKEN => Kind::PeerAuthentication,
        code if jwt::lint::ABOUT_AUTHENTICATION.contains(&code) => Kind::RequestAuthentication,
        _ => Kind::AuthorizationPolicy,
    };
    warning(standing, kind, &lint.policy, lint.message.clone()).map(|problem| problem.in_field(Some(lint.code.into())))
}

/// Policies that select none of their namespace's workloads, where some are known: most often a misspelt label.
fn selecting_nothing(standing: &Standing, workloads: &[(String, Workload)], settings: &Settings) -> Vec<Problem> {
    let root = settings.root_namespace.as_str();
    let doubt = |kind, name: &ObjectName, selects: &dyn Fn(&Workload) -> bool| {
        let in_reach = |workload: &Workload| name.namespace == root || name.namespace == workload.namespace;
        let known = workloads.iter().filter(|(_, workload)| in_reach(workload)).count();
        if known == 0 || workloads.iter().any(|(_, workload)| selects(workload)) {
            return None;
        }
        warning(standing, kind, name, format!("selects none of the {known} workload(s) known in its reach"))
    };
    let policies = standing.policies().into_iter().filter(|policy| policy.unreadable_because().is_none());
    let policies = policies.filter_map(|policy| {
        doubt(Kind::AuthorizationPolicy, policy.name(), &|workload| policy.selects(workload, root))
    });
    let authentications = standing.request_authentications().into_iter().filter_map(|object| {
        doubt(Kind::RequestAuthentication, object.name(), &|workload| object.selects(workload, root))
    });
    policies.chain(authentications).collect()
}

fn warning(standing: &Standing, kind: Kind, name: &ObjectName, message: String) -> Option<Problem> {
    let key = Key { kind, namespace: name.namespace.clone(), name: name.name.clone() };
    let (_, place, _) = standing.good().find(|(good, ..)| **good == key)?;
    Some(Problem::warning(&place.file, message).at(Some(place.line)).about(key))
}

#[cfg(test)]
mod tests;
